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
    config = {"engine": {"model": str(model), "threads": 1, "kv_cache_mib": 64},
              "admin_listen": processes.LOCAL}
    process = processes.Process(tmp_path, "ccoe", config)
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
