"""The manifests of deploy/kustomize: every one builds, is valid in every Kubernetes it is meant for, and they agree.

What they say about restain is held against restain in test_kubernetes_program.py.

Schemas: Kubernetes' own from kubernetes-validate, in its strict form; ServiceMonitor and ScaledObject from the models
of cloudcoil. No package has KServe's: the pod of an InferenceService is checked as a pod, and what is around it against
the names in manifests.py, taken from KServe's documentation. So is the rule for prometheus-adapter.
"""

import copy
import json
import re
import subprocess

import kubernetes_validate
import pytest
import required
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

from . import manifests
from .manifests import ROOT, SOURCE, quantity

# From the first that has all that is used.
VERSIONS = [f"1.{minor}" for minor in range(29, int(kubernetes_validate.latest_version().split(".")[1]) + 1)]
CUSTOM = {"ServiceMonitor": ServiceMonitor, "ScaledObject": ScaledObject}
ADAPTER = manifests.read(SOURCE / "components/hpa/prometheus-adapter.yaml")[0]
AS_THEY_ARE = ["namespace.yaml", "data.yaml"]
# Made by cert-manager, and not by us.
FOREIGN = {("Secret", "restain-tls")}


def matches(selector, labels):
    return selector.items() <= labels.items()


def strange(thing, version):
    """What is wrong with an object, or nothing."""
    if thing["kind"] == "InferenceService":
        kserve = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
        assert kserve <= manifests.OF_KSERVE
        assert set(thing["spec"]) == {"predictor"}
        pod = {"apiVersion": "v1", "kind": "Pod", "spec": manifests.pod_of_predictor(thing)}
        return strange(pod, version)
    if thing["kind"] in CUSTOM:
        # The models leave out what they do not know.
        known = CUSTOM[thing["kind"]].model_validate(thing).model_dump(mode="json", by_alias=True, exclude_unset=True)
        return None if known == thing else f"of this only {known} is known"
    try:
        kubernetes_validate.validate(thing, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version, built):
    everything = [thing for each in built.values() for thing in each.objects]
    everything += [thing for name in AS_THEY_ARE for thing in manifests.read(SOURCE / name)]
    # Many overlays have one and the same object.
    distinct = {json.dumps(thing, sort_keys=True): thing for thing in everything}.values()
    assert len(distinct) > 30
    wrong = [f"{thing['kind']}: {said}" for thing in distinct if (said := strange(thing, version))]
    assert not wrong


KINDS = ["Deployment", "StatefulSet", "Job", "NetworkPolicy", "HorizontalPodAutoscaler", "InferenceService", *CUSTOM]


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_field_would_be_seen(kind, built):
    thing = copy.deepcopy(next(thing for each in built.values() for thing in each.of(kind)))
    assert not strange(thing, VERSIONS[-1])
    spec = thing["spec"].get("predictor", thing["spec"])
    spec["terminationGracePeriod"] = 50
    assert strange(thing, VERSIONS[-1])


def test_nothing_builds_without_keys(tmp_path):
    home = manifests.copy(tmp_path / "kustomize")
    (home / "keys/keys.toml").unlink()
    done = manifests.build(home / "overlays/cpu")
    assert done.returncode != 0
    assert "keys.toml" in done.stderr


def test_keys_and_tokens_are_not_committed():
    made = ["keys/keys.toml", "components/service-monitor/metrics.token"]
    ignored = subprocess.run(["git", "check-ignore", *made], cwd=SOURCE, capture_output=True, text=True)
    assert ignored.stdout.split() == made


def test_no_overlay_is_without_the_namespace(each):
    [namespace] = [thing["metadata"]["name"] for thing in manifests.read(SOURCE / "namespace.yaml")]
    assert {thing["metadata"].get("namespace") for thing in each.objects} == {namespace}
    assert not each.of("Namespace"), "whoever deletes the server would delete all that is in its namespace"


# Pods


def test_pods_get_by_with_the_strictest_security(each):
    for thing, _, pod in each.pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "variables of a Service restain would be read as options"
        around = pod["securityContext"]
        assert around["runAsNonRoot"] is True
        assert around["runAsUser"] == around["runAsGroup"] == around["fsGroup"] == 65532
        assert around["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            own = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == own
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod), thing["kind"]


