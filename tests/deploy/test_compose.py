"""deploy/docker-compose.yaml: every file that it mounts is there, and what it sets the programs know."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import PurePosixPath

import pytest
import yaml
from served import PROGRAM, ROOT, environment

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def binds(service):
    """The bind mounts of a service: path in the container → file here."""
    mounts = SERVICES[service]["volumes"]
    return {mount["target"]: DEPLOY / mount["source"] for mount in mounts if mount["type"] == "bind"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_mounted_file_exists_and_cannot_be_written(service):
    for mount in SERVICES[service]["volumes"]:
        if mount["type"] == "bind":
            assert (DEPLOY / mount["source"]).exists(), mount["source"]
            assert mount["read_only"], mount["source"]
        else:
            assert mount["source"] in COMPOSE["volumes"]


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_published_on_the_loopback_interface_alone(service):
    for port in SERVICES[service]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port


def test_the_server_knows_its_variables_and_listens_on_its_ports():
    variables = SERVICES["restain"]["environment"]
    image = {"RESTAIN_CONFIG": str(DEPLOY / "image/restain.toml")}
    command = [PROGRAM, "serve", "--print-config"]
    done = subprocess.run(command, env={**environment(), **image, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    options = tomllib.loads(done.stdout)
    assert options["insecure"] is True
    published = {port.rpartition(":")[2] for port in SERVICES["restain"]["ports"]}
    assert published == {options[name].rpartition(":")[2] for name in ("http", "grpc")}
    # Everything that it writes is in the volume, and its models are those that are mounted.
    [volume] = [mount["target"] for mount in SERVICES["restain"]["volumes"] if mount["type"] == "volume"]
    assert all(PurePosixPath(options[name]).is_relative_to(volume) for name in ("cache-dir", "state"))
    assert options["models"] in binds("restain")


def test_the_server_has_the_time_that_it_takes_to_drain():
    # The defaults of --drain-delay and --drain-timeout.
    assert int(SERVICES["restain"]["stop_grace_period"].removesuffix("s")) > 5 + 30


def test_prometheus_reads_its_configuration_and_scrapes_the_server(prometheus_programs, tmp_path):
    for target, source in binds("prometheus").items():
        assert PurePosixPath(target).parent == PurePosixPath("/etc/prometheus")
        shutil.copy(source, tmp_path / PurePosixPath(target).name)
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], check=True)
    [job] = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    assert "restain" in job["job_name"]
    assert target.split(":")[0] in SERVICES
    assert f"127.0.0.1:{target.split(':')[1]}:{target.split(':')[1]}" in SERVICES["restain"]["ports"]


def test_grafana_finds_prometheus_and_the_dashboard():
    mounted = binds("grafana")
    [source] = yaml.safe_load(mounted["/etc/grafana/provisioning/datasources/restain.yaml"].read_text())["datasources"]
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert host in SERVICES
    assert f"127.0.0.1:{port}:{port}" in SERVICES[host]["ports"]
    [provider] = yaml.safe_load(mounted["/etc/grafana/provisioning/dashboards/restain.yaml"].read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert PurePosixPath(home).parent == PurePosixPath(provider["options"]["path"])
    dashboard = json.loads(mounted[home].read_text())
    # The dashboard takes the default source of this type.
    [variable] = [each for each in dashboard["templating"]["list"] if each["type"] == "datasource"]
    assert variable["query"] == source["type"]
    assert source["isDefault"]


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_images_of_others_have_a_version(service):
    assert re.search(r":v?\d+\.\d+\.\d+$", SERVICES[service]["image"])
