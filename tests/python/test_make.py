"""The last line of `make serve`, in the shell that make uses, with the program that the tests are about."""

import os
import subprocess

import pytest
from served import PROGRAM, ROOT


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
