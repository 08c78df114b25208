"""From a run's results to estimates and aims."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import bootstrap
from .bootstrap import Estimate, Values
from .measure import ARMS, BASE, EXPERT, FEW_SHOT, GENERAL, ROUTED
from .store import Store
from .tasks import MATH_IN_DISTRIBUTION, ROWS, Row

ACCURACIES = ["correct", "letter", "option"]
DIFFERENCES = [(EXPERT, BASE), (EXPERT, FEW_SHOT), (ROUTED, EXPERT)]
MET, MISSED, UNKNOWN = "met", "missed", "not measured"
EPSILON = 1e-9

Results = dict[str, dict[str, dict[str, Any]]]
"""arm -> prompt hash -> result"""


@dataclass(frozen=True)
class Aim:
    text: str
    row: str
    estimate: Estimate | None
    verdict: str
    unit: str
    """"points" or "percent", of the estimate times 100."""

    def to_json(self) -> dict[str, Any]:
        estimate = self.estimate.to_json() if self.estimate else None
        return {**vars(self), "estimate": estimate}


def by_arm(results: list[dict[str, Any]]) -> Results:
    arms: Results = {arm: {} for arm in ARMS}
    for result in results:
        arms[result["arm"]][result["prompt_sha256"]] = result
    return arms


def paired(results: Results, arms: list[str], metric: str) -> list[Values]:
    """The metric of each arm, over the items that have it in all of them, in one order."""
    having = [
        {name for name, result in results[arm].items() if metric in result["metrics"]}
        for arm in arms
    ]
    names = sorted(set.intersection(*having))
    return [np.array([results[arm][name]["metrics"][metric] for name in names]) for arm in arms]


class RowReport:
    """The estimates of one row."""

    def __init__(self, row: Row, results: list[dict[str, Any]]):
        self.row = row
        self.results = by_arm(results)
        self.means: dict[str, dict[str, Estimate]] = defaultdict(dict)
        self.differences: dict[str, dict[str, Estimate]] = defaultdict(dict)
        for metric in ACCURACIES:
            self._accuracy(metric)
        self.bits_per_byte: dict[str, Estimate] = {}
        self._bits()
        routed = [result["route"] for result in self.results[ROUTED].values()]
        self.routes = Counter(route["domain"] for route in routed)
        self.stages = Counter(route["stage"] for route in routed)

    def _accuracy(self, metric: str) -> None:
        for arm in ARMS:
            [values] = paired(self.results, [arm], metric)
            if len(values):
                self.means[metric][arm] = bootstrap.mean(values)
        for one, other in DIFFERENCES:
            values, others = paired(self.results, [one, other], metric)
            if len(values):
                name = f"{one} - {other}"
                self.differences[metric][name] = bootstrap.difference(values, others)

    def _bits(self) -> None:
        for arm in (BASE, EXPERT):
            [bits], [size] = (paired(self.results, [arm], name) for name in ("bits", "bytes"))
            if len(bits):
                self.bits_per_byte[arm] = bootstrap.ratio(bits, size)
        base, expert = paired(self.results, [BASE, EXPERT], "bits")
        if len(base):
            self.bits_per_byte["reduction"] = bootstrap.reduction(base, expert)

    def difference(self, metric: str, one: str, other: str) -> Estimate | None:
        return self.differences[metric].get(f"{one} - {other}")

    def sources(self) -> dict[str, dict[str, str]]:
        """Right answers of all, by source and arm: what the means hide."""
        counts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for arm, results in self.results.items():
            for result in results.values():
                if "correct" in result["metrics"]:
                    counts[result["source"]][arm].append(result["metrics"]["correct"])
        return {
            source: {arm: f"{sum(right):.0f}/{len(right)}" for arm, right in arms.items()}
            for source, arms in sorted(counts.items())
        }

    def to_json(self) -> dict[str, Any]:
        def plain(estimates: dict[str, Estimate]) -> dict[str, Any]:
            return {name: estimate.to_json() for name, estimate in estimates.items()}

        return {
            "row": self.row.name,
            "domain": self.row.domain,
            "items": {arm: len(results) for arm, results in self.results.items()},
            "means": {metric: plain(arms) for metric, arms in self.means.items()},
            "differences": {metric: plain(pairs) for metric, pairs in self.differences.items()},
            "bits_per_byte": plain(self.bits_per_byte),
            "routes": dict(self.routes),
            "route_stages": dict(self.stages),
            "sources": self.sources(),
        }


def judge(estimate: Estimate | None, met: bool) -> str:
    return UNKNOWN if estimate is None else MET if met else MISSED


def gain_aims(rows: dict[str, RowReport]) -> list[Aim]:
    """Gains over the base. Law and medical have two, so that learning the form of an answer alone
    does not count."""
    aims = []
    tens = [
        ("sql", "correct"), ("law", "correct"), ("law", "option"), (MATH_IN_DISTRIBUTION, "correct")
    ]  # fmt: skip
    for name, metric in tens:
        gain = rows[name].difference(metric, EXPERT, BASE)
        met = gain is not None and gain.value >= 0.10 - EPSILON
        text = f"{metric}: expert at least 10 points over base"
        aims.append(Aim(text, name, gain, judge(gain, met), "points"))
    for metric in ("correct", "option"):
        gain = rows["medical"].difference(metric, EXPERT, BASE)
        met = gain is not None and gain.low > 0.0
        text = f"{metric}: expert significantly over base"
        aims.append(Aim(text, "medical", gain, judge(gain, met), "points"))
    return aims


def common_aims(report: RowReport) -> list[Aim]:
    """What every domain with an expert aims at."""
    name, aims = report.row.name, []
    lower = report.bits_per_byte.get("reduction")
    met = lower is not None and lower.value >= 0.15 - EPSILON
    text = "bits per byte at least 15 % lower than the base's"
    aims.append(Aim(text, name, lower, judge(lower, met), "percent"))
    for metric in ("correct", "option"):
        gain = report.difference(metric, EXPERT, BASE)
        if gain is not None or metric == "correct":
            met = gain is not None and gain.value >= 0.0
            aims.append(
                Aim(f"{metric}: expert not worse than base", name, gain, judge(gain, met), "points")
            )
    told, routed = (report.means["correct"].get(arm) for arm in (EXPERT, ROUTED))
    met = told is not None and routed is not None and told.low <= routed.value <= told.high
    away = report.difference("correct", ROUTED, EXPERT)
    text = "correct: routed within told's interval"
    aims.append(Aim(text, name, away, judge(away, met), "points"))
    return aims


def gate(rows: dict[str, RowReport], served: set[str]) -> dict[str, Any]:
    """How often the prompts of dev.jsonl went where they should: to their own domain, to `general`
    where no expert serves it."""
    dev = [report for report in rows.values() if report.row.split is None and report.routes]
    own = {r.row.domain: r.row.domain if r.row.domain in served else GENERAL for r in dev}
    right = {r.row.domain: r.routes[own[r.row.domain]] for r in dev}
    asked = {r.row.domain: r.routes.total() for r in dev}
    return {
        "right": right,
        "asked": asked,
        "routes": {r.row.domain: dict(r.routes) for r in dev},
        "stages": dict(sum((r.stages for r in dev), Counter())),
    }


def portable(command: str) -> str:
    """The command with the names of folders that README uses for them, and the default server."""
    command = re.sub(r" --server \S+", "", command)
    for option, name in {"--data": "DATA", "--out": "OUT"}.items():
        command = re.sub(rf"{option} \S+", f"{option} {name}", command)
    return re.sub(r"\S*/(\S+\.(?:md|json))", r"\1", command)


class Report:
    """Everything that is told about a run."""

    def __init__(self, store: Store, run: dict[str, Any]):
        self.run = run | {"commands": [portable(command) for command in run["commands"]]}
        self.rows = {row.name: RowReport(row, store.read(row.name)) for row in ROWS}
        self.aims = gain_aims(self.rows)
        for report in self.rows.values():
            if report.row.domain != GENERAL:
                self.aims += common_aims(report)
        self.gate = gate(self.rows, set(run["depends"]["experts"]))

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "rows": [report.to_json() for report in self.rows.values()],
            "aims": [aim.to_json() for aim in self.aims],
            "gate": self.gate,
            "bootstrap": {"resamples": bootstrap.RESAMPLES, "seed": bootstrap.SEED},
        }
