#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The alert rules do what their own tests say, and alerts and dashboard name series that there are: monitoring.py ROOT"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

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


def main():
    known = series_of_the_opener()
    failed = False
    for name in ("alerts.yml", "alerts_test.yml", "dashboard.json"):
        for series in unknown((MONITORING / name).read_text(encoding="utf-8"), known):
            print(f"{name}: the opener has no series {series}")
            failed = True
    json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    if failed:
        return 1
    promtool = shutil.which("promtool")
    if promtool is None:
        print("skipped: monitoring: promtool is missing (Debian: prometheus)")
        return SKIPPED
    for words in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"],
                  ["check", "config", "prometheus.yml"]):
        subprocess.run([promtool, *words], cwd=MONITORING, check=True)
    return 0


sys.exit(main())
