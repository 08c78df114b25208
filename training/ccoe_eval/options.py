"""The answers that a record allows: the options of its prompt, or the label set of its source."""

import re
from collections import defaultdict
from dataclasses import dataclass

from ccoe_training.records import Record

OPTION = re.compile(r"^([A-J])\. (.+)$", re.MULTILINE)
SPLIT_NAMES = {"train", "dev", "test", "validation"}


@dataclass(frozen=True)
class Option:
    """One allowed answer."""

    label: str
    """What `answer` would be."""
    words: str
    """The option's text in a multiple choice; the label itself otherwise."""

    @property
    def spellings(self) -> list[str]:
        """How an answer may spell a label; the first one is the data's. "NotMentioned" may also be
        "Not mentioned", and "yes" may be "Yes"."""
        apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.label)
        if apart != self.label:
            apart = apart[:1] + apart[1:].lower()
        return list(dict.fromkeys([self.label, apart[:1].upper() + apart[1:]]))


def family(source: str) -> str:
    """What is the same for a source's splits: "contractnli/test" and "contractnli/train" are
    "contractnli", "mmlu-testrows-as-train/x" and "mmlu/test/x" are "mmlu/x"."""
    parts = [part for part in source.split("/") if part not in SPLIT_NAMES]
    parts[0] = re.sub(r"-testrows-as-train$", "", parts[0])
    return "/".join(parts)


def choices(record: Record) -> list[Option]:
    """The lettered options at the end of the prompt, [] when `answer` is not the letter of one."""
    found = OPTION.findall(record["prompt"])
    letters = [letter for letter, _ in found]
    start = max((i for i, letter in enumerate(letters) if letter == "A"), default=0)
    options = [Option(letter, words.strip()) for letter, words in found[start:]]
    expected = [chr(ord("A") + i) for i in range(len(options))]
    fits = [option.label for option in options] == expected and len(options) > 1
    return options if fits and record.get("answer") in expected else []


class LabelSets:
    """The labels of every source of short answers, by the domain's train records. A source that
    they lack takes the smallest of their sets that holds all its own answers in `measured`, else
    those answers."""

    LARGEST = 64

    def __init__(self, train: list[Record], measured: list[Record]):
        self._sets = _answers(train)
        for name, own in _answers(measured).items():
            if name not in self._sets:
                fitting = [labels for labels in self._sets.values() if own <= labels]
                smallest = min(
                    fitting, key=lambda labels: (len(labels), sorted(labels)), default=own
                )
                self._sets[name] = smallest

    def options(self, record: Record) -> list[Option]:
        """[] when the record's answer is no label."""
        labels = self._sets.get(family(record["source"]), set())
        known = record.get("answer") in labels and 1 < len(labels) <= self.LARGEST
        return [Option(label, label) for label in sorted(labels)] if known else []


def _answers(records: list[Record]) -> dict[str, set[str]]:
    sets: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if "answer" in record and not choices(record):
            sets[family(record["source"])].add(record["answer"])
    return {name: labels for name, labels in sets.items() if len(labels) <= LabelSets.LARGEST}
