"""Asks a CCoE server. `Client` and `AsyncClient` have a method for each call; what they take and
return beyond plain values are the messages of `ccoe.v1`."""

from ccoe.v1.generation_service_pb2 import (
    SELECT_BEST,
    Delta,
    Finished,
    GenerateRequest,
    Plan,
    PlanStep,
    Started,
    StepReport,
    StepStarted,
)
from ccoe.v1.types_pb2 import ChatMessage, ExpertRef, RoutingOptions, Text

from ._answer import Answer, Event
from ._async_client import AsyncClient
from ._client import Client
from ._errors import (
    CcoeError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unavailable,
)
from ._requests import (
    CallOptions,
    GenerateOptions,
    Prompt,
    RouteOptions,
    ScoreOptions,
    generate_request,
)

__all__ = [
    "SELECT_BEST",
    "Answer",
    "AsyncClient",
    "CallOptions",
    "CcoeError",
    "ChatMessage",
    "Client",
    "DeadlineExceeded",
    "Delta",
    "Event",
    "ExpertRef",
    "Finished",
    "GenerateOptions",
    "GenerateRequest",
    "InvalidRequest",
    "NotFound",
    "Overloaded",
    "Plan",
    "PlanStep",
    "Prompt",
    "RouteOptions",
    "RoutingOptions",
    "ScoreOptions",
    "Started",
    "StepReport",
    "StepStarted",
    "Text",
    "Unavailable",
    "generate_request",
]
