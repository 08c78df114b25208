"""Fixtures: a scripted server, and both clients behind one face."""

import asyncio

import pytest
from ccoe_client import AsyncClient, Client
from scripted_server import ScriptedServer


@pytest.fixture
def server():
    server = ScriptedServer()
    yield server
    server.stop()


class Awaited:
    """An AsyncClient whose calls block."""

    def __init__(self, *arguments, **keywords):
        self._loop = asyncio.new_event_loop()
        self._client = self._wait(self._make(arguments, keywords))

    async def _make(self, arguments, keywords):
        return await AsyncClient(*arguments, **keywords).__aenter__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._wait(self._client.close())
        self._loop.close()

    def _wait(self, awaitable):
        return self._loop.run_until_complete(awaitable)

    def __getattr__(self, name):
        return lambda *args, **kwargs: self._wait(getattr(self._client, name)(*args, **kwargs))

    def stream(self, *arguments, **keywords):
        events = self._client.stream(*arguments, **keywords)
        try:
            while True:
                yield self._wait(anext(events))
        except StopAsyncIteration:
            pass
        finally:
            self._wait(events.aclose())


@pytest.fixture(params=[Client, Awaited], ids=["sync", "async"])
def connect(request):
    """Makes a client, which the test ends."""
    return request.param
