"""The configuration of Prometheus and its alerts."""

import re

import files
import pytest

PROMETHEUS = files.ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_rules_use_metrics_that_are_there(rules):
    for name in re.findall(r"\bccoe_\w+", rules.read_text()):
        base = re.sub(r"_(bucket|count)$", "", name)
        assert base in files.metric_names(), name


def test_thresholds_are_bounds_of_buckets():
    page = (files.ROOT / "docs" / "metrics.md").read_text()
    row = re.search(r"^\| `ccoe_time_to_first_token_seconds` \| ([\d. e-]+) \|$", page, re.MULTILINE)
    used = set(re.findall(r'le=~"(\S+)\|\S+"', (PROMETHEUS / "rules" / "slo.yml").read_text()))
    assert used == {"2"} and used <= set(row[1].split())


def test_every_alert_has_its_runbook_and_its_test():
    page = (files.ROOT / "docs" / "runbooks.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    tests = "".join(path.read_text() for path in files.HERE.glob("*_test.yml"))
    alerts = [found for rules in RULES for found in re.findall(
        r"- alert: (\w+)\n.*?\n +runbook: docs/runbooks.md#(\w+)\n", rules.read_text(), re.DOTALL)]
    assert len(alerts) == sum(rules.read_text().count("- alert:") for rules in RULES) > 0
    for alert, anchor in alerts:
        assert anchor == alert.lower()
        assert "\nLook: " in sections[alert] and "\nDo: " in sections[alert]
        assert f"alertname: {alert}\n        exp_alerts:\n" in tests, f"{alert} never fires in a test"
        assert f"alertname: {alert}\n        exp_alerts: []" in tests, f"{alert} always fires in a test"
    assert sections.keys() == {alert for alert, _ in alerts}


def test_configuration():
    files.promtool("check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_alerts(rules):
    files.promtool("test", "rules", files.HERE / f"{rules.stem}_test.yml")
