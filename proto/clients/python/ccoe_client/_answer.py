"""What a server answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union, cast

from ccoe.v1.generation_service_pb2 import (
    CandidateReport,
    Delta,
    Finished,
    FinishReason,
    GenerateResponse,
    GenerateStreamResponse,
    Started,
    StepReport,
    StepStarted,
)
from ccoe.v1.types_pb2 import RouteDecision, TokenLogprob, Usage

Event = Union[Started, StepStarted, Delta, StepReport, Finished]


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    text: str
    token_ids: Sequence[int]
    """Empty unless `token_ids` was asked for."""
    logprobs: Sequence[TokenLogprob]
    """One per token; empty unless `top_logprobs` was asked for."""
    started: Started
    finished: Finished

    @classmethod
    def of(cls, response: GenerateResponse) -> Answer:
        return cls(
            text=response.text,
            token_ids=list(response.token_ids),
            logprobs=list(response.logprobs),
            started=response.started,
            finished=response.finished,
        )

    @property
    def request_id(self) -> str:
        return self.started.request_id

    @property
    def seed(self) -> int:
        """Send it again to get the same answer."""
        return self.started.seed

    @property
    def route(self) -> RouteDecision:
        return self.started.route

    @property
    def finish_reason(self) -> str:
        """"stop", "length" or "stop_sequence"."""
        return FinishReason.Name(self.finished.reason).removeprefix("FINISH_REASON_").lower()

    @property
    def usage(self) -> Usage:
        return self.finished.usage

    @property
    def steps(self) -> Sequence[StepReport]:
        """Of a plan; else empty."""
        return self.finished.steps

    @property
    def candidates(self) -> Sequence[CandidateReport]:
        """Of a request with `experts`; else empty."""
        return self.finished.candidates


def event_of(response: GenerateStreamResponse) -> Event | None:
    """None for one that this version of the protocol does not know."""
    kind = response.WhichOneof("event")
    return cast(Event, getattr(response, kind)) if kind else None
