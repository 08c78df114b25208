"""Requests made of plain values. An option has the name of the protocol's field, whose comment in
proto/ccoe/v1 has its range and default; None leaves it unset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Union

from ccoe.v1.generation_service_pb2 import (
    GenerateRequest,
    OutputOptions,
    Plan,
    PlanStep,
    RouteRequest,
    SamplingParams,
    ScoreRequest,
    Select,
    StopConditions,
)
from ccoe.v1.types_pb2 import Chat, ChatMessage, ExpertRef, RoutingOptions, Text, TokenIds
from google.protobuf.duration_pb2 import Duration

if TYPE_CHECKING:
    from typing_extensions import Unpack

Message = Union[ChatMessage, Mapping[str, str]]
"""A mapping has `role` ("system", "user" or "assistant") and `content`."""
Prompt = Union[str, Text, Sequence[Message], Sequence[int]]
"""A str is one message of the user; Text goes without a chat template; ints are token ids."""
Expert = Union[str, ExpertRef]
"""A str is a name."""
Step = Union[PlanStep, tuple[str, str]]
"""A pair is domain and instruction."""


class CallOptions(TypedDict, total=False):
    timeout: float | None
    """Seconds for the call with all its attempts; the client's by default."""
    request_id: str | None
    traceparent: str | None


class RoutedOptions(CallOptions, total=False):
    min_confidence: float | None
    on_unsure: RoutingOptions.OnUnsure | None


class RouteOptions(RoutedOptions, total=False):
    explain: bool


class ScoreOptions(RoutedOptions, total=False):
    domain: str | None
    expert: Expert | None
    max_queue_time: float | None
    """Seconds."""
    top_logprobs: int | None


class GenerateOptions(ScoreOptions, total=False):
    plan: Plan | Sequence[Step] | Literal["automatic"] | None
    experts: Sequence[Expert] | None
    """Each answers; `select` says which answer is kept."""
    select: Select | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    max_tokens: int | None
    stop_sequences: Sequence[str] | None
    ignore_end_of_generation: bool
    token_ids: bool


def generate_request(
    prompt: Prompt | GenerateRequest | None = None, **options: Unpack[GenerateOptions]
) -> GenerateRequest:
    """`prompt` is None where a plan's steps say everything. A GenerateRequest is taken as it is."""
    if isinstance(prompt, GenerateRequest):
        _fields(options, CallOptions, GenerateRequest)
        return prompt
    return GenerateRequest(**input_of(prompt), **_fields(options, GenerateOptions, GenerateRequest))


def score_request(
    prompt: Prompt, continuation: str | Sequence[int], **options: Unpack[ScoreOptions]
) -> ScoreRequest:
    scored: dict[str, Any] = (
        {"continuation_text": continuation}
        if isinstance(continuation, str)
        else {"continuation_ids": TokenIds(ids=continuation)}
    )
    return ScoreRequest(**input_of(prompt), **scored, **_fields(options, ScoreOptions, ScoreRequest))


def route_request(prompt: Prompt, **options: Unpack[RouteOptions]) -> RouteRequest:
    return RouteRequest(**input_of(prompt), **_fields(options, RouteOptions, RouteRequest))


def metadata_of(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a call with these options sends beside its request."""
    given = {"x-request-id": options.get("request_id"), "traceparent": options.get("traceparent")}
    return [(key, value) for key, value in given.items() if value is not None]


def input_of(prompt: Prompt | None) -> dict[str, Any]:
    """The `input` of a request."""
    if prompt is None:
        return {}
    if isinstance(prompt, Text):
        return {"text": prompt}
    items: Any = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if len(items) > 0 and not isinstance(items[0], (ChatMessage, Mapping)):
        return {"token_ids": TokenIds(ids=items)}
    return {"chat": Chat(messages=[_message(item) for item in items])}


def _message(message: Any) -> ChatMessage:
    if isinstance(message, ChatMessage):
        return message
    return ChatMessage(role=f"ROLE_{message['role'].upper()}", content=message["content"])


def _expert(expert: Expert) -> ExpertRef:
    return ExpertRef(name=expert) if isinstance(expert, str) else expert


def _experts(experts: Sequence[Expert]) -> list[ExpertRef]:
    return [_expert(expert) for expert in experts]


def _plan(plan: Plan | Sequence[Step] | Literal["automatic"]) -> Plan:
    if isinstance(plan, Plan):
        return plan
    if plan == "automatic":
        return Plan(automatic=True)
    return Plan(steps=[_step(step) for step in plan])


def _step(step: Any) -> PlanStep:
    if isinstance(step, PlanStep):
        return step
    domain, instruction = step
    return PlanStep(domain=domain, instruction=instruction)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "expert": _expert,
    "experts": _experts,
    "plan": _plan,
    "max_queue_time": _duration,
}
_PARENTS = {
    field.name: parent
    for parent, descriptor in [
        ("sampling", SamplingParams.DESCRIPTOR),
        ("stop", StopConditions.DESCRIPTOR),
        ("output", OutputOptions.DESCRIPTOR),
        ("routing", RoutingOptions.DESCRIPTOR),
    ]
    for field in descriptor.fields
}
"""The field of a request that holds an option's field, where the request has it."""


def _fields(options: Mapping[str, Any], allowed: Any, request: Any) -> dict[str, Any]:
    """The fields of a request that has options; those of the call are left out."""
    if unknown := options.keys() - allowed.__optional_keys__:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or name in CallOptions.__optional_keys__:
            continue
        if name in _CONVERSIONS:
            value = _CONVERSIONS[name](value)
        parent = _PARENTS.get(name, "")
        if parent in request.DESCRIPTOR.fields_by_name:
            fields.setdefault(parent, {})[name] = value
        else:
            fields[name] = value
    return fields
