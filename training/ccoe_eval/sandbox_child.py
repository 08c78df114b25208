"""Runs one untrusted program within limits. Started by sandbox.py with `python -I -S`; never
imported. Standard input: one line of JSON with the limits, then the program. Standard output: the
line of JSON's nonce if the program ran to its end, else nothing but "error: KIND"."""

import json
import os
import resource
import signal
import sys


def apply_limits(limits):
    """The tighter of what is asked for and what is allowed already. Leaves root, which no limit on
    processes binds, for a user of its own."""
    wanted = {
        resource.RLIMIT_CPU: limits["cpu_s"],
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if limits["user_id"] is not None:
        os.setgroups([])
        os.setgid(limits["user_id"])
        os.setuid(limits["user_id"])


def refuse_sockets():
    def hook(event, _):
        if event.startswith("socket."):
            raise PermissionError("the network is closed here")

    sys.addaudithook(hook)


def main():
    limits = json.loads(sys.stdin.readline())
    program = sys.stdin.read()
    # The verdict leaves by a descriptor of its own: what the program prints goes nowhere.
    verdict = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    apply_limits(limits)
    refuse_sockets()
    try:
        exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})
    except BaseException as error:  # SystemExit is no success either
        verdict.write(f"error: {type(error).__name__}")
    else:
        verdict.write(limits["nonce"])
    verdict.flush()
    os._exit(0)


main()
