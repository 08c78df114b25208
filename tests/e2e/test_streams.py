"""Answers through router, backbone and experts: right, complete, and without a trace afterwards."""

import concurrent.futures
import signal
import subprocess

import api
import processes
import prompts
import pytest


@pytest.fixture(autouse=True)
def leaves_nothing_behind(shared):
    """Every test of this file begins and ends with the gauges at zero."""
    wait_until_idle(shared)
    yield
    wait_until_idle(shared)


def wait_until_idle(deployment):
    """Waits until no process counts a session, a request or a used block. The router's view of its
    backbone follows a little later."""
    processes.wait_until(lambda: not any(deployment.load().values()),
                         what="that all gauges return to zero")


@pytest.mark.parametrize("domain", sorted(prompts.BY_DOMAIN))
def test_the_prompt_finds_its_expert(client, domain):
    answer = client.answer(api.request(prompts.BY_DOMAIN[domain], max_tokens=8))
    assert answer.started.route.domain == domain
    assert answer.started.route.expert == domain
    assert answer.finished.usage.completion_tokens == len(answer.token_ids) > 0


def test_unary_equals_stream(client):
    message = api.request(prompts.SQL, max_tokens=12)
    unary = client.generate(message)
    streamed = client.answer(message)
    assert unary.text == streamed.text
    assert unary.token_ids == streamed.token_ids
    assert unary.finished.reason == streamed.finished.reason


def test_sixteen_mixed_streams_equal_those_that_run_alone(client):
    requests = [api.request(f"{prompts.BY_DOMAIN[domain]} ({number})", max_tokens=24,
                            temperature=0.8 if number % 2 else 0.0, seed=number)
                for number in range(6) for domain in sorted(prompts.BY_DOMAIN)][:16]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(client.answer, requests))
    for message, answer in zip(requests, together):
        alone = client.answer(message)
        assert answer.token_ids == alone.token_ids
        assert answer.text == alone.text
        assert answer.started.route == alone.started.route


def test_cancel_in_the_middle(client, shared):
    domains = sorted(prompts.BY_DOMAIN)
    streams = [client.stream(endless(prompts.BY_DOMAIN[domains[i % 3]])) for i in range(9)]
    for stream in streams:
        wait_for_deltas(stream, 3)
    assert any(shared.load().values())
    for stream in streams:
        stream.close()


def test_deadline_in_the_middle(client):
    error = api.failure_of(client.stream, endless(prompts.SQL), timeout=1)
    assert error.code.name == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("domain", sorted(prompts.BY_DOMAIN))
def test_client_killed_in_the_middle(shared, domain):
    child = subprocess.Popen(
        [str(processes.BIN / "ccoe"), "generate", "--server", shared.router.listen, "--domain",
         domain, "--max-tokens", "300", "--json", prompts.GENERAL],
        stdout=subprocess.PIPE)
    for _ in range(4):
        assert child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()


def test_a_client_that_does_not_read_holds_nobody_up(client, shared):
    stuck = client.stream(endless(prompts.SQL))
    wait_for_deltas(stuck, 1)
    answers = [client.answer(api.request(prompts.BIRDS, max_tokens=8)) for _ in range(3)]
    assert len({tuple(answer.token_ids) for answer in answers}) == 1
    stuck.close()


def endless(prompt):
    """A request that runs until it is cancelled."""
    message = api.request(prompt, max_tokens=300)
    message.stop.ignore_end_of_generation = True
    return message


def wait_for_deltas(stream, count):
    for event in stream:
        count -= isinstance(event, api.Delta)
        if count == 0:
            return
    raise AssertionError("the stream ended early")
