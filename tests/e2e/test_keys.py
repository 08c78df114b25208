"""Keys: who shows none is refused, a key has what it is granted, and the file is followed."""

import json
import stat
import subprocess

import api
import conftest
import grpc
import processes
import prompts
import pytest

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory):
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def add(cli, keys_file):
    """Adds a key; returns it."""

    def run(name, *options):
        added = cli("keys", "add", keys_file, "--name", name, *options)
        assert added.returncode == 0, added.stderr
        return added.stdout.strip()

    return run


@pytest.fixture(scope="module")
def team(add):
    """The key that the server starts with."""
    return add("team", "--weight", 3)


@pytest.fixture
def cli_of():
    """Runs any of the programs."""

    def run(program, *arguments):
        return subprocess.run([str(processes.BIN / program), *map(str, arguments)],
                              capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory, model, keys_file, team):
    server = processes.Process(tmp_path_factory.mktemp("server"), "ccoe", {
        "engine": {"model": str(model), "threads": 1, "kv_cache_mib": 160},
        "api_keys": str(keys_file)})
    yield server
    server.kill()


def reason(server, key):
    """Why a call with this key is refused; None: it is not."""
    with api.Client(server.listen, api_key=key) as client:
        try:
            client.count_tokens("hello", timeout=30)
        except api.CcoeError as error:
            return error.reason
    return None


def test_the_file_holds_no_key(keys_file, team, cli):
    assert team.startswith("ccoe_") and team not in keys_file.read_text()
    assert stat.S_IMODE(keys_file.stat().st_mode) == 0o600
    listed = cli("keys", "list", keys_file, "--json")
    assert [json.loads(line)["name"] for line in listed.stdout.splitlines()] == ["team"]
    twice = cli("keys", "add", keys_file, "--name", "team")
    assert twice.returncode == 1 and "another key is named team" in twice.stderr
    assert cli("keys", "remove", keys_file, "--name", "nobody").returncode == 1


def test_a_call_needs_a_key_that_is_known(server, team):
    with api.Client(server.listen, api_key="") as client:
        error = api.failure_of(client.stream, api.request(prompts.GENERAL))
        assert (error.code, error.reason) == (UNAUTHENTICATED, "API_KEY_MISSING")
        assert not error.retryable
        assert api.failure_of(client.experts).reason == "API_KEY_MISSING"
    with api.Client(server.listen, api_key=team + "0") as client:
        error = api.failure_of(client.generate, api.request(prompts.GENERAL))
        assert (error.code, error.reason) == (UNAUTHENTICATED, "API_KEY_UNKNOWN")
    with api.Client(server.listen, api_key=team) as client:
        assert client.answer(api.request(prompts.GENERAL, max_tokens=4)).token_ids
    assert team not in server.log.read_text()


def test_the_command_line_shows_a_key(server, team, cli, tmp_path):
    path = tmp_path / "key"
    path.write_text(team + "\n")
    ask = ["generate", "--server", server.listen, "--max-tokens", 4, prompts.GENERAL]
    assert "API_KEY_MISSING" in cli(*ask, "--json").stdout
    assert cli(*ask, "--api-key-file", path).returncode == 0
    assert cli(*ask, env={"CCOE_API_KEY": team}).returncode == 0
    assert cli("health", "--server", server.listen).returncode == 0


def test_the_file_is_followed(server, keys_file, team, add, cli):
    late = add("late")
    processes.wait_until(lambda: reason(server, late) is None, what="that the new key is known")
    with api.Client(server.listen, api_key=late) as client:
        events = client.stream(api.request(prompts.GENERAL, max_tokens=200, ignore_end_of_generation=True))
        next(events)
        assert cli("keys", "remove", keys_file, "--name", "late").returncode == 0
        processes.wait_until(lambda: reason(server, late) == "API_KEY_UNKNOWN",
                             what="that the key is removed")
        assert type(list(events)[-1]).__name__ == "Finished"  # what runs goes on
    good = keys_file.read_text()
    keys_file.write_text("{")
    processes.wait_until(lambda: "api_keys_kept" in server.log.read_text(), what="the warning")
    assert reason(server, team) is None
    keys_file.write_text(good)


