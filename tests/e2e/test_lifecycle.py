"""Processes that end: politely, under load, and not."""

import concurrent.futures
import threading

import api
import processes
import prompts
import pytest
from ccoe_client import Unavailable
from conftest import DEEP


class Load:
    """Streams that run at the same time, each on a connection of its own."""

    def __init__(self, address, count=6, max_tokens=120, domains=("sql", "birds", "general")):
        self._pool = concurrent.futures.ThreadPoolExecutor(count)
        self._running = threading.Semaphore(0)
        self._count = count
        self.results = [self._pool.submit(self._run, address, domains[i % len(domains)], max_tokens)
                        for i in range(count)]

    def _run(self, address, domain, max_tokens):
        message = api.request(prompts.GENERAL, max_tokens=max_tokens, domain=domain)
        message.stop.ignore_end_of_generation = True
        with api.Client(address) as client:
            return api.collect(self._announce(client.stream(message)))

    def _announce(self, stream):
        deltas = 0
        for event in stream:
            deltas += isinstance(event, api.Delta)
            if isinstance(event, api.Delta) and deltas == 2:
                self._running.release()
            yield event

    def wait_until_all_run(self):
        for _ in range(self._count):
            assert self._running.acquire(timeout=60), "not all streams began"

    def answers(self):
        return [result.result(timeout=120) for result in self.results]


@pytest.mark.parametrize("who", ["router", "backbone"])
def test_sigterm_under_load_drops_nothing(deployment, who):
    load = Load(deployment.router.listen)
    load.wait_until_all_run()
    process = getattr(deployment, who)
    process.terminate()
    with api.Client(deployment.router.listen) as client:
        processes.wait_until(
            lambda: not process.running() or refused(client), what="that new requests are refused")
    for answer in load.answers():
        assert answer.finished.usage.completion_tokens == 120
    assert process.wait() == 0


def test_sigterm_of_an_expert_under_load_drops_nothing(deployment):
    load = Load(deployment.router.listen)
    load.wait_until_all_run()
    deployment.experts[1].terminate()
    for answer in load.answers():
        assert answer.finished.usage.completion_tokens == 120
    assert deployment.experts[1].wait() == 0


def test_sigterm_of_everything_in_one_process(tmp_path, model, experts):
    serve = processes.Process(tmp_path, "ccoe", {
        "engine": {"model": str(model), "threads": 1, "kv_cache_mib": 160},
        "experts": str(experts)})
    try:
        load = Load(serve.listen)
        load.wait_until_all_run()
        serve.terminate()
        for answer in load.answers():
            assert answer.finished.usage.completion_tokens == 120
        assert serve.wait() == 0
    finally:
        serve.kill()


def test_sigterm_of_idle_processes(deployment):
    for process in deployment.processes():
        process.terminate()
        assert process.wait(timeout_s=20) == 0, process.name


def test_a_killed_expert_is_an_error_never_silence(deployment):
    load = Load(deployment.router.listen, count=4, max_tokens=400, domains=("birds", "sql"))
    load.wait_until_all_run()
    deployment.experts[1].kill()
    for index in (0, 2):
        with pytest.raises(Unavailable) as raised:
            load.results[index].result(timeout=60)
        assert raised.value.reason, "an UNAVAILABLE that says nothing"
    with api.Client(deployment.router.listen) as client:
        processes.wait_until(lambda: "birds" not in client.ready_domains(),
                             what="that birds is known to be gone")
        error = api.failure_of(client.stream, api.request(prompts.BIRDS, domain="birds"))
        assert (type(error), error.reason) == (Unavailable, "EXPERT_UNAVAILABLE")
        assert client.answer(api.request(prompts.SQL, max_tokens=4)).token_ids
    for index in (1, 3):
        load.results[index].result(timeout=120)


def test_a_killed_replica_loses_no_token(tmp_path, model, experts):
    birds = {"packages": [str(experts / "birds")]}
    deployment = processes.Deployment(tmp_path, model, [birds, birds], DEEP)
    try:
        processes.wait_until(lambda: deployment.backbone.log.read_text().count("link_up") == 2,
                             what="that both replicas are connected")
        at_rest = deployment.backbone.load()
        undisturbed = Load(deployment.router.listen, count=4, domains=("birds",)).answers()
        load = Load(deployment.router.listen, count=4, domains=("birds",))
        load.wait_until_all_run()
        assert deployment.experts[0].load()["ccoe_sessions{state=\"running\"}"] > 0
        deployment.experts[0].kill()
        for before, after in zip(undisturbed, load.answers()):
            assert after.token_ids == before.token_ids
            assert after.text == before.text
        processes.wait_until(lambda: deployment.backbone.load() == at_rest, what="the base line")
    finally:
        deployment.kill()


def test_an_expert_that_returns_is_used_again(deployment, experts):
    with api.Client(deployment.router.listen) as client:
        before = client.answer(api.request(prompts.BIRDS, max_tokens=12))
        listen = deployment.experts[1].listen
        deployment.experts[1].kill()
        processes.wait_until(lambda: "birds" not in client.ready_domains(),
                             what="that birds is known to be gone")
        deployment.experts[1] = deployment.start_expert(
            1, {"packages": [str(experts / "birds")]}, listen)
        processes.wait_until(lambda: "birds" in client.ready_domains(), timeout_s=60,
                             what="that birds is back")
        after = client.answer(api.request(prompts.BIRDS, max_tokens=12))
    assert after.token_ids == before.token_ids


def test_a_killed_backbone_is_an_error_never_silence(deployment):
    load = Load(deployment.router.listen, count=3, max_tokens=400)
    load.wait_until_all_run()
    deployment.backbone.kill()
    for result in load.results:
        with pytest.raises(Unavailable):
            result.result(timeout=60)
    assert deployment.router.stop() == 0


def refused(client):
    """Whether a new request is refused as draining (or not even taken)."""
    try:
        client.answer(api.request(prompts.GENERAL, max_tokens=1), timeout=10)
    except Unavailable:
        return True
    return False
