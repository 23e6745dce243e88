"""The manifests of deploy/kustomize as kubectl builds them, and where to find things in them.

They are built in a copy that contains the files that an operator adds: keys.toml and metrics.token. The copy has two
further kustomizations: `everything`, all components that can be combined, on the overlay with the most resources; and `stores`,
replicas whose models and state lie in an object store.
"""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import required
import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "deploy/kustomize"
# The oldest that builds all of it.
KUBECTL = (1, 23)

TOKEN = "rst_of-a-test-and-of-nobody"
# `restain key` writes such entries; this one is for what is only looked at.
KEYS = '[[key]]\nname = "test"\nsha256 = "%s"\nscopes = ["augment", "metrics"]\n' % ("0" * 64)
EVERYTHING = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: restain
resources:
  - ../gpu
components:
  - ../../components/replicas
  - ../../components/service-monitor
  - ../../components/hpa
  - ../../components/tracing
  - ../../components/tls
  - ../../components/models
"""

STORES = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: restain
resources:
  - ../cpu
components:
  - ../../components/replicas
  - ../../components/hpa
  - ../../components/object-store
"""


def kustomizations():
    """Folders that can be applied, `everything` and `stores`; components are parts of others."""
    found = {path.parent for path in SOURCE.rglob("kustomization.yaml") if "components" not in path.parts}
    return [*sorted(str(folder.relative_to(SOURCE)) for folder in found), "overlays/everything", "overlays/stores"]


@cache
def kubectl():
    """The path of kubectl, in a version that is new enough."""
    program = required.program("kubectl", "kubernetes-client")
    told = subprocess.run([program, "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=60)
    version = json.loads(told.stdout)["clientVersion"]
    number = (int(version["major"]), int(re.match(r"\d+", version["minor"])[0]))
    if number < KUBECTL:
        required.missing(f"kubectl is {version['gitVersion']}, and {KUBECTL[0]}.{KUBECTL[1]} or later is needed")
    return program


def copy(home):
    """Copies the kustomizations and adds the operator's files."""
    own = shutil.ignore_patterns("keys.toml", "metrics.token")
    shutil.copytree(SOURCE, home, ignore=own)
    (home / "keys/keys.toml").write_text(KEYS)
    (home / "components/service-monitor/metrics.token").write_text(TOKEN)
    for name, text in (("everything", EVERYTHING), ("stores", STORES)):
        (home / "overlays" / name).mkdir()
        (home / "overlays" / name / "kustomization.yaml").write_text(text)
    return home


def build(folder):
    return subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60)


class Manifests:
    """What one kustomization gives."""

    def __init__(self, name, objects):
        self.name, self.objects = name, objects

    def of(self, *kinds):
        return [thing for thing in self.objects if thing["kind"] in kinds]

    def one(self, *kinds):
        [thing] = self.of(*kinds)
        return thing

    def pods(self):
        """Every pod that would run, with its labels: (object, labels, spec)."""
        for thing in self.of("Deployment", "StatefulSet", "Job"):
            template = thing["spec"]["template"]
            yield thing, template["metadata"]["labels"], template["spec"]
        for thing in self.of("InferenceService"):
            yield thing, {}, pod_of_predictor(thing)

    def options(self):
        """The server's options file."""
        [text] = [thing["data"]["restain.toml"] for thing in self.of("ConfigMap")]
        return text


# What a KServe predictor has besides the fields of a pod: ComponentExtensionSpec of serving.kserve.io/v1beta1.
OF_KSERVE = {
    *("minReplicas", "maxReplicas", "scaleMetric", "scaleMetricType", "scaleTarget", "autoScaling"),
    *("containerConcurrency", "timeout", "canaryTrafficPercent", "deploymentStrategy"),
    *("logger", "batcher", "labels", "annotations"),
}


def pod_of_predictor(service):
    predictor = service["spec"]["predictor"]
    return {name: value for name, value in predictor.items() if name not in OF_KSERVE}


def read(path):
    return [thing for thing in yaml.safe_load_all(path.read_text()) if thing]


def quantity(text):
    """Bytes or CPUs of a resource quantity."""
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", str(text)).groups()
    return float(number) * {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}[unit]


def seconds(text):
    """Of `90s` or `1m`, as the options file has them."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 1e-3, "s": 1, "m": 60}[unit]


def size(text):
    """Of `1GiB`, as the options file has them."""
    return quantity(text.removesuffix("B"))
