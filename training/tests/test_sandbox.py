"""Programs that must pass, must fail, and must do no harm while failing."""

import os
import time

import pytest

from ccoe_eval import sandbox
from ccoe_eval.sandbox import Limits, run

QUICK = Limits(cpu_s=1, wall_s=5.0)


def test_the_limits_hold_here():
    sandbox.check()
    assert "network: " in sandbox.description()


def test_a_passing_and_a_failing_program():
    assert run("def f(x):\n    return x + 1\nassert f(1) == 2\n").passed
    outcome = run("def f(x):\n    return x\nassert f(1) == 2\n")
    assert not outcome.passed and outcome.reason == "error: AssertionError"
    assert run("this, no python").reason == "error: SyntaxError"


@pytest.mark.parametrize("exit", ["exit(0)", "raise SystemExit", "import os; os._exit(0)"])
def test_a_program_that_ends_before_its_tests_does_not_pass(exit):
    assert not run(f"{exit}\nassert False\n").passed


def test_what_is_printed_is_no_verdict():
    assert run("import sys\nprint('x' * 10**6)\nsys.stderr.write('y' * 10**6)\n").passed
    assert not run("print('passed')\nassert False\n").passed


def test_a_fork_bomb_starts_nothing():
    bomb = "import os\nwhile True:\n    os.fork()\n"
    outcome = run(bomb, QUICK)
    assert outcome.reason == "error: BlockingIOError"


def test_threads_count_as_processes():
    assert not run("import threading\nthreading.Thread(target=print).start()\n").passed


def test_an_endless_loop_is_cut_by_cpu_time():
    begin_s = time.monotonic()
    assert run("while True:\n    pass\n", Limits(cpu_s=1, wall_s=60.0)).reason == "signal 9"
    assert time.monotonic() - begin_s < 30


def test_sleep_is_cut_by_wall_time():
    assert run("import time\ntime.sleep(60)\n", Limits(wall_s=1.0)).reason == "wall time"


def test_a_memory_hog():
    assert run("x = bytearray(4 * 2**30)\n", QUICK).reason == "error: MemoryError"
    assert not run("x = []\nwhile True:\n    x.append('y' * 10**6)\n", QUICK).passed


def test_a_file_writer():
    assert run("open('small', 'w').write('x' * 1000)\n").passed
    large = "with open('large', 'wb') as out:\n    out.write(b'x' * (2 * 2**20))\n"
    assert run(large).reason == "error: OSError"


def test_the_folder_is_empty_and_deleted():
    assert run("import os\nassert os.listdir('.') == []\nopen('left', 'w').close()\n").passed
    assert run("import os\nassert os.listdir('.') == []\n").passed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
def test_root_is_left():
    assert run("import os\nassert os.getuid() != 0 and os.geteuid() != 0\n").passed


@pytest.mark.parametrize("isolated", [True, False])
def test_a_network_opener(isolated):
    opener = "import socket\nsocket.create_connection(('127.0.0.1', 80), timeout=1)\n"
    assert run(opener, isolate_network=isolated).reason == "error: PermissionError"


@pytest.mark.skipif(not sandbox.namespace_command(), reason="unshare -n is not permitted here")
def test_the_namespace_has_no_device_but_its_own_loopback():
    names = "names = [line.split(':')[0].strip() for line in open('/proc/net/dev')][2:]\n"
    assert run(names + "assert names == ['lo'], names\n").passed
