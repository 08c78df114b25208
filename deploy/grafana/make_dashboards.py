#!/usr/bin/env python3
"""Makes the dashboards of dashboards.toml: NAME.json beside it, for Grafana 9 and later.

usage: make_dashboards.py [FOLDER]      FOLDER: where to put them instead

Percentiles come from histograms' buckets, rates from counters: what is asked of a metric has to fit
its type in docs/metrics.md, and so do the labels.
"""

import json
import pathlib
import re
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
COLUMNS, WIDTH, HEIGHT = 24, 8, 8
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What Prometheus adds to every series (deploy/prometheus).
TARGET_LABELS = {"service", "instance"}
SHOWS = ("rate", "ratio", "percentiles", "value", "highest", "lowest", "since", "until")
GAUGES = {"value": "sum", "highest": "max", "lowest": "min", "since": "max", "until": "min"}
OPTIONS = {"row", "title", "unit", "kind", "width", "by", "only", "of", "healthy", "names"}


class Mistake(Exception):
    """The description asks for what cannot be."""


def read_metrics(path):
    """{name: (type, labels)} of docs/metrics.md."""
    metrics = {}
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and cells[0].startswith("`ccoe_"):
            labels = set(re.findall(r"`(\w+)`", cells[3])) | TARGET_LABELS
            metrics[cells[0].strip("`")] = (cells[1], labels)
    return metrics


class Queries:
    """Writes the expressions of one dashboard's panels."""

    def __init__(self, metrics, selector):
        self._metrics, self._selector = metrics, selector

    def of(self, panel):
        """[(expression, legend)] of a panel."""
        shown = [key for key in SHOWS if key in panel]
        if len(shown) != 1:
            raise Mistake(f"{panel['title']}: one of {', '.join(SHOWS)}, not {shown}")
        show, metric = shown[0], panel[shown[0]]
        by = panel.get("by", [])
        legend = " ".join(f"{{{{{label}}}}}" for label in by)
        if show == "rate":
            return [(self._rate(metric, by, panel.get("only")), legend or panel["title"])]
        if show == "ratio":
            part, whole = metric
            over = f"{self._rate(part, by, panel.get('only'))} / {self._rate(whole, by, panel.get('of'))}"
            return [(over, legend or panel["title"])]
        if show == "percentiles":
            return [(self._quantile(metric, by, value), f"{name} {legend}".strip())
                    for name, value in QUANTILES.items()]
        series = self._series(metric, {"gauge"}, by, panel.get("only"))
        expression = f"{GAUGES[show]}{by_clause(by)} ({series})"
        from_now = {"since": f"time() - {expression}", "until": f"{expression} - time()"}
        return [(from_now.get(show, expression), legend or panel["title"])]

    def _series(self, name, types, by, only=None):
        """A metric with its selectors, after a look at its type and labels."""
        metric = re.sub(r"_(bucket|count)$", "", name) if "histogram" in types else name
        kind, labels = self._metrics.get(metric, (None, set()))
        selectors = [text for text in (self._selector, only) if text]
        wanted = {label for text in selectors for label in re.findall(r"(\w+)(?:=|!)", text)}
        if kind not in types or not (wanted | set(by)) <= labels:
            raise Mistake(f"{name} is a {kind} with {sorted(labels)}; wanted: one of {sorted(types)} "
                          f"with {sorted(wanted | set(by))}")
        return f"{name}{{{', '.join(selectors)}}}" if selectors else name

    def _rate(self, name, by, only):
        types = {"histogram"} if name.endswith("_count") else {"counter"}
        series = self._series(name, types, by, only)
        return f"sum{by_clause(by)} (rate({series}[$__rate_interval]))"

    def _quantile(self, name, by, value):
        series = self._series(f"{name}_bucket", {"histogram"}, by)
        return (f"histogram_quantile({value}, sum{by_clause(['le', *by])} "
                f"(rate({series}[$__rate_interval])))")


def by_clause(labels):
    return f" by ({', '.join(labels)})" if labels else ""


def make_panel(number, panel, position, queries):
    """A panel in Grafana's JSON."""
    unknown = panel.keys() - OPTIONS - set(SHOWS)
    if unknown:
        raise Mistake(f"{panel['title']}: what is {sorted(unknown)}?")
    kind = panel.get("kind", "timeseries")
    defaults = {"unit": panel.get("unit", "none"), "min": 0}
    if kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                   "textMode": "name" if panel.get("names") else "value_and_name",
                   "colorMode": "value", "graphMode": "none"}
    else:
        options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                   "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.get("healthy"):
        defaults["thresholds"] = {"mode": "absolute", "steps": [{"color": "red", "value": None},
                                                                {"color": "green", "value": 1}]}
    targets = [{"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression,
                "legendFormat": legend, "range": True}
               for index, (expression, legend) in enumerate(queries.of(panel))]
    return {"id": number, "type": kind, "title": panel["title"], "datasource": SOURCE,
            "gridPos": position, "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": options, "targets": targets}


def lay_out(panels, queries):
    """All panels in their places, with the rows' titles between them."""
    placed, x, y = [], 0, 0
    for panel in panels:
        width = panel.get("width", WIDTH)
        if "row" in panel:
            y += HEIGHT if x > 0 else 0
            placed.append({"id": len(placed) + 1, "type": "row", "title": panel["row"],
                           "collapsed": False, "panels": [],
                           "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y}})
            x, y = 0, y + 1
        if x + width > COLUMNS:
            x, y = 0, y + HEIGHT
        position = {"h": HEIGHT, "w": width, "x": x, "y": y}
        placed.append(make_panel(len(placed) + 1, panel, position, queries))
        x += width
    return placed


def make_variables(variables):
    listed = [{"name": "datasource", "label": "Prometheus", "type": "datasource",
               "query": "prometheus", "refresh": 1, "hide": 0}]
    chosen = []
    for label, metric in variables.items():
        several = label != "domain"
        selector = ", ".join(f'{name}=~"${name}"' for name in chosen)
        query = f"label_values({metric}{{{selector}}}, {label})" if selector else (
            f"label_values({metric}, {label})")
        listed.append({"name": label, "label": label, "type": "query", "datasource": SOURCE,
                       "query": {"query": query, "refId": label}, "definition": query, "refresh": 2,
                       "sort": 1, "hide": 0, "multi": several, "includeAll": several,
                       "allValue": ".*" if several else None})
        chosen.append(label)
    return listed


def make_dashboard(name, description, metrics):
    queries = Queries(metrics, description["selector"])
    return {"uid": f"ccoe-{name}", "title": description["title"], "tags": ["ccoe"], "editable": True,
            "schemaVersion": 38, "version": 1, "refresh": "30s", "timezone": "",
            "time": {"from": "now-1h", "to": "now"}, "annotations": {"list": []},
            "links": [{"type": "dashboards", "tags": ["ccoe"], "title": "CCoE", "asDropdown": True,
                       "includeVars": True, "keepTime": True, "icon": "external link", "url": "",
                       "targetBlank": False, "tooltip": ""}],
            "templating": {"list": make_variables(description["variables"])},
            "panels": lay_out(description["panels"], queries)}


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    metrics = read_metrics(HERE.parents[1] / "docs" / "metrics.md")
    descriptions = tomllib.loads((HERE / "dashboards.toml").read_text())
    for name, description in descriptions.items():
        dashboard = make_dashboard(name, description, metrics)
        (folder / f"{name}.json").write_text(json.dumps(dashboard, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Mistake as mistake:
        sys.exit(f"error: {mistake}")
