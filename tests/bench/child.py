"""A peer in a process of its own, so that its memory and its packages are its own. Parent and child
exchange JSON objects, one a line: {"load": arguments} makes the child's peer, {"run": arguments}
calls its method run, whose result comes back. An empty object comes first, after the
imports.
"""

import json
import os
import subprocess
import sys


def serve(peer_class):
    """The child's loop."""
    peer = None
    print("{}", flush=True)
    for line in sys.stdin:
        message = json.loads(line)
        if "load" in message:
            peer = peer_class(**message["load"])
            reply = {}
        else:
            reply = peer.run(**message["run"])
        print(json.dumps(reply), flush=True)


class Child:
    """The parent's end; leaving the context ends the child."""

    def __init__(self, python, script, environment=None):
        self._script = script
        self._process = subprocess.Popen(
            [str(python), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})})
        self.pid = self._process.pid
        self._reply()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()

    def load(self, **arguments):
        self._ask({"load": arguments})

    def run(self, **arguments):
        return self._ask({"run": arguments})

    def _ask(self, message):
        print(json.dumps(message), file=self._process.stdin, flush=True)
        return self._reply()

    def _reply(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._script} ended with status {self._process.wait()}; its own "
                               "message stands above")
        return json.loads(line)
