"""Dashboard and rules of deploy/monitoring: in order as files, and true of a loaded server with a real Prometheus."""

import copy
import hashlib
import math
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
import required
import trustme
import yaml
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule
from served import PROGRAM, Served, environment

from . import monitored, prometheus
from .monitored import MONITORING, ROOT, RULE_TESTS, RULES

# Rows that have no data here, and why.
WITHOUT_DATA = {"GPU (dcgm-exporter)": "no dcgm-exporter runs beside the tests"}
TOKEN = "a token of the tests"
CALLED = {"job": "restain", "namespace": "lab"}


# The files


def test_what_is_generated_is_up_to_date():
    subprocess.run([sys.executable, "-B", MONITORING / "generate.py", "--check"], check=True)


def test_panels_have_their_own_identities_and_places():
    everything = [*monitored.DASHBOARD["panels"], *(panel for _, panel in monitored.panels())]
    identities = {id(panel): panel["id"] for panel in everything}
    assert len(set(identities.values())) == len(identities)
    taken = {}
    for _, panel in monitored.panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"], (
                    f"{panel['title']} covers {taken[x, y]}"
                )


def test_panels_ask_the_chosen_datasource_for_the_chosen_servers():
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for _, panel in monitored.panels():
        assert panel["datasource"] == chosen, panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == chosen, panel["title"]
            assert "$namespace" in target["expr"], target["expr"]
            assert "$pod" in target["expr"], target["expr"]


def test_the_dashboard_counts_requests_as_the_rules_do():
    queries = " ".join(target["expr"] for _, panel in monitored.panels() for target in panel["targets"])
    matchers = set(re.findall(r'route(?:!=|=~|!~|=)"[^"]*"|code(?:!=|=~|!~|=)"[^"]*"', queries))
    assert len(matchers) == 3
    assert [matcher for matcher in matchers if matcher not in RULES.read_text()] == []


def test_every_alert_says_how_bad_what_and_what_to_do():
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/operating.md").read_text(), re.MULTILINE)
    for alert in monitored.alerts():
        name, annotations = alert["alert"], alert["annotations"]
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert annotations["summary"].endswith("."), name
        assert annotations["description"].endswith("."), name
        assert annotations["runbook"] == f"docs/operating.md#{name.lower()}", name
        assert headings.count(name) == 1, f"docs/operating.md has no heading for {name}"
    assert len({alert["alert"] for alert in monitored.alerts()}) == len(monitored.alerts())


def test_every_alert_has_a_moment_of_firing_and_a_later_one_of_silence():
    moments = {}
    for number, test in enumerate(monitored.read(RULE_TESTS)["tests"]):
        for moment in test["alert_rule_test"]:
            minutes = int(moment["eval_time"].removesuffix("m"))
            moments.setdefault(moment["alertname"], []).append((number, minutes, bool(moment["exp_alerts"])))
    for alert in monitored.alerts():
        seen = moments.get(alert["alert"], [])
        cleared = [
            fired
            for fired in seen
            if fired[2] and any(test == fired[0] and at > fired[1] and not fires for test, at, fires in seen)
        ]
        assert cleared, f"{alert['alert']} does not fire and clear in {RULE_TESTS.name}"


