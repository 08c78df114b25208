#!/usr/bin/env python3
"""What the gate costs: the time of its rules, and what the learned stage adds to the time to the
first token.

`ccoe serve` with all experts routes real prompts. The rules' time is the stage's own, as
`ccoe route --explain` tells it. Prompts that the rules leave open and the learned stage decides are
asked twice in turns, routed and with the domain named that the gate chose: the same expert answers,
so the difference is the gate's.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import machine
import six
from ccoe.v1.types_pb2 import ROUTE_STAGE_LEARNED, ROUTE_STAGE_RULES
from ccoe_client import Delta

RULES_LIMIT_US, LEARNED_LIMIT = 100.0, 1.05


def texts(data):
    """Every dev prompt, or the invented ones."""
    return [text for domain in six.DOMAINS for text in six.texts(domain, data)]


def rules_us(client, prompts):
    """The rules' time for each prompt, in microseconds."""
    times = []
    for prompt in prompts:
        for stage in client.route(prompt, explain=True).stages:
            if stage.stage == ROUTE_STAGE_RULES:
                times.append(stage.time.seconds * 1e6 + stage.time.nanos / 1e3)
    return times


def learned(client, prompts, count):
    """So many prompts that the learned stage decides, with the domain."""
    found = []
    for prompt in prompts:
        route = client.route(prompt).route
        if route.stage == ROUTE_STAGE_LEARNED:
            found.append((prompt, route.domain))
        if len(found) == count:
            break
    return found


def first_token_s(client, prompt, domain):
    """From the call to its first token, as the client sees it."""
    begin = time.monotonic()
    stream = client.stream(prompt, domain=domain, temperature=0.0, max_tokens=1,
                           ignore_end_of_generation=True)
    first = None
    for event in stream:
        if first is None and isinstance(event, Delta) and event.token_offset == 0:
            first = time.monotonic() - begin
    return first


def compare(client, prompts, rounds):
    """For each prompt its tokens and the medians of both times, in ms."""
    rows = []
    for prompt, domain in prompts:
        routed, told = [], []
        for _ in range(rounds):
            routed.append(first_token_s(client, prompt, None) * 1e3)
            told.append(first_token_s(client, prompt, domain) * 1e3)
        rows.append({"tokens": client.count_tokens(prompt).tokens, "domain": domain,
                     "routed_ms": statistics.median(routed), "told_ms": statistics.median(told)})
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    six.add_arguments(parser)
    six.add_data_argument(parser)
    parser.add_argument("--prompts", type=int, default=30, help="to compare (default: 30)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    arguments = parser.parse_args()
    prompts = texts(arguments.data)
    with six.Setup(arguments) as setup, tempfile.TemporaryDirectory() as folder:
        with machine.Interference() as others:
            with six.stopping(setup.serve(pathlib.Path(folder), setup.experts, 160)) as server, \
                    six.api.Client(server.listen) as client:
                times = sorted(rules_us(client, prompts))
                stride = max(1, len(prompts) // (8 * arguments.prompts))
                chosen = learned(client, prompts[::stride], arguments.prompts)
                rows = compare(client, chosen, arguments.rounds)
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    ratio = statistics.median(row["routed_ms"] / row["told_ms"] for row in rows)
    print(f"rules over {len(times)} prompts: p50 {p50:.1f} us, p99 {p99:.1f} us, limit "
          f"{RULES_LIMIT_US:.0f}: {'met' if p99 <= RULES_LIMIT_US else 'MISSED'}")
    print(f"time to the first token of {len(rows)} prompts, {min(r['tokens'] for r in rows)} to "
          f"{max(r['tokens'] for r in rows)} tokens, routed by the learned stage / told: median of "
          f"the ratios {ratio:.3f}, limit {LEARNED_LIMIT}: "
          f"{'met' if ratio <= LEARNED_LIMIT else 'MISSED'}")
    print(f"other processes used {others.cores:.2f} cores")
    arguments.out.write_text(json.dumps({
        "machine": machine.describe(), "model": arguments.model.name, "threads": arguments.threads,
        "standins": setup.standins, "rounds": arguments.rounds, "others_cores": others.cores,
        "rules_us": {"prompts": len(times), "p50": p50, "p99": p99, "max": times[-1]},
        "ratio": ratio, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
