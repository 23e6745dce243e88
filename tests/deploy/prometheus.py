"""A real Prometheus on a free port, with a configuration of the test's own."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml

# The longest wait for a condition; `until` returns as soon as it holds.
DEADLINE_S = 90
PAUSE_S = 0.2

# The fixture is in conftest.py.
needed = pytest.mark.usefixtures("prometheus_programs")


def until(holds, what):
    """Polls until `holds()` is true, and returns it; fails with `what()` at the deadline.

    Polling, because Prometheus scrapes and evaluates on a clock of its own and reports neither as an event.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not (held := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {DEADLINE_S} s: {what()}")
        time.sleep(PAUSE_S)
    return held


class Prometheus:
    """One running Prometheus."""

    def __init__(self, folder, config):
        self.folder = folder
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self.log = open(folder / "prometheus.log", "ab")
        # Prometheus does not report the port that it binds, so the test picks a free one; another process may take it first.
        for _ in range(5):
            if self.start(free_port()):
                return
        self.log.close()
        raise RuntimeError(f"Prometheus did not start: {(folder / 'prometheus.log').read_text()}")

    def start(self, port):
        """Whether it is ready on this port."""
        self.url = f"http://127.0.0.1:{port}"
        options = {
            "config.file": self.folder / "prometheus.yaml",
            "storage.tsdb.path": self.folder / "data",
            "web.listen-address": f"127.0.0.1:{port}",
            "log.level": "warn",
        }
        command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until(
            lambda: self.process.poll() is not None or self.is_ready(), lambda: "Prometheus is neither ready nor gone"
        )
        return self.process.poll() is None

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def get(self, path, **parameters):
        """The data of an answer of its API; what it refuses fails with its reason."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            with refused:
                raise AssertionError(f"{parameters}: {refused.read().decode()}") from None

    def now(self, expr):
        """The samples of `expr` now, as (labels, value)."""
        return [(each["metric"], float(each["value"][1])) for each in self.get("query", query=expr)["result"]]

    def lately(self, expr, seconds=10):
        """All values of `expr` of the last seconds, as a graph asks for them."""
        end = time.time()
        series = self.get("query_range", query=expr, start=end - seconds, end=end, step=1)["result"]
        return [float(value) for each in series for _, value in each["values"]]

    def rules(self):
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
