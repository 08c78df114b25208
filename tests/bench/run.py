#!/usr/bin/env python3
"""Measures the engine beside llama.cpp, the hop between processes beside bare gRPC, and the memory
of each process.

`make bench` builds what is needed, fetches the model and calls this. By hand:

  tests/bench/run.py --model MODEL.gguf                 everything, medians of 5 rounds
  tests/bench/run.py --model MODEL.gguf --quick         one short round: does it all run?
  tests/bench/run.py --model MODEL.gguf --only speed    speed, hop or memory; may be repeated
  tests/bench/run.py --model MODEL.gguf --no-peer       without llama.cpp
  tests/bench/run.py --model MODEL.gguf --json out.json the same figures for machines

docs/bench.md says how each figure is made and what is expected of it.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import machine
import memory
import peer

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECTIONS = ["speed", "hop", "memory"]

# Least ratio to the peer, by test; of the hop to bare gRPC, at most.
AIMS = {"prefill": 1.0, "decode 1": 0.9, "decode 16": 1.5}
HOP_AIM = 2.0


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "ccoe"
    parser.add_argument("--model", type=pathlib.Path, required=True, help="GGUF file")
    parser.add_argument("--experts", type=pathlib.Path, default=ROOT / "deploy" / "experts",
                        help="folder of expert packages, for the memory of an expert process")
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "build" / "bin",
                        help="where the project's programs are (default: build/bin)")
    parser.add_argument("--cache", type=pathlib.Path, default=cache / "bench",
                        help=f"where llama.cpp is built (default: {cache / 'bench'})")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="compute threads of both sides (default: one per core)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)),
                        help="parallel compilations of llama.cpp (default: one per core)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--prefill-tokens", type=int, default=256)
    parser.add_argument("--streams", type=lambda text: [int(part) for part in text.split(",")],
                        default=[1, 8, 16], help="numbers of streams (default: 1,8,16)")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="of each stream (default: 64)")
    parser.add_argument("--decode-tokens", type=int, default=128,
                        help="that each stream decodes (default: 128)")
    parser.add_argument("--quick", action="store_true", help="one round of 16 tokens per stream")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="measure this alone")
    parser.add_argument("--no-peer", action="store_true", help="do not build or run llama.cpp")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the figures")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
        arguments.decode_tokens = 16
    return arguments


def json_lines(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                            check=False)
    if result.returncode != 0:
        raise RuntimeError(f"exit status {result.returncode} of {' '.join(map(str, command))}: "
                           f"{result.stderr.strip()[-500:]}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def spread(values):
    """Median, least and greatest of some figures."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values),
            "rounds": len(values)}


class Speed:
    """Interleaved rounds of the engine and the peer."""

    def __init__(self, arguments):
        self._arguments = arguments
        self._peers = {}  # variant -> folder of binaries
        self._samples = {}  # (side or peer's setting, test) -> figures
        self._others = []
        self.info = {}

    def run(self):
        arguments = self._arguments
        if not arguments.no_peer:
            self._peers = peer.build(arguments.cache, arguments.jobs)
            for variant, folder in self._peers.items():
                self.info[f"peer, {variant}"] = (
                    f"llama.cpp of {peer.PACKAGE} {peer.VERSION}: "
                    + peer.system_info(folder, arguments.model, arguments.threads))
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
            # Who goes first changes, so that a drift of the machine's speed favours nobody.
            sides = [self._ours, self._peer]
            for side in sides if number % 2 == 0 else reversed(sides):
                with machine.Interference() as interference:
                    side()
                self._others.append(interference.cores)

    def _add(self, side, test, value):
        self._samples.setdefault((side, test), []).append(value)

    def _ours(self):
        arguments = self._arguments
        rows = json_lines([
            arguments.bin_dir / "ccoe_bench", f"--model={arguments.model}",
            f"--threads={arguments.threads}", f"--prefill_tokens={arguments.prefill_tokens}",
            f"--streams={','.join(map(str, arguments.streams))}",
            f"--prompt_tokens={arguments.prompt_tokens}",
            f"--decode_tokens={arguments.decode_tokens}"])
        for row in rows:
            if row["test"] == "info":
                self.info["ours"] = f"{row['device']}, {row['arithmetic']}"
            elif row["test"] == "prefill":
                self._add("ours", "prefill", row["tokens_per_second"])
            else:
                self._add("ours", f"decode {row['streams']}", row["tokens_per_second"])

    def _peer(self):
        arguments = self._arguments
        for variant, folder in self._peers.items():
            for setting in peer.SETTINGS:
                name = f"{variant}, {setting}"
                self._add(name, "prefill", peer.measure_prefill(
                    folder, arguments.model, arguments.threads, arguments.prefill_tokens, setting))
                if variant == "blas":
                    continue  # no product of a decode step has the 32 rows that go to BLAS
                decoded = peer.measure_decode(
                    folder, arguments.model, arguments.threads, arguments.streams,
                    arguments.prompt_tokens, arguments.decode_tokens, setting)
                for streams, value in decoded.items():
                    self._add(name, f"decode {streams}", value)

    def results(self):
        tests = ["prefill"] + [f"decode {streams}" for streams in self._arguments.streams]
        rows = []
        for test in tests:
            row = {"test": test, "ours": spread(self._samples[("ours", test)])}
            settings = {side: spread(values) for (side, name), values in self._samples.items()
                        if name == test and side != "ours"}
            if settings:
                best = max(settings, key=lambda setting: settings[setting]["median"])
                row["peer"] = settings[best]
                row["peer_setting"] = best
                row["peer_settings"] = settings
                row["ratio"] = row["ours"]["median"] / row["peer"]["median"]
                if test in AIMS:
                    row["aim"] = AIMS[test]
                    row["met"] = row["ratio"] >= AIMS[test]
            rows.append(row)
        return {"rows": rows, "others_cores": spread(self._others), "info": self.info}


