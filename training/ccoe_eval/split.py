"""A fixed list of train records that are measured instead of trained on, by their hashes."""

import json
import random
from pathlib import Path

from ccoe_training.records import prompt_sha256, read_records


def choose(train: Path, source: str, count: int, seed: int) -> list[str]:
    """The hashes, sorted, of `count` prompts of the records whose source begins with `source`. They
    depend on the set of prompts and the seed, not on the order of the file."""
    hashes = {prompt_sha256(r) for r in read_records(train) if r["source"].startswith(source)}
    return sorted(random.Random(seed).sample(sorted(hashes), count))


def write(train: Path, source: str, count: int, seed: int, out: Path) -> None:
    split = {
        "file": f"{train.parent.name}/{train.name}",
        "source": source,
        "seed": seed,
        "prompt_sha256": choose(train, source, count, seed),
    }
    out.write_text(json.dumps(split, indent=1) + "\n", encoding="utf-8")
