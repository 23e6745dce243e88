"""What the manifests of deploy/kustomize say about restain, held against it: options, ports, paths, metrics, sizes."""

import io
import os
import re
import subprocess
import tomllib
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
import required
from PIL import Image
from served import PROGRAM, Served, environment, install, tiles

from .manifests import ROOT, SOURCE, quantity, seconds, size
from .test_kubernetes import ADAPTER

TRAINER = PROGRAM.with_name("restain-train")
# The options file of the image, which its environment names.
IN_IMAGE = str(ROOT / "deploy/image/restain.toml")
# What KServe's own controller reads.
OF_KSERVE = {"PROTOCOL"}
OF_STORES = {"AWS_REGION"}


def run(command, **variables):
    done = subprocess.run(
        [str(word) for word in command], env={**environment(), **variables}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def servers(built):
    """Everything that runs `restain serve`: (kustomization, pod, container, options as they would be in force)."""
    for name, each in built.items():
        for _, _, pod in each.pods():
            [container] = pod["containers"]
            if container["args"][0] == "serve":
                yield name, pod, container


@pytest.fixture(scope="module")
def resolved(built, tmp_path_factory):
    """By kustomization: what `restain serve --print-config` makes of the container's arguments, variables and file."""
    home = tmp_path_factory.mktemp("options")

    def options(name, container):
        arguments = list(container["args"])
        if "--config" in arguments:
            (home / "restain.toml").write_text(built[name].options())
            arguments[arguments.index("--config") + 1] = home / "restain.toml"
        given = {"RESTAIN_CONFIG": IN_IMAGE}
        given |= {variable["name"]: variable["value"] for variable in container.get("env", [])}
        return tomllib.loads(run([PROGRAM, *arguments, "--print-config"], **given))

    return options


# Options


def test_variables_are_options_of_the_program(built):
    for name, each in built.items():
        for _, _, pod in each.pods():
            [container] = pod["containers"]
            variables = {variable["name"] for variable in container.get("env", [])} - OF_KSERVE - OF_STORES
            program = TRAINER if container["command"] == ["/usr/local/bin/restain-train"] else PROGRAM
            helped = " ".join(run([program, container["args"][0], "--help"]).split()) if variables else ""
            unknown = [variable for variable in variables if f"[env: {variable}=" not in helped]
            assert not unknown, name


def test_the_server_takes_its_options(built, resolved):
    ran = [name for name, _, container in servers(built) if resolved(name, container)]
    assert len(ran) == 8


def test_the_server_has_what_the_manifests_promise(built, resolved):
    for name, _, container in servers(built):
        options = resolved(name, container)
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert os.path.dirname(options["keys"]) in mounts
        for directory in [options["cache-dir"], options.get("models-cache", options["state"])]:
            [volume] = [mount for place, mount in mounts.items() if directory == place or directory.startswith(place + "/")]
            assert not volume.get("readOnly"), name
        if "tls-cert" in options:
            assert {os.path.dirname(options["tls-cert"]), os.path.dirname(options["tls-key"])} <= set(mounts)
        assert options["devices"] == ("cuda:0" if "nvidia.com/gpu" in container["resources"]["limits"] else "cpu"), name
        assert not options.get("insecure"), name


def test_the_image_has_the_program_the_user_and_the_place_of_the_options(built):
    image = (ROOT / "Dockerfile").read_text()
    places, users = re.findall(r"^COPY .* (\S+)$", image, re.M), re.findall(r"^USER (\d+):(\d+)$", image, re.M)
    targets = re.findall(r"^FROM \S+ AS (\S+)$", image, re.M)
    for name, each in built.items():
        for _, _, pod in each.pods():
            [container] = pod["containers"]
            assert container["command"][0] in places
            assert name == "base" or container["image"].partition(":")[2] in targets
            assert {(str(pod["securityContext"]["runAsUser"]), str(pod["securityContext"]["runAsGroup"]))} == set(users)
            assert all(mount["mountPath"] in places for mount in container["volumeMounts"] if "subPath" in mount)


def test_ports_are_those_that_are_listened_on(built, resolved):
    for name, _, container in servers(built):
        options = resolved(name, container)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for port, number in ports.items():
            assert options[port] == f"0.0.0.0:{number}", name
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
            port = container[probe]["httpGet"]["port"]
            assert options["probes"] == f"0.0.0.0:{ports.get(port, port)}", name


def test_a_pod_is_given_the_time_to_drain(built, resolved):
    for name, pod, container in servers(built):
        options = resolved(name, container)
        drain = seconds(options["drain-delay"]) + seconds(options["drain-timeout"])
        assert pod["terminationGracePeriodSeconds"] >= drain + 5, name
        unready = container["readinessProbe"]["periodSeconds"] * container["readinessProbe"]["failureThreshold"]
        assert seconds(options["drain-delay"]) > unready, "balancers hear of it before it is over"
        assert "lifecycle" not in container, "it would wait twice"


def test_caches_fit_into_what_the_pod_has(built, resolved):
    for name, _, container in servers(built):
        options = resolved(name, container)
        lent = size(options["cache-memory"]) + size(options["max-inflight-bytes"])
        assert lent <= 0.5 * quantity(container["resources"]["limits"]["memory"]), name
    for name in ["overlays/cpu", "overlays/multi-replica"]:
        specs = built[name].of("PersistentVolumeClaim")
        specs += [claim for thing in built[name].of("StatefulSet") for claim in thing["spec"]["volumeClaimTemplates"]]
        [cache] = [claim["spec"] for claim in specs if claim["metadata"]["name"].endswith("cache")]
        [container] = [container for other, _, container in servers(built) if other == name]
        assert size(resolved(name, container)["cache-disk"]) <= 0.9 * quantity(
            cache["resources"]["requests"]["storage"]
        )


def test_the_trainer_takes_its_options(built):
    if not TRAINER.exists():
        required.missing(f"{TRAINER} is not built: run `make test`, or `cargo build -p restain-train`")

    def container(name):
        [(_, _, pod)] = built[name].pods()
        assert pod["containers"][0]["command"] == ["/usr/local/bin/restain-train"]
        return pod["containers"][0]

    assert "/data/tiles" in run([TRAINER, *container("training-job")["args"], "--print-config"])
    # `resume` has no --print-config: that there is no state is told after the arguments have been understood.
    resume = [TRAINER, *container("training-job-resume")["args"]]
    done = subprocess.run(resume, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "/runs/hospital-1" in done.stderr


def test_every_part_of_the_augment_job_is_done_once(built, tmp_path):
    """All sixteen, on thirty-two tiles."""
    [(_, _, pod)] = built["augment-job"].pods()
    [container] = pod["containers"]
    assert container["command"] == ["/usr/local/bin/restain"]
    (tmp_path / "tiles").mkdir()
    for number in range(32):
        (tmp_path / f"tiles/{number:02}.png").write_bytes(png(number))
    install(tmp_path / "models")
    places = {"/data": str(tmp_path), "--models=/models": f"--models={tmp_path}/models"}
    arguments = [
        re.sub(r"^(/data|--models=/models)", lambda found: places[found[0]], argument) for argument in container["args"]
    ]
    for index in range(built["augment-job"].one("Job")["spec"]["completions"]):
        run(
            [
                PROGRAM,
                *(argument.replace("$(JOB_COMPLETION_INDEX)", str(index)) for argument in arguments),
                "--threads",
                "1",
            ]
        )
    made = sorted(path.name for path in (tmp_path / "augmented").glob("*.png"))
    assert made == sorted(f"{number:02}.v{variant:02}.png" for number in range(32) for variant in range(4))


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(tiles(1, seed=seed)[0]).save(buffer, "PNG")
    return buffer.getvalue()


# A server with these options


@pytest.fixture(scope="module")
def server(built, tmp_path_factory):
    """`restain serve` on the options file of the manifests, with keys made as README says, in places of its own."""
    home = tmp_path_factory.mktemp("served")
    made = [
        subprocess.run(
            [PROGRAM, "key", name, "--scope", name], env=environment(), capture_output=True, text=True, timeout=60
        )
        for name in ["augment", "metrics"]
    ]
    (home / "keys.toml").write_text("".join(key.stdout for key in made))
    (home / "restain.toml").write_text(built["overlays/cpu"].options())
    places = [
        "--keys",
        home / "keys.toml",
        "--cache-dir",
        home / "cache",
        "--state",
        home / "state",
        "--cache-disk",
        "64MiB",
    ]
    served = Served(
        home,
        "--config",
        home / "restain.toml",
        *places,
        "--probes",
        "127.0.0.1:0",
        "--address-file",
        home / "addresses",
    )
    tokens = {name: key.stderr.split()[-1] for name, key in zip(["augment", "metrics"], made, strict=True)}
    yield SimpleNamespace(url=served.url, probes=f"http://{(home / 'addresses').read_text().split()[2]}", tokens=tokens)
    served.kill()


def get(url, token=None):
    """Status and text of an answer."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_probes_are_answered_without_a_key(built, server):
    paths = set()
    for _, _, container in servers(built):
        paths |= {container[probe]["httpGet"]["path"] for probe in ["startupProbe", "readinessProbe", "livenessProbe"]}
    assert {path: get(server.probes + path)[0] for path in paths} == {"/health/ready": 200, "/health/live": 200}
    assert get(server.probes + "/metrics")[0] == 404


def test_metrics_are_scraped_with_their_key_and_hold_what_scaling_needs(built, server):
    [endpoint] = built["overlays/multi-replica"].one("ServiceMonitor")["spec"]["endpoints"]
    refused = {token: get(server.url + endpoint["path"], server.tokens.get(token))[0] for token in ["", "augment"]}
    assert refused == {"": 401, "augment": 403}
    status, text = get(server.url + endpoint["path"], server.tokens["metrics"])
    assert status == 200
    exposed = {line.split("{")[0].split()[0] for line in text.splitlines() if not line.startswith("#")}
    [rule] = ADAPTER["rules"]
    [trigger] = built["overlays/multi-replica-keda"].one("ScaledObject")["spec"]["triggers"]
    asked = set(
        re.findall(r"restain_\w+", " ".join([rule["seriesQuery"], rule["metricsQuery"], trigger["metadata"]["query"]]))
    )
    assert asked == {"restain_queue_duration_seconds_sum", "restain_queue_duration_seconds_count"}
    assert asked <= exposed


def test_kserve_finds_the_open_inference_protocol(built, server):
    service = built["kserve"].one("InferenceService")
    assert {"name": "PROTOCOL", "value": "v2"} in service["spec"]["predictor"]["containers"][0]["env"]
    said = (SOURCE / "kserve/inference-service.yaml").read_text()
    [path] = re.findall(r"`(/v2/models/\w+)/infer`", said)
    assert get(server.url + path.replace("demo", "tiny"), server.tokens["augment"])[0] == 200
    assert get(server.url + "/v2/health/ready")[0] == 200
