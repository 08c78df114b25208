#!/usr/bin/env python3
"""Measures the throughput of six domains at once: ours beside llama.cpp and PEFT.

  python3 -m venv VENV && VENV/bin/pip install -r tests/bench/requirements.txt
  python3 -m venv PEFT && PEFT/bin/pip install -r training/requirements.txt
  VENV/bin/python tests/bench/mixed.py --model MODEL.gguf --data DATA \\
      --peft-python PEFT/bin/python --out mixed.json

docs/bench.md says what is compared, and what is not comparable.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

import machine
import peer
import six

CONTEXT_TOKENS = 640  # of a sequence
WARM_UP_TOKENS = 4
OURS = "ours"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    six.add_arguments(parser)
    six.add_data_argument(parser)
    parser.add_argument("--peft-python", type=pathlib.Path,
                        help="Python with training/requirements.txt (default: without PEFT)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--streams", type=int, default=16, help="at a time (default: 16)")
    parser.add_argument("--prompts", type=int, default=2,
                        help="that each stream sends, one after the other (default: 2)")
    parser.add_argument("--output-tokens", type=int, default=64, help="of each (default: 64)")
    return parser.parse_args()


def share_streams(count, domains):
    """The domain of each stream, and the number of each domain's streams, as equal as can be."""
    owners = [index % domains for index in range(count)]
    return owners, [owners.count(index) for index in range(domains)]


def make_streams(owners, prompts, each):
    """Gives every stream `each` prompts of its domain; none is used twice."""
    left = [iter(of_domain) for of_domain in prompts]
    return [{"domain": owner, "prompts": [next(left[owner]) for _ in range(each)]}
            for owner in owners]


def agreement(answers, others):
    """The share of tokens before the first difference of two runs' answers."""
    pairs = [pair for streams in zip(answers, others) for pair in zip(*streams)]
    return statistics.mean(six.common(*pair) / len(pair[0]) for pair in pairs)


def summary(samples):
    """A row for each arrangement of {name: [(tokens per second, answers)]}."""
    medians = {name: statistics.median(speed for speed, _ in rounds)
               for name, rounds in samples.items()}
    return [{"name": name, "tokens_per_second": [speed for speed, _ in rounds],
             "median": medians[name], "ours_by_it": medians[OURS] / medians[name],
             "agreement": agreement(samples[OURS][-1][1], rounds[-1][1])}
            for name, rounds in samples.items()]


class Mixed:
    """The arrangements, each measured in a fresh process."""

    def __init__(self, arguments, setup):
        self._arguments = arguments
        self._setup = setup
        owners, self._shares = share_streams(arguments.streams, len(six.DOMAINS))
        most = max(self._shares) * arguments.prompts
        with tempfile.TemporaryDirectory() as folder, \
                six.stopping(setup.serve(folder, setup.experts, 64)) as server, \
                six.api.Client(server.listen) as client:
            prompts = six.prompts(client, six.DOMAINS, arguments.data, most + 1,
                                  CONTEXT_TOKENS - arguments.output_tokens)
        self._warm_up = [{"domain": index, "prompts": [of_domain.pop()]}
                         for index, of_domain in enumerate(prompts)]
        self._streams = make_streams(owners, prompts, arguments.prompts)
        self.prompt_tokens = [len(prompt) for stream in self._streams
                              for prompt in stream["prompts"]]
        merged, base = setup.merged(), [str(setup.model)] * len(six.DOMAINS)
        loras = [setup.lora(domain) for domain in six.DOMAINS]
        none = [None] * len(six.DOMAINS)
        self.arrangements = {
            OURS: self._ours,
            "llama.cpp, six merged models": lambda: self._llama(merged, none, False),
            "llama.cpp, adapters, a context each": lambda: self._llama(base, loras, False),
            "llama.cpp, adapters, one context": lambda: self._llama(base, loras, True),
        }
        if arguments.peft_python:
            self.arrangements["PEFT, float32"] = lambda: self._peft("float32")
            self.arrangements["PEFT, bfloat16"] = lambda: self._peft("bfloat16")

    def measure(self, name):
        """Generated tokens per second, prefill included, and the answers."""
        result = self.arrangements[name]()
        tokens = len(self.prompt_tokens) * self._arguments.output_tokens
        return tokens / result["seconds"], result["answers"]

    def _ours(self):
        kv_bytes = self._arguments.streams * CONTEXT_TOKENS * self._setup.kv_bytes_per_token
        with tempfile.TemporaryDirectory() as folder, \
                six.stopping(self._setup.serve(folder, self._setup.experts,
                                               1 + kv_bytes // 2**20)) as server, \
                six.api.Client(server.listen) as client:
            six.answer_streams(client, six.DOMAINS, self._warm_up, WARM_UP_TOKENS)
            return six.answer_streams(client, six.DOMAINS, self._streams,
                                      self._arguments.output_tokens)

    def _llama(self, models, loras, one_context):
        with self._setup.llama() as child:
            child.load(models=models, loras=loras, sequences=self._shares,
                       one_context=one_context, threads=self._setup.threads,
                       context_tokens=CONTEXT_TOKENS, mmap=True)
            return self._run(child)

    def _peft(self, dtype):
        with self._setup.peft(self._arguments.peft_python) as child:
            child.load(model=str(self._setup.model), dtype=dtype, threads=self._setup.threads,
                       packages=[self._setup.package(domain) for domain in six.DOMAINS])
            return self._run(child)

    def _run(self, child):
        child.run(streams=self._warm_up, output_tokens=WARM_UP_TOKENS)
        return child.run(streams=self._streams, output_tokens=self._arguments.output_tokens)


def measure(arguments):
    with six.Setup(arguments) as setup:
        mixed = Mixed(arguments, setup)
        samples = {name: [] for name in mixed.arrangements}
        others = []
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
            # Who goes first changes, so that a drift of the machine's speed favours nobody.
            for name in samples if number % 2 == 0 else reversed(samples):
                with machine.Interference() as interference:
                    samples[name].append(mixed.measure(name))
                others.append(interference.cores)
                print(f"  {name}: {samples[name][-1][0]:.1f}", file=sys.stderr, flush=True)
        return {
            "machine": machine.describe(), "model": arguments.model.name,
            "threads": arguments.threads, "streams": arguments.streams,
            "output_tokens": arguments.output_tokens, "rounds": arguments.rounds,
            "prompts": len(mixed.prompt_tokens),
            "prompt_tokens": {"mean": statistics.mean(mixed.prompt_tokens),
                              "max": max(mixed.prompt_tokens)},
            "standins": setup.standins, "others_cores": max(others),
            "llama_cpp": f"{peer.PACKAGE} {peer.VERSION}", "rows": summary(samples)}


def main():
    arguments = parse_arguments()
    try:
        report = measure(arguments)
    except (RuntimeError, OSError, peer.PeerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for row in report["rows"]:
        print(f"{row['name']}: {row['median']:.1f} tokens/s, ours by it {row['ours_by_it']:.2f}, "
              f"{100 * row['agreement']:.0f} % of tokens as ours")
    return 0


if __name__ == "__main__":
    sys.exit(main())
