"""What machine this is, and how much of it others used while something was measured."""

import os
import platform
import resource
import subprocess
import time


def _first_cpu():
    fields = {}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if not line.strip():
                break
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    return fields


def describe():
    """A dictionary of what decides the figures."""
    cpu = _first_cpu()
    flags = set(cpu.get("flags", "").split())
    wanted = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"]
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory_kib = int(file.readline().split()[1])
    compiler = subprocess.run(["c++", "--version"], capture_output=True, text=True, check=False)
    return {
        "cpu": cpu.get("model name", "unknown"),
        "cpu_family_model": f"{cpu.get('cpu family', '?')}/{cpu.get('model', '?')}",
        "cores": len(os.sched_getaffinity(0)),
        "instructions": [flag for flag in wanted if flag in flags],
        "memory_gib": round(memory_kib / 2**20, 1),
        "kernel": platform.release(),
        "compiler": (compiler.stdout.splitlines() or ["unknown"])[0],
        "load_average": os.getloadavg()[0],
    }


def _busy_seconds():
    with open("/proc/stat", encoding="utf-8") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(
            int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds():
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


class Interference:
    """Measures, between enter and exit, how many cores' worth of time others used."""

    def __enter__(self):
        self._start = (time.monotonic(), _busy_seconds(), _own_seconds())
        self.cores = 0.0
        return self

    def __exit__(self, *_):
        wall = time.monotonic() - self._start[0]
        busy = _busy_seconds() - self._start[1]
        own = _own_seconds() - self._start[2]
        self.cores = max(0.0, busy - own) / wall if wall > 0 else 0.0
