"""The Dockerfile against the repository and the program: what it copies is there, what it sets the server knows.

That it builds and serves is deploy/image/test.sh's matter, which takes too long for every change."""

import fnmatch
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from served import PROGRAM, ROOT, environment

TARGETS = ("cpu", "cuda", "train")
Instruction = namedtuple("Instruction", "stage word flags arguments")
DEBIAN_RELEASES = {"bookworm": 12, "trixie": 13}


def read():
    """Every instruction, with the stage it is in and its flags apart."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    stage, instructions = None, []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        flags = re.match(r"(--\S+\s+)*", rest).group()
        if word == "FROM":
            stage = rest.split(" AS ")[1]
        instructions.append(Instruction(stage, word, flags.split(), rest[len(flags) :].strip()))
    return instructions


DOCKERFILE = read()
PARENTS = {step.stage: step.arguments.split()[0] for step in DOCKERFILE if step.word == "FROM"}
DEFAULTS = dict(step.arguments.split("=") for step in DOCKERFILE if step.word == "ARG" and step.stage is None)
SETTINGS = tomllib.loads((ROOT / "deploy/image/restain.toml").read_text())
# The version and licence that all packages of the workspace share.
CARGO = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]


def lineage(target):
    """The stages that a target is made of, the first first."""
    stages = []
    while target in PARENTS:
        stages.insert(0, target)
        target = PARENTS[target]
    return stages


def all_of(target, word):
    return [step.arguments for stage in lineage(target) for step in DOCKERFILE if step.stage == stage and step.word == word]


def variables(target):
    return dict(pair.split("=", 1) for step in all_of(target, "ENV") for pair in step.split())


def labels(target):
    return dict(re.findall(r'(\S+)="([^"]*)"', " ".join(all_of(target, "LABEL"))))


def copied():
    """(stage, path) of everything that comes from the checkout."""
    for step in DOCKERFILE:
        if step.word == "COPY" and not step.flags:
            yield from ((step.stage, source) for source in step.arguments.split()[:-1])


def run(*arguments, **variables):
    return subprocess.run([PROGRAM, *arguments], env=environment() | variables, capture_output=True, text=True, timeout=60)


def test_the_targets_are_three_and_the_server_on_cpus_is_built_unless_told_otherwise():
    assert set(TARGETS) < set(PARENTS)
    assert list(PARENTS)[-1] == "cpu"


def test_what_is_copied_from_the_checkout_is_there_and_in_the_context():
    patterns = (ROOT / ".dockerignore").read_text().split("\n")
    patterns = [pattern for pattern in patterns if pattern and not pattern.startswith("#")]
    assert patterns[0] == "*", "whatever is not named stays out"
    kept = [pattern.removeprefix("!") for pattern in patterns[1:]]
    paths = [path for _, path in copied()]
    for path in paths:
        assert list(ROOT.glob(path)), path
        assert any(path == pattern or path.startswith(f"{pattern}/") or fnmatch.fnmatch(path, pattern) for pattern in kept), path
    for pattern in kept:
        assert any(path == pattern or path.startswith(f"{pattern}/") or fnmatch.fnmatch(path, pattern) for path in paths), pattern


def test_what_is_copied_from_a_stage_comes_from_one_before():
    seen = []
    for step in DOCKERFILE:
        if step.word == "FROM":
            seen.append(step.stage)
        for flag in step.flags:
            if flag.startswith("--from="):
                assert flag.removeprefix("--from=") in seen[:-1], step


def test_files_that_the_program_embeds_are_where_it_is_compiled():
    there = [path for stage, path in copied() if stage == "source"]
    embedded = {}
    for source in (ROOT / "src").rglob("*.rs"):
        for name in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
            path = (source.parent / name).resolve().relative_to(ROOT)
            embedded[str(path)] = source
    assert "docs/tile.png" in embedded
    for path, source in embedded.items():
        assert any(path == copy or path.startswith(f"{copy}/") for copy in there), f"{source} embeds {path}"


def test_base_images_are_pinned_and_fit_each_other():
    for stage, parent in PARENTS.items():
        named = re.fullmatch(r"\$\{(\w+)\}", parent)
        assert parent in PARENTS or named and named[1] in DEFAULTS, f"{stage} is made from {parent}"
    rust = re.fullmatch(r"rust:(\d+\.\d+\.\d+)-slim-(\w+)", DEFAULTS["RUST_IMAGE"])
    debian = re.fullmatch(r"debian:(\d+)\.\d+-slim", DEFAULTS["DEBIAN_IMAGE"])
    assert rust and debian, DEFAULTS
    assert [int(part) for part in rust[1].split(".")] >= [int(part) for part in CARGO["rust-version"].split(".")]
    # A program does not start on an older C library than it was linked with.
    assert DEBIAN_RELEASES[rust[2]] == int(debian[1])


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_runs_as_root(target):
    assert all_of(target, "USER")[-1] == "65532:65532"
    assert all_of(target, "STOPSIGNAL") == ["SIGTERM"]


@pytest.mark.parametrize("target", TARGETS)
def test_labels_say_what_the_package_says(target):
    told = labels(target)
    prefix = "org.opencontainers.image."
    assert {name.removeprefix(prefix) for name in told} == {"title", "description", "version", "revision", "licenses", "vendor"}
    assert told[f"{prefix}version"] == CARGO["version"]
    assert told[f"{prefix}licenses"] == CARGO["license"]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_server_knows_every_variable_that_is_set(target):
    known = " ".join((run("serve", "--help").stdout + run("augment", "--help").stdout).split())
    set_here = [name for name in variables(target) if name.startswith("RESTAIN_")]
    assert "RESTAIN_CONFIG" in set_here
    for name in set_here:
        assert f"[env: {name}=" in known, name


def test_the_trainer_is_alone_in_its_image():
    assert not [name for name in variables("train") if name.startswith("RESTAIN_")]
    for target, program in (("train", "restain-train"), ("cpu", "restain"), ("cuda", "restain")):
        programs = [step.split()[-1] for step in all_of(target, "COPY") if step.split()[-1].startswith("/usr/local/bin/")]
        assert programs == [f"/usr/local/bin/{program}"]
        assert json.loads(all_of(target, "ENTRYPOINT")[0]) == programs


def test_its_settings_are_taken_and_open_nothing_without_a_lock():
    given = run("serve", "--print-config", RESTAIN_CONFIG=str(ROOT / "deploy/image/restain.toml"), RESTAIN_INSECURE="true")
    assert given.returncode == 0, given.stderr
    assert SETTINGS.items() <= tomllib.loads(given.stdout).items()
    refused = run("serve", "--print-config", RESTAIN_CONFIG=str(ROOT / "deploy/image/restain.toml"))
    assert refused.returncode == 2 and "insecure" in refused.stderr


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_ports_and_folders_are_those_of_its_settings(target):
    ports = [SETTINGS[port].rsplit(":", 1)[1] for port in ("http", "grpc", "probes")]
    assert all_of(target, "EXPOSE") == [" ".join(ports)]
    places = [step.split()[-1] for step in all_of(target, "COPY")]
    assert variables(target)["RESTAIN_CONFIG"] in places
    assert any(place.startswith(f"{SETTINGS['models']}/") for place in places)
    (volume,) = all_of(target, "VOLUME")
    for folder in ("cache-dir", "state"):
        assert Path(SETTINGS[folder]).is_relative_to(volume)
        assert any(SETTINGS[folder] in step.split() for step in all_of(target, "RUN")), "somebody makes it, for its user"


def health_check():
    (told,) = all_of("cpu", "HEALTHCHECK")
    program, *arguments = json.loads(told[told.index("[") :])
    assert program in json.loads(all_of("cpu", "ENTRYPOINT")[0])
    return arguments


def test_the_health_check_asks_the_port_for_probes():
    assert f":{SETTINGS['probes'].rsplit(':', 1)[1]}/" in health_check()[-1]


def test_the_health_check_succeeds_while_the_server_is_ready_and_fails_after(serve, tmp_path):
    addresses = tmp_path / "addresses"
    server = serve("--probes", "127.0.0.1:0", "--address-file", addresses)
    probes = addresses.read_text().split()[2]
    command, url = health_check()
    here = re.sub(r"//[^/]+", f"//{probes}", url)
    well = run(command, here)
    assert (well.returncode, well.stdout) == (0, "HTTP/1.1 200 OK\n"), well.stderr
    assert run(command, here.replace("/health/", "/nothing/")).returncode == 1
    server.kill()
    gone = run(command, here)
    assert gone.returncode == 1 and here in gone.stderr


def fetcher():
    spec = importlib.util.spec_from_file_location("fetch", ROOT / "tools/fetch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_libraries_are_fetched_by_digest():
    fetch = fetcher()
    named = {name for step in DOCKERFILE if step.word == "RUN" for name in re.findall(r"tools/fetch\.py (\S+)", step.arguments)}
    assert named == {"onnxruntime", "onnxruntime-cuda", "libtorch"} == set(fetch.LIBRARIES)
    for name in named:
        for requirement in fetch.LIBRARIES[name]:
            assert re.fullmatch(r"[0-9a-f]{64}", fetch.PINS[requirement]["x86_64"]), requirement


# dpkg's list of what is installed, with something that was removed.
PACKAGES = """\
Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0-1

Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.41-12+deb13u5
Description: the C library
 Version: none of a package, as this line is of the description.
