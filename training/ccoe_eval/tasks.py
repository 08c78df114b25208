"""What is measured: rows of the report, their records, and how a record's answer is checked."""

from dataclasses import dataclass
from pathlib import Path

from ccoe_training.records import Record, prompt_sha256, read_hashes, read_records

from . import answers, sandbox
from .options import LabelSets, Option, choices

SPLITS = Path(__file__).resolve().parents[1] / "splits"


@dataclass(frozen=True)
class Row:
    """One row of the report."""

    name: str
    domain: str
    max_tokens: int
    """Of a generated answer."""
    split: str | None = None
    """A file of splits/ whose records of train.jsonl are measured; None: dev.jsonl is."""


MATH_IN_DISTRIBUTION = "math_in_distribution"
ROWS = [
    Row("sql", "sql", 96),
    Row("code", "code", 384),
    Row("math", "math", 320),
    Row(MATH_IN_DISTRIBUTION, "math", 64, split=MATH_IN_DISTRIBUTION),
    Row("law", "law", 64),
    Row("medical", "medical", 64),
    Row("general", "general", 64),
]


@dataclass(frozen=True)
class Item:
    """One record to measure."""

    record: Record
    prompt_sha256: str
    kind: str
    """How the answer is checked: "sql", "code", "number", "exact", "choice", "label", "named"; or
    "none": only the likelihood of the reference and the route are measured."""
    options: list[Option]
    """Of a choice or a label."""

    def right(self, text: str) -> bool:
        """Whether the generated `text` answers the prompt. Code runs in the sandbox."""
        answer = self.record["answer"]
        if self.kind == "choice":
            return answers.chosen_letter(text, self.options) == answer
        if self.kind == "label":
            return answers.chosen_label(text, self.options) == answer
        if self.kind == "code":
            return sandbox.run(f"{answers.code_of(text)}\n{answer}\n").passed
        checks = {
            "sql": answers.sql_right,
            "number": answers.number_right,
            "exact": answers.exact_right,
            "named": answers.named_right,
        }
        return checks[self.kind](text, answer)


def kind_of(record: Record, options: list[Option]) -> str:
    if "answer" not in record:
        return "none"
    if choices(record):
        return "choice"
    if record["domain"] in ("sql", "code"):
        return record["domain"]
    if record["domain"] == "math":
        return "number" if record["source"].startswith("gsm8k") else "exact"
    return "label" if options else "named"


class RowData:
    """A row's items and the train records of its domain. Of records with one prompt the first is
    taken. Items are in the order of their hashes, so that a limit takes a fixed sample of which a
    larger limit's is an extension."""

    def __init__(self, row: Row, data: Path, limit: int | None = None):
        folder = data / row.domain
        self.row = row
        self.train = read_records(folder / "train.jsonl")
        measured = read_records(folder / "dev.jsonl")
        if row.split is not None:
            held_out = set(read_hashes(SPLITS / f"{row.split}.json"))
            measured = [r for r in self.train if prompt_sha256(r) in held_out]
            self.train = [r for r in self.train if prompt_sha256(r) not in held_out]
            if len(measured) != len(held_out):
                raise ValueError(f"{folder} lacks records of the split {row.split}")
        labels = row.domain in ("law", "medical")
        self._labels = LabelSets(self.train, measured) if labels else LabelSets([], [])
        items = {item.prompt_sha256: item for item in map(self.item, reversed(measured))}
        self.items = sorted(items.values(), key=lambda item: item.prompt_sha256)[:limit]

    def item(self, record: Record) -> Item:
        options = choices(record) or self._labels.options(record)
        return Item(record, prompt_sha256(record), kind_of(record, options), options)
