"""What is wrong is refused with a reason that programs can read, and harms nobody else."""

import socket

import api
import grpc
import prompts
import pytest

INVALID = grpc.StatusCode.INVALID_ARGUMENT
types = api.types


def changed(**fields):
    """A good request with some fields set anew."""
    message = api.request(prompts.GENERAL, max_tokens=4)
    message.MergeFrom(api.generation.GenerateRequest(**fields))
    return message


def without_input():
    message = changed()
    message.ClearField("input")
    return message


BAD_REQUESTS = {
    "no input": without_input(),
    "empty text": changed(text=types.Text(text="")),
    "no messages": api.generation.GenerateRequest(chat=types.Chat()),
    "no role": api.generation.GenerateRequest(
        chat=types.Chat(messages=[types.ChatMessage(content="hello")])),
    "answer last": changed(chat=types.Chat(messages=[
        types.ChatMessage(role=types.ROLE_ASSISTANT, content="hello")])),
    "token outside": changed(token_ids=types.TokenIds(ids=[1, 10_000_000])),
    "token below": changed(token_ids=types.TokenIds(ids=[-1])),
    "temperature": changed(sampling={"temperature": -1}),
    "not a number": changed(sampling={"temperature": float("nan")}),
    "top_p": changed(sampling={"top_p": 0}),
    "min_p": changed(sampling={"min_p": 1.5}),
    "max_tokens": changed(stop={"max_tokens": -1}),
    "empty stop": changed(stop={"stop_sequences": [""]}),
    "long stop": changed(stop={"stop_sequences": ["x" * 300]}),
    "many stops": changed(stop={"stop_sequences": [str(i) for i in range(17)]}),
    "logprobs": changed(output={"top_logprobs": 21}),
    "confidence": changed(routing={"min_confidence": 2}),
    "target and routing": changed(domain="sql", routing={"min_confidence": 0.5}),
    "queue time": changed(max_queue_time={"seconds": -1}),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests(client, case):
    error = api.failure_of(client.stream, BAD_REQUESTS[case])
    assert (error.code, error.reason) == (INVALID, "INVALID_REQUEST"), error.message
    assert error.message


def test_prompt_too_long_tells_both_counts(client):
    error = api.failure_of(client.stream, api.request("word " * 20_000))
    assert (error.code, error.reason) == (INVALID, "PROMPT_TOO_LONG")
    assert int(error.metadata["prompt_tokens"]) > int(error.metadata["max_prompt_tokens"]) > 0


def test_prompt_as_large_as_a_message_may_be(client):
    message = api.request("")
    room = 4 << 20
    message.chat.messages[0].content = "word " * ((room - 200) // 5)
    assert room - 300 < message.ByteSize() <= room
    error = api.failure_of(client.stream, message)
    assert (error.code, error.reason) == (INVALID, "PROMPT_TOO_LONG"), error.message


@pytest.mark.parametrize("target", [{"domain": "astrology"}, {"expert": {"name": "astrology"}},
                                    {"expert": {"name": "sql", "version": "77.0.0"}}])
def test_unknown_target(client, target):
    error = api.failure_of(client.stream, changed(**target))
    assert error.code == grpc.StatusCode.NOT_FOUND
    assert error.reason == ("UNKNOWN_DOMAIN" if "domain" in target else "UNKNOWN_EXPERT")


def test_fields_to_come_are_refused(client):
    n_is_two = b"\xa0\x01\x02"  # field 20, reserved for n
    data = changed().SerializeToString() + n_is_two
    call = client.channel.unary_stream("/ccoe.v1.GenerationService/GenerateStream")
    error = api.failure_of(call, data, timeout=30)
    assert (error.code, error.reason) == (INVALID, "UNSUPPORTED_FIELD")


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x08", b"\x12\x03\x0a\x01\xff"])
def test_bytes_that_are_no_message(client, data):
    call = client.channel.unary_stream("/ccoe.v1.GenerationService/GenerateStream")
    error = api.failure_of(call, data, timeout=30, metadata=[("x-request-id", "no-message")])
    assert (error.code, error.reason) == (INVALID, "INVALID_REQUEST")
    assert "ccoe.v1.GenerateRequest" in error.message
    assert error.request_id == "no-message"


SERVICES = [api.generation.DESCRIPTOR.services_by_name["GenerationService"],
            api.catalog.DESCRIPTOR.services_by_name["CatalogService"]]


@pytest.mark.parametrize("method", [method for service in SERVICES for method in service.methods],
                         ids=lambda method: method.name)
def test_every_method_names_the_message_it_takes(client, method):
    path = f"/{method.containing_service.full_name}/{method.name}"
    open_call = client.channel.unary_stream if method.name == "GenerateStream" else client.channel.unary_unary
    error = api.failure_of(open_call(path), b"\xff" * 40, timeout=30)
    assert (error.code, error.reason) == (INVALID, "INVALID_REQUEST")
    assert method.input_type.full_name in error.message
    assert error.request_id


def test_unknown_method(client):
    call = client.channel.unary_unary("/ccoe.v1.GenerationService/Guess")
    assert api.failure_of(call, b"", timeout=30).code == grpc.StatusCode.UNIMPLEMENTED


def test_message_too_large(client):
    error = api.failure_of(client.stream, api.request("x" * (5 << 20)))
    assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64,
                                  b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64])
def test_junk_on_every_port(shared, client, junk):
    for process in shared.processes():
        host, port = process.listen.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            try:
                while connection.recv(4096):
                    pass
            except OSError:
                pass
    assert client.answer(api.request(prompts.SQL, max_tokens=4)).token_ids
    assert all(process.running() for process in shared.processes())


def test_unsure_prompt_may_fail(client):
    unsure = {"min_confidence": 1.0, "on_unsure": types.RoutingOptions.ON_UNSURE_FAIL}
    error = api.failure_of(client.stream, changed(routing=unsure))
    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "ROUTE_UNSURE")
