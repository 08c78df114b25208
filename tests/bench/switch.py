#!/usr/bin/env python3
"""The time to the first token after a switch to another expert, in a context of 1,000 tokens, beside
a whole prefill of as many tokens by that expert.

An expert that attaches at layer k of L goes on from the hidden states that are the base model's own
under both experts, so a switch should take the share (L - d) / L of a prefill, d the shallower of the
two attach depths. `ccoe serve` answers plans of two steps, for every ordered pair of experts at
different depths; the times are the engine's own. Whole prefills are measured in turns with them.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

import machine
import six

FACTOR, SLACK_MS = 1.15, 5.0
SENTENCE = "The harbour lists every boat with its captain, its length and the day it came. "


def milliseconds(duration):
    return duration.seconds * 1e3 + duration.nanos / 1e6


def long_text(client, tokens):
    """About so many tokens, by the server's own count."""
    one = client.count_tokens(SENTENCE * 10).tokens / 10
    return SENTENCE * round(tokens / one)


def switch(client, first, second, text):
    """Of a plan's second step: its context's tokens and the time to its first token, in ms."""
    answer = client.generate(None, plan=[(first, text), (second, "And what does that mean?")],
                             temperature=0.0, max_tokens=4, ignore_end_of_generation=True)
    step = answer.finished.steps[1]
    return step.usage.prompt_tokens, milliseconds(step.timings.prefill)


def prefill(client, domain, tokens):
    """Of so many tokens, in ms."""
    answer = client.generate([100 + i % 1000 for i in range(tokens)], domain=domain,
                             temperature=0.0, max_tokens=1)
    return milliseconds(answer.finished.timings.prefill)


def measure(client, depths, layers, context, rounds):
    """A row for each ordered pair of experts."""
    text = long_text(client, context)
    rows = []
    for first in depths:
        for second in depths:
            if first == second:
                continue
            switches, prefills = [], []
            for _ in range(rounds):
                tokens, taken = switch(client, first, second, text)
                switches.append(taken)
                prefills.append(prefill(client, second, tokens))
            share = (layers - min(depths[first], depths[second])) / layers
            whole, taken = statistics.median(prefills), statistics.median(switches)
            limit = FACTOR * share * whole + SLACK_MS
            rows.append({"first": first, "second": second, "tokens": tokens,
                         "layers_share": share, "prefill_ms": whole, "switch_ms": taken,
                         "share": taken / whole, "limit_ms": limit, "met": taken <= limit})
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    six.add_arguments(parser)
    parser.add_argument("--context", type=int, default=1000, help="tokens (default: 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    arguments = parser.parse_args()
    with six.Setup(arguments) as setup, tempfile.TemporaryDirectory() as folder:
        layers = setup.base["layers"]
        depths = {"general": layers, "sql": six.SHAPES["sql"][0], "law": six.SHAPES["law"][0]}
        with machine.Interference() as others:
            with six.stopping(setup.serve(pathlib.Path(folder), setup.experts, 160)) as server, \
                    six.api.Client(server.listen) as client:
                rows = measure(client, depths, layers, arguments.context, arguments.rounds)
    for row in rows:
        print(f"{row['first']:>8} -> {row['second']:<8} {row['tokens']} tokens: prefill "
              f"{row['prefill_ms']:.1f} ms, switch {row['switch_ms']:.1f} ms "
              f"({row['share']:.2f} of it; layers {row['layers_share']:.2f}), limit "
              f"{row['limit_ms']:.1f}: {'met' if row['met'] else 'MISSED'}")
    print(f"other processes used {others.cores:.2f} cores")
    arguments.out.write_text(json.dumps({
        "machine": machine.describe(), "model": arguments.model.name, "threads": arguments.threads,
        "standins": setup.standins, "rounds": arguments.rounds, "others_cores": others.cores,
        "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
