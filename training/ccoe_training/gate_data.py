"""The prompts that the learned gate is trained and measured on."""

import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

from .records import read_records

GENERAL = "general"
INVENTED = "invented"
BACKGROUND_DOMAINS = ["code", GENERAL, "law", "math", "medical", "sql"]
VARIED_LENGTH = 300


@dataclass(frozen=True)
class Prompt:
    domain: str
    source: str
    """What is held out together: a data set, or one subject of MMLU."""
    text: str
    kind: str = ""
    original: str = ""
    """The text that a varied prompt was made from, else its own."""

    @property
    def varied(self) -> bool:
        return self.original != self.text


@dataclass(frozen=True)
class BackgroundOptions:
    """How many prompts of a domain make up the background, drawn evenly from its sources."""

    train: int = 400
    general: int = 800
    """Instead of `train` for `general`, which is everything that is nobody's."""
    extra: int = 200
    invented: bool = True
    varied: int = 80
    """As many of `train` again in the spelling of hurried people; the invented ones all."""
    seed: int = 1


def source_of(record: dict[str, str]) -> str:
    """Splits and variants of a data set are one source; a subject of MMLU is one of its own."""
    parts = record["source"].split("/")
    if parts[0].startswith("mmlu"):
        return f"mmlu/{parts[-1]}"
    return "legalbench" if parts[0].startswith("legalbench") else parts[0]


def to_prompt(record: dict[str, str]) -> Prompt:
    text = record["prompt"]
    return Prompt(record["domain"], source_of(record), text, record.get("kind", ""), text)


def sample(prompts: list[Prompt], count: int, seed: int) -> list[Prompt]:
    """`count` prompts, as evenly from the data sets as they can give; MMLU counts as one."""
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.source.split("/")[0], []).append(prompt)
    rng = random.Random(seed)
    chosen: list[Prompt] = []
    for index, group in enumerate(sorted(groups.values(), key=len)):
        rng.shuffle(group)
        share = round((count - len(chosen)) / (len(groups) - index))
        chosen += group[:share]
    return chosen


def misspell(text: str, rng: random.Random) -> str:
    """About every fifth word of four letters or more has two letters swapped, or one lost or
    doubled."""

    def spoil(match: re.Match[str]) -> str:
        word = match[0]
        if rng.random() > 0.2:
            return word
        at = rng.randrange(1, len(word) - 1)
        return rng.choice(
            [
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
            ]
        )

    return re.sub(r"[A-Za-z]{4,}", spoil, text)


def casual(text: str, rng: random.Random) -> str:
    """Small letters, without the last mark, often misspelt."""
    text = text.lower().rstrip("?.! ")
    return misspell(text, rng) if rng.random() < 0.5 else text


def without_choices(text: str, _rng: random.Random) -> str:
    """A multiple-choice question without its choices."""
    return re.sub(r"\n(?:[A-E]\. .*|Answer:)", "", text)


VARIATIONS: list[Callable[[str, random.Random], str]] = [misspell, casual, without_choices]


def vary(prompts: list[Prompt], seed: int) -> list[Prompt]:
    """One variation of each prompt of at most VARIED_LENGTH characters; those left as they
    were are not repeated."""
    rng = random.Random(seed)
    varied = []
    for prompt in prompts:
        change = rng.choice(VARIATIONS) if "\nA. " in prompt.text else rng.choice(VARIATIONS[:2])
        text = change(prompt.text, rng)
        if len(prompt.text) <= VARIED_LENGTH and text != prompt.text:
            varied.append(replace(prompt, text=text))
    return varied


def read_invented(path: Path, source: str) -> list[Prompt]:
    return [to_prompt({**record, "source": source}) for record in read_records(path)]


def read_background(
    data: Path, gate: Path, options: BackgroundOptions, more: list[str]
) -> list[Prompt]:
    """The same prompts for one set of options, so that a row can be trained without the others;
    `more` are domains that are not of the background but have rows to train."""
    extra = [to_prompt(record) for record in read_records(data / "router_extra.jsonl")]
    invented = read_invented(gate / "invented.jsonl", INVENTED) if options.invented else []
    background: list[Prompt] = []
    for domain in BACKGROUND_DOMAINS + [name for name in more if name not in BACKGROUND_DOMAINS]:
        count = options.general if domain == GENERAL else options.train
        records = read_records(data / domain / "train.jsonl")
        train = sample([to_prompt(record) for record in records], count, options.seed)
        short = [prompt for prompt in train if len(prompt.text) <= VARIED_LENGTH]
        varied = random.Random(options.seed).sample(short, min(options.varied, len(short)))
        of_domain = [prompt for prompt in invented if prompt.domain == domain]
        background += train
        background += sample([p for p in extra if p.domain == domain], options.extra, options.seed)
        background += of_domain + vary(varied + of_domain * bool(options.varied), options.seed)
    return background


def read_dev(data: Path) -> list[Prompt]:
    paths = sorted(data.glob("*/dev.jsonl"))
    return [to_prompt(record) for path in paths for record in read_records(path)]


def read_own(gate: Path) -> list[Prompt]:
    """The invented prompts that nothing is trained on."""
    return read_invented(gate / "prompts.jsonl", "own")
