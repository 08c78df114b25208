#!/usr/bin/env python3
"""Measures the memory that serving six domains takes: ours beside llama.cpp.

  python3 -m venv VENV && VENV/bin/pip install -r tests/bench/requirements.txt
  VENV/bin/python tests/bench/serving_memory.py --model MODEL.gguf --out memory.json

docs/bench.md says what is counted, and what is not comparable.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import machine
import peer
import six

CONTEXT_TOKENS = 256  # that the KV cache has for each domain
OUTPUT_TOKENS = 4
FULL_DEPTH = 23  # of 30 layers: 77 % are shared
LORA, FULL, MERGED, ADAPTERS = "lora", "full", "merged", "adapters"

# Who is compared with whom, and how many times its memory an arrangement may take.
AIMS = [
    (LORA, MERGED, 0.25),
    (FULL, MERGED, 0.387),
    (LORA, ADAPTERS, 1.0),
]


def sample(pids):
    """PSS of processes together, MiB: memory without a file, mapped weights, and the rest of the
    files, which is the programs' code."""
    parts = {"anonymous": 0.0, "weights": 0.0, "code": 0.0}
    for pid in pids:
        path = ""
        for line in pathlib.Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
            words = line.split()
            if not words[0].endswith(":"):  # begins a mapping
                path = words[5] if len(words) > 5 and words[5].startswith("/") else ""
            elif words[0] == "Pss:":
                whole = int(words[1]) / 1024
            elif words[0] == "Anonymous:":
                anonymous = int(words[1]) / 1024
                of_file = "weights" if path.endswith((".gguf", ".safetensors")) else "code"
                parts["anonymous"] += anonymous
                parts[of_file] += whole - anonymous
    return parts


def row(name, group, before, after, kv_mib, processes):
    """What came between two samples; the resident part of the KV cache apart."""
    grown = {f"{key}_mib": after[key] - before.get(key, 0.0) for key in after}
    return {"name": name, "group": group, "processes": processes, **grown, "kv_mib": kv_mib,
            "without_kv_mib": grown["anonymous_mib"] + grown["weights_mib"] - kv_mib}


def compare(rows):
    """The aims, each with the least memory of its two groups."""
    least = {group: min((row for row in rows if row["group"] == group),
                        key=lambda row: row["without_kv_mib"])
             for group in {row["group"] for row in rows}}
    comparisons = []
    for ours, other, aim in AIMS:
        ratio = least[ours]["without_kv_mib"] / least[other]["without_kv_mib"]
        comparisons.append({"ours": least[ours]["name"], "other": least[other]["name"],
                            "ratio": ratio, "aim": aim, "met": ratio <= aim})
    return comparisons


class Measurement:
    """Every arrangement is loaded, answers one short prompt in each domain, which touches all of
    its weights, and is looked at then."""

    def __init__(self, setup):
        self._setup = setup
        with tempfile.TemporaryDirectory() as folder, \
                six.stopping(setup.serve(folder, setup.experts, 64)) as server, \
                six.api.Client(server.listen) as client:
            prompts = six.prompts(client, six.DOMAINS, None, 1, CONTEXT_TOKENS // 2)
        self._streams = [{"domain": index, "prompts": of_domain}
                         for index, of_domain in enumerate(prompts)]
        tokens = CONTEXT_TOKENS * len(six.DOMAINS)
        self.kv_budget_mib = -(-tokens * setup.kv_bytes_per_token // 2**20)

    def rows(self):
        setup, count = self._setup, len(six.DOMAINS)
        merged, base = setup.merged(), [str(setup.model)] * count
        loras = [setup.lora(domain) for domain in six.DOMAINS]
        full = setup.full_packages(FULL_DEPTH)
        for mmap in (True, False):
            how = "mapped" if mmap else "read"
            yield self._llama(f"llama.cpp, six merged models, {how}", MERGED, merged,
                              [None] * count, mmap)
            yield self._llama(f"llama.cpp, one base and adapters, {how}", ADAPTERS, base, loras,
                              mmap)
        yield self._serve("ours, one process, LoRA experts", LORA, setup.experts)
        yield self._split("ours, router + backbone + expert, LoRA experts", setup.experts)
        yield self._serve(f"ours, one process, experts of whole layers from {FULL_DEPTH} on", FULL,
                          full)

    def _llama(self, name, group, models, loras, mmap):
        with self._setup.llama() as child:
            before = sample([child.pid])
            child.load(models=models, loras=loras, sequences=[1] * len(models),
                       one_context=group == ADAPTERS, threads=self._setup.threads,
                       context_tokens=CONTEXT_TOKENS, mmap=mmap)
            child.run(streams=self._streams, output_tokens=OUTPUT_TOKENS)
            after = sample([child.pid])
        # llama.cpp writes zeros to all of its KV cache when it opens a context.
        kv_mib = CONTEXT_TOKENS * len(models) * self._setup.kv_bytes_per_token / 2**20
        return row(name, group, before, after, kv_mib, 1)

    def _serve(self, name, group, experts):
        with tempfile.TemporaryDirectory() as folder, six.stopping(
                self._setup.serve(folder, experts, self.kv_budget_mib)) as server:
            return self._ours(name, group, server.listen, [server])

    def _split(self, name, experts):
        setup = self._setup
        folders = [path.parent for path in experts.glob("*/expert.json")]
        depths = [json.loads((path / "expert.json").read_text())["attach_depth"]
                  for path in folders]
        engine = {"model": str(setup.model), "threads": 1, "kv_cache_mib": self.kv_budget_mib,
                  "prefix_cache": False}
        with tempfile.TemporaryDirectory() as folder, six.stopping(six.processes.Deployment(
                folder, setup.model, [{"packages": [str(path) for path in folders],
                                       "general": True, "layer_begin": min(depths)}],
                min(depths), self.kv_budget_mib, backbone={"engine": engine})) as split:
            return self._ours(name, None, split.router.listen, split.processes())

    def _ours(self, name, group, address, processes):
        with six.api.Client(address) as client:
            six.processes.wait_until(lambda: client.ready_domains() >= set(six.DOMAINS))
            for stream in self._streams:  # one at a time, so that they use the same KV blocks
                six.answer_streams(client, six.DOMAINS, [stream], OUTPUT_TOKENS)
        # Of the KV pool only what that one prompt used is resident; it is not told apart.
        return row(name, group, {}, sample([process.pid for process in processes]), 0.0,
                   len(processes))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    six.add_arguments(parser)
    arguments = parser.parse_args()
    try:
        with six.Setup(arguments) as setup:
            measurement = Measurement(setup)
            rows = []
            for measured in measurement.rows():
                rows.append(measured)
                print(f"{measured['name']}: {measured['without_kv_mib']:.1f} MiB and "
                      f"{measured['kv_mib']:.1f} of KV cache", flush=True)
    except (RuntimeError, OSError, peer.PeerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = {
        "machine": machine.describe(), "model": arguments.model.name,
        "threads": arguments.threads, "standins": setup.standins,
        "kv_budget_mib": measurement.kv_budget_mib, "full_depth": FULL_DEPTH,
        "layers": setup.base["layers"], "llama_cpp": f"{peer.PACKAGE} {peer.VERSION}",
        "rows": rows, "comparisons": compare(rows)}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for one in report["comparisons"]:
        print(f"{one['ours']} / {one['other']}: {one['ratio']:.3f}, aim {one['aim']}: "
              f"{'met' if one['met'] else 'MISSED'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
