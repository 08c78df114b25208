#!/usr/bin/env python3
"""What a neighbour costs: the time to the first token of one key while another has ten times the load.

`ccoe serve` answers two keys. Key b asks at a steady rate, key a at the same rate (1x) and at ten
times that (10x), more than the machine can answer: what it can is measured first. Arrivals are
Poisson, open loop: nobody waits for an answer before asking again, and what is refused is not asked
again. For contrast the same is asked with all requests under one key, where there is nothing to be
fair to. The four settings take turns.
"""

import argparse
import asyncio
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import machine

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import processes  # noqa: E402
from ccoe_client import AsyncClient, CcoeError, Delta  # noqa: E402

LIMIT, FACTOR = 1.5, 10


def add_key(folder, name):
    """The key, which is in the folder's keys.json from now on."""
    return subprocess.run(
        [processes.BIN / "ccoe", "keys", "add", folder / "keys.json", "--name", name],
        check=True, capture_output=True, text=True).stdout.strip()


def percentile(values, share):
    """The smallest of the values that so many do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def arrivals(rate, seconds, rng):
    """When requests come, of a Poisson process."""
    times, now = [], rng.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += rng.expovariate(rate)
    return times


async def first_token_s(client, prompt, tokens):
    """From the call to its first token; None where it is refused."""
    begin, first = time.monotonic(), None
    try:
        async for event in client.stream(prompt, domain="general", temperature=0.0,
                                         max_tokens=tokens, ignore_end_of_generation=True):
            if first is None and isinstance(event, Delta) and event.token_offset == 0:
                first = time.monotonic() - begin
    except CcoeError as error:
        if error.code.name != "RESOURCE_EXHAUSTED":
            raise
    return first


async def capacity(address, key, arguments):
    """Requests per second that are answered while 16 are always under way."""
    begin, ends = time.monotonic(), []
    measured_s = 10

    async def keep_asking(client, rng):
        while time.monotonic() < begin + 1.5 * measured_s:
            prompt = [rng.randrange(100, 10_000) for _ in range(arguments.prompt_tokens)]
            await first_token_s(client, prompt, arguments.tokens)
            ends.append(time.monotonic() - begin)

    async with AsyncClient(address, retries=0, api_key=key) as client:
        await asyncio.gather(*(keep_asking(client, random.Random(i)) for i in range(16)))
    return sum(0.5 * measured_s < end <= 1.5 * measured_s for end in ends) / measured_s


async def ask(client, times, arguments, rng):
    """Asks at these times; the times to the first token, and how many were refused."""
    begin = time.monotonic()

    async def one(at):
        prompt = [rng.randrange(100, 10_000) for _ in range(arguments.prompt_tokens)]
        await asyncio.sleep(max(0.0, begin + at - time.monotonic()))
        return await first_token_s(client, prompt, arguments.tokens)

    found = await asyncio.gather(*map(one, times))
    answered = [seconds for seconds in found if seconds is not None]
    return answered, len(found) - len(answered)


async def phase(address, keys, rate, load, arguments, rng):
    """Both keys at once, a at `load` times the rate; what b had, and a's number of refusals."""
    of_b = arrivals(rate, arguments.seconds, rng)
    of_a = arrivals(load * rate, arguments.seconds, rng)
    async with AsyncClient(address, retries=0, api_key=keys[0]) as a, \
            AsyncClient(address, retries=0, api_key=keys[1]) as b:
        (others, a_refused), (own, refused) = await asyncio.gather(
            ask(a, of_a, arguments, rng), ask(b, of_b, arguments, rng))
    return {"ttft_s": own, "refused": refused, "a_answered": len(others), "a_refused": a_refused}


def serve(folder, arguments):
    return processes.Process(folder, "ccoe", {
        "engine": {"model": str(arguments.model), "threads": arguments.threads,
                   "kv_cache_mib": 512, "max_sessions": arguments.max_sessions,
                   "max_waiting": 64, "prefix_cache": False},
        "api_keys": str(folder / "keys.json")})


def measure(folder, arguments):
    """The rate, and (mode, load) -> the phases of all rounds."""
    keys = add_key(folder, "a"), add_key(folder, "b")
    modes = {"two keys": keys, "one key": (keys[0], keys[0])}
    found = {(mode, load): [] for mode in modes for load in (1, FACTOR)}
    server = serve(folder, arguments)
    try:
        rate = arguments.overload / FACTOR * asyncio.run(capacity(server.listen, keys[0], arguments))
        for turn in range(arguments.rounds):
            for mode, load in found:
                rng = random.Random(turn)  # b's arrivals are the same in every setting
                found[mode, load].append(
                    asyncio.run(phase(server.listen, modes[mode], rate, load, arguments, rng)))
    finally:
        server.stop()
    return rate, found


def summary(phases):
    times = [seconds for found in phases for seconds in found["ttft_s"]]
    refused = sum(found["refused"] for found in phases)
    return {"answered": len(times), "refused": refused,
            "a_answered": sum(found["a_answered"] for found in phases),
            "a_refused": sum(found["a_refused"] for found in phases),
            "p50_ms": percentile(times, 0.5) * 1e3, "p99_ms": percentile(times, 0.99) * 1e3}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="GGUF file")
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "build" / "bin",
                        help="where the project's programs are (default: build/bin)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file to write")
    parser.add_argument("--threads", type=int, default=2, help="compute threads (default: 2)")
    parser.add_argument("--overload", type=float, default=1.2,
                        help="a's rate at 10x, as a part of what the machine answers (default: 1.2)")
    parser.add_argument("--seconds", type=float, default=60, help="of each phase (default: 60)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="default: 64")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer (default: 32)")
    parser.add_argument("--max-sessions", type=int, default=256,
                        help="of the engine (default: 256, as the server's own)")
    arguments = parser.parse_args()
    processes.BIN = arguments.bin_dir.resolve()
    with tempfile.TemporaryDirectory() as folder, machine.Interference() as others:
        rate, found = measure(pathlib.Path(folder), arguments)
    rows = {key: summary(phases) for key, phases in found.items()}
    print(f"1x is {rate:.2f} requests per second")
    for (mode, load), row in rows.items():
        print(f"{mode}, a at {load}x: b answered {row['answered']}, refused {row['refused']}; time "
              f"to the first token p50 {row['p50_ms']:.0f} ms, p99 {row['p99_ms']:.0f} ms; a answered "
              f"{row['a_answered']}, refused {row['a_refused']}")
    ratios = {mode: rows[mode, FACTOR]["p99_ms"] / rows[mode, 1]["p99_ms"]
              for mode in ("two keys", "one key")}
    print(f"p99 at {FACTOR}x / 1x: {ratios['two keys']:.2f} with two keys, limit {LIMIT}: "
          f"{'met' if ratios['two keys'] <= LIMIT else 'MISSED'}; {ratios['one key']:.2f} with one")
    print(f"other processes used {others.cores:.2f} cores")
    arguments.out.write_text(json.dumps({
        "machine": machine.describe(), "model": arguments.model.name, "threads": arguments.threads,
        "rate": rate, "seconds": arguments.seconds, "rounds": arguments.rounds,
        "prompt_tokens": arguments.prompt_tokens, "tokens": arguments.tokens,
        "max_sessions": arguments.max_sessions, "others_cores": others.cores, "ratios": ratios,
        "rows": {f"{mode}, {load}x": row for (mode, load), row in rows.items()}},
        indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
