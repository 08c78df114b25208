"""The gate rules of a package, as the router applies them, and how well they tell domains apart."""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GateRules:
    """A prompt's score is the sum of the weights of the keywords (whole words, any case) and of the
    regular expressions found in it, each counted once."""

    threshold: float
    patterns: list[tuple[re.Pattern[str], float]]

    @classmethod
    def from_json(cls, rules: dict[str, Any]) -> "GateRules":
        patterns = [
            (
                re.compile(rf"(?<!\w){re.escape(keyword['text'])}(?!\w)", re.IGNORECASE),
                keyword["weight"],
            )
            for keyword in rules["keywords"]
        ]
        patterns += [(re.compile(rule["regex"]), rule["weight"]) for rule in rules["patterns"]]
        return cls(rules["threshold"], patterns)

    def score(self, prompt: str) -> float:
        return sum(weight for pattern, weight in self.patterns if pattern.search(prompt))

    def claims(self, prompt: str) -> bool:
        return self.score(prompt) >= self.threshold - 1e-9


def measure(rules: GateRules, records: list[dict[str, str]], domain: str) -> dict[str, Any]:
    """Recall on the prompts of `domain`, and the claimed share of each other domain's."""
    claimed: dict[str, int] = {}
    seen: dict[str, int] = {}
    for record in records:
        name = record["domain"]
        seen[name] = seen.get(name, 0) + 1
        claimed[name] = claimed.get(name, 0) + rules.claims(record["prompt"])
    wrong = sum(count for name, count in claimed.items() if name != domain)
    right = claimed.get(domain, 0)
    return {
        "prompts": sum(seen.values()),
        "recall": round(right / max(seen.get(domain, 0), 1), 4),
        "precision": round(right / max(right + wrong, 1), 4),
        "claimed": {name: f"{claimed[name]}/{seen[name]}" for name in sorted(seen)},
    }
