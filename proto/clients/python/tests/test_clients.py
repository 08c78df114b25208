"""Both clients against a server that refuses, breaks off and answers as it is told."""

import asyncio

import grpc
import pytest
from ccoe_client import (
    AsyncClient,
    CcoeError,
    DeadlineExceeded,
    Delta,
    Finished,
    GenerateRequest,
    InvalidRequest,
    NotFound,
    Overloaded,
    Started,
    StepStarted,
    Unavailable,
)
from scripted_server import Refusal, ScriptedServer

BUSY = Refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL", delay_s=0.02, pushback_ms=20)


def test_an_answer(server, connect):
    with connect(server.address) as client:
        answer = client.generate("hello", max_tokens=4)
    assert answer.text == "SELECT 1"
    assert (answer.route.domain, answer.seed, answer.request_id) == ("sql", 7, "made-by-server")
    assert (answer.finish_reason, answer.usage.completion_tokens) == ("stop_sequence", 2)
    assert not answer.token_ids and not answer.logprobs
    assert not answer.steps and not answer.candidates
    assert server.seen[0].request.stop.max_tokens == 4


def test_a_stream(server, connect):
    """The event that the client does not know is left out."""
    with connect(server.address) as client:
        events = list(client.stream("hello"))
    assert [type(event) for event in events] == [Started, StepStarted, Delta, Delta, Finished]
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "SELECT 1"


def test_every_other_method(server, connect):
    with connect(server.address) as client:
        assert client.score("hello", "there").total_logprob == -2.5
        assert client.route("hello").route.domain == "sql"
        assert [(token.id, token.token) for token in client.tokenize("hello")] == [(5, b"a")]
        assert client.count_tokens("hello").max_prompt_tokens == 8
        assert [expert.name for expert in client.experts("sql")] == ["sql"]
        assert client.model().layers == 30
        assert client.server_info().version == "1.2.3"
        assert client.status().active_requests == 3
    assert [seen.method for seen in server.seen] == [
        "Score", "Route", "Tokenize", "CountTokens", "ListExperts", "GetModel", "GetServerInfo",
        "GetStatus",
    ]  # fmt: skip
    assert server.seen[4].request.domain == "sql"


def test_the_key_of_a_caller(server, connect, monkeypatch):
    """The argument's, else the environment's, if there is one; with the other metadata."""
    monkeypatch.delenv("CCOE_API_KEY", raising=False)
    with connect(server.address) as client:
        client.model()
    monkeypatch.setenv("CCOE_API_KEY", "ccoe_env")
    with connect(server.address) as client:
        client.generate("hello", request_id="mine")
    with connect(server.address, api_key="ccoe_mine") as client:
        list(client.stream("hello"))
    assert [seen.metadata.get("authorization") for seen in server.seen] == [
        None, "Bearer ccoe_env", "Bearer ccoe_mine",
    ]  # fmt: skip
    assert server.seen[1].metadata["x-request-id"] == "mine"


def test_a_request_of_ones_own(server, connect):
    request = GenerateRequest(domain="sql")
    with connect(server.address) as client:
        client.generate(request)
    assert server.seen[0].request == request


def test_what_a_call_sends_beside_its_request(server, connect):
    with connect(server.address, timeout=40) as client:
        client.model(request_id="mine", traceparent="00-0af7-b7ad-01", timeout=20)
        client.model()
    first, second = server.seen
    assert first.metadata["x-request-id"] == "mine"
    assert first.metadata["traceparent"] == "00-0af7-b7ad-01"
    # What is left is rounded on its way.
    assert 10 < first.time_left_s < 25 < second.time_left_s < 45
    assert "x-request-id" not in second.metadata


def test_a_busy_server_is_asked_again(server, connect):
    server.refusals = [BUSY, BUSY]
    with connect(server.address) as client:
        assert client.generate("hello", request_id="mine").text == "SELECT 1"
    assert [seen.metadata["x-request-id"] for seen in server.seen] == ["mine"] * 3


