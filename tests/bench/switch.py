#!/usr/bin/env python3
"""The time to the first token of a turn in a context of 1,000 tokens, beside a whole prefill of as
many tokens by the same expert.

An expert that attaches at layer k of L goes on from the hidden states that are the base model's own
under both experts, so after a switch it should take the share (L - d) / L of a prefill, d the
shallower of the two attach depths. `ccoe serve` answers, for every ordered pair of experts at
different depths, plans of two steps, and conversations whose second turn names the other expert, or
the same one: then only what is new has to be computed. The times are the engine's own. Whole
prefills are measured in turns with them.
"""

import argparse
import json
import pathlib
import random
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


QUESTION = "And what does that mean?"


def told(usage, timings):
    """Tokens, those of them that were cached, and the time to the first token in ms."""
    return usage.prompt_tokens, usage.cached_tokens, milliseconds(timings.prefill)


def plan(client, first, second, text):
    """Of a plan's second step."""
    answer = client.generate(None, plan=[(first, text), (second, QUESTION)],
                             temperature=0.0, max_tokens=4, ignore_end_of_generation=True)
    step = answer.finished.steps[1]
    return told(step.usage, step.timings)


def conversation(client, first, second, text):
    """Of a conversation's second turn."""
    messages = [{"role": "user", "content": text}]
    options = {"temperature": 0.0, "max_tokens": 4, "ignore_end_of_generation": True}
    answer = client.generate(messages, domain=first, **options)
    messages += [{"role": "assistant", "content": answer.text},
                 {"role": "user", "content": QUESTION}]
    finished = client.generate(messages, domain=second, **options).finished
    return told(finished.usage, finished.timings)


def prefill(client, domain, tokens, rng):
    """Of so many tokens that nobody has asked before, in ms."""
    answer = client.generate([rng.randrange(100, 10_000) for _ in range(tokens)], domain=domain,
                             temperature=0.0, max_tokens=1)
    return milliseconds(answer.finished.timings.prefill)


def measure_pair(client, turn, first, second, arguments, rng):
    """Medians of the turn's time and of whole prefills, in turns."""
    turns, prefills = [], []
    for _ in range(arguments.rounds):
        text = f"Call {rng.randrange(10 ** 9)}. " + long_text(client, arguments.context)
        tokens, cached, taken = turn(client, first, second, text)
        turns.append(taken)
        prefills.append(prefill(client, second, tokens, rng))
    return {"turn": turn.__name__, "first": first, "second": second, "tokens": tokens,
            "cached": cached, "prefill_ms": statistics.median(prefills),
            "turn_ms": statistics.median(turns)}


def measure(client, depths, layers, arguments):
    """A row for each kind of turn and ordered pair of experts; a switch has a limit."""
    rng = random.Random(1)
    rows = []
    for turn in plan, conversation:
        for first in depths:
            for second in depths:
                if first == second and turn is plan:
                    continue
                row = measure_pair(client, turn, first, second, arguments, rng)
                rows.append(row)
                row["share"] = row["turn_ms"] / row["prefill_ms"]
                if first == second:
                    continue
                row["layers_share"] = (layers - min(depths[first], depths[second])) / layers
                row["limit_ms"] = FACTOR * row["layers_share"] * row["prefill_ms"] + SLACK_MS
                row["met"] = row["turn_ms"] <= row["limit_ms"]
    return rows


def line(row):
    text = (f"{row['turn']:>12} {row['first']:>8} -> {row['second']:<8} {row['tokens']} tokens, "
            f"{row['cached']} cached: prefill {row['prefill_ms']:.1f} ms, this {row['turn_ms']:.1f} "
            f"ms ({row['share']:.2f} of it")
    if "limit_ms" not in row:
        return text + ")"
    return (f"{text}; layers {row['layers_share']:.2f}), limit {row['limit_ms']:.1f}: "
            f"{'met' if row['met'] else 'MISSED'}")


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
            serving = setup.serve(pathlib.Path(folder), setup.experts, 512, prefix_cache=True)
            with six.stopping(serving) as server, \
                    six.api.Client(server.listen) as client:
                rows = measure(client, depths, layers, arguments)
    for row in rows:
        print(line(row))
    print(f"other processes used {others.cores:.2f} cores")
    arguments.out.write_text(json.dumps({
        "machine": machine.describe(), "model": arguments.model.name, "threads": arguments.threads,
        "standins": setup.standins, "rounds": arguments.rounds, "others_cores": others.cores,
        "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
