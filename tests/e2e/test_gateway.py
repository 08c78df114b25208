"""ccoe-gateway alone, in front of a router that does as it is told: what it keeps, forwards, bounds and
ends."""

import json
import pathlib
import re
import time

import fake_router
import http_client
import processes
import pytest
from http_client import Socket, chat, post

CHAT = "/v1/chat/completions"
LIMITS = {"read_timeout": "1s", "idle_timeout": "2s", "write_timeout": "1s", "max_connections": 700}
MAX_BODY = 1 << 16


@pytest.fixture
def router():
    router = fake_router.FakeRouter()
    yield router
    router.stop()


@pytest.fixture
def gateway(tmp_path, router):
    process = processes.Process(tmp_path, "ccoe-gateway", {
        "router": router.address, "http": {"listen": processes.LOCAL, **LIMITS},
        "server": {"max_message_bytes": MAX_BODY}})
    yield process
    process.kill()


def stream(gateway, words, receive_buffer=None):
    """A streamed chat, up to its first event."""
    connection = Socket(gateway.http, receive_buffer)
    connection.send(post(CHAT, chat(words, stream=True)))
    assert b"200 OK" in connection.read_until(b"data: ")
    return connection


def status_of(gateway):
    """Fields of /proc/PID/status as numbers: VmRSS in KiB, Threads."""
    text = pathlib.Path(f"/proc/{gateway.pid}/status").read_text()
    return {name: int(value) for name, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", text, re.M)}


def test_what_goes_with_a_request_is_passed_on(gateway, router):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    _, fields, answer = http_client.request(gateway.http, "POST", CHAT, chat("hi"), {
        "X-Request-Id": "mine-1", "traceparent": trace, "Authorization": "Bearer secret"})
    assert fields["x-request-id"] == "mine-1"
    assert answer["choices"][0]["message"]["content"] == "done"
    assert answer["model"] == "sql@1.0.0"
    [seen] = router.seen
    assert (seen["x-request-id"], seen["traceparent"]) == ("mine-1", trace)
    assert seen["authorization"] == "Bearer secret"


def test_what_is_no_request_id_is_replaced(gateway, router):
    _, fields, _ = http_client.request(gateway.http, "POST", CHAT, chat("hi"),
                                       {"X-Request-Id": "no id", "traceparent": "x"})
    assert fields["x-request-id"] == router.seen[0]["x-request-id"] != "no id"
    assert "traceparent" not in router.seen[0] and "authorization" not in router.seen[0]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_refusal_is_a_plain_error_that_tells_the_delay(gateway, streamed):
    status, fields, answer = http_client.request(gateway.http, "POST", CHAT,
                                                 chat("refuse", stream=streamed))
    assert status == 429
    assert answer == {"error": {"message": "9 wait", "type": "rate_limit_error", "param": None,
                                "code": "queue_full"}}
    assert (fields["retry-after"], fields["retry-after-ms"]) == ("2", "1200")


def test_a_stream_that_breaks_tells_so_in_band(gateway):
    _, fields, data = http_client.request(gateway.http, "POST", CHAT, chat("break", stream=True))
    assert fields["content-type"] == "text/event-stream"
    events = data.decode().split("\n\n")
    assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "queue_full"
    assert "[DONE]" not in data.decode()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_cancels_its_call(gateway, router, streamed):
    connection = Socket(gateway.http)
    connection.send(post(CHAT, chat("idle", stream=streamed)))
    processes.wait_until(lambda: router.seen, what="that the call has come")
    begin = time.monotonic()
    connection.close()
    processes.wait_until(lambda: router.ended == 1, what="that the call is cancelled")
    assert time.monotonic() - begin < 1


def test_five_hundred_idle_streams(gateway, router):
    stream(gateway, "hi").close()
    before = status_of(gateway)
    connections = [stream(gateway, "idle") for _ in range(500)]
    after = status_of(gateway)
    # gRPC has its own few threads; there is none for a stream.
    assert after["Threads"] <= before["Threads"] + 4
    assert after["VmRSS"] - before["VmRSS"] < 60 * 1024, (before, after)
    status, _, _ = http_client.request(gateway.http, "POST", CHAT, chat("hi"))
    assert status == 200
    router.release()
    for connection in connections:
        assert b"[DONE]" in connection.read_until(b"[DONE]\n\n")
        connection.close()


def test_a_slow_reader_holds_the_router_back_and_is_cut_off(gateway, router):
    before = status_of(gateway)["VmRSS"]
    connection = stream(gateway, "flood", receive_buffer=4096)
    processes.wait_until(lambda: router.ended == 1, what="that the slow reader is cut off")
    # What was sent lies in gRPC's window, the gateway's queue and the sockets' buffers.
    assert router.sent * len(fake_router.PIECE) < 8 << 20
    assert status_of(gateway)["VmRSS"] - before < 32 * 1024
    connection.close()


def test_a_slow_reader_disturbs_nobody(gateway):
    slow = stream(gateway, "flood", receive_buffer=4096)
    status, _, answer = http_client.request(gateway.http, "POST", CHAT, chat("hi"))
    assert status == 200 and answer["choices"][0]["message"]["content"] == "done"
    slow.close()


def test_the_head_is_bounded(gateway):
    status, _, answer = http_client.request(gateway.http, "GET", "/v1/models", headers={"A": "x" * 20000})
    assert (status, answer["error"]["code"]) == (431, "header_too_large")


def test_the_body_is_bounded(gateway):
    connection = Socket(gateway.http)
    connection.send(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode())
    assert b" 413 " in connection.read_all()
    chunked = Socket(gateway.http)
    chunked.send(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    chunked.send(chunk * (MAX_BODY // 0x4000 + 1))
    assert b" 413 " in chunked.read_all()


def test_what_is_not_http_is_refused(gateway):
    connection = Socket(gateway.http)
    connection.send(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert b" 400 " in connection.read_all()


def test_a_request_that_does_not_arrive_is_ended(gateway):
    for begun in (b"GET /healthz HT", post(CHAT, chat("hi"))[:-3]):
        connection = Socket(gateway.http)
        connection.send(begun)
        assert b" 408 " in connection.read_all()


def test_a_request_that_never_ends_is_ended(gateway):
    connection = Socket(gateway.http)
    connection.send(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    deadline = time.monotonic() + 30
    with pytest.raises(OSError):
        while time.monotonic() < deadline:  # bytes are always there to be read
            connection.send(b"1;" + b"a" * 1000 + b"\r\nx\r\n")
    assert http_client.request(gateway.http, "POST", CHAT, chat("hi"))[0] == 200


@pytest.mark.parametrize("encoding", ["gzip", "chunked, identity"])
def test_a_transfer_encoding_but_chunked_is_refused(gateway, encoding):
    connection = Socket(gateway.http)
    connection.send(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {encoding}\r\n\r\n"
                    "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answers = connection.read_all()
    assert answers.startswith(b"HTTP/1.1 400 ") and answers.count(b"HTTP/1.1") == 1


def test_pages_of_other_origins_are_refused(gateway, router):
    status, _, answer = http_client.request(gateway.http, "POST", CHAT, chat("hi"),
                                            {"Origin": "http://elsewhere.example"})
    assert (status, answer["error"]["code"], router.seen) == (403, "foreign_origin", [])
    status, _, _ = http_client.request(gateway.http, "POST", CHAT, chat("hi"),
                                       {"Origin": f"http://{gateway.http}"})
    assert status == 200


def test_an_idle_connection_is_closed(gateway):
    connection = Socket(gateway.http)
    assert connection.read_all() == b""


def test_a_connection_is_kept_and_takes_requests_ahead(gateway):
    connection = Socket(gateway.http)
    connection.send(post(CHAT, chat("hi")) + post(CHAT, chat("hi", stream=True)) + post(CHAT, chat("hi")))
    whole = connection.read_until(b"[DONE]\n\n")
    assert whole.count(b"200 OK") == 2
    assert whole.count(b"Connection: keep-alive") == 2
    assert b"200 OK" in connection.read_until(b"}}")
    connection.close()


def test_http_1_0_gets_a_stream_without_chunks(gateway):
    connection = Socket(gateway.http)
    connection.send(post(CHAT, chat("hi", stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0"))
    answer = connection.read_all()
    assert b"Connection: close" in answer and b"chunked" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


def test_a_body_waits_for_leave(gateway):
    whole = post(CHAT, chat("hi")).replace(b"\r\nHost", b"\r\nExpect: 100-continue\r\nHost")
    head, body = whole.split(b"\r\n\r\n", 1)
    connection = Socket(gateway.http)
    connection.send(head + b"\r\n\r\n")
    assert b"100 Continue" in connection.read_until(b"\r\n\r\n")
    connection.send(body)
    assert b"200 OK" in connection.read_until(b"}}")
    connection.close()


def test_methods_and_paths(gateway):
    status, fields, answer = http_client.request(gateway.http, "GET", CHAT)
    assert (status, fields["allow"]) == (405, "POST, OPTIONS")
    assert answer["error"]["code"] == "method_not_allowed"
    status, fields, answer = http_client.request(gateway.http, "OPTIONS", "/v1/models")
    assert (status, fields["allow"], answer) == (204, "GET, HEAD, OPTIONS", b"")
    assert not [name for name in fields if name.startswith("access-control")]
    status, fields, answer = http_client.request(gateway.http, "HEAD", "/v1/models")
    assert status == 200 and answer == b"" and int(fields["content-length"]) > 0
    status, _, answer = http_client.request(gateway.http, "GET", "/nothing")
    assert (status, answer["error"]["code"]) == (404, "not_found")


def test_more_connections_than_allowed_are_refused(tmp_path, router):
    process = processes.Process(tmp_path, "ccoe-gateway", {
        "router": router.address, "http": {"listen": processes.LOCAL, "max_connections": 2}})
    held = [stream(process, "idle") for _ in range(2)]
    assert b" 503 " in Socket(process.http).read_all()
    for connection in held:
        connection.close()
    processes.wait_until(
        lambda: http_client.request(process.http, "GET", "/v1/models")[0] == 200,
        what="that there is room again")
    process.kill()


def test_requests_are_counted_by_path_and_code(gateway):
    for path in ("/v1/models", "/v1/models/sql", "/v1/models/law", "/nothing", "/nowhere"):
        http_client.request(gateway.http, "GET", path)
    counted = {tuple(sorted(re.findall(r'"([^"]*)"', name))): value
               for name, value in gateway.scrape().items() if "http_requests" in name}
    assert counted == {("/v1/models", "200"): 1, ("/v1/models/:id", "200"): 1,
                       ("/v1/models/:id", "404"): 1, ("404", "other"): 2}


def test_a_drain_finishes_streams_and_takes_nothing_new(gateway, router):
    idle = Socket(gateway.http)
    idle.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    idle.read_until(b"]}")
    running = stream(gateway, "idle")
    gateway.terminate()
    assert idle.read_all() == b""
    with pytest.raises(ConnectionRefusedError):
        Socket(gateway.http)
    router.release()
    assert running.read_all().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert gateway.wait() == 0


def test_a_router_that_is_not_there(tmp_path):
    process = processes.Process(tmp_path, "ccoe-gateway", {
        "router": "127.0.0.1:1", "http": {"listen": processes.LOCAL}})
    for method, path, body in [("GET", "/healthz", None), ("POST", CHAT, chat("hi", stream=True))]:
        status, _, answer = http_client.request(process.http, method, path, body)
        assert (status, answer["error"]["code"]) == (503, "unavailable"), path
    process.kill()
