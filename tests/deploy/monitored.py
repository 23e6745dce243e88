"""What lies in deploy/monitoring, as the tests look at it: rules, their tests, and the dashboard's queries."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy/monitoring"
RULES = MONITORING / "prometheus/restain.rules.yaml"
RULE_TESTS = MONITORING / "prometheus/restain.rules.test.yaml"
DASHBOARD = json.loads((MONITORING / "grafana/restain.json").read_text())


def read(path):
    return yaml.safe_load(path.read_text())


def rules():
    return [rule for group in read(RULES)["groups"] for rule in group["rules"]]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def panels():
    """Every panel with the title of its row; those of folded rows too."""
    row, found = None, []
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            found += [(row, inside) for inside in panel["panels"]]
        else:
            found.append((row, panel))
    return found


def variables():
    return {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def metrics_of(expr):
    """The names of metrics in a query: what is left of it without strings, labels, durations and functions."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expr)
    return {name for name in re.findall(r"[A-Za-z_:][\w:]*", bare) if re.match(r"restain_|DCGM_", name) or ":" in name}


def exposed(text):
    """The names that a scrape of `text` stores."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {f"{name}{suffix}" for suffix in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names
