"""A Prometheus with the shipped configuration, and the panels of the shipped dashboards."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

import processes

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
PROGRAMS = os.environ.get("CCOE_PROMETHEUS", "")
SCRAPE_S = 1


class Prometheus:
    """Scrapes `targets`, {service: [address]}, every second. Only that and the targets differ from
    deploy/prometheus."""

    def __init__(self, folder, targets):
        self.folder = pathlib.Path(folder) / "prometheus"
        shutil.copytree(DEPLOY / "prometheus", self.folder)
        config = self.folder / "prometheus.yml"
        config.write_text(re.sub(r"(scrape|evaluation)_interval: \w+", rf"\1_interval: {SCRAPE_S}s",
                                 config.read_text()))
        (self.folder / "targets.yml").write_text(json.dumps(  # JSON is YAML
            [{"labels": {"service": service}, "targets": addresses}
             for service, addresses in targets.items()]))
        self.log = self.folder / "log"
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [f"{PROGRAMS}/prometheus", f"--config.file={config}",
                 f"--storage.tsdb.path={self.folder}/data", "--web.listen-address=127.0.0.1:0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            found = processes.wait_until(self._listening, what="that Prometheus listens")
            self.address = found[1]
            count = sum(map(len, targets.values()))
            processes.wait_until(lambda: self.value("count(up == 1)") == count,
                                 what="that Prometheus reaches all processes")
        except BaseException:
            self.stop()
            raise

    def _listening(self):
        assert self._popen.poll() is None, f"Prometheus ended early:\n{self.log.read_text()}"
        text = self.log.read_text()
        ready = "Server is ready to receive web requests" in text
        return ready and re.search(r'msg="Listening on" address=(\S+)', text)

    def stop(self):
        self._popen.terminate()
        self._popen.wait(timeout=60)

    def _get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as reply:
            return json.load(reply)["data"]

    def query(self, expression, at=None):
        """[(labels, value)] of an expression at a time, now by default."""
        result = self._get("query", query=expression, time=at or time.time())["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def value(self, expression, at=None):
        """The value of an expression that has one, or None."""
        values = self.query(expression, at)
        assert len(values) <= 1, values
        return values[0][1] if values else None

    def series(self, expression, begin, end):
        """[[value]] of an expression: those of each series between two times."""
        result = self._get("query_range", query=expression, start=begin, end=end, step=SCRAPE_S)
        return [[float(value) for _, value in series["values"]] for series in result["result"]]

    def alerts(self, name):
        """{expert: state} of an alert, where it is pending or firing."""
        return {alert["labels"]["expert"]: alert["state"] for alert in self._get("alerts")["alerts"]
                if alert["labels"]["alertname"] == name}


def panels():
    """(dashboard, title, [expression]) of every panel."""
    for name in ("overview", "domain", "node"):
        for panel in json.loads((DEPLOY / "grafana" / f"{name}.json").read_text())["panels"]:
            if panel["type"] != "row":
                yield name, panel["title"], [target["expr"] for target in panel["targets"]]


def panel(dashboard, title, index=0):
    """An expression of a panel."""
    [expressions] = [found for name, text, found in panels() if (name, text) == (dashboard, title)]
    return expressions[index]


def fill_in(expression, window_s, **variables):
    """An expression as Grafana would ask it."""
    values = {"__rate_interval": f"{window_s:.0f}s", "service": ".*", "instance": ".*", **variables}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)
