"""What the measurements ask of a server, in plain values."""

from dataclasses import asdict, dataclass
from typing import Any, Callable

import grpc

from .retry import retrying
from .stubs import catalog, catalog_grpc, generation, generation_grpc, types

Turn = tuple[str, str]
"""("user" or "assistant", words)"""
CONNECT_PATIENCE_S = 5.0
ROLES = {"user": types.ROLE_USER, "assistant": types.ROLE_ASSISTANT}


@dataclass(frozen=True)
class Route:
    domain: str
    stage: str
    """"explicit", "rules", "learned" or "fallback"."""
    confidence: float

    @classmethod
    def of(cls, decision: Any) -> "Route":
        stage = types.RouteStage.Name(decision.stage).removeprefix("ROUTE_STAGE_").lower()
        return cls(decision.domain, stage, round(decision.confidence, 4))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    text: str
    finish: str
    """"stop" or "length"."""
    route: Route


@dataclass(frozen=True)
class ScoredToken:
    text: bytes
    logprob: float


def user(prompt: str) -> list[Turn]:
    return [("user", prompt)]


def chat(turns: list[Turn]) -> Any:
    return types.Chat(
        messages=[types.ChatMessage(role=ROLES[role], content=words) for role, words in turns]
    )


class Client:
    """Speaks to one server; may be used by several threads. Calls that the server may take later
    are repeated for `patience_s`; every call has a deadline of `timeout_s`."""

    def __init__(self, address: str, timeout_s: float = 600.0, patience_s: float = 300.0):
        self._channel = grpc.insecure_channel(address)
        self._generation = generation_grpc.GenerationServiceStub(self._channel)
        self._catalog = catalog_grpc.CatalogServiceStub(self._channel)
        self._timeout_s, self._patience_s = timeout_s, patience_s

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def _call(
        self, method: Callable[..., Any], request: Any, patience_s: float | None = None
    ) -> Any:
        if patience_s is None:
            patience_s = self._patience_s
        return retrying(lambda: method(request, timeout=self._timeout_s), patience_s)

    def generate(
        self,
        prompt: list[Turn] | str,
        domain: str | None,
        max_tokens: int,
        stop_sequences: list[str] | None = None,
    ) -> Answer:
        """The greedy answer to a conversation, or to a plain text that no chat template is put
        around; the gate decides who answers when `domain` is None."""
        request = generation.GenerateRequest(
            **_input(prompt),
            domain=domain,
            sampling=generation.SamplingParams(temperature=0.0),
            stop=generation.StopConditions(
                max_tokens=max_tokens, stop_sequences=stop_sequences or []
            ),
        )
        reply = self._call(self._generation.Generate, request)
        finish = generation.FinishReason.Name(reply.finished.reason)
        return Answer(
            reply.text,
            finish.removeprefix("FINISH_REASON_").lower(),
            Route.of(reply.started.route),
        )

    def score(
        self,
        prompt: list[Turn] | str | list[int],
        continuation: str | list[int],
        domain: str | None,
    ) -> list[ScoredToken]:
        """The tokens of `continuation` after `prompt`, with their natural log probabilities."""
        request = generation.ScoreRequest(**_input(prompt), domain=domain)
        if isinstance(continuation, str):
            request.continuation_text = continuation
        else:
            request.continuation_ids.ids.extend(continuation)
        reply = self._call(self._generation.Score, request)
        return [ScoredToken(token.token, token.logprob) for token in reply.tokens]

    def route(self, prompt: str) -> Route:
        request = generation.RouteRequest(chat=chat(user(prompt)))
        return Route.of(self._call(self._generation.Route, request).route)

    def count_tokens(self, turns: list[Turn]) -> tuple[int, int]:
        """The conversation's tokens, and how many a prompt may have."""
        request = generation.CountTokensRequest(chat=chat(turns))
        reply = self._call(self._generation.CountTokens, request)
        return reply.tokens, reply.max_prompt_tokens

    def tokenize(self, text: str) -> list[int]:
        request = generation.TokenizeRequest(text=types.Text(text=text))
        return [token.id for token in self._call(self._generation.Tokenize, request).tokens]

    def identity(self) -> dict[str, Any]:
        """What the figures depend on: base model, arithmetic, experts that are ready. Gives up
        early where no server answers."""
        reply = self._call(self._catalog.GetModel, catalog.GetModelRequest(), CONNECT_PATIENCE_S)
        model = reply.model
        reply = self._call(self._catalog.ListExperts, catalog.ListExpertsRequest())
        info = self._call(self._catalog.GetServerInfo, catalog.GetServerInfoRequest())
        ready = [e for e in reply.experts if e.state == catalog.EXPERT_STATE_READY]
        return {
            "server_version": info.version,
            "model": model.name,
            "model_digest": model.digest,
            "arithmetic": model.arithmetic,
            "experts": {
                e.domain: {"name": e.name, "version": e.version, "digest": e.digest} for e in ready
            },
        }


def _input(prompt: list[Turn] | str | list[int]) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"text": types.Text(text=prompt)}
    if isinstance(prompt[0], int):
        return {"token_ids": types.TokenIds(ids=prompt)}
    return {"chat": chat(prompt)}
