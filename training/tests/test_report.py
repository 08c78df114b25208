"""From results to aims, without a server."""

import json

import pytest

from ccoe_eval.markdown import render
from ccoe_eval.report import MET, MISSED, UNKNOWN, Report, portable
from ccoe_eval.store import OtherRun, Store

DEPENDS = {"server_version": "1", "arithmetic": "a", "model": "m", "model_digest": "d",
           "experts": {"sql": {"name": "sql", "version": "1", "digest": "x"}}}  # fmt: skip


def result(index, arm, correct, bits, to="sql"):
    metrics = {"correct": float(correct)}
    if arm in ("base", "expert"):
        metrics |= {"bits": bits, "bytes": 10.0}
    route = {"domain": to, "stage": "rules", "confidence": 1.0}
    return {"prompt_sha256": str(index), "arm": arm, "source": "s", "kind": "sql", "route": route,
            "metrics": metrics}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    """sql: base right in 10 of 100, expert in 30, routed as the expert but for one."""
    store = Store(tmp_path)
    store.begin(DEPENDS, ["run", "--out", "OUT"])
    for index in range(100):
        store.append("sql", result(index, "base", index < 10, 10.0))
        store.append("sql", result(index, "base_3_shot", index < 15, 10.0))
        store.append("sql", result(index, "expert", index < 30, 8.0))
        to = "general" if index == 0 else "sql"
        store.append("sql", result(index, "routed", 0 < index < 30, 0.0, to))
    return store


def report_of(store):
    return Report(store, json.loads((store.folder / "run.json").read_text()))


def test_aims(store):
    report = report_of(store)
    verdicts = {(aim.row, aim.text): aim.verdict for aim in report.aims}
    assert [v for (row, _), v in verdicts.items() if row == "sql"] == [MET] * 4
    assert {v for (row, _), v in verdicts.items() if row != "sql"} == {UNKNOWN}
    gain = report.rows["sql"].difference("correct", "expert", "base")
    assert gain.value == pytest.approx(0.2) and 0.1 < gain.low < 0.2 < gain.high < 0.3
    assert report.rows["sql"].bits_per_byte["reduction"].value == pytest.approx(0.2)
    assert report.gate["right"] == {"sql": 99} and report.gate["asked"] == {"sql": 100}


def test_a_worse_expert_misses(tmp_path):
    store = Store(tmp_path)
    store.begin(DEPENDS, ["run"])
    for index in range(20):
        store.append("sql", result(index, "base", True, 10.0))
        store.append("sql", result(index, "expert", index > 2, 9.0))
    verdicts = [aim.verdict for aim in report_of(store).aims if aim.row == "sql"]
    assert verdicts == [MISSED, MISSED, MISSED, UNKNOWN]


def test_only_items_that_both_arms_have_are_compared(store):
    store.append("sql", result(1000, "base", True, 10.0))
    assert report_of(store).rows["sql"].difference("correct", "expert", "base").items == 100


def test_the_document_tells_commands_and_figures(store):
    text = render(report_of(store), "python -m ccoe_eval report", ["## Throughput of six domains"])
    assert "\n\n## Throughput of six domains\n\n## How it was measured\n" in text
    assert "python -m ccoe_eval run --out OUT\npython -m ccoe_eval report" in text
    assert "| sql | correct: expert at least 10 points over base | +20.0 [" in text
    assert "99 of 100 (99.0 %)" in text


def test_commands_name_no_folder_of_a_machine():
    command = "python -m ccoe_eval run --server 127.0.0.1:1 --data /a/b --out ../c --limit 8"
    assert portable(command) == "python -m ccoe_eval run --data DATA --out OUT --limit 8"
    command = "python -m ccoe_eval report --out /o --markdown ../docs/r.md --memory /t/m.json"
    assert portable(command) == "python -m ccoe_eval report --out OUT --markdown r.md --memory m.json"


def test_a_line_that_was_cut_is_asked_again(store):
    path = store.folder / "sql.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"prompt_sha256": "cut')
    assert len(store.read("sql")) == 400
    assert path.read_bytes() == whole


def test_a_folder_is_for_one_server(store):
    store.begin(DEPENDS, ["run", "--rows", "law"])
    with pytest.raises(OtherRun, match="another model_digest"):
        store.begin({**DEPENDS, "model_digest": "e"}, ["run"])
