"""The last lines of `make serve` and `make install`, in the shell that make uses, with the program that the tests are about."""

import os
import subprocess

import pytest
from served import PROGRAM, ROOT, environment


def last_line(devices, program):
    command = ["make", "-s", "-n", "serve", f"DEVICES={devices}", "ARGS=--http 127.0.0.1:0 --grpc 127.0.0.1:0"]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [line] = [line for line in recipe.splitlines() if "restain serve" in line]
    before, _, after = line.rpartition("exec ")
    return f"{before}{program} {after.partition(' ')[2]}"


def bare(**variables):
    return {"PATH": os.environ["PATH"], **variables}


def test_make_serve_serves():
    line = last_line("cpu", f"exec {PROGRAM}")
    with subprocess.Popen(["sh", "-c", line], cwd=ROOT, env=bare(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        said = server.stdout.readline()
        server.kill()
        assert "ready on http://" in said, server.stderr.read()


@pytest.mark.parametrize(
    ("devices", "variables", "library"),
    [
        ("cpu", {}, ""),
        ("cuda:0", {}, f"{ROOT}/.deps/onnxruntime-cuda/lib/libonnxruntime.so"),
        ("cuda:0", {"ORT_DYLIB_PATH": "/own.so"}, "/own.so"),
    ],
)
def test_devices_choose_the_library_unless_one_is_named(devices, variables, library):
    shown = subprocess.run(
        ["sh", "-c", last_line(devices, 'echo "$ORT_DYLIB_PATH";:')], cwd=ROOT, env=bare(**variables), capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == library


def test_an_installed_server_finds_its_library_and_its_model_wherever_it_is_moved(tmp_path):
    library = environment()["ORT_DYLIB_PATH"]
    install = [ROOT / "tools/install.sh", PROGRAM, library, "/usr"]
    subprocess.run(install, env=bare(DESTDIR=str(tmp_path / "stage")), check=True, capture_output=True)
    (tmp_path / "stage/usr").rename(tmp_path / "moved")
    program, empty = tmp_path / "moved/bin/restain", tmp_path / "empty"
    empty.mkdir()
    version = subprocess.run([program, "--version"], cwd=empty, env={}, capture_output=True, text=True, check=True).stdout
    assert f"ONNX Runtime {tmp_path}/moved/lib/restain/libonnxruntime.so" in version
    command = [program, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--threads", "1"]
    with subprocess.Popen(command, cwd=empty, env={}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        said = server.stdout.readline()
        server.kill()
        assert "ready on http://" in said, server.stderr.read()
    share = tmp_path / "moved/share"
    for file in ("man/man1/restain-serve.1", "bash-completion/completions/restain", "doc/restain/LICENSE"):
        assert (share / file).is_file()
