"""What the admin port of `ccoe serve`, or of a router, changes, through `ccoe experts`."""

import json
import threading

import api
import conftest
import processes
import prompts
import pytest
from ccoe.v1 import types_pb2 as types
from test_cli import last_line
from test_cli_experts import copy_package

SQL = conftest.ROOT / "deploy" / "experts" / "sql"


@pytest.fixture
def node(model, tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    config = {"engine": {"model": str(model), "threads": 1, "kv_cache_mib": 64},
              "admin_listen": processes.LOCAL, "upload_dir": str(uploads), "max_upload_mib": 64}
    process = processes.Process(tmp_path, "ccoe", config)
    process.uploads = uploads
    yield process
    process.terminate()
    assert process.wait() == 0


def ask(cli, node, *arguments):
    return cli("experts", *arguments, "--admin", node.admin)


@pytest.fixture
def split(tmp_path, model):
    """A router with an admin port, and two expert processes that have `general` alone."""
    folders = [tmp_path / name for name in ("uploads", "uploads-0", "uploads-1")]
    for folder in folders:
        folder.mkdir()
    expert = {"layer_begin": conftest.SHALLOW}
    deployment = processes.Deployment(
        tmp_path, model, [expert | {"upload_dir": str(folder)} for folder in folders[1:]],
        conftest.DEEP,
        router={"admin_listen": processes.LOCAL, "upload_dir": str(folders[0])})
    deployment.uploads = folders
    with api.Client(deployment.router.listen) as client:
        processes.wait_until(lambda: "general" in client.ready_domains(), what="that it serves")
    yield deployment
    deployment.kill()


@pytest.fixture
def birds(tmp_path, experts):
    """Two versions of a package; their answers differ."""
    return {"1.0.0": copy_package(experts / "birds", tmp_path / "first", version="1.0.0"),
            "2.0.0": copy_package(SQL, tmp_path / "second", name="birds", domain="birds",
                                  version="2.0.0")}


class Load:
    """Requests for a domain, one after another on each of some connections, until it is left. All
    must be answered, with the tokens that their version has alone."""

    def __init__(self, address, domain, expected, count=4):
        self._address, self._domain, self._expected = address, domain, expected
        self._stopped = threading.Event()
        self.done = dict.fromkeys(expected, 0)
        self.failures = []
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def _run(self):
        with api.Client(self._address) as client:
            while not self._stopped.is_set():
                try:
                    answer = client.answer(
                        api.request(prompts.BIRDS, max_tokens=24, domain=self._domain))
                    version = answer.started.route.version
                    assert answer.token_ids == self._expected[version], f"tokens of {version}"
                    self.done[version] += 1
                except Exception as error:
                    self.failures.append(error)
                    return

    def wait_for(self, version):
        """Waits for an answer of the version that has yet to come."""
        before = self.done[version]
        processes.wait_until(lambda: self.failures or self.done[version] > before + 4,
                             what=f"an answer of {version}")
        assert not self.failures, self.failures

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures


def lines(result):
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_traffic_is_shared_out(cli, node, tmp_path):
    ask(cli, node, "push", SQL)
    first = lines(ask(cli, node, "traffic", "sql", "--json"))[0]["version"]
    ask(cli, node, "traffic", "sql", f"{first}=1")
    ask(cli, node, "push", copy_package(SQL, tmp_path / "new", version="99.0.0"))
    shares = lines(ask(cli, node, "traffic", "sql", "--json"))
    assert [(s["version"], s["weight"], s["share"]) for s in shares] == [(first, 1, 1),
                                                                         ("99.0.0", 0, 0)]
    route = ["route", "--server", node.listen, "--json", prompts.SQL]
    assert last_line(cli(*route))["version"] == first
    shares = lines(ask(cli, node, "traffic", "sql", f"{first}=1", "sql@99.0.0=3", "--json"))
    assert [s["share"] for s in shares] == [0.25, 0.75]
    assert "75%" in ask(cli, node, "traffic").stdout
    assert ask(cli, node, "traffic", "sql", "--reset").returncode == 0
    assert last_line(cli(*route))["version"] == "99.0.0"
    refused = ask(cli, node, "traffic", "sql", "7=1", "--json")
    assert refused.returncode == 4
    assert json.loads(refused.stdout.splitlines()[-1])["reason"] == "UNKNOWN_EXPERT"
    assert ask(cli, node, "traffic", "sql", "7").returncode == 2


def test_a_push_tells_its_effect_on_the_gate(cli, node, tmp_path):
    trial = lines(ask(cli, node, "push", SQL, "--dry-run", "--json"))[0]
    assert trial["confusion"] == [{"domain": "sql", "prompts": 3, "own": 3, "moved": 3}]
    assert [e["name"] for e in lines(cli("experts", "--server", node.listen, "--json"))] == ["general"]
    assert ask(cli, node, "push", SQL).stdout.startswith("pushed sql ")
    # Beside a package whose rules claim what the other's row decides, if anything is left to it.
    greedy = copy_package(SQL, tmp_path / "greedy", name="greedy", domain="greedy", gate={
        "rules": {"threshold": 0.1, "keywords": [{"text": "schema", "weight": 100}], "patterns": []}})
    told = lines(ask(cli, node, "push", greedy, "--dry-run", "--json"))[0]["confusion"]
    assert [c["domain"] for c in told] == ["greedy", "sql"]
    assert told[0]["own"] == told[1]["moved"] == 2  # of three examples two have the word
    assert told[1]["own"] == 1
    text = ask(cli, node, "push", greedy, "--dry-run").stdout
    assert text.startswith("would push greedy ") and "MOVED" in text


def test_a_package_is_uploaded(cli, node, model, tmp_path):
    package = copy_package(SQL, tmp_path / "mine", version="3.0.0")
    pushed = lines(ask(cli, node, "push", package, "--upload", "--json"))[0]
    assert (pushed["name"], pushed["version"]) == ("sql", "3.0.0")
    assert list(node.uploads.iterdir()) == []
    prompt = ["--temperature", 0, "--max-tokens", 8, "--json", prompts.SQL]
    uploaded = last_line(cli("generate", "--server", node.listen, *prompt))
    own = last_line(cli("generate", "--model", model, "--experts", SQL.parent, *prompt))
    assert uploaded["version"] == "3.0.0" and uploaded["token_ids"] == own["token_ids"]
    again = ask(cli, node, "push", package, "--upload", "--json")
    assert again.returncode == 4
    assert json.loads(again.stdout.splitlines()[-1])["code"] == "ALREADY_EXISTS"
    assert list(node.uploads.iterdir()) == []
    (package / "adapter_model.safetensors").write_bytes(b"x")
    damaged = ask(cli, node, "push", package, "--upload", "--json")
    assert damaged.returncode == 4 and "not a safetensors file" in damaged.stderr
    missing = ask(cli, node, "push", tmp_path / "none", "--upload", "--json")
    assert missing.returncode == 4
    assert json.loads(missing.stdout.splitlines()[-1])["code"] == "NOT_FOUND"


def test_a_router_brings_a_package_to_expert_processes(cli, split, model):
    router = split.router
    trial = lines(ask(cli, router, "push", SQL, "--dry-run", "--json"))[0]
    assert trial["confusion"] == [{"domain": "sql", "prompts": 3, "own": 3, "moved": 3}]
    listing = ["experts", "--server", router.listen, "--json"]
    assert [expert["name"] for expert in lines(cli(*listing))] == ["general"]
    one = split.experts[1].listen
    assert ask(cli, router, "push", SQL, "--upload", "--node", one).returncode == 0
    assert [list(folder.iterdir()) for folder in split.uploads] == [[], [], []]
    assert "expert_pushed" in split.experts[1].log.read_text()
    assert "expert_pushed" not in split.experts[0].log.read_text()
    prompt = ["--temperature", 0, "--max-tokens", 8, "--json", prompts.SQL]
    pushed = last_line(cli("generate", "--server", router.listen, *prompt))
    own = last_line(cli("generate", "--model", model, "--experts", SQL.parent, *prompt))
    assert pushed["expert"] == "sql" and pushed["token_ids"] == own["token_ids"]
    unknown = ask(cli, router, "push", SQL, "--node", "127.0.0.1:1", "--json")
    assert unknown.returncode == 4
    assert json.loads(unknown.stdout.splitlines()[-1])["reason"] == "INVALID_REQUEST"
    assert ask(cli, router, "pop", "sql").stdout.startswith("popped sql ")
    states = {expert["name"]: expert["state"] for expert in lines(cli(*listing))}
    assert states == {"general": "ready", "sql": "draining"}
    elsewhere = last_line(cli("generate", "--server", router.listen, *prompt))
    assert elsewhere["expert"] == "general"


def test_versions_come_and_go_under_load_and_a_process_dies(cli, split, birds):
    router = split.router
    for folder in birds.values():
        assert ask(cli, router, "push", folder, "--upload").returncode == 0
    expected = {}
    with api.Client(router.listen) as client:
        for version in birds:
            expected[version] = client.answer(api.request(
                prompts.BIRDS, max_tokens=24,
                expert=types.ExpertRef(name="birds", version=version))).token_ids
        assert expected["1.0.0"] != expected["2.0.0"]
        with Load(router.listen, "birds", expected) as load:
            load.wait_for("2.0.0")
            assert ask(cli, router, "traffic", "birds", "1.0.0=1", "2.0.0=1").returncode == 0
            load.wait_for("1.0.0")
            assert ask(cli, router, "pop", "birds", "--expert-version", "2.0.0").returncode == 0
            load.wait_for("1.0.0")
            listen = split.experts[1].listen
            split.experts[1].kill()
            load.wait_for("1.0.0")  # at the other one
            split.experts[1] = split.start_expert(1, {"layer_begin": conftest.SHALLOW}, listen)
            again = ["push", birds["1.0.0"], "--upload", "--node", listen]
            processes.wait_until(lambda: ask(cli, router, *again).returncode == 0,
                                 what="that the process has its package again")
            load.wait_for("1.0.0")
            split.experts[0].kill()
            load.wait_for("1.0.0")  # at the one that has come back
            # The other version's time is over where it was popped, and its process is another.
            processes.wait_until(
                lambda: ask(cli, router, "push", birds["2.0.0"], "--upload").returncode == 0,
                what="that the other version is back")
            assert ask(cli, router, "traffic", "birds", "2.0.0=1").returncode == 0
            load.wait_for("2.0.0")
            assert ask(cli, router, "pop", "birds", "--expert-version", "1.0.0").returncode == 0
            load.wait_for("2.0.0")
    shares = lines(ask(cli, router, "traffic", "birds", "--json"))
    assert {s["version"]: s["share"] for s in shares if s["state"] == "serving"}["2.0.0"] == 1
