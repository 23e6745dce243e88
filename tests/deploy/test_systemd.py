"""deploy/systemd: systemd accepts the unit, and the server its command line and options."""

import configparser
import shlex
import shutil
import subprocess
import tomllib

import pytest
from served import PROGRAM, ROOT, environment

SYSTEMD = ROOT / "deploy/systemd"


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(SYSTEMD / "restain.service")
    return parser


@pytest.fixture
def command(tmp_path):
    """The command of the unit, with the program, options and directories of the tests."""
    line = unit()["Service"]["ExecStart"]
    line = line.replace("/usr/local/bin/restain", str(PROGRAM)).replace("/etc/restain", str(SYSTEMD))
    return line.replace("%C", f"{tmp_path}/cache").replace("%S", f"{tmp_path}/state")


def test_systemd_accepts_the_unit(tmp_path, command):
    if shutil.which("systemd-analyze") is None:
        assert set(unit()) == {"DEFAULT", "Unit", "Service", "Install"}
        return
    text = (SYSTEMD / "restain.service").read_text().replace(unit()["Service"]["ExecStart"], command)
    (tmp_path / "restain.service").write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "restain.service"], capture_output=True, text=True)
    # Units of this machine may have faults of their own.
    assert not [line for line in done.stderr.splitlines() if "restain.service" in line], done.stderr


def test_the_server_accepts_its_options(command):
    done = subprocess.run([*shlex.split(command), "--print-config"], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    options = tomllib.loads(done.stdout)
    assert options["models"] == "/usr/local/share/restain-models"
    assert options["cache-dir"].endswith("/cache/restain")
    assert options["state"].endswith("/state/restain")
    assert options["http"].startswith("127.0.0.1:")


def test_systemd_waits_until_the_server_has_drained_and_gives_it_its_directories():
    service = unit()["Service"]
    # The defaults of --drain-delay and --drain-timeout.
    assert int(service["TimeoutStopSec"].removesuffix("s")) > 5 + 30
    assert service["StateDirectory"] == service["CacheDirectory"] == "restain"
    assert service["ProtectSystem"] == "strict"
