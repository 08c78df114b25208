"""What the tests of the files for Prometheus and Grafana share."""

import os
import pathlib
import re
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def metric_names():
    """Those of docs/metrics.md."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    return set(re.findall(r"^\| `(ccoe_\w+)` \| (?:counter|gauge|histogram) \|", page, re.MULTILINE))


def promtool(*arguments):
    folder = os.environ.get("CCOE_PROMETHEUS")
    if not folder:
        pytest.skip("CCOE_PROMETHEUS is not set (make test sets it)")
    result = subprocess.run([f"{folder}/promtool", *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
