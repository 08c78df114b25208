"""The folder of a run: run.json, and ROW.jsonl with one object for each item and arm."""

import json
import platform
import shlex
from pathlib import Path
from typing import Any

import grpc
import numpy


class OtherRun(Exception):
    """The folder holds figures of another server, data or setting."""


class Store:
    """Appends results and knows which are there; one writer at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, depends: dict[str, Any], arguments: list[str], **facts: Any) -> None:
        """Notes a run. `depends` is what its figures depend on: it must be what it was for those
        that are here, else OtherRun is raised. `facts` are merely kept."""
        path = self.folder / "run.json"
        command = shlex.join(["python", "-m", "ccoe_eval", *arguments])
        run: dict[str, Any] = {"depends": depends, "commands": []}
        if path.exists():
            run = json.loads(path.read_text(encoding="utf-8"))
            for name, value in depends.items():
                if run["depends"].get(name, value) != value:
                    raise OtherRun(
                        f"{self.folder} holds figures of another {name} "
                        f"({run['depends'][name]}, now {value}): take another --out"
                    )
            run["depends"].update(depends)
        if command not in run["commands"]:
            run["commands"].append(command)
        run["versions"] = {
            "python": platform.python_version(),
            "grpcio": grpc.__version__,
            "numpy": numpy.__version__,
        }
        run.update(facts)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
        partial.rename(path)

    def read(self, row: str) -> list[dict[str, Any]]:
        """What is known of a row. A last line that an interruption cut is taken off the file."""
        path = self.folder / f"{row}.jsonl"
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            path.write_bytes(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def append(self, row: str, result: dict[str, Any]) -> None:
        with (self.folder / f"{row}.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(result, ensure_ascii=False) + "\n")
