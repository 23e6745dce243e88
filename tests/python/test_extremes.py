"""Tiles at the edges of what is allowed, in every form and by every route: what one request takes is bounded by what it was lent.

Its resident memory by `--max-inflight-bytes` and a constant, its CPU time by the pixels that come in and go out. The tiles are
generated, the same ones in every run.
"""

import base64
import io
import json
import os
import resource
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save
from served import Served, install

LENT = 192 << 20
# Beside what is lent: the program's code, its threads' own buffers, and what the allocator keeps.
MORE = 64 << 20
# CPU seconds of a request, and for each pixel in or out, of the unoptimised program on a slow machine.
SECONDS, SECONDS_PER_PIXEL = 1.0, 1e-6
TICK = os.sysconf("SC_CLK_TCK")
SAFETENSORS = "application/vnd.restain.safetensors"
SIDES = [16, 16, 17, 96, 500, 1023, 1500, 4096, 8192, 8193, 65_000]
MODES = {"PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"], "JPEG": ["L", "RGB", "CMYK"], "WEBP": ["RGB", "RGBA"], "TIFF": ["1", "L", "P", "RGB", "RGBA", "I;16", "CMYK"]}
ASKED = {"variants": [1, 1, 3, 16], "method": ["vit", "color-match", "hed-jitter"], "strength": [0.0, 0.5, 1.0]}
COMPRESSIONS = ["raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extremes")
    install(folder / "models")
    flags = ["--max-inflight-bytes", str(LENT), "--max-body", "32MiB", "--cache-memory", "0B"]
    served = Served(folder, *flags, models=folder / "models")
    yield served
    assert served.process.poll() is None, "it still runs"
    served.kill()


def picture(form, mode, size, noise, compression):
    """The bytes of a picture: flat, which compresses to nearly nothing, or noise."""
    width, height = size
    if noise and width * height <= 1 << 20:
        channels = {"1": 1, "L": 1, "P": 1, "I;16": 2, "LA": 2, "RGB": 3}.get(mode, 4)
        values = np.random.default_rng(width * height).integers(0, 256, (height, width, channels), np.uint8)
        image = Image.fromarray(values[..., 0]).convert("RGB").convert(mode if mode != "I;16" else "L")
    else:
        image = Image.new("L" if mode in ("I;16", "LA") else mode, size, 1)
    if mode in ("I;16", "LA"):
        image = image.convert({"I;16": "I", "LA": "LA"}[mode]).convert(mode)
    file = io.BytesIO()
    # Of TIFF, JPEG takes no bilevel and no palette.
    plain = form != "TIFF" or (compression == "jpeg" and mode not in ("L", "RGB", "CMYK"))
    image.save(file, form, **({} if plain else {"compression": compression}))
    return file.getvalue()