def test_kustomize_wraps_the_same_rules_and_the_same_dashboard():
    kubectl = required.program("kubectl", "kubernetes-client")
    built = subprocess.run([kubectl, "kustomize", MONITORING], check=True, capture_output=True, text=True).stdout
    by_kind = {document["kind"]: document for document in yaml.safe_load_all(built)}
    # The model leaves out what it does not know.
    known = PrometheusRule.model_validate(by_kind["PrometheusRule"])
    assert known.model_dump(mode="json", by_alias=True, exclude_unset=True) == by_kind["PrometheusRule"]
    assert by_kind["PrometheusRule"]["apiVersion"] == "monitoring.coreos.com/v1"
    assert by_kind["PrometheusRule"]["spec"] == monitored.read(RULES)
    assert by_kind["ConfigMap"]["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert by_kind["ConfigMap"]["data"]["restain.json"] == (MONITORING / "grafana/restain.json").read_text()


@prometheus.needed
@pytest.mark.parametrize(
    "words", ["check rules restain.rules.yaml", "check config prometheus.yaml", "test rules restain.rules.test.yaml"]
)
def test_promtool_finds_nothing_wrong(words):
    done = subprocess.run(["promtool", *words.split()], cwd=MONITORING / "prometheus", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# A loaded server, and Prometheus


def scraping(rules, *targets):
    """The configuration of deploy/monitoring for servers at hand, without its patience."""
    config = monitored.read(MONITORING / "prometheus/prometheus.yaml")
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(rules)]
    [ours] = config["scrape_configs"]
    config["scrape_configs"] = []
    for pod, address, further in targets:
        own = {**copy.deepcopy(ours), "job_name": pod, **further}
        own["static_configs"] = [{"targets": [address], "labels": {**CALLED, "pod": pod}}]
        config["scrape_configs"].append(own)
    return config


# Of whom the certificate is, other tests ask.
ANYBODY = ssl._create_unverified_context()


def call(url, data=None, **head):
    """The body of an answer; also one that is an error."""
    request = urllib.request.Request(url, data=data, headers=head)
    try:
        with urllib.request.urlopen(request, timeout=30, context=ANYBODY) as answer:
            return answer.read().decode(errors="replace")
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.read().decode(errors="replace")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Two servers, one of them with keys and TLS, under load of which some is refused; and a Prometheus that scrapes both."""
    folder = tmp_path_factory.mktemp("watched")
    keys = folder / "keys.toml"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    keys.write_text(f'[[key]]\nname = "scraper"\nsha256 = "{digest}"\nscopes = ["metrics", "augment"]\n')
    for name in ("open", "keyed", "prometheus"):
        (folder / name).mkdir()
    running = []
    try:
        limits = ["--max-tiles", 48, "--max-queue-tiles", 48]
        server = Served(folder / "open", *limits)
        running.append(server)
        issued = trustme.CA().issue_cert("127.0.0.1")
        certificate, private_key = folder / "tls.crt", folder / "tls.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(private_key)
        keyed = Served(folder / "keyed", "--keys", keys, "--tls-cert", certificate, "--tls-key", private_key)
        running.append(keyed)
        # Tiles that come again; and bursts of new ones, of which two do not fit into the house at once.
        for pace in ("--rate 20 --tiles-per-request 4 --distinct 64", "--rate 40 --tiles-per-request 40 --unique"):
            command = [PROGRAM, "load", server.url, "--duration", "10m", *pace.split()]
            running.append(
                subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        over_tls = {"scheme": "https", "tls_config": {"insecure_skip_verify": True}}
        config = scraping(
            RULES,
            ("restain-0", server.http, {}),
            ("restain-1", keyed.http, {"authorization": {"credentials": TOKEN}, **over_tls}),
        )
        prometheus_ = prometheus.Prometheus(folder / "prometheus", config)
        running.append(prometheus_)
        yield SimpleNamespace(server=server, keyed=keyed, prometheus=prometheus_)
    finally:
        for each in reversed(running):
            each.kill()
            if isinstance(each, subprocess.Popen):
                each.wait()


def knock(watched):
    """One caller of the second server has its key, and one has none."""
    call(f"{watched.keyed.url}/v1/models", Authorization=f"Bearer {TOKEN}")
    call(f"{watched.keyed.url}/v1/models")


def chosen(expr):
    """With everything chosen that there is here, and a window as short as the scrapes are near."""
    for name, value in {
        "$__rate_interval": "5s",
        "$namespace": "lab",
        "$pod": "(restain-0|restain-1)",
        "$model": "tiny",
    }.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def has_data(prometheus_, target):
    expr = chosen(target["expr"])
    values = [value for _, value in prometheus_.now(expr)] if target["instant"] else prometheus_.lately(expr)
    return any(math.isfinite(value) for value in values)


@prometheus.needed
def test_every_panel_has_data(watched):
    targets = [(row, panel["title"], target) for row, panel in monitored.panels() for target in panel["targets"]]
    assert targets
    missing = [each for each in targets if each[0] not in WITHOUT_DATA]

    def all_seen():
        knock(watched)
        # What was seen once need not be seen again.
        missing[:] = [each for each in missing if not has_data(watched.prometheus, each[2])]
        return not missing

    prometheus.until(all_seen, lambda: [(row, title, chosen(target["expr"])) for row, title, target in missing])
    # What gets data is to be tested like the others.
    excused = [title for row, title, target in targets if row in WITHOUT_DATA and has_data(watched.prometheus, target)]
    assert excused == []


@prometheus.needed
def test_every_variable_finds_what_there_is(watched):
    there = {"namespace": {"lab"}, "pod": {"restain-0", "restain-1"}, "model": {"tiny"}}
    asked = {name: variable for name, variable in monitored.variables().items() if variable["type"] == "query"}
    assert set(asked) == set(there)
    for name, variable in asked.items():
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        values = lambda: set(watched.prometheus.get(f"label/{label}/values", **{"match[]": chosen(selector)}))  # noqa: B023, E731
        prometheus.until(lambda: values() >= there[name], values)  # noqa: B023


@prometheus.needed
def test_every_rule_can_be_evaluated_and_what_is_recorded_has_data(watched):
    def unwell():
        return [(rule["name"], rule.get("lastError")) for rule in watched.prometheus.rules() if rule["health"] != "ok"]

    assert len(watched.prometheus.rules()) == len(monitored.rules())
    prometheus.until(lambda: not unwell(), unwell)
    recorded = [rule for rule in monitored.rules() if "record" in rule]

    def empty():
        named = {(rule["record"], *rule.get("labels", {}).items()): rule for rule in recorded}
        return [
            name
            for name, rule in named.items()
            if not any(math.isfinite(value) for value in watched.prometheus.lately(series(rule)))
        ]

    def series(rule):
        return (
            rule["record"]
            + "{"
            + ", ".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items())
            + "}"
        )

    prometheus.until(lambda: not empty(), empty)


@prometheus.needed
def test_every_metric_that_is_asked_for_is_there(watched):
    def names():
        knock(watched)
        scrapes = (
            call(f"{watched.server.url}/metrics")
            + "\n"
            + call(f"{watched.keyed.url}/metrics", Authorization=f"Bearer {TOKEN}")
        )
        return monitored.exposed(scrapes) | {rule["record"] for rule in monitored.rules() if "record" in rule}

    queries = [rule["expr"] for rule in monitored.rules()]
    queries += [target["expr"] for _, panel in monitored.panels() for target in panel["targets"]]
    queries += [annotation["expr"] for annotation in monitored.DASHBOARD["annotations"]["list"]]
    asked = {name for query in queries for name in monitored.metrics_of(query) if not name.startswith("DCGM_")}
    assert "restain_requests_total" in asked
    # Counters with labels are there after their first event.
    prometheus.until(lambda: asked <= names(), lambda: asked - names())


@prometheus.needed
def test_a_killed_server_is_told_and_its_return_too(serve, tmp_path):
    # The same rules, without their patience.
    impatient = tmp_path / "rules.yaml"
    impatient.write_text(re.sub(r"\bfor: \w+", "for: 0s", RULES.read_text()))
    server = serve()
    watching = prometheus.Prometheus(tmp_path, scraping(impatient, ("restain-0", server.http, {})))
    away = {"RestainDown", "RestainAbsent"}
    try:
        prometheus.until(lambda: watching.now("up == 1") and not away & watching.firing(), watching.firing)
        server.kill()
        prometheus.until(lambda: away <= watching.firing(), watching.firing)
        server.start()
        prometheus.until(lambda: not away & watching.firing(), watching.firing)
    finally:
        watching.kill()
