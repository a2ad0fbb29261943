#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Alert rules, dashboard and prometheus.yml are what Prometheus and Grafana take: monitoring.py ROOT

The rules pass their own tests. Rules and dashboard name series that the opener has. The dashboard has the form of
Grafana's schema (kinds/dashboard), and its queries are PromQL."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
ROOT = pathlib.Path(sys.argv[1])
MONITORING = ROOT / "packaging/monitoring"
OF_HISTOGRAMS = re.compile(r"_(bucket|sum|count)$")


def series_of_the_opener():
    report = (ROOT / "opener/control/metrics_report.cpp").read_text(encoding="utf-8")
    return {"fdbroker_" + name for name in re.findall(r'(?:family|one|add)\(\s*"([a-z_]+)"', report)}


def unknown(text, known):
    for name in sorted(set(re.findall(r"\bfdbroker_[a-z_]+\b", text))):
        if OF_HISTOGRAMS.sub("", name) not in known and name not in known:
            yield name


# The width of Grafana's grid; types of panels and variables; units that getCategories() of Grafana lists.
GRID = 24
PANELS = {"timeseries", "stat", "table", "row", "gauge", "bargauge", "heatmap", "state-timeline", "text"}
VARIABLES = {"query", "adhoc", "constant", "datasource", "interval", "textbox", "custom"}
UNITS = {"none", "short", "s", "ms", "bytes", "Bps", "reqps", "ops", "cps", "percent", "percentunit", "bool_yes_no",
         "dateTimeAsIso", "dateTimeFromNow"}


def overlap(one, other):
    return (one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"] and
            one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"])


def faults_of_panel(panel, sources):
    place = panel.get("gridPos", {})
    if panel.get("type") not in PANELS:
        yield f"type {panel.get('type')} is not one of Grafana's"
    if not all(isinstance(place.get(key), int) for key in "hwxy"):
        yield "gridPos lacks a number"
    elif not (place["h"] > 0 and 0 < place["w"] and 0 <= place["x"] and place["x"] + place["w"] <= GRID and place["y"] >= 0):
        yield "gridPos lies outside the grid"
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    if defaults.get("unit", "none") not in UNITS:
        yield f"unit {defaults['unit']} is not one of Grafana's"
    steps = defaults.get("thresholds", {}).get("steps", [])
    if any("color" not in step for step in steps) or (steps and steps[0].get("value") is not None):
        yield "thresholds: each step has a colour, and the first no value"
    targets = panel.get("targets", [])
    if len({target.get("refId") for target in targets}) != len(targets):
        yield "a refId is missing, or stands twice"
    if any(target.get("datasource", {}).get("uid") not in sources for target in [panel, *targets]):
        yield "the datasource is none of the dashboard's variables"


def faults_of_dashboard(dashboard):
    for key, kind in (("title", str), ("uid", str), ("schemaVersion", int), ("panels", list), ("tags", list)):
        if not isinstance(dashboard.get(key), kind):
            yield f"{key} is no {kind.__name__}"
    if not 8 <= len(dashboard.get("uid", "")) <= 40:
        yield "uid: 8 to 40 characters"
    variables = dashboard.get("templating", {}).get("list", [])
    for variable in variables:
        if variable.get("type") not in VARIABLES or not variable.get("name"):
            yield f"variable {variable.get('name')}: type {variable.get('type')}"
    sources = {"${%s}" % variable["name"] for variable in variables if variable.get("type") == "datasource"}
    panels = dashboard["panels"]
    if len({panel.get("id") for panel in panels}) != len(panels):
        yield "an id is missing, or stands twice"
    for index, panel in enumerate(panels):
        for fault in faults_of_panel(panel, sources):
            yield f"panel “{panel.get('title')}”: {fault}"
        for other in panels[index + 1:]:
            if overlap(panel["gridPos"], other["gridPos"]):
                yield f"panels “{panel['title']}” and “{other['title']}” overlap"


def check_queries(promtool, dashboard):
    """Each query of the dashboard as a recording rule, with values for Grafana's variables."""
    rules = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$instance", ".*")
            rules.append({"record": "query:%d:%s" % (panel["id"], target["refId"]), "expr": query})
    with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="fdb-queries.") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        subprocess.run([promtool, "check", "rules", file.name], check=True)


def main():
    known = series_of_the_opener()
    failed = False
    for name in ("alerts.yml", "alerts_test.yml", "dashboard.json"):
        for series in unknown((MONITORING / name).read_text(encoding="utf-8"), known):
            print(f"{name}: the opener has no series {series}")
            failed = True
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    for fault in faults_of_dashboard(dashboard):
        print(f"dashboard.json: {fault}")
        failed = True
    if failed:
        return 1
    promtool = shutil.which("promtool")
    if promtool is None:
        print("skipped: monitoring: promtool is missing (Debian: prometheus)")
        return SKIPPED
    for words in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"],
                  ["check", "config", "prometheus.yml"]):
        subprocess.run([promtool, *words], cwd=MONITORING, check=True)
    check_queries(promtool, dashboard)
    return 0


sys.exit(main())
