"""A server in this process that answers as a test has written down."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from ccoe.v1 import catalog_service_pb2 as catalog
from ccoe.v1 import catalog_service_pb2_grpc as catalog_grpc
from ccoe.v1 import generation_service_pb2 as generation
from ccoe.v1 import generation_service_pb2_grpc as generation_grpc
from ccoe.v1 import types_pb2 as types
from google.rpc import error_details_pb2, status_pb2


@dataclass
class Refusal:
    code: str
    reason: str = ""
    delay_s: float | None = None
    pushback_ms: int | None = None
    metadata: dict[str, str] | None = None
    after_events: int = 0
    """Of a stream."""


@dataclass
class Seen:
    """A call that came."""

    method: str
    request: object
    metadata: dict[str, str]
    time_left_s: float


STARTED = generation.Started(
    request_id="made-by-server", route=types.RouteDecision(domain="sql", expert="sql"), seed=7
)
FINISHED = generation.Finished(
    reason=generation.FINISH_REASON_STOP_SEQUENCE, usage=types.Usage(completion_tokens=2)
)
EVENTS = [
    generation.GenerateStreamResponse(started=STARTED),
    generation.GenerateStreamResponse(step_started=generation.StepStarted(domain="sql")),
    generation.GenerateStreamResponse(delta=generation.Delta(text="SELECT")),
    generation.GenerateStreamResponse(delta=generation.Delta(text=" 1", token_offset=1)),
    generation.GenerateStreamResponse.FromString(b"\xf2\x07\x00"),  # field 126: an event to come
    generation.GenerateStreamResponse(finished=FINISHED),
]
ANSWERS = {
    "Generate": generation.GenerateResponse(started=STARTED, text="SELECT 1", finished=FINISHED),
    "Score": generation.ScoreResponse(total_logprob=-2.5),
    "Route": generation.RouteResponse(route=types.RouteDecision(domain="sql")),
    "Tokenize": generation.TokenizeResponse(tokens=[generation.Token(id=5, token=b"a")]),
    "CountTokens": generation.CountTokensResponse(tokens=1, max_prompt_tokens=8),
    "ListExperts": catalog.ListExpertsResponse(experts=[catalog.Expert(name="sql")]),
    "GetModel": catalog.GetModelResponse(model=catalog.ModelInfo(layers=30)),
    "GetServerInfo": catalog.GetServerInfoResponse(version="1.2.3"),
    "GetStatus": catalog.GetStatusResponse(active_requests=3),
}


class Service(generation_grpc.GenerationServiceServicer, catalog_grpc.CatalogServiceServicer):
    """Its methods are set."""


class ScriptedServer:
    """Refuses as many calls as there are `refusals`, then answers."""

    def __init__(self):
        self.refusals: list[Refusal] = []
        self.seen: list[Seen] = []
        self.stream_ended = threading.Event()
        self.hold_stream = threading.Event()
        """A stream stops before its last event until this is set, or it is cancelled."""
        self.hold_stream.set()
        self._server = grpc.server(ThreadPoolExecutor(4))
        service = Service()
        service.GenerateStream = self._stream
        for method in ANSWERS:
            setattr(service, method, self._answer(method))
        generation_grpc.add_GenerationServiceServicer_to_server(service, self._server)
        catalog_grpc.add_CatalogServiceServicer_to_server(service, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self):
        self.hold_stream.set()
        self._server.stop(None)

    def _answer(self, method):
        def handle(request, context):
            if refusal := self._note(method, request, context):
                refuse(refusal, context)
            return ANSWERS[method]

        return handle

    def _stream(self, request, context):
        refusal = self._note("GenerateStream", request, context)
        context.add_callback(self.stream_ended.set)
        for index, event in enumerate(EVENTS):
            if refusal and index == refusal.after_events:
                refuse(refusal, context)
            if index == len(EVENTS) - 1:
                self.hold_stream.wait()
            yield event

    def _note(self, method, request, context):
        metadata = {key: value for key, value in context.invocation_metadata()}
        self.seen.append(Seen(method, request, metadata, context.time_remaining()))
        return self.refusals.pop(0) if self.refusals else None


def refuse(refusal, context):
    """Ends a call as the server would."""
    code = grpc.StatusCode[refusal.code]
    status = status_pb2.Status(code=code.value[0], message="what went wrong")
    if refusal.reason:
        info = error_details_pb2.ErrorInfo(
            reason=refusal.reason, domain="ccoe", metadata=refusal.metadata
        )
        status.details.add().Pack(info)
    if refusal.delay_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(refusal.delay_s * 1e9))
        status.details.add().Pack(retry)
    trailers = [
        ("grpc-status-details-bin", status.SerializeToString()),
        ("x-request-id", "made-by-server"),
    ]
    if refusal.pushback_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(refusal.pushback_ms)))
    context.set_trailing_metadata(trailers)
    context.abort(code, "what went wrong")
