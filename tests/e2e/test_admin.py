"""What the admin port of `ccoe serve` changes, through `ccoe experts`."""

import json

import conftest
import processes
import prompts
import pytest
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


def experts(cli, node, *arguments):
    return cli("experts", *arguments, "--admin", node.admin)


def lines(result):
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_traffic_is_shared_out(cli, node, tmp_path):
    experts(cli, node, "push", SQL)
    first = lines(experts(cli, node, "traffic", "sql", "--json"))[0]["version"]
    experts(cli, node, "traffic", "sql", f"{first}=1")
    experts(cli, node, "push", copy_package(SQL, tmp_path / "new", version="99.0.0"))
    shares = lines(experts(cli, node, "traffic", "sql", "--json"))
    assert [(s["version"], s["weight"], s["share"]) for s in shares] == [(first, 1, 1),
                                                                         ("99.0.0", 0, 0)]
    route = ["route", "--server", node.listen, "--json", prompts.SQL]
    assert last_line(cli(*route))["version"] == first
    shares = lines(experts(cli, node, "traffic", "sql", f"{first}=1", "sql@99.0.0=3", "--json"))
    assert [s["share"] for s in shares] == [0.25, 0.75]
    assert "75%" in experts(cli, node, "traffic").stdout
    assert experts(cli, node, "traffic", "sql", "--reset").returncode == 0
    assert last_line(cli(*route))["version"] == "99.0.0"
    refused = experts(cli, node, "traffic", "sql", "7=1", "--json")
    assert refused.returncode == 4
    assert json.loads(refused.stdout.splitlines()[-1])["reason"] == "UNKNOWN_EXPERT"
    assert experts(cli, node, "traffic", "sql", "7").returncode == 2


def test_a_push_tells_its_effect_on_the_gate(cli, node, tmp_path):
    trial = lines(experts(cli, node, "push", SQL, "--dry-run", "--json"))[0]
    assert trial["confusion"] == [{"domain": "sql", "prompts": 3, "own": 3, "moved": 3}]
    assert [e["name"] for e in lines(cli("experts", "--server", node.listen, "--json"))] == ["general"]
    assert experts(cli, node, "push", SQL).stdout.startswith("pushed sql ")
    # Beside a package whose rules claim what the other's row decides, if anything is left to it.
    greedy = copy_package(SQL, tmp_path / "greedy", name="greedy", domain="greedy", gate={
        "rules": {"threshold": 0.1, "keywords": [{"text": "schema", "weight": 100}], "patterns": []}})
    told = lines(experts(cli, node, "push", greedy, "--dry-run", "--json"))[0]["confusion"]
    assert [c["domain"] for c in told] == ["greedy", "sql"]
    assert told[0]["own"] == told[1]["moved"] == 2  # of three examples two have the word
    assert told[1]["own"] == 1
    text = experts(cli, node, "push", greedy, "--dry-run").stdout
    assert text.startswith("would push greedy ") and "MOVED" in text


def test_a_package_is_uploaded(cli, node, model, tmp_path):
    package = copy_package(SQL, tmp_path / "mine", version="3.0.0")
    pushed = lines(experts(cli, node, "push", package, "--upload", "--json"))[0]
    assert (pushed["name"], pushed["version"]) == ("sql", "3.0.0")
    assert list(node.uploads.iterdir()) == []
    prompt = ["--temperature", 0, "--max-tokens", 8, "--json", prompts.SQL]
    uploaded = last_line(cli("generate", "--server", node.listen, *prompt))
    own = last_line(cli("generate", "--model", model, "--experts", SQL.parent, *prompt))
    assert uploaded["version"] == "3.0.0" and uploaded["token_ids"] == own["token_ids"]
    again = experts(cli, node, "push", package, "--upload", "--json")
    assert again.returncode == 4
    assert json.loads(again.stdout.splitlines()[-1])["code"] == "ALREADY_EXISTS"
    assert list(node.uploads.iterdir()) == []
    (package / "adapter_model.safetensors").write_bytes(b"x")
    damaged = experts(cli, node, "push", package, "--upload", "--json")
    assert damaged.returncode == 4 and "not a safetensors file" in damaged.stderr
    missing = experts(cli, node, "push", tmp_path / "none", "--upload", "--json")
    assert missing.returncode == 4
    assert json.loads(missing.stdout.splitlines()[-1])["code"] == "NOT_FOUND"
