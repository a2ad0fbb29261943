#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prometheus scrapes a running opener, and the packaged alert of a failed reload fires:
test_prometheus.py OPENER OPENERCTL MONITORING"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

OPENER, OPENERCTL, MONITORING = sys.argv[1:]
SKIPPED = 77
PATIENCE = 120  # seconds
POLICY = "version: 1\nrules:\n  - {name: release, allow: [read], paths: [/usr/lib/os-release]}\n"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Trial(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(prefix="fdb-prometheus.", dir="/var/tmp")
        self.addCleanup(place.cleanup)
        self.place = pathlib.Path(place.name)
        self.policy = self.place / "policy.yaml"
        self.policy.write_text(POLICY)
        self.control = str(self.place / "control.sock")
        self.scraped, self.served = free_port(), free_port()

    def start(self, *command):
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

    def configure(self):
        """The packaged files, but for the address and how often they are looked at."""
        shutil.copy(pathlib.Path(MONITORING) / "alerts.yml", self.place)
        text = (pathlib.Path(MONITORING) / "prometheus.yml").read_text(encoding="utf-8")
        text = re.sub(r"_interval: 15s", "_interval: 200ms", text).replace("127.0.0.1:9843", f"127.0.0.1:{self.scraped}")
        (self.place / "prometheus.yml").write_text(text)

    def value(self, query):
        """Value of the first series that the query finds; None: there is none yet."""
        url = f"http://127.0.0.1:{self.served}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return None
        return float(found[0]["value"][1]) if found else None

    def wait_for(self, query, value):
        deadline = time.monotonic() + PATIENCE
        while self.value(query) != value:
            self.assertLess(time.monotonic(), deadline, f"{query} is not {value} but {self.value(query)}")

    def reload(self):
        return subprocess.run([OPENERCTL, "--control", self.control, "reload"], capture_output=True, check=False).returncode

    def test_up_is_1_and_a_failed_reload_fires_its_alert_until_another_succeeds(self):
        self.configure()
        self.start(OPENER, "--policy", self.policy, "--listen", self.place / "opener.sock", "--control", self.control,
                   "--audit", "none")
        self.start(OPENERCTL, "--control", self.control, "metrics", "--listen", f"127.0.0.1:{self.scraped}")
        self.start("prometheus", f"--config.file={self.place}/prometheus.yml", f"--storage.tsdb.path={self.place}/data",
                   f"--web.listen-address=127.0.0.1:{self.served}", "--log.level=error")
        self.wait_for('up{job="fdbroker"}', 1)
        self.wait_for("fdbroker_last_reload_successful", 1)
        self.assertIsNone(self.value('ALERTS{alertname="FdbrokerReloadFailed"}'))
        self.policy.write_text("nonsense: 1\n")
        self.assertEqual(self.reload(), 3)
        self.wait_for('ALERTS{alertname="FdbrokerReloadFailed",alertstate="firing",severity="warning"}', 1)
        self.policy.write_text(POLICY)
        self.assertEqual(self.reload(), 0)
        self.wait_for('ALERTS{alertname="FdbrokerReloadFailed"}', None)


if os.geteuid() != 0 or shutil.which("prometheus") is None:
    print("skipped: prometheus: needs root and prometheus (Debian: prometheus)")
    sys.exit(SKIPPED)
unittest.main(argv=sys.argv[:1])
