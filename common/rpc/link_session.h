#pragma once

#include "absl/status/statusor.h"
#include "ccoe/internal/v1/session.pb.h"
#include "common/runtime/prompt.h"
#include "common/runtime/session.h"

namespace ccoe::rpc {

// Translation between the runtime's types and the messages between router and backbone
// (proto/ccoe/internal/v1/session.proto). Pure functions.

void EncodeInput(const runtime::PromptInput& input, internal::v1::PromptInput* out);
// INVALID_ARGUMENT when nothing is set.
absl::StatusOr<runtime::PromptInput> DecodeInput(const internal::v1::PromptInput& input);

void EncodeStop(const runtime::StopConditions& stop, internal::v1::StopConditions* out);
// INVALID_ARGUMENT for a negative limit or an empty stop sequence.
absl::StatusOr<runtime::StopConditions> DecodeStop(const internal::v1::StopConditions& stop);

void EncodeTurn(const runtime::NextTurn& turn, internal::v1::NextTurn* out);
// INVALID_ARGUMENT as of DecodeSampling and DecodeStop.
absl::StatusOr<runtime::NextTurn> DecodeTurn(const internal::v1::NextTurn& turn);

void EncodeDelta(const runtime::Delta& delta, internal::v1::SessionDelta* out);
runtime::Delta DecodeDelta(const internal::v1::SessionDelta& delta);

void EncodeFinished(const runtime::Finished& finished, internal::v1::SessionFinished* out);
// INVALID_ARGUMENT for a reason that is none.
absl::StatusOr<runtime::Finished> DecodeFinished(const internal::v1::SessionFinished& finished);

}  // namespace ccoe::rpc
