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
SHALLOW, DEEP = 18, 22  # attach depths


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
    packages.make_lora(folder / "birds", base, "birds", DEEP, ["sparrow", "heron"], 7)
    trained = ROOT / "deploy" / "experts" / "sql"
    pinned = json.loads((trained / "expert.json").read_text())["base"]["digest"]
    if pinned == base["digest"]:
        (folder / "sql").symlink_to(trained)
    else:
        packages.make_lora(folder / "sql", base, "sql", SHALLOW, ["sql"], 8)
    return folder


def start_deployment(folder, model, experts):
    """sql and general in one expert process, birds in another; ready to answer."""
    deployment = processes.Deployment(
        folder, model, [{"packages": [str(experts / "sql")], "general": True},
                        {"packages": [str(experts / "birds")]}], DEEP)
    try:
        with api.Client(deployment.router.listen) as client:
            processes.wait_until(lambda: client.ready_domains() == {"sql", "birds", "general"},
                                 timeout_s=60, what="that all experts are ready")
    except BaseException:
        deployment.kill()
        raise
    return deployment


@pytest.fixture
def deployment(tmp_path, model, experts):
    """A deployment for one test, to do with as it likes."""
    deployment = start_deployment(tmp_path, model, experts)
    yield deployment
    deployment.kill()


@pytest.fixture(scope="session")
def shared(tmp_path_factory, model, experts):
    """One deployment for all tests that leave it as they found it."""
    deployment = start_deployment(tmp_path_factory.mktemp("shared"), model, experts)
    yield deployment
    deployment.kill()


@pytest.fixture
def client(shared):
    with api.Client(shared.router.listen) as client:
        yield client
