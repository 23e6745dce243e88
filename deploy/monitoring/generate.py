#!/usr/bin/env python3
"""Writes grafana/restain.json from dashboard.py, and prometheus/prometheusrule.yaml from restain.rules.yaml beside it.

`--check` writes nothing and fails where a file is not what this would write. Both are committed, so that nobody needs
this to use them. Python's own library alone.
"""

import json
import sys
from pathlib import Path

from dashboard import dashboard

HOME = Path(__file__).parent
RULES = "prometheus/restain.rules.yaml"
# The rules as the Prometheus Operator takes them. An operator that selects rules by labels wants its own added here.
PROMETHEUS_RULE = """\
# Made by deploy/monitoring/generate.py from {rules}: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: restain
  labels:
    app.kubernetes.io/name: restain
spec:
"""


def indented(text):
    return "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))


def made():
    """Every file that is made: its path from here, and its text."""
    rules = (HOME / RULES).read_text()
    groups = rules[rules.index("groups:\n") :]
    return {
        "grafana/restain.json": json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n",
        "prometheus/prometheusrule.yaml": PROMETHEUS_RULE.format(rules=RULES) + indented(groups),
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if stale := [path for path, text in made().items() if (HOME / path).read_text() != text]:
            sys.exit(f"run deploy/monitoring/generate.py: not up to date: {', '.join(stale)}")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        for path, text in made().items():
            (HOME / path).write_text(text)
