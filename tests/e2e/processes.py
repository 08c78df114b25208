"""Starts the programs as processes, on free ports, and reads what they print and measure."""

import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import threading
import time
import urllib.request

BIN = pathlib.Path(os.environ.get("CCOE_BIN", ""))
START_TIMEOUT_S = 120
LOCAL = "127.0.0.1:0"


def wait_until(condition, timeout_s=60, what="the condition"):
    """Waits for `condition` to return something true, and returns it."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout_s} s"
        time.sleep(0.02)


class Process:
    """A running program of ours. Its addresses are in `listen`, `health`, `metrics` and `http`."""

    def __init__(self, folder, program, config, name=None):
        self.name = name or program
        folder = pathlib.Path(folder)
        config.setdefault("server", {})
        for key in ("listen", "health_listen", "metrics_listen"):
            if program != "ccoe-gateway" or key == "metrics_listen":
                config["server"].setdefault(key, LOCAL)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(config))
        self.log = folder / f"{self.name}.log"
        command = [str(BIN / program)] + (["serve"] if program == "ccoe" else [])
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(command + ["--config", str(path)], stdin=subprocess.DEVNULL,
                                           stdout=subprocess.PIPE, stderr=log)
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            addresses = self._wait_ready()
        except BaseException:
            self.kill()
            raise
        self.listen = addresses.get("listen")
        self.health = addresses.get("health")
        self.metrics = addresses["metrics"]
        self.http = addresses.get("http")
        self.admin = addresses.get("admin")

    def _read(self):
        for line in self._popen.stdout:
            self._lines.put(line.decode())
        self._lines.put(None)

    def _wait_ready(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            assert line is not None, f"{self.name} ended early:\n{self.log.read_text()}"
            if line.startswith("listening "):
                return dict(pair.split("=", 1) for pair in line.split()[1:])

    @property
    def pid(self):
        return self._popen.pid

    def running(self):
        return self._popen.poll() is None

    def terminate(self):
        """Asks it to drain; wait() tells how it ended."""
        self._popen.send_signal(signal.SIGTERM)

    def kill(self):
        self._popen.kill()
        self._popen.wait()

    def wait(self, timeout_s=60):
        return self._popen.wait(timeout=timeout_s)

    def stop(self):
        """Ends it, whatever its state. Returns its exit code."""
        if self.running():
            self.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def scrape(self):
        """Its metrics: {'name{labels}': value}."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        return {match[1]: float(match[2])
                for match in re.finditer(r"^(\w+(?:\{[^}]*\})?) (\S+)", text, re.MULTILINE)}

    def load(self):
        """The gauges that must return to their base line: sessions and the memory they hold."""
        values = self.scrape()
        wanted = re.compile(r'^(ccoe_sessions\{|ccoe_kv_cache_blocks\{.*state="used"'
                            r"|ccoe_boundary_state_bytes|ccoe_active_requests|ccoe_queue_requests)")
        return {name: value for name, value in values.items() if wanted.match(name)}


class Deployment:
    """Router, backbone and expert processes that form one service."""

    def __init__(self, folder, model, experts, layers, kv_cache_mib=160, router=None, backbone=None):
        """`experts`: one {"packages": [...], "general": bool} for each expert process; `router` and
        `backbone`: what their configurations have besides."""
        self._folder, self._model, self._kv_cache_mib = folder, model, kv_cache_mib
        self._layers = layers
        self.experts, self.backbone, self.router = [], None, None
        try:
            for index, expert in enumerate(experts):
                self.experts.append(self.start_expert(index, expert))
            self.backbone = Process(folder, "ccoe-backbone", {
                "engine": self._engine(), "layers": layers,
                "peers": [{"address": expert.listen} for expert in self.experts], **(backbone or {})})
            self.router = Process(folder, "ccoe-router",
                                  {"backbone": self.backbone.listen, **(router or {})})
        except BaseException:
            self.kill()
            raise

    def _engine(self):
        return {"model": str(self._model), "threads": 1, "kv_cache_mib": self._kv_cache_mib}

    def start_expert(self, index, expert, listen=LOCAL):
        config = {"engine": self._engine(), "server": {"listen": listen}}
        config.update(expert)
        return Process(self._folder, "ccoe-expert", config, f"ccoe-expert-{index}")

    def processes(self):
        return [process for process in [self.router, self.backbone, *self.experts] if process]

    def load(self):
        """The gauges of all processes."""
        return {f"{process.name} {name}": value
                for process in self.processes() if process.running()
                for name, value in process.load().items()}

    def kill(self):
        for process in self.processes():
            process.kill()
