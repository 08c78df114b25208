"""The client whose calls are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
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


class AsyncClient(BaseClient):
    """Client for asyncio: made within a running event loop, closed by `async with`. A cancelled
    task cancels its call."""

    _channels = grpc.aio

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.channel.close()

    async def generate(
        self, prompt: Prompt | GenerateRequest | None = None, **options: Unpack[GenerateOptions]
    ) -> Answer:
        """The whole answer to a prompt; None where a plan's steps say everything."""
        request = generate_request(prompt, **options)
        return Answer.of(await self._call(self._generation.Generate, request, options))

    def stream(
        self, prompt: Prompt | GenerateRequest | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncGenerator[Event, None]:
        """The answer as it comes: Started, then for every step StepStarted and its Deltas (and of
        a plan its StepReport), then Finished; events that a newer server adds are left out. Closing
        the generator before its end cancels the call."""
        return self._stream(generate_request(prompt, **options), options)

    async def score(
        self, prompt: Prompt, continuation: str | Sequence[int], **options: Unpack[ScoreOptions]
    ) -> ScoreResponse:
        """How likely a continuation of a prompt is."""
        request = score_request(prompt, continuation, **options)
        return await self._call(self._generation.Score, request, options)

    async def route(self, prompt: Prompt, **options: Unpack[RouteOptions]) -> RouteResponse:
        """Where a prompt would go."""
        request = route_request(prompt, **options)
        return await self._call(self._generation.Route, request, options)

    async def tokenize(self, prompt: Prompt, **options: Unpack[CallOptions]) -> Sequence[Token]:
        """The tokens of a prompt, chat template included."""
        request = TokenizeRequest(**input_of(prompt))
        response = await self._call(self._generation.Tokenize, request, options)
        return response.tokens

    async def count_tokens(
        self, prompt: Prompt, **options: Unpack[CallOptions]
    ) -> CountTokensResponse:
        """How many tokens a prompt has, and how many it may have."""
        request = CountTokensRequest(**input_of(prompt))
        return await self._call(self._generation.CountTokens, request, options)

    async def experts(self, domain: str = "", **options: Unpack[CallOptions]) -> Sequence[Expert]:
        """The experts, or those of one domain."""
        request = ListExpertsRequest(domain=domain)
        response = await self._call(self._catalog.ListExperts, request, options)
        return response.experts

    async def model(self, **options: Unpack[CallOptions]) -> ModelInfo:
        """The base model."""
        response = await self._call(self._catalog.GetModel, GetModelRequest(), options)
        return response.model

    async def server_info(self, **options: Unpack[CallOptions]) -> GetServerInfoResponse:
        """The server's version and limits."""
        return await self._call(self._catalog.GetServerInfo, GetServerInfoRequest(), options)

    async def status(self, **options: Unpack[CallOptions]) -> GetStatusResponse:
        """What runs now: the processes behind the server and its work so far."""
        return await self._call(self._catalog.GetStatus, GetStatusRequest(), options)

    async def _call(self, method: Any, request: Any, options: Mapping[str, Any]) -> Any:
        attempts, metadata = self._attempts(options), self._metadata(options)
        while True:
            try:
                return await method(request, timeout=attempts.timeout_s(), metadata=metadata)
            except grpc.RpcError as error:
                failure = CcoeError.of(error)
                wait_s = attempts.wait_s(failure)
                if wait_s is None:
                    raise failure from error
            await asyncio.sleep(wait_s)

    async def _stream(
        self, request: GenerateRequest, options: Mapping[str, Any]
    ) -> AsyncGenerator[Event, None]:
        attempts, metadata = self._attempts(options), self._metadata(options)
        begun = False
        while True:
            call = self._generation.GenerateStream(
                request, timeout=attempts.timeout_s(), metadata=metadata
            )
            try:
                async for response in call:
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
            await asyncio.sleep(wait_s)