def test_the_timeout_is_that_of_all_attempts(server, connect):
    server.refusals = [Refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL", delay_s=0.2)] * 99
    with connect(server.address, retries=99) as client, pytest.raises(CcoeError):
        client.generate("hello", timeout=0.7)
    assert 1 <= len(server.seen) <= 4


def test_a_refused_stream_is_begun_again(server, connect):
    server.refusals = [BUSY, Refusal("UNAVAILABLE", "DRAINING", delay_s=0.02)]
    with connect(server.address) as client:
        assert len(list(client.stream("hello"))) == 5
    assert len(server.seen) == 3


@pytest.mark.parametrize("after_events", [1, 3])
def test_a_stream_that_breaks_is_never_begun_again(server, connect, after_events):
    server.refusals = [
        Refusal("UNAVAILABLE", "CONNECTION_LOST", delay_s=0.02, after_events=after_events)
    ]
    events = []
    with connect(server.address) as client, pytest.raises(Unavailable) as raised:
        for event in client.stream("hello"):
            events.append(event)
    assert raised.value.reason == "CONNECTION_LOST"
    assert len(events) == after_events
    assert len(server.seen) == 1


def test_no_retries(server, connect):
    server.refusals = [BUSY, BUSY]
    with connect(server.address, retries=0) as client:
        with pytest.raises(Overloaded):
            client.generate("hello")
        with pytest.raises(Overloaded):
            list(client.stream("hello"))
    assert len(server.seen) == 2


def test_retries_end(server, connect):
    server.refusals = [BUSY] * 9
    with connect(server.address, retries=2) as client, pytest.raises(Overloaded):
        client.generate("hello")
    assert len(server.seen) == 3


def test_a_wait_beyond_the_deadline_is_an_error_at_once(server, connect):
    server.refusals = [Refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL", delay_s=60)]
    with connect(server.address) as client, pytest.raises(Overloaded) as raised:
        client.generate("hello", timeout=20)
    assert raised.value.retry_after == 60
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "refusal, kind",
    [
        (Refusal("INVALID_ARGUMENT", "PROMPT_TOO_LONG", pushback_ms=-1), InvalidRequest),
        (Refusal("NOT_FOUND", "UNKNOWN_DOMAIN", pushback_ms=-1), NotFound),
        (Refusal("RESOURCE_EXHAUSTED", "SESSION_TOO_LARGE", pushback_ms=-1), CcoeError),
        (Refusal("RESOURCE_EXHAUSTED"), CcoeError),
        (Refusal("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"), DeadlineExceeded),
        (Refusal("INTERNAL", "INTERNAL", pushback_ms=-1), CcoeError),
    ],
)
def test_what_another_attempt_does_not_help(server, connect, refusal, kind):
    refusal.metadata = {"field": "prompt"}
    server.refusals = [refusal]
    with connect(server.address) as client, pytest.raises(CcoeError) as raised:
        client.generate("hello")
    error = raised.value
    assert type(error) is kind
    assert (error.code.name, error.reason) == (refusal.code, refusal.reason or None)
    assert error.metadata == ({"field": "prompt"} if refusal.reason else {})
    assert (error.message, error.request_id) == ("what went wrong", "made-by-server")
    assert not error.retryable and isinstance(error.__cause__, grpc.RpcError)
    assert len(server.seen) == 1


def test_a_timeout(server, connect):
    server.hold_stream.clear()
    with connect(server.address) as client, pytest.raises(DeadlineExceeded) as raised:
        list(client.stream("hello", timeout=0.3))
    assert raised.value.reason is None


def test_nobody_is_there(connect):
    with connect("127.0.0.1:1", retries=0) as client, pytest.raises(Unavailable) as raised:
        client.model()
    assert raised.value.retryable and raised.value.reason is None


def test_a_closed_stream_is_cancelled(server, connect):
    server.hold_stream.clear()
    with connect(server.address) as client:
        events = client.stream("hello")
        assert isinstance(next(events), Started)
        assert not server.stream_ended.is_set()
        events.close()
        assert server.stream_ended.wait(timeout=10)


def test_a_cancelled_task_cancels_its_call(server):
    server.hold_stream.clear()

    async def run():
        async with AsyncClient(server.address) as client:
            begun = asyncio.Event()

            async def read():
                async for _ in client.stream("hello"):
                    begun.set()

            task = asyncio.create_task(read())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert server.stream_ended.wait(timeout=10)


def test_replicas_take_turns(server, connect):
    other = ScriptedServer()
    try:
        with connect(f"ipv4:{server.address},{other.address}") as client:
            while not (server.seen and other.seen):
                client.model(timeout=10)
                assert len(server.seen) + len(other.seen) < 1000
    finally:
        other.stop()
