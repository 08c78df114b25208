#pragma once

#include "common/model/tokenizer_spec.h"

namespace ccoe::model {

// Adds the tokens that end an answer in every known family, where the vocabulary has them, and
// leaves end_of_generation_ids ascending and without duplicates.
void AddKnownEndTokens(TokenizerSpec* spec);

}  // namespace ccoe::model
