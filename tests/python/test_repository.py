"""The repository's own files: workflows, issue forms, hooks and citation follow their schemas and name what exists."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from served import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yaml"))
SCHEMAS = [
    ("vendor.github-workflows", WORKFLOWS),
    ("custom.github-workflows-require-timeout", WORKFLOWS),
    ("vendor.github-issue-forms", sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yaml"))),
    ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE/config.yml"]),
    ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ("vendor.compose-spec", [ROOT / "deploy/docker-compose.yaml"]),
]


def program(name):
    """The path of a program that a package of the tests' environment has installed."""
    return Path(sys.executable).parent / name


def steps():
    """Every step of every workflow, with its job's name."""
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            for step in job["steps"]:
                yield f"{path.name}: {name}", step


@pytest.mark.parametrize(("schema", "files"), SCHEMAS, ids=[schema for schema, _ in SCHEMAS])
def test_files_follow_their_schema(schema, files):
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, "--force-filetype", "yaml", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_have_no_known_weakness():
    done = subprocess.run([program("zizmor"), "--offline", "--no-progress", GITHUB], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_run_what_a_developer_runs():
    run = [step["run"] for _, step in steps() if "run" in step]
    for line in (".ci/run", "make wheels", "make image IMAGES=cpu", "tools/release.sh build"):
        assert any(line in text for text in run), line
    # Only targets that the Makefile has, and files that are here.
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for where, text in ((where, step["run"]) for where, step in steps() if "run" in step):
        assert set(re.findall(r"\bmake (?!python)([a-z][a-z-]*)", text.split("apt-get install")[0])) <= targets, where
        for path in re.findall(r"(?<![\w/.$])((?:tools|docs|clients|deploy|\.ci)/[\w./-]+)", text):
            assert (ROOT / path).exists(), f"{where}: {path}"


def test_scripts_of_workflows_are_valid_shell():
    for where, step in steps():
        if "run" in step:
            done = subprocess.run(["bash", "-n"], input=step["run"], capture_output=True, text=True)
            assert done.returncode == 0, f"{where}: {done.stderr}"


def test_workflows_build_with_the_compiler_of_the_image():
    image = re.search(r"^ARG RUST_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE).group(1)
    used = {job["container"] for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values() if "rust" in job.get("container", "")}
    assert used == {image}


def test_hooks_run_programs_and_match_files_of_the_repository():
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for hook in repository["hooks"]:
        assert {"id", "name", "entry", "language"} <= hook.keys()
        if "files" in hook:
            assert any(re.search(hook["files"], path) for path in listed), hook["id"]
        for path in re.findall(r"tests/\S+", hook["entry"]):
            assert (ROOT / path).exists(), path


def test_versions_agree():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f'__version__ = "{version}"' in (ROOT / "clients/python/src/restain/version.py").read_text()


def test_known_vulnerabilities_are_found_in_a_lock_file_without_a_network(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import advisories

    lines = advisories.SNAPSHOT.read_text().splitlines()[1:]
    lock = """
        [[package]]
        name = "time"
        version = "0.2.22"
        source = "registry"

        [[package]]
        name = "paste"
        version = "1.0.15"
        source = "registry"

        [[package]]
        name = "time"
        version = "0.3.47"
        source = "registry"

        [[package]]
        name = "smallvec"
        version = "0.1.0"
    """
    found = list(advisories.applying(lock, lines))
    # The patched version has none, and a package of the workspace is not the crate of its name.
    assert ("RUSTSEC-2020-0071", "time", "0.2.22", "vulnerability") in found
    assert ("RUSTSEC-2024-0436", "paste", "1.0.15", "unmaintained") in found
    assert {(crate, version) for _, crate, version, _ in found} == {("time", "0.2.22"), ("paste", "1.0.15")}
    assert advisories.check(), capsys.readouterr().err
