"""Fixtures: the examples, built by the commands that they tell, and what they talk to."""

import os
import pathlib
import subprocess
import sys

import processes
import pytest
from scripted_server import ANSWERS, ScriptedServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
BUILD = os.environ.get("CCOE_BUILD", "")
TOOLS = pathlib.Path(sys.executable).parent
# Debian's programs and buf, whatever else this machine has.
ENVIRONMENT = {**os.environ, "PATH": f"{TOOLS}:/usr/bin:/bin"}


def run(command, check=True):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                            timeout=400, env=ENVIRONMENT)
    if check and result.returncode != 0:
        pytest.fail(f"{command} ended with {result.returncode}; deploy/dev/bootstrap.sh build test "
                    f"installs what it needs\n{result.stdout}{result.stderr}", pytrace=False)
    return result


def build_python(_):
    return [sys.executable, EXAMPLES / "python" / "ask.py"]


def build_go(out):
    run([EXAMPLES / "go" / "build.sh", out])
    return [out / "ask"]


def build_ruby(out):
    run([EXAMPLES / "ruby" / "build.sh", out])
    return ["ruby", "-I", out, EXAMPLES / "ruby" / "ask.rb"]


def build_java(out):
    run([EXAMPLES / "java" / "build.sh", out])
    return ["java", f"@{out / 'classpath'}", "Ask"]


def build_cpp(out):
    run(["cmake", "--install", BUILD, "--component", "api", "--prefix", out / "prefix"])
    run(["cmake", "-S", EXAMPLES / "cpp", "-B", out, "-D", f"CMAKE_PREFIX_PATH={out / 'prefix'}"])
    run(["cmake", "--build", out])
    return [out / "ask"]


BUILDERS = {"python": build_python, "go": build_go, "ruby": build_ruby, "java": build_java,
            "cpp": build_cpp}


@pytest.fixture(scope="session", params=BUILDERS)
def example(request, tmp_path_factory):
    """Runs an example with its arguments; the result has returncode, stdout and stderr."""
    command = BUILDERS[request.param](tmp_path_factory.mktemp(request.param))
    return lambda *arguments: run([*command, *arguments], check=False)


@pytest.fixture(scope="session")
def buf():
    """Runs the example of `buf curl`."""
    return lambda *arguments: run([EXAMPLES / "buf" / "ask.sh", *arguments], check=False)


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """The address of `ccoe serve` with the trained sql expert."""
    experts = tmp_path_factory.mktemp("experts")
    (experts / "sql").symlink_to(ROOT / "deploy" / "experts" / "sql")
    process = processes.Process(tmp_path_factory.mktemp("serve"), "ccoe", {
        "engine": {"model": os.environ["CCOE_MODEL"], "threads": 1, "kv_cache_mib": 160},
        "experts": str(experts)})
    yield process.listen
    assert process.stop() == 0


class ReluctantServer(ScriptedServer):
    """Refuses streams alone."""

    def _answer(self, method):
        return lambda request, context: ANSWERS[method]


@pytest.fixture
def reluctant():
    server = ReluctantServer()
    yield server
    server.stop()
