"""Fixtures: the model, two experts, and deployments of them."""

import json
import os
import pathlib
import subprocess

import api
import packages
import processes
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTACH_DEPTH = 18


@pytest.fixture(scope="session")
def model():
    return pathlib.Path(os.environ["CCOE_MODEL"])


@pytest.fixture(scope="session")
def cli():
    """Runs `ccoe ARGUMENT...`; the result has returncode, stdout and stderr."""

    def run(*arguments, timeout=120, **kwargs):
        return subprocess.run([str(processes.BIN / "ccoe"), *map(str, arguments)],
                              capture_output=True, text=True, timeout=timeout, **kwargs)

    return run


@pytest.fixture(scope="session")
def experts(tmp_path_factory, model, cli):
    """A folder with two expert packages: sql (the trained one, where the model is its base), and
    birds, which has random weights and attaches deeper."""
    inspected = cli("model", "inspect", "--json", model)
    assert inspected.returncode == 0, inspected.stderr
    base = json.loads(inspected.stdout)
    folder = tmp_path_factory.mktemp("experts")
    packages.make_lora(folder / "birds", base, "birds", ATTACH_DEPTH + 4, ["sparrow", "heron"], 7)
    trained = ROOT / "deploy" / "experts" / "sql"
    pinned = json.loads((trained / "expert.json").read_text())["base"]["digest"]
    if pinned == base["digest"]:
        (folder / "sql").symlink_to(trained)
    else:
        packages.make_lora(folder / "sql", base, "sql", ATTACH_DEPTH, ["sql"], 8)
    return folder


@pytest.fixture
def deploy(tmp_path, model, experts):
    """Starts a deployment: sql and general in one expert process, birds in another."""
    started = []

    def start(**kwargs):
        deployment = processes.Deployment(
            tmp_path, model,
            [{"packages": [str(experts / "sql")], "general": True},
             {"packages": [str(experts / "birds")]}], ATTACH_DEPTH, **kwargs)
        started.append(deployment)
        with api.Client(deployment.router.listen) as client:
            processes.wait_until(lambda: client.ready_domains() == {"sql", "birds", "general"},
                                 what="that all experts are ready")
        return deployment

    yield start
    for deployment in started:
        deployment.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, model, experts):
    """One deployment for all tests of a module; they leave it as they found it."""
    deployment = processes.Deployment(
        tmp_path_factory.mktemp("shared"), model,
        [{"packages": [str(experts / "sql")], "general": True},
         {"packages": [str(experts / "birds")]}], ATTACH_DEPTH)
    with api.Client(deployment.router.listen) as client:
        processes.wait_until(lambda: client.ready_domains() == {"sql", "birds", "general"},
                             what="that all experts are ready")
    yield deployment
    deployment.kill()


@pytest.fixture
def client(shared):
    with api.Client(shared.router.listen) as client:
        yield client
