"""A router of which a test decides what it answers, to look at the gateway alone."""

import asyncio
import threading

import grpc
from ccoe.v1 import catalog_service_pb2 as catalog
from ccoe.v1 import catalog_service_pb2_grpc as catalog_grpc
from ccoe.v1 import generation_service_pb2 as generation
from ccoe.v1 import generation_service_pb2_grpc as generation_grpc
from ccoe.v1 import types_pb2 as types
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

Event = generation.GenerateStreamResponse
ROUTE = types.RouteDecision(domain="sql", expert="queries", version="1.0.0")
STARTED = generation.Started(request_id="of-the-router", route=ROUTE, model_digest="sha256:1", seed=7)
FINISHED = generation.Finished(reason=generation.FINISH_REASON_STOP,
                               usage=types.Usage(prompt_tokens=3, completion_tokens=1))
PIECE = "x" * 1000


class FakeRouter(generation_grpc.GenerationServiceServicer, catalog_grpc.CatalogServiceServicer):
    """Does what the last message says: `idle` streams nothing until `release`, `flood` streams without
    end, `break` breaks off, `refuse` refuses, anything else is answered at once."""

    def __init__(self):
        self.address = None
        self.seen = []  # the metadata of each call
        self.sent = 0  # events of floods
        self.ended = 0  # calls; `idle` and `flood` do because the client has left
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._ready.wait()

    async def _serve(self):
        self._loop = asyncio.get_running_loop()
        self._released, self._stopped = asyncio.Event(), asyncio.Event()
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        generation_grpc.add_GenerationServiceServicer_to_server(self, server)
        catalog_grpc.add_CatalogServiceServicer_to_server(self, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self._ready.set()
        await self._stopped.wait()
        await server.stop(None)

    def stop(self):
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def release(self):
        self._loop.call_soon_threadsafe(self._released.set)

    def _look_at(self, context):
        self.seen.append(dict(context.invocation_metadata()))
        context.add_done_callback(self._count)

    def _count(self, context):
        del context
        self.ended += 1

    async def GenerateStream(self, request, context):
        self._look_at(context)
        words = request.chat.messages[-1].content
        if words == "refuse":
            await refuse(context)
        yield Event(started=STARTED)
        if words == "idle":
            await self._released.wait()
        while words == "flood":
            yield Event(delta=generation.Delta(text=PIECE))
            self.sent += 1
        yield Event(delta=generation.Delta(text="done"))
        if words == "break":
            await refuse(context)
        yield Event(finished=FINISHED)

    async def Generate(self, request, context):
        self._look_at(context)
        if request.chat.messages[-1].content == "refuse":
            await refuse(context)
        if request.chat.messages[-1].content == "idle":
            await self._released.wait()
        return generation.GenerateResponse(started=STARTED, text="done", finished=FINISHED)

    async def ListExperts(self, request, context):
        del request, context
        return catalog.ListExpertsResponse(experts=[
            catalog.Expert(name="queries", version="1.0.0", domain="sql",
                           state=catalog.EXPERT_STATE_READY)])


async def refuse(context):
    """RESOURCE_EXHAUSTED as a router says it, with a delay of 1.2 s."""
    status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="9 wait")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="ccoe"))
    delay = duration_pb2.Duration(seconds=1, nanos=200_000_000)
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "9 wait",
                        (("grpc-status-details-bin", status.SerializeToString()),))
