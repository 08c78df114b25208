"""The data's records. Needs no PyTorch, so that the evaluation reads them too."""

import hashlib
import json
from pathlib import Path
from typing import Any, Iterable

Record = dict[str, str]
"""At least "prompt" and "response"; mostly also "source", "domain" and "answer"."""


def read_records(path: Path) -> list[Record]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def prompt_sha256(record: Record) -> str:
    """Names a record without copying it: the hexadecimal SHA-256 of its prompt in UTF-8."""
    return hashlib.sha256(record["prompt"].encode()).hexdigest()


def read_hashes(path: Path) -> list[str]:
    """The "prompt_sha256" of a split file, as `python -m ccoe_eval split` writes it."""
    split: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return list(split["prompt_sha256"])


def without(records: Iterable[Record], hashes: Iterable[str]) -> list[Record]:
    """The records whose prompts are not among `hashes`."""
    excluded = set(hashes)
    return [record for record in records if prompt_sha256(record) not in excluded]