def test_whole_cpus_are_asked_for_and_allowed_alike(each):
    for _, _, pod in each.pods():
        [container] = pod["containers"]
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory"} <= set(resources["limits"])
        assert quantity(resources["limits"]["cpu"]) % 1 == 0


def test_every_mount_has_a_volume_and_every_volume_a_source(each):
    objects = each.objects + manifests.read(SOURCE / "data.yaml")
    there = {(thing["kind"], thing["metadata"]["name"]) for thing in objects} | FOREIGN
    for thing, _, pod in each.pods():
        [container] = pod["containers"]
        own = [template["metadata"]["name"] for template in thing["spec"].get("volumeClaimTemplates", [])]
        volumes = [volume["name"] for volume in pod.get("volumes", [])]
        mounted = [mount["name"] for mount in container["volumeMounts"]]
        assert sorted(volumes + own) == sorted(mounted)
        for volume in pod.get("volumes", []):
            match volume:
                case {"configMap": {"name": name}}:
                    assert ("ConfigMap", name) in there
                case {"secret": {"secretName": name}}:
                    assert ("Secret", name) in there
                case {"persistentVolumeClaim": {"claimName": name}}:
                    assert ("PersistentVolumeClaim", name) in there
                case {"name": "tmp", "emptyDir": {"sizeLimit": _}}:
                    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
                case {"emptyDir": {"sizeLimit": _}}:
                    assert thing["kind"] == "InferenceService"
                case _:
                    pytest.fail(f"a volume of no known kind: {volume}")


