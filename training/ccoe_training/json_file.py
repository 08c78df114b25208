"""JSON files as people read them."""

import json
import re
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Indented, with short objects and lists of numbers on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=True)
    number = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
    numbers = rf"\[\s+((?:{number},\s+)*{number})\s+\]"
    text = re.sub(numbers, lambda m: f"[{' '.join(m[1].split())}]", text)
    short = r'\{\n\s+("(?:text|regex|name)": .*),\n\s+("(?:weight|licence)": [^\n]*)\n\s+\}'
    path.write_text(re.sub(short, r"{\1, \2}", text) + "\n", encoding="utf-8")


def update_expert(package: Path, field: str, value: object) -> None:
    path = package / "expert.json"
    write_json(path, read_json(path) | {field: value})
