"""The rows of the learned gate: one linear classifier for each domain, over pooled states."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from torch.nn import functional

from .gate import GateRules
from .gate_data import (
    INVENTED,
    GENERAL,
    BackgroundOptions,
    Prompt,
    read_background,
    read_dev,
    read_own,
)
from .json_file import read_json, write_json
from .pooled import PooledStates

DIGITS = 5
GENERAL_WEIGHT = 3.0
"""`general` has no row to speak for it, so its prompts count more among those not to claim."""
HELD_OUT_GROUPS = 3
"""MMLU's subjects, and the invented prompts, are held out in so many groups."""
THRESHOLDS = np.round(np.arange(0.30, 0.81, 0.02), 2)
SHIFTED_THRESHOLD = 0.5
THRESHOLD_TOLERANCE = 0.01
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class RowOptions:
    l2: float = 0.03
    max_steps: int = 60


@dataclass(frozen=True)
class Row:
    """p = sigmoid(weights . pooled state + bias); the domain claims a prompt from threshold on."""

    weights: np.ndarray
    bias: float
    threshold: float

    def probability(self, states: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-(states @ self.weights + self.bias)))

    def to_json(self, routing_layer: int) -> dict[str, Any]:
        return {
            "routing_layer": routing_layer,
            "weights": [rounded(weight) for weight in self.weights],
            "bias": rounded(self.bias),
            "threshold": self.threshold,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Row":
        return cls(np.array(row["weights"], np.float32), row["bias"], row["threshold"])


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class Examples:
    """Prompts with their pooled states."""

    prompts: list[Prompt]
    states: np.ndarray

    @property
    def domains(self) -> np.ndarray:
        return np.array([prompt.domain for prompt in self.prompts])

    def where(self, keep: np.ndarray) -> "Examples":
        prompts = [prompt for prompt, kept in zip(self.prompts, keep) if kept]
        return Examples(prompts, self.states[keep])


def example_weights(domains: np.ndarray, domain: str) -> np.ndarray:
    """Half the weight lies on `domain`; the others share the other half evenly, `general` with
    GENERAL_WEIGHT shares."""
    weights = np.zeros(len(domains), np.float32)
    for name in np.unique(domains):
        mine = domains == name
        weights[mine] = (GENERAL_WEIGHT if name == GENERAL else 1.0) / mine.sum()
    others = domains != domain
    weights[others] *= 0.5 / weights[others].sum()
    weights[~others] *= 0.5 / weights[~others].sum()
    return weights


def fit(background: Examples, domain: str, options: RowOptions) -> Row:
    """L2-regularised logistic regression of `domain` against the rest of the background, whose mean
    and deviation standardise the states and are folded into the row."""
    mean = background.states.mean(0)
    deviation = background.states.std(0) + 1e-6
    states = torch.from_numpy((background.states - mean) / deviation)
    domains = background.domains
    target = torch.from_numpy((domains == domain).astype(np.float32))
    importance = torch.from_numpy(example_weights(domains, domain))
    weights = torch.zeros(states.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=options.max_steps, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(
            states @ weights + bias, target, weight=importance, reduction="sum"
        )
        loss = loss + options.l2 / 2 * weights.pow(2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    folded = weights.detach().numpy() / deviation
    return Row(folded, float(bias.item() - mean @ folded), SHIFTED_THRESHOLD)


Rows = dict[str, Row]


def held_out(prompts: list[Prompt]) -> dict[str, np.ndarray]:
    """Which prompts are left out together: those of one source and domain. MMLU's subjects and the
    invented prompts are left out a third at a time."""
    units: dict[str, np.ndarray] = {}
    subjects = sorted({p.source for p in prompts if p.source.startswith("mmlu/")})
    invented = sorted({p.text for p in prompts if p.source == INVENTED and not p.varied})
    groups = {name: index % HELD_OUT_GROUPS for index, name in enumerate(subjects + invented)}
    for index, prompt in enumerate(prompts):
        if prompt.source == INVENTED:
            name = f"{INVENTED} {groups[prompt.original]}"
        elif prompt.source in groups:
            name = f"{prompt.domain}/mmlu subjects {groups[prompt.source]}"
        else:
            name = f"{prompt.domain}/{prompt.source}"
        units.setdefault(name, np.zeros(len(prompts), bool))[index] = True
    return units


@dataclass(frozen=True)
class Fold:
    """What one unit's prompts look like to rows that were trained without that unit."""

    unit: str
    mask: np.ndarray
    rows: Rows


def cross_validate(background: Examples, domains: list[str], options: RowOptions) -> list[Fold]:
    return [
        Fold(unit, mask, {d: fit(background.where(~mask), d, options) for d in domains})
        for unit, mask in held_out(background.prompts).items()
    ]


def choose_threshold(background: Examples, folds: list[Fold], domain: str) -> float:
    """The probability from which a claim is right most often, among prompts of sources not trained
    on: domains count alike, and in each the invented prompts as much as all others. Of those
    that are nearly as good the one next to 0.5."""
    domains = background.domains
    invented = np.array([prompt.source == INVENTED for prompt in background.prompts])
    plain = np.array([not prompt.varied for prompt in background.prompts])
    weights = np.zeros(len(domains))
    for name in np.unique(domains):
        for part in (invented, ~invented):
            mine = (domains == name) & part & plain
            weights[mine] = 1.0 / max(mine.sum(), 1)
    probability = np.zeros(len(domains))
    for fold in folds:
        states = background.states[fold.mask]
        probability[fold.mask] = fold.rows[domain].probability(states)
    right = [
        weights[(probability >= threshold) == (domains == domain)].sum() for threshold in THRESHOLDS
    ]
    close = THRESHOLDS[np.array(right) >= max(right) - THRESHOLD_TOLERANCE * weights.sum()]
    return float(min(close, key=lambda threshold: abs(threshold - SHIFTED_THRESHOLD)))


def shifted(rows: Rows, thresholds: dict[str, float]) -> Rows:
    """Rows whose threshold is 0.5: the chosen ones go into the biases, so that the probabilities of
    rows that claim one prompt can be compared."""
    moved = {}
    for name, row in rows.items():
        logit = float(np.log(thresholds[name] / (1.0 - thresholds[name])))
        moved[name] = replace(row, bias=row.bias - logit)
    return moved


@dataclass(frozen=True)
class Decision:
    domain: str
    confidence: float
    """The probability that the row of the best claim gives; that no row claims, for `general`."""


def learned(rows: Rows, states: np.ndarray) -> list[Decision]:
    """The claim with the highest probability / threshold; `general` when nobody claims."""
    names = sorted(rows)
    probability = np.stack([rows[name].probability(states) for name in names], 1)
    ratio = probability / np.array([rows[name].threshold for name in names])
    decisions = []
    for at, best in enumerate(ratio.argmax(1)):
        if ratio[at, best] >= 1.0:
            decisions.append(Decision(names[best], float(probability[at, best])))
        else:
            decisions.append(Decision(GENERAL, float(1.0 - probability[at].max())))
    return decisions


def by_rules(rules: dict[str, GateRules], text: str) -> str | None:
    """The domain with the highest score / threshold of those whose rules claim the text."""
    claims = [
        (-round(rule.score(text) / rule.threshold, 9), name)
        for name, rule in rules.items()
        if rule.claims(text)
    ]
    return min(claims)[1] if claims else None


class Gate:
    """Rules first, then the learned rows, as the router asks them."""

    def __init__(self, rules: dict[str, GateRules]):
        self._rules = rules
        self._claims: dict[str, str | None] = {}

    def decide(self, rows: Rows, examples: Examples) -> list[Decision]:
        decisions = learned(rows, examples.states)
        for index, prompt in enumerate(examples.prompts):
            claim = self._claim(prompt.text)
            if claim is not None:
                decisions[index] = Decision(claim, 1.0)
        return decisions

    def _claim(self, text: str) -> str | None:
        if text not in self._claims:
            self._claims[text] = by_rules(self._rules, text)
        return self._claims[text]


def as_routed(examples: Examples, names: list[str]) -> Examples:
    """Prompts of a domain that is not there belong to `general`."""
    prompts = [p if p.domain in names else replace(p, domain=GENERAL) for p in examples.prompts]
    return Examples(prompts, examples.states)


def accuracy(decisions: list[Decision], prompts: list[Prompt]) -> float:
    right = [d.domain == prompt.domain for d, prompt in zip(decisions, prompts)]
    return round(float(np.mean(right)), 4)


def calibration_error(decisions: list[Decision], prompts: list[Prompt]) -> float:
    """ECE: the gap between confidence and accuracy, weighted over bins of confidence."""
    confidence = np.array([decision.confidence for decision in decisions])
    right = np.array([d.domain == prompt.domain for d, prompt in zip(decisions, prompts)])
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in np.unique(bins)]
    return round(float(sum(gaps) / len(right)), 4)


def describe(decisions: list[Decision], prompts: list[Prompt]) -> dict[str, Any]:
    confusion: dict[str, dict[str, int]] = {}
    for decision, prompt in zip(decisions, prompts):
        row = confusion.setdefault(prompt.domain, {})
        row[decision.domain] = row.get(decision.domain, 0) + 1
    kinds = sorted({prompt.kind for prompt in prompts if prompt.kind})
    report: dict[str, Any] = {
        "prompts": len(prompts),
        "accuracy": accuracy(decisions, prompts),
        "abstained": round(float(np.mean([d.domain == GENERAL for d in decisions])), 4),
        "calibration_error": calibration_error(decisions, prompts),
        "confusion": {name: confusion[name] for name in sorted(confusion)},
    }
    for kind in kinds:
        mine = [(d, p) for d, p in zip(decisions, prompts) if p.kind == kind]
        report.setdefault("kinds", {})[kind] = accuracy(*map(list, zip(*mine)))
    return report


Decide = Callable[[Rows, Examples], list[Decision]]


def unseen_sources(
    background: Examples, folds: list[Fold], thresholds: dict[str, float], decide: Decide
) -> dict[str, Any]:
    """Accuracy on every unit by the rows that never saw it. Varied prompts are not counted."""
    plain = np.array([not prompt.varied for prompt in background.prompts])
    units: dict[str, float] = {}
    all_decisions: list[Decision] = []
    all_prompts: list[Prompt] = []
    for fold in folds:
        examples = background.where(fold.mask & plain)
        decisions = decide(shifted(fold.rows, thresholds), examples)
        units[fold.unit] = accuracy(decisions, examples.prompts)
        if not fold.unit.startswith(INVENTED):
            all_decisions += decisions
            all_prompts += examples.prompts
    sources = [value for name, value in units.items() if not name.startswith(INVENTED)]
    invented = [value for name, value in units.items() if name.startswith(INVENTED)]
    return {
        "mean_of_sources": round(float(np.mean(sources)), 4),
        "invented": round(float(np.mean(invented)), 4) if invented else None,
        **describe(all_decisions, all_prompts),
        "sources": units,
    }


def measure_rows(
    rows: Rows,
    rules: dict[str, GateRules],
    background: Examples,
    folds: list[Fold],
    thresholds: dict[str, float],
    sets: dict[str, Examples],
) -> dict[str, Any]:
    gate = Gate(rules)
    background = as_routed(background, sorted(rows))
    sets = {name: as_routed(examples, sorted(rows)) for name, examples in sets.items()}
    ways: dict[str, Decide] = {
        "rules_and_rows": gate.decide,
        "rows": lambda some, examples: learned(some, examples.states),
    }
    return {
        way: {
            **{name: describe(decide(rows, e), e.prompts) for name, e in sets.items()},
            "unseen_sources": unseen_sources(background, folds, thresholds, decide),
        }
        for way, decide in ways.items()
    }


@dataclass(frozen=True)
class GateRowsOptions:
    model: Path
    data: Path
    gate: Path
    """A folder with prompts.jsonl and invented.jsonl."""
    cache: Path
    domains: list[Path]
    """Domain files or packages' expert.json."""
    routing_layer: int = 8
    row: RowOptions = RowOptions()
    background: BackgroundOptions = BackgroundOptions()


def train_rows(options: GateRowsOptions) -> tuple[Rows, dict[str, Any]]:
    """The rows of the domains, and how well they tell prompts apart."""
    states = PooledStates(options.model, options.cache, [options.routing_layer])

    def examples(prompts: list[Prompt]) -> Examples:
        texts = [prompt.text for prompt in prompts]
        return Examples(prompts, states.get(texts)[options.routing_layer])

    manifests = [read_json(path) for path in options.domains]
    rules = {m["domain"]: GateRules.from_json(m["gate"]["rules"]) for m in manifests}
    names = sorted(rules)
    background = examples(read_background(options.data, options.gate, options.background, names))
    folds = cross_validate(background, names, options.row)
    thresholds = {name: choose_threshold(background, folds, name) for name in names}
    rows = {name: fit(background, name, options.row) for name in names}
    rows = shifted(rows, thresholds)
    rows = {n: Row.from_json(row.to_json(options.routing_layer)) for n, row in rows.items()}
    sets = {"dev": examples(read_dev(options.data)), "own": examples(read_own(options.gate))}
    report = {
        "routing_layer": options.routing_layer,
        "l2": options.row.l2,
        "background": {**asdict(options.background), "prompts": len(background.prompts)},
        "thresholds": thresholds,
        **measure_rows(rows, rules, background, folds, thresholds, sets),
    }
    return rows, report


def write_row(path: Path, row: Row, routing_layer: int) -> None:
    """Into a domain file or a package's expert.json, beside the rules."""
    manifest = read_json(path)
    manifest["gate"]["row"] = row.to_json(routing_layer)
    write_json(path, manifest)


def run(options: GateRowsOptions, write: bool) -> None:
    rows, report = train_rows(options)
    print(json.dumps(report, indent=1))
    if write:
        for path in options.domains:
            write_row(path, rows[read_json(path)["domain"]], options.routing_layer)