"""


def bill(folder):
    """A bill of materials of this checkout, as the image's is made."""
    listed, packages = folder / "crates", folder / "status"
    packages.write_text(PACKAGES)
    listed.write_bytes(subprocess.run([ROOT / "deploy/image/crates.sh", "restain"], capture_output=True, check=True).stdout)
    command = [sys.executable, "tools/sbom.py", "restain", "--crates", listed, "--debian", packages]
    command += ["--wheels", ROOT / ".deps/onnxruntime/pins.json", "--bundles", "models"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout


def test_a_bill_of_materials_is_cyclonedx_and_names_what_is_linked_and_only_that(tmp_path):
    written = bill(tmp_path)
    assert written == bill(tmp_path), "the same things make the same document"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    told = json.loads(written)
    assert told["metadata"]["component"]["purl"] == f"pkg:cargo/restain@{CARGO['version']}"
    parts = {part["purl"]: part for part in told["components"]}
    names = {part["name"] for part in parts.values()}
    assert {"axum", "ort", "tokio", "onnxruntime", "demo", "libc6"} <= names
    # The trainer's, the tests', what runs at build time, and a package that was removed.
    assert not {"tch", "rcgen", "tonic-prost-build", "gone"} & names
    locked = {(package["name"], package["version"]): package for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    for part in parts.values():
        if part["purl"].startswith("pkg:cargo/"):
            package = locked[part["name"], part["version"]]
            # Packages of this workspace have no source, and so no digest.
            digest = [{"alg": "SHA-256", "content": package["checksum"]}] if "source" in package else None
            assert part.get("hashes") == digest, part["name"]
            assert part["licenses"][0]["expression"], part["name"]
    assert parts["pkg:deb/debian/libc6@2.41-12%2Bdeb13u5?arch=amd64"]["version"] == "2.41-12+deb13u5"