def test_a_key_has_no_more_than_it_is_granted(server, add):
    few = add("few", "--max-concurrent", 1)
    processes.wait_until(lambda: reason(server, few) is None, what="that the key is known")
    with api.Client(server.listen, api_key=few) as client:
        events = client.stream(api.request(prompts.GENERAL, max_tokens=400, ignore_end_of_generation=True))
        next(events)
        error = api.failure_of(client.generate, api.request(prompts.GENERAL))
        assert (error.code, error.reason) == (EXHAUSTED, "KEY_CONCURRENCY")
        assert error.retry_after > 0 and error.metadata["key"] == "few"
        events.close()
    slow = add("slow", "--tokens-per-minute", 20)
    processes.wait_until(lambda: reason(server, slow) is None, what="that the key is known")
    with api.Client(server.listen, api_key=slow) as client:
        used = client.answer(api.request(prompts.GENERAL, max_tokens=4)).finished.usage
        error = api.failure_of(client.generate, api.request(prompts.GENERAL))
        assert (error.code, error.reason) == (EXHAUSTED, "KEY_TOKENS")
        overdrawn = used.prompt_tokens + used.completion_tokens - 20
        assert 3 * overdrawn - 20 < error.retry_after <= 3 * overdrawn + 0.01
    rejected = server.scrape()
    assert rejected['ccoe_requests_rejected_total{reason="KEY_TOKENS"}'] >= 1
    assert rejected['ccoe_key_tokens_total{key="slow"}'] == 20 + overdrawn


@pytest.fixture(scope="module")
def split(tmp_path_factory, model, keys_file, team):
    """The same keys at a router with a backbone and an expert process."""
    deployment = processes.Deployment(
        tmp_path_factory.mktemp("split"), model, [{"general": True, "layer_begin": conftest.SHALLOW}],
        conftest.SHALLOW, router={"api_keys": str(keys_file)})
    yield deployment.router
    deployment.kill()


@pytest.mark.parametrize("place", ["server", "split"])
def test_keys_find_their_own_prefixes_alone(request, place, add):
    server = request.getfixturevalue(place)
    keys = [add(f"{place}-alone"), *(add(f"{place}-{i}", "--cache-group", place) for i in range(2))]
    processes.wait_until(lambda: reason(server, keys[2]) is None, what="that the keys are known")
    cached = []
    for key in keys + keys:
        with api.Client(server.listen, api_key=key) as client:
            answer = client.answer(api.request(list(range(100, 180)), max_tokens=2,
                                               domain="general"))
            cached.append(answer.finished.usage.cached_tokens)
    assert cached == [0, 0, 64, 64, 64, 64]


REFUSED = [
    ("ccoe-router", ["--backbone", "127.0.0.1:1", "--listen", "0.0.0.0:0"], "server.listen"),
    ("ccoe-router", ["--backbone", "127.0.0.1:1", "--admin-listen", ":0"], "admin_listen"),
    ("ccoe-backbone", ["--model", "MODEL", "--listen", "[::]:0"], "server.listen"),
    ("ccoe-expert", ["--model", "MODEL", "--general", "--layer-begin", "18", "--listen", "0.0.0.0:0"],
     "server.listen"),
]


@pytest.mark.parametrize("program,arguments,key", REFUSED)
def test_other_machines_do_not_come_in_unasked(cli_of, model, keys_file, team, program, arguments,
                                               key):
    arguments = [str(model) if word == "MODEL" else word for word in arguments]
    refused = cli_of(program, *arguments, "--check-config")
    assert refused.returncode == 2
    assert key in refused.stderr and "--allow-unauthenticated" in refused.stderr
    allowed = cli_of(program, *arguments, "--check-config", "--allow-unauthenticated")
    assert allowed.returncode == 0, allowed.stderr
    if program == "ccoe-router":  # keys open the clients' port alone
        with_keys = cli_of(program, *arguments, "--check-config", "--api-keys", keys_file)
        assert with_keys.returncode == (0 if key == "server.listen" else 2), with_keys.stderr
