"""What a run measured, into the packages that it measured."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ccoe_training.json_file import read_json, update_expert

from .measure import BASE, EXPERT
from .report import ACCURACIES, Report, RowReport
from .store import Store


def package_digest(package: Path) -> str:
    """As the server tells it (docs/expert-packages.md)."""
    manifest = read_json(package / "expert.json")
    files = ["expert.json", manifest["weights"]]
    if manifest["kind"] == "lora":
        files.append("adapter_config.json")
    hashes = [hashlib.sha256((package / name).read_bytes()).hexdigest() for name in files]
    lines = "".join(f"{line}\n" for line in ["ccoe.expert.v1", *hashes])
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def scores_of(report: RowReport) -> dict[str, Any]:
    scores: dict[str, Any] = {"items": len(report.results[EXPERT])}
    for arm in (BASE, EXPERT):
        means = {metric: report.means[metric].get(arm) for metric in ACCURACIES}
        means["bits_per_byte"] = report.bits_per_byte.get(arm)
        scores[arm] = {name: round(mean.value, 4) for name, mean in means.items() if mean}
    return scores


def write_scores(store: Store, run: dict[str, Any], experts: Path) -> Iterator[str]:
    """A line for people for each package."""
    report = Report(store, run)
    measured = run["depends"]["experts"]
    for path in sorted(experts.glob("*/expert.json")):
        domain = read_json(path)["domain"]
        if measured.get(domain, {}).get("digest") != package_digest(path.parent):
            yield f"{path.parent}: not what was measured; left as it is"
            continue
        rows = [row for row in report.rows.values() if row.row.domain == domain]
        scores = {row.row.name: scores_of(row) for row in rows if row.results[EXPERT]}
        update_expert(path.parent, "scores", scores)
        yield f"{path.parent}: {scores}"
