"""The dashboards for Grafana: what can be checked without it."""

import importlib.util
import itertools
import json
import re
import subprocess
import sys

import files
import pytest

GRAFANA = files.ROOT / "deploy" / "grafana"
DASHBOARDS = ["overview", "domain", "node"]


def load_maker():
    spec = importlib.util.spec_from_file_location("make_dashboards", GRAFANA / "make_dashboards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()
METRICS = maker.read_metrics(files.ROOT / "docs" / "metrics.md")


def load(name):
    return json.loads((GRAFANA / f"{name}.json").read_text())


def panels_of(name):
    return [panel for panel in load(name)["panels"] if panel["type"] != "row"]


def test_dashboards_are_what_the_script_makes(tmp_path):
    subprocess.run([sys.executable, GRAFANA / "make_dashboards.py", tmp_path], check=True)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(DASHBOARDS)
    for name in DASHBOARDS:
        made = (tmp_path / f"{name}.json").read_text()
        assert made == (GRAFANA / f"{name}.json").read_text(), "run: deploy/grafana/make_dashboards.py"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_structure(name):
    dashboard = load(name)
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels_of(name):
        assert panel["datasource"] == maker.SOURCE
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(set(refs)) == len(refs)
        for target in panel["targets"]:
            assert target["datasource"] == maker.SOURCE
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables.keys()
    for variable in list(variables.values())[1:]:
        metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)",
                                     variable["query"]["query"]).groups()
        assert label == variable["name"] and label in METRICS[metric][1]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name):
    places = [panel["gridPos"] for panel in load(name)["panels"]]
    for place in places:
        assert 0 <= place["x"] and place["x"] + place["w"] <= maker.COLUMNS
    for a, b in itertools.combinations(places, 2):
        apart = (a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
                 or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"])
        assert apart, (a, b)


def test_expressions_parse(tmp_path):
    expressions = [target["expr"] for name in DASHBOARDS for panel in panels_of(name)
                   for target in panel["targets"]]
    rules = [{"record": f"panel:{index}", "expr": expression.replace("$__rate_interval", "1m")}
             for index, expression in enumerate(expressions)]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    files.promtool("check", "rules", tmp_path / "rules.json")  # JSON is YAML


@pytest.mark.parametrize("panel", [
    {"rate": "ccoe_active_requests"}, {"rate": "ccoe_batch_size"}, {"value": "ccoe_requests_total"},
    {"percentiles": "ccoe_requests_total"}, {"percentiles": "ccoe_kv_cache_usage_ratio"},
    {"ratio": ["ccoe_requests_total", "ccoe_active_requests"]}, {"rate": "ccoe_no_such_total"},
    {"rate": "ccoe_cancellations_total", "by": ["domain"]},
    {"rate": "ccoe_requests_total", "only": 'reason="x"'}, {"rate": "ccoe_requests_total", "ratio": []},
    {}])  # fmt: skip
def test_the_script_refuses_what_is_wrong(panel):
    with pytest.raises(maker.Mistake):
        maker.Queries(METRICS, "").of({"title": "x", **panel})


def test_every_metric_is_on_a_dashboard():
    shown = " ".join(target["expr"] for name in DASHBOARDS for panel in panels_of(name)
                     for target in panel["targets"])
    assert [name for name in METRICS if name not in shown] == []