def test_a_claim_is_never_shared_by_two_servers(built):
    for each in built.values():
        for deployment in each.of("Deployment"):
            claims = [
                volume
                for volume in deployment["spec"]["template"]["spec"]["volumes"]
                if "persistentVolumeClaim" in volume
            ]
            assert claims
            assert deployment["spec"]["strategy"] == {"type": "Recreate"}
            assert deployment["spec"].get("replicas", 1) == 1
            assert not each.of("HorizontalPodAutoscaler", "ScaledObject")
    replicas = built["overlays/multi-replica"]
    assert not replicas.of("PersistentVolumeClaim", "Deployment")
    alone = {
        claim["metadata"]["name"].removeprefix("restain-"): claim["spec"]
        for claim in built["base"].of("PersistentVolumeClaim")
    }
    templates = replicas.one("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert {template["metadata"]["name"]: template["spec"] for template in templates} == alone


def test_a_replica_is_the_same_pod_as_the_only_server(built):
    def pod(name):
        [(_, labels, spec)] = built[name].pods()
        kept = [volume for volume in spec.pop("volumes") if "persistentVolumeClaim" not in volume]
        return labels, spec, kept

    built = copy.deepcopy(built)
    assert pod("overlays/multi-replica") == pod("overlays/cpu")


def test_images_are_those_that_are_built(built):
    tags = {
        "base": None,
        "overlays/gpu": "cuda",
        "overlays/everything": "cuda",
        "training-job": "train",
        "training-job-resume": "train",
    }
    for name, each in built.items():
        tag = tags.get(name, "cpu")
        for _, _, pod in each.pods():
            assert [container["image"] for container in pod["containers"]] == [f"restain:{tag}" if tag else "restain"]


def test_a_gpu_is_asked_for_where_one_is_used(built):
    for name, each in built.items():
        for _, _, pod in each.pods():
            [container] = pod["containers"]
            wants = any("cuda" in variable.get("value", "") for variable in container.get("env", []))
            assert (
                wants
                == ("nvidia.com/gpu" in container["resources"]["limits"])
                == (name in ["overlays/gpu", "overlays/everything"])
            )


# What points at pods


def test_selectors_find_their_pods_and_ports(each):
    pods = list(each.pods())
    assert pods or not each.of("Service", "PodDisruptionBudget", "NetworkPolicy")
    named = {
        port["name"] for _, _, pod in pods for container in pod["containers"] for port in container.get("ports", [])
    }
    for thing, labels, pod in pods:
        if thing["kind"] in ["Deployment", "StatefulSet"]:
            assert matches(thing["spec"]["selector"]["matchLabels"], labels)
            for spread in pod["topologySpreadConstraints"]:
                assert matches(spread["labelSelector"]["matchLabels"], labels)
    for service in each.of("Service"):
        assert all(matches(service["spec"]["selector"], labels) for _, labels, _ in pods)
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http", "grpc"]
        assert {"http", "grpc"} <= named
    for thing in each.of("PodDisruptionBudget"):
        assert all(matches(thing["spec"]["selector"]["matchLabels"], labels) for _, labels, _ in pods)
    for policy in each.of("NetworkPolicy"):
        assert all(matches(policy["spec"]["podSelector"]["matchLabels"], labels) for _, labels, _ in pods)
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        open_ports = [port["port"] for rule in policy["spec"].get("ingress", []) for port in rule["ports"]]
        assert set(open_ports) == named


def test_a_server_has_its_services_its_budget_and_its_policy(built):
    for name, each in built.items():
        if name.startswith("overlays/"):
            assert [service["metadata"]["name"] for service in each.of("Service")] == ["restain", "restain-headless"]
            assert [service["spec"].get("clusterIP") for service in each.of("Service")] == [None, "None"]
            assert each.one("PodDisruptionBudget")
            assert each.one("NetworkPolicy")
    for stateful in (each.one("StatefulSet") for each in built.values() if each.of("StatefulSet")):
        assert stateful["spec"]["serviceName"] == "restain-headless"


def test_out_goes_nothing_but_traces_and_what_a_store_is_asked(built):
    out = {"overlays/everything": [53, 53, 4318], "overlays/stores": [53, 53, 443]}
    for name, each in built.items():
        for policy in each.of("NetworkPolicy"):
            ways = [port["port"] for rule in policy["spec"].get("egress", []) for port in rule["ports"]]
            assert ways == out.get(name, [])
    [(_, _, pod)] = built["overlays/everything"].pods()
    [otlp] = [variable["value"] for variable in pod["containers"][0]["env"] if variable["name"] == "RESTAIN_OTLP"]
    assert re.fullmatch(r"http://[\w.]+:4318", otlp)


def test_prometheus_finds_every_server_once_and_has_its_token(built):
    monitored = [each for each in built.values() if each.of("ServiceMonitor")]
    assert len(monitored) == 3
    for each in monitored:
        spec = each.one("ServiceMonitor")["spec"]
        [service] = [s for s in each.of("Service") if matches(spec["selector"]["matchLabels"], s["metadata"]["labels"])]
        [endpoint] = spec["endpoints"]
        assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
        assert spec["jobLabel"] in service["metadata"]["labels"]
        told = endpoint["authorization"]["credentials"]
        [secret] = [s for s in each.of("Secret") if s["metadata"]["name"] == told["name"]]
        assert told["key"] in secret["data"]
        assert [port.get("appProtocol") for port in service["spec"]["ports"]] == (
            ["https", None] if endpoint.get("scheme") == "https" else ["http", "kubernetes.io/h2c"]
        )


# Scaling


def test_one_autoscaler_at_a_time_and_of_something_that_is_there(built):
    for each in built.values():
        scalers = each.of("HorizontalPodAutoscaler", "ScaledObject")
        assert len(scalers) == (1 if each.of("StatefulSet") else 0)
        for scaler in scalers:
            target = scaler["spec"]["scaleTargetRef"]
            [there] = each.of(target["kind"])
            assert (target["apiVersion"], target["name"]) == (there["apiVersion"], there["metadata"]["name"])
            assert "replicas" not in there["spec"], "every `kubectl apply` would undo what the autoscaler did"


def test_both_autoscalers_do_the_same(built):
    hpa = built["overlays/multi-replica"].one("HorizontalPodAutoscaler")["spec"]
    keda = built["overlays/multi-replica-keda"].one("ScaledObject")["spec"]
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    [metric], [trigger] = hpa["metrics"], keda["triggers"]
    assert float(trigger["metadata"]["threshold"]) == quantity(metric["pods"]["target"]["averageValue"])
    assert metric["pods"]["target"]["type"] == trigger["metricType"] == "AverageValue"
    assert hpa["minReplicas"] <= keda["fallback"]["replicas"] <= hpa["maxReplicas"]


def test_the_adapter_makes_the_metric_that_is_asked_for(built):
    [rule] = ADAPTER["rules"]
    assert set(ADAPTER) == {"rules"}
    assert set(rule) == {"seriesQuery", "resources", "name", "metricsQuery"}
    assert rule["resources"] == {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}}
    series = rule["seriesQuery"].partition("{")[0]
    [metric] = built["overlays/multi-replica"].one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert re.sub(rule["name"]["matches"], rule["name"]["as"], series) == metric["pods"]["metric"]["name"]


