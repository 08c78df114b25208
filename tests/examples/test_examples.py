"""Every example lists the experts, streams an answer, and handles a refusal."""

import base64
import json
import re

import ccoe_client
import prompts
import pytest
from google.rpc import error_details_pb2
from scripted_server import Refusal

END = re.compile(r"\n\[(\d+) tokens, (\w+), example-[\w-]+\]\n$")


@pytest.fixture(scope="session")
def answer(serve):
    """What the server answers to the prompt and the options of the examples."""
    with ccoe_client.Client(serve) as client:
        return client.generate(prompts.SQL, temperature=0, max_tokens=32)


def test_streams_the_right_experts_answer(example, serve, answer):
    result = example(serve, prompts.SQL)
    assert (result.returncode, result.stderr) == (0, "")
    listed, _, streamed = result.stdout.partition("[sql]\n")
    assert re.search(r"^sql \S+ answers sql: READY$", listed, re.MULTILINE)
    assert "general base answers general: READY\n" in listed
    end = END.search(streamed)
    assert streamed[:end.start()] == answer.text
    assert end[1] == str(answer.usage.completion_tokens)
    assert end[2] == answer.finish_reason.upper()


def test_names_the_code_and_the_reason(example, serve):
    result = example(serve, prompts.SQL, "astrology")
    assert result.returncode == 1
    assert re.match(r"NOT_FOUND UNKNOWN_DOMAIN: .*astrology.*\(example-[\w-]+\)$",
                    result.stderr.strip())


def test_tries_again_after_the_delay(example, reluctant):
    delay_s = 2  # more than the 3 % by which gRPC's compression of headers lets a deadline differ
    reluctant.refusals = [Refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL", delay_s)]
    result = example(reluctant.address, "a prompt")
    assert result.returncode == 0, result.stderr
    assert "[sql]\nSELECT 1\n[2 tokens, STOP_SEQUENCE, example-" in result.stdout
    first, second = reluctant.seen
    assert first.metadata["x-request-id"] == second.metadata["x-request-id"]
    assert first.metadata["x-request-id"].startswith("example-")
    # The deadline holds for both attempts together.
    assert second.time_left_s < first.time_left_s - 0.9 * delay_s < 60


def test_gives_up(example, reluctant):
    reluctant.refusals = [Refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL", 0.01) for _ in range(9)]
    result = example(reluctant.address, "a prompt")
    assert result.returncode == 1
    assert "RESOURCE_EXHAUSTED QUEUE_FULL: what went wrong" in result.stderr
    assert len(reluctant.seen) == 3


def test_does_not_repeat_what_has_begun(example, reluctant):
    reluctant.refusals = [Refusal("UNAVAILABLE", "CONNECTION_LOST", 0.01, after_events=3)]
    result = example(reluctant.address, "a prompt")
    assert result.returncode == 1
    assert "UNAVAILABLE CONNECTION_LOST: what went wrong" in result.stderr
    assert len(reluctant.seen) == 1


def documents(text):
    """The JSON documents that follow each other in a text."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].lstrip()
    return found


def test_buf_needs_no_files(buf, serve, answer):
    result = buf(serve, prompts.SQL)
    assert result.returncode == 0, result.stderr
    listed, *events = documents(result.stdout)
    assert {expert["domain"] for expert in listed["experts"]} == {"sql", "general"}
    assert events[0]["started"]["route"]["domain"] == "sql"
    assert events[0]["started"]["requestId"].startswith("example-")
    assert "".join(event["delta"].get("text", "") for event in events if "delta" in event) == answer.text
    assert events[-1]["finished"]["usage"]["completionTokens"] == answer.usage.completion_tokens


def test_buf_names_the_code_and_the_reason(buf, serve):
    result = buf(serve, prompts.SQL, "astrology")
    assert result.returncode == 5 * 8  # NOT_FOUND
    error = json.loads(result.stderr)
    assert error["code"] == "not_found"
    (detail,) = error["details"]
    assert detail["type"].endswith("google.rpc.ErrorInfo")
    info = error_details_pb2.ErrorInfo.FromString(base64.b64decode(detail["value"] + "=="))
    assert info.reason == "UNKNOWN_DOMAIN"
