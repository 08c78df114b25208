"""The client whose calls block."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from ccoe.v1.catalog_service_pb2 import (
    Expert,
    GetModelRequest,
    GetServerInfoRequest,
    GetServerInfoResponse,
    GetStatusRequest,
    GetStatusResponse,
    ListExpertsRequest,
    ModelInfo,
)
from ccoe.v1.generation_service_pb2 import (
    CountTokensRequest,
    CountTokensResponse,
    GenerateRequest,
    RouteResponse,
    ScoreResponse,
    Token,
    TokenizeRequest,
)

from ._answer import Answer, Event, event_of
from ._base import BaseClient
from ._errors import CcoeError
from ._requests import (
    CallOptions,
    GenerateOptions,
    Prompt,
    RouteOptions,
    ScoreOptions,
    generate_request,
    input_of,
    route_request,
    score_request,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Client(BaseClient):
    """Speaks to the server at one address, or to its replicas behind one name; may be used by
    several threads. Close it, or use it with `with`.

    Calls take the options of GenerateOptions and its like as keywords. They raise CcoeError. One
    that the server may answer later is made again, at most `retries` times within its `timeout`
    (seconds); a stream only before its first event."""

    _channels = grpc

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()

    def generate(
        self, prompt: Prompt | GenerateRequest | None = None, **options: Unpack[GenerateOptions]
    ) -> Answer:
        """The whole answer to a prompt; None where a plan's steps say everything."""
        request = generate_request(prompt, **options)
        return Answer.of(self._call(self._generation.Generate, request, options))

    def stream(
        self, prompt: Prompt | GenerateRequest | None = None, **options: Unpack[GenerateOptions]
    ) -> Generator[Event, None, None]:
        """The answer as it comes: Started, then for every step StepStarted and its Deltas (and of
        a plan its StepReport), then Finished; events that a newer server adds are left out. Closing
        the generator before its end cancels the call."""
        return self._stream(generate_request(prompt, **options), options)

    def score(
        self, prompt: Prompt, continuation: str | Sequence[int], **options: Unpack[ScoreOptions]
    ) -> ScoreResponse:
        """How likely a continuation of a prompt is."""
        request = score_request(prompt, continuation, **options)
        return self._call(self._generation.Score, request, options)

    def route(self, prompt: Prompt, **options: Unpack[RouteOptions]) -> RouteResponse:
        """Where a prompt would go."""
        request = route_request(prompt, **options)
        return self._call(self._generation.Route, request, options)

    def tokenize(self, prompt: Prompt, **options: Unpack[CallOptions]) -> Sequence[Token]:
        """The tokens of a prompt, chat template included."""
        request = TokenizeRequest(**input_of(prompt))
        response = self._call(self._generation.Tokenize, request, options)
        return response.tokens

    def count_tokens(
        self, prompt: Prompt, **options: Unpack[CallOptions]
    ) -> CountTokensResponse:
        """How many tokens a prompt has, and how many it may have."""
        request = CountTokensRequest(**input_of(prompt))
        return self._call(self._generation.CountTokens, request, options)

    def experts(self, domain: str = "", **options: Unpack[CallOptions]) -> Sequence[Expert]:
        """The experts, or those of one domain."""
        request = ListExpertsRequest(domain=domain)
        response = self._call(self._catalog.ListExperts, request, options)
        return response.experts

    def model(self, **options: Unpack[CallOptions]) -> ModelInfo:
        """The base model."""
        response = self._call(self._catalog.GetModel, GetModelRequest(), options)
        return response.model

    def server_info(self, **options: Unpack[CallOptions]) -> GetServerInfoResponse:
        """The server's version and limits."""
        return self._call(self._catalog.GetServerInfo, GetServerInfoRequest(), options)

    def status(self, **options: Unpack[CallOptions]) -> GetStatusResponse:
        """What runs now: the processes behind the server and its work so far."""
        return self._call(self._catalog.GetStatus, GetStatusRequest(), options)

    def _call(self, method: Any, request: Any, options: Mapping[str, Any]) -> Any:
        attempts, metadata = self._attempts(options), self._metadata(options)
        while True:
            try:
                return method(request, timeout=attempts.timeout_s(), metadata=metadata)
            except grpc.RpcError as error:
                failure = CcoeError.of(error)
                wait_s = attempts.wait_s(failure)
                if wait_s is None:
                    raise failure from error
            time.sleep(wait_s)

    def _stream(
        self, request: GenerateRequest, options: Mapping[str, Any]
    ) -> Generator[Event, None, None]:
        attempts, metadata = self._attempts(options), self._metadata(options)
        begun = False
        while True:
            call = self._generation.GenerateStream(
                request, timeout=attempts.timeout_s(), metadata=metadata
            )
            try:
                for response in call:
                    begun = True
                    if event := event_of(response):
                        yield event
                return
            except grpc.RpcError as error:
                failure = CcoeError.of(error)
                wait_s = None if begun else attempts.wait_s(failure)
                if wait_s is None:
                    raise failure from error
            finally:
                call.cancel()
            time.sleep(wait_s)