# Two pods in five minutes: the tiles of a wait a second each, those of b half of one; c is idle, and d elsewhere.
SERIES = {"a": (20, 20), "b": (10, 20), "c": (0, 0)}
RULES = """
rule_files: []
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
%s
    promql_expr_test:
%s
"""


def test_the_queries_give_the_mean_wait_of_a_tile(built, tmp_path):
    promtool = required.program("promtool", "prometheus")

    def series(pod, namespace, waited, tiles):
        for name, step in [("sum", waited), ("count", tiles)]:
            labels = f'namespace="{namespace}", pod="{pod}"'
            yield f"      - series: 'restain_queue_duration_seconds_{name}{{{labels}}}'\n        values: 0+{step}x20"

    def expect(query, samples):
        found = "".join(f"\n          - labels: '{labels}'\n            value: {value}" for labels, value in samples)
        return f"      - expr: '{query}'\n        eval_time: 5m\n        exp_samples:{found}"

    [rule] = ADAPTER["rules"]
    matchers = {"<<.LabelMatchers>>": 'namespace="restain",pod=~"a|b|c"', "<<.GroupBy>>": "pod"}
    of_adapter = re.sub("<<.*?>>", lambda found: matchers[found[0]], rule["metricsQuery"])
    [trigger] = built["overlays/multi-replica-keda"].one("ScaledObject")["spec"]["triggers"]
    given = [line for pod, values in SERIES.items() for line in series(pod, "restain", *values)] + [
        *series("d", "other", 9, 1)
    ]
    asked = [
        expect(of_adapter, [('{pod="a"}', 1), ('{pod="b"}', 0.5), ('{pod="c"}', 0)]),
        expect(trigger["metadata"]["query"], [("{}", 1.5)]),
    ]
    (tmp_path / "test.yaml").write_text(RULES % ("\n".join(given), "\n".join(asked)))
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Jobs


def test_a_job_of_parts_says_one_number_of_parts(built):
    job = built["augment-job"].one("Job")["spec"]
    [container] = job["template"]["spec"]["containers"]
    [shard] = [argument for argument in container["args"] if argument.startswith("--shard=")]
    assert job["completionMode"] == "Indexed"
    assert shard == f"--shard=$(JOB_COMPLETION_INDEX)/{job['completions']}"
    assert any(argument.startswith("--seed=") for argument in container["args"]), "every part would draw its own"


def test_the_run_that_is_gone_on_with_is_the_one_that_was_begun(built):
    def arguments(name):
        [(_, _, pod)] = built[name].pods()
        return pod["containers"][0]["args"]

    assert arguments("training-job-resume") == ["resume", arguments("training-job")[-1]]
    assert (
        built["training-job"].one("Job")["metadata"]["name"]
        != built["training-job-resume"].one("Job")["metadata"]["name"]
    )


def test_policies_for_failed_pods_name_the_container(each):
    for job in each.of("Job"):
        [container] = job["spec"]["template"]["spec"]["containers"]
        for rule in job["spec"].get("podFailurePolicy", {"rules": []})["rules"]:
            assert rule.get("onExitCodes", {}).get("containerName", container["name"]) == container["name"]
            assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never", "the API server would refuse it"


# The texts


def test_readme_and_the_manual_name_folders_that_are_there():
    for text in [(ROOT / "README.md").read_text(), (ROOT / "docs/operating.md").read_text()]:
        named = re.findall(r"deploy/kustomize/([\w./-]+)", text)
        assert named
        own = ("keys/keys.toml", "metrics.token")
        assert [name for name in named if not (SOURCE / name.rstrip(".")).exists() and not name.endswith(own)] == []