@st.composite
def cases(draw):
    """(route, headers, body, pixels in, variants): one request, in one of the forms, of one or a few tiles of one size."""
    width, height = draw(st.sampled_from(SIDES)), draw(st.sampled_from(SIDES))
    # What the test itself can hold; beyond, the other side gives way.
    height = min(height, (20 << 20) // width)
    count = draw(st.sampled_from([1, 1, 1, 2, 7]))
    wire = draw(st.sampled_from(["picture", "picture", "form", "json", "tensor"]))
    route = draw(st.sampled_from(["augment", "augment", "augment", "encode", "slides"]))
    asked, headers = {}, {}
    if route == "augment":
        accept = draw(st.sampled_from(["image/png", "image/webp", "image/jpeg", SAFETENSORS]))
        asked = {name: draw(st.sampled_from(values)) for name, values in ASKED.items()}
        headers["accept"] = accept if accept == SAFETENSORS else "multipart/mixed"
        form = {} if accept == SAFETENSORS else {"format": accept.removeprefix("image/")}
        flat, asked = asked | form, asked | ({"output": form} if form else {})
    variants = asked.get("variants", 0)
    if wire == "tensor":
        if width * height * 3 > 30 << 20:
            width, height = 96, 96
        count = max(1, min(count, (30 << 20) // (width * height * 3)))
        tiles = np.full((count, height, width, 3), draw(st.integers(0, 255)), np.uint8)
        tiles[:, ::2] //= 2
        body = save({"tiles": tiles}, {"request": json.dumps(asked)} if asked else None)
        return route, headers | {"content-type": SAFETENSORS}, body, count * width * height, variants
    form = draw(st.sampled_from(sorted(MODES)))
    width, height = (min(side, 16_000) for side in (width, height))
    mode, compression = draw(st.sampled_from(MODES[form])), draw(st.sampled_from(COMPRESSIONS))
    file = picture(form, mode, (width, height), draw(st.booleans()), compression)
    if wire == "picture":
        path = f"{route}?{urlencode(flat)}" if asked else route
        return path, headers | {"content-type": f"image/{form.lower()}"}, file, width * height, variants
    pixels = count * width * height
    if wire == "json":
        tiles = [base64.b64encode(file).decode()] * count
        return route, headers | {"content-type": "application/json"}, json.dumps(({"request": asked} if asked else {}) | {"tiles": tiles}).encode(), pixels, variants
    parts = [("tile", ("t", file, f"image/{form.lower()}"))] * count
    parts += [("request", (None, json.dumps(asked), "application/json"))] if asked else []
    prepared = requests.Request("POST", "http://x/", files=parts).prepare()
    return route, headers | {"content-type": prepared.headers["content-type"]}, prepared.body, pixels, variants


def status(server, field):
    """A field of /proc/PID/status, bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def cpu_seconds(server):
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_a_request_takes_the_memory_that_it_was_lent_and_time_for_its_pixels(server, case):
    route, headers, body, pixels, variants = case
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    before, spent = status(server, "VmRSS"), cpu_seconds(server)
    answer = requests.post(f"{server.url}/v1/{route}", data=body, headers=headers, timeout=120)
    spent, most = cpu_seconds(server) - spent, status(server, "VmHWM")
    case_text = f"{len(body)} bytes of {headers}, {pixels} pixels, {route}: {answer.status_code} {answer.text[:300] if not answer.ok else ''}"
    # There is no other caller: what does not fit now never will, so a retry is useless.
    assert answer.status_code < 500 and answer.status_code != 429, case_text
    if not answer.ok:
        assert answer.json()["detail"], case_text
    assert most - before <= LENT + MORE, f"{(most - before) >> 20} MiB for {case_text}"
    allowed = SECONDS + SECONDS_PER_PIXEL * pixels * (1 + variants)
    assert spent <= allowed, f"{spent:.1f} CPU seconds of {allowed:.1f} for {case_text}"
    if os.environ.get("SHOW"):
        print(f"{(most - before) >> 20} MiB, {spent:.2f} s of {allowed:.1f}: {case_text}")


def test_memory_that_the_system_refuses_is_an_error_and_not_the_end(tmp_path):
    install(tmp_path / "models")
    server = Served(tmp_path, "--max-pixels", str(100 << 20), "--max-inflight-bytes", "8GiB", "--max-queue-tiles", "8192", models=tmp_path / "models")

    def augment(side, accept, **asked):
        file, headers = picture("PNG", "RGB", (side, side), side < 1024, None), {"content-type": "image/png", "accept": accept}
        return requests.post(f"{server.url}/v1/augment?{urlencode({'seed': 1, **asked})}", data=file, headers=headers, timeout=120)

    small = augment(96, "image/png")
    # As `ulimit -v`, but once it runs: room for some tiles more, and not for a gigabyte.
    limit = status(server, "VmSize") + (400 << 20)
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (limit, limit))
    for _ in range(3):
        refused = augment(8192, "multipart/mixed", variants=8)
        assert refused.status_code == 429 and "operating system" in refused.json()["detail"], refused.text[:300]
        assert int(refused.headers["retry-after"]) > 0
        again = augment(96, "image/png")
        assert (small.status_code, again.status_code, again.content) == (200, 200, small.content)
    assert server.process.poll() is None
    server.kill()
