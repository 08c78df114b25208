"""Runs generated programs where their mistakes do no harm.

A program runs in a process of its own, in an empty folder that is deleted afterwards, with limits
on CPU and wall time, memory, file size, open files and processes, and without a network. This
guards against what a small model writes by accident; it is no prison for a determined attacker.
"""

import functools
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHILD = Path(__file__).with_name("sandbox_child.py")
INNOCENT = "import re, math, collections, itertools, heapq\nassert math.gcd(4, 6) == 2\n"
FIRST_USER_ID, USER_IDS = 2_000_000_000, 100_000
_numbers = itertools.count(os.getpid() % USER_IDS)


class Unusable(Exception):
    """Programs cannot be run here, or not within the limits."""


@dataclass(frozen=True)
class Limits:
    cpu_s: int = 5
    wall_s: float = 20.0
    memory_bytes: int = 512 * 2**20
    """Of address space."""
    file_bytes: int = 2**20
    """Of each file."""
    processes: int = 1
    """The program itself, so none besides; threads count."""
    open_files: int = 32


@dataclass(frozen=True)
class Outcome:
    passed: bool
    """The program ran to its end: nothing was raised and it did not exit."""
    reason: str
    """"passed", "error: KIND", "wall time", "signal N" or "ended early"."""


@functools.cache
def namespace_command() -> list[str]:
    """The command prefix that takes the network away, [] where this user may not."""
    for prefix in (["unshare", "-n"], ["unshare", "-r", "-n"]):
        try:
            subprocess.run([*prefix, "true"], check=True, capture_output=True, timeout=10)
            return prefix
        except (OSError, subprocess.SubprocessError):
            pass
    return []


@functools.cache
def interpreter() -> str:
    """This Python, or the system's where the user that programs run as cannot read this one's
    library. Raises Unusable where neither can run a program."""
    reasons = []
    for candidate in (sys.executable, "/usr/bin/python3"):
        outcome = _run(candidate, INNOCENT, Limits(), isolate_network=True)
        if outcome.passed:
            return candidate
        reasons.append(f"{candidate}: {outcome.reason}")
    raise Unusable(f"the sandbox cannot run Python: {'; '.join(reasons)}")


def description() -> str:
    """How programs are run and the network is kept away, for the report."""
    version = subprocess.run(
        [interpreter(), "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    namespace = " ".join(namespace_command()) or "unshare -n is not permitted"
    return f"{version}; network: {namespace}; sockets refused in Python; {Limits()}"


def run(program: str, limits: Limits = Limits(), isolate_network: bool = True) -> Outcome:
    """Runs `program`. `isolate_network` False leaves only the refusal of sockets, for tests."""
    return _run(interpreter(), program, limits, isolate_network)


def _run(python: str, program: str, limits: Limits, isolate_network: bool) -> Outcome:
    nonce = secrets.token_hex(16)
    # Root is not bound by a limit on processes: a user id that nobody has is.
    user_id = FIRST_USER_ID + next(_numbers) % USER_IDS if os.geteuid() == 0 else None
    head = json.dumps({**vars(limits), "nonce": nonce, "user_id": user_id})
    with tempfile.TemporaryDirectory(prefix="ccoe-sandbox-") as folder:
        if user_id is not None:
            os.chown(folder, user_id, user_id)
        prefix = namespace_command() if isolate_network else []
        process = subprocess.Popen(
            [*prefix, python, "-I", "-S", "-B", str(CHILD)],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(f"{head}\n{program}".encode(), timeout=limits.wall_s)
        except subprocess.TimeoutExpired:
            return Outcome(False, "wall time")
        finally:
            _end(process)
    verdict = output.decode(errors="replace")
    if verdict == nonce:
        return Outcome(True, "passed")
    if process.returncode < 0:
        return Outcome(False, f"signal {-process.returncode}")
    return Outcome(False, verdict[:80] if verdict.startswith("error: ") else "ended early")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all of its session's group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def check() -> None:
    """Raises Unusable where the limits do not hold, or an innocent program fails."""
    if run("import os\nif os.fork() == 0:\n    os._exit(0)\n").passed:
        raise Unusable("the sandbox cannot keep a program from starting processes")
