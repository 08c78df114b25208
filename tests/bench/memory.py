"""The memory of router, backbone and expert as processes of one machine, after load.

PSS (a shared page counts in parts) from /proc/PID/smaps_rollup. The KV pool is told apart by
starting everything twice, with pools of two sizes: the difference is what a MiB of pool costs
before any session, and the figure is extrapolated to no pool.
"""

import contextlib
import json
import pathlib
import re
import subprocess
import tempfile
import time

POOLS_MIB = (32, 160)
START_TIMEOUT_S = 120


def _ready_address(process, log):
    """Where the process serves, from the line that it prints once it does."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        ended = process.poll() is not None
        lines = log.read_text(encoding="utf-8").splitlines()
        for line in lines:
            match = re.match(r"listening listen=(\S+)", line)
            if match:
                return match.group(1)
        if ended:
            break
        time.sleep(0.02)
    raise RuntimeError(f"{process.args[0]} did not come up; its last line: {(lines or ['none'])[-1]}")


def smaps(pid):
    """Fields of smaps_rollup, in MiB."""
    fields = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        for line in file:
            parts = line.split()
            if len(parts) == 3 and parts[2] == "kB":
                fields[parts[0].rstrip(":")] = int(parts[1]) / 1024
    return fields


class _Fleet:
    """The three processes; leaving the context ends them."""

    def __init__(self, bin_dir, model, packages, attach_depth, pool_mib):
        self._bin_dir = bin_dir
        self._engine = {"model": str(model), "kvCacheMib": pool_mib}
        self._packages = packages
        self._attach_depth = attach_depth
        self._stack = contextlib.ExitStack()
        self.processes = {}

    def __enter__(self):
        folder = pathlib.Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            expert = self._start(folder, "expert", {
                "engine": self._engine, "packages": [str(path) for path in self._packages],
                "general": True, "layerBegin": self._attach_depth})
            backbone = self._start(folder, "backbone", {
                "engine": self._engine, "layers": self._attach_depth,
                "peers": [{"address": expert}]})
            self._start(folder, "router", {"backbone": backbone})
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _start(self, folder, name, config):
        file = folder / f"{name}.json"
        config = {"server": {"listen": "127.0.0.1:0"}, **config}
        file.write_text(json.dumps(config), encoding="utf-8")
        log_path = folder / f"{name}.log"
        log = self._stack.enter_context(open(log_path, "w", encoding="utf-8"))
        process = subprocess.Popen([str(self._bin_dir / f"ccoe-{name}"), "--config", str(file)],
                                   stdout=log, stderr=subprocess.STDOUT)
        self._stack.callback(self._stop, process)
        self.processes[name] = process
        return _ready_address(process, log_path)

    @staticmethod
    def _stop(process):
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _packages(experts):
    """Folders of packages, and the shallowest attach depth among them."""
    manifests = sorted(experts.glob("*/expert.json"))
    depths = [json.loads(path.read_text(encoding="utf-8"))["attach_depth"] for path in manifests]
    return [path.parent for path in manifests], min(depths, default=0)


def measure(bin_dir, model, experts):
    """One row per process."""
    packages, attach_depth = _packages(experts)
    if not packages:
        raise RuntimeError(f"no expert package in {experts}; name a folder with --experts")
    samples = {}
    for pool_mib in POOLS_MIB:
        with _Fleet(bin_dir, model.resolve(), packages, attach_depth, pool_mib) as fleet:
            for name, process in fleet.processes.items():
                samples[(name, pool_mib)] = smaps(process.pid)
    small, large = POOLS_MIB
    rows = []
    for name in ("router", "backbone", "expert"):
        first = samples[(name, small)]
        kv_per_mib = max(0.0, (samples[(name, large)]["Pss"] - first["Pss"]) / (large - small))
        rows.append({
            "process": name,
            "pss_mib": first["Pss"],
            "pss_file_mib": first.get("Pss_File", 0.0),
            "kv_mib": kv_per_mib * small,
            "pss_without_kv_mib": first["Pss"] - kv_per_mib * small,
        })
    return {"rows": rows, "pool_mib": small, "attach_depth": attach_depth,
            "packages": [path.name for path in packages]}