def run_hop(arguments):
    count = 400 if arguments.quick else 4000
    rows = json_lines([arguments.bin_dir / "ccoe_hop_bench", f"--count={count}"])
    for row in rows:
        row["ratio_p50"] = row["link_p50_us"] / row["bare_p50_us"]
        row["aim"] = HOP_AIM
        row["met"] = row["ratio_p50"] <= HOP_AIM
    return {"rows": rows}


def table(head, rows):
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [str(cell).ljust(width) if i == 0 else str(cell).rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        print("  " + "  ".join(cells).rstrip())
    print()


def verdict(row):
    return "-" if "met" not in row else "met" if row["met"] else "MISSED"


def print_speed(speed, arguments):
    print(f"Speed, tokens/s: medians of {arguments.rounds} interleaved rounds, "
          f"threads: {arguments.threads}")
    for side, text in speed["info"].items():
        print(f"  {side}: {text}")
    rows = []
    for row in speed["rows"]:
        name, _, streams = row["test"].partition(" ")
        name = (f"prefill, {arguments.prefill_tokens} tokens" if name == "prefill"
                else f"decode, {streams} stream{'s' if streams != '1' else ''}")
        ours = row["ours"]
        cells = [name, f"{ours['median']:.1f}", f"{ours['min']:.1f}..{ours['max']:.1f}"]
        if "peer" in row:
            other = row["peer"]
            cells += [f"{other['median']:.1f}", f"{other['min']:.1f}..{other['max']:.1f}",
                      row["peer_setting"], f"{row['ratio']:.2f}", row.get("aim", "-"), verdict(row)]
        else:
            cells += ["-"] * 6
        rows.append(cells)
    table(["", "ours", "range", "llama.cpp", "range", "its setting", "ratio", "aim", ""], rows)
    others = speed["others_cores"]
    print(f"  other processes used {others['median']:.2f} cores meanwhile "
          f"(at most {others['max']:.2f}){': not quiet' if others['max'] > 0.15 else ''}\n")


def print_hop(hop):
    print("The hop, there and back, microseconds (time held by the expert's engine subtracted)")
    table(["payload", "link p50", "link p99", "bare gRPC p50", "bare gRPC p99", "ratio p50", "aim",
           ""],
          [[f"{row['sessions'] * row['rows']} x {row['row_bytes']} bytes, {row['sessions']} session"
            f"{'s' if row['sessions'] > 1 else ''}", f"{row['link_p50_us']:.0f}",
            f"{row['link_p99_us']:.0f}", f"{row['bare_p50_us']:.0f}", f"{row['bare_p99_us']:.0f}",
            f"{row['ratio_p50']:.2f}", row["aim"], verdict(row)] for row in hop["rows"]])


def print_memory(result):
    print("Memory of each process after load, MiB (PSS; KV pages apart)")
    table(["process", "PSS", "of it files", "KV pool", "PSS without KV"],
          [[row["process"], f"{row['pss_mib']:.1f}", f"{row['pss_file_mib']:.1f}",
            f"{row['kv_mib']:.1f}", f"{row['pss_without_kv_mib']:.1f}"] for row in result["rows"]])


def main():
    arguments = parse_arguments()
    sections = arguments.only or SECTIONS
    report = {"machine": machine.describe(), "threads": arguments.threads,
              "rounds": arguments.rounds, "model": arguments.model.name}
    print(json.dumps(report["machine"]), flush=True)
    try:
        if "speed" in sections:
            speed = Speed(arguments)
            speed.run()
            report["speed"] = speed.results()
            print_speed(report["speed"], arguments)
        if "hop" in sections:
            report["hop"] = run_hop(arguments)
            print_hop(report["hop"])
        if "memory" in sections:
            report["memory"] = memory.measure(arguments.bin_dir, arguments.model, arguments.experts)
            print_memory(report["memory"])
    except (RuntimeError, OSError, peer.PeerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
