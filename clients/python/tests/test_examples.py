"""The examples run as their users run them: a program, files, and a real server."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from served import ROOT, tiles

import restain

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SOURCES = EXAMPLES.parent / "src"


def command(name, *arguments):
    return [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]


def environment(**more):
    """Without the network, which `datasets` would ask for newer versions."""
    return {**os.environ, "PYTHONPATH": str(SOURCES), "HF_HUB_OFFLINE": "1", **more}


def run(name, *arguments, **more):
    done = subprocess.run(
        command(name, *arguments), env=environment(**more), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    """Twelve tiles of two classes and two sizes; returns the folder and the tiles by their path."""
    made = {}
    for label, name in enumerate(["normal", "tumour"]):
        (tmp_path / "tiles" / name).mkdir(parents=True)
        for number, tile in enumerate(tiles(6, side=48, seed=label)):
            path = tmp_path / "tiles" / name / f"{number}.png"
            made[str(path)] = tile[:40] if number == 5 else tile
            Image.fromarray(made[str(path)]).save(path)
    return tmp_path / "tiles", made


def test_lightning_trains_on_tiles_and_variants(server, tmp_path):
    for label, name in enumerate(["normal", "tumour"]):
        (tmp_path / name).mkdir()
        for number, tile in enumerate(tiles(10, seed=label)):
            Image.fromarray(tile).save(tmp_path / name / f"{number}.png")
    printed = run("lightning_module", tmp_path, "--url", server.url, "--epochs", 2, "--workers", 1)
    # Sixteen tiles in one batch, twice.
    assert printed.splitlines()[-1].startswith("accuracy ")
    assert printed.splitlines()[-1].endswith("after 2 updates")


def test_datasets_map_adds_rows_of_variants(server, folder, tmp_path):
    import datasets

    source, expected = folder
    home = {"HF_HOME": str(tmp_path / "home")}
    printed = run("hf_datasets", source, tmp_path / "out", "--url", server.url, "--variants", 2, **home)
    assert printed.splitlines()[-1] == "12 tiles, 36 rows with their variants"
    made = datasets.load_from_disk(str(tmp_path / "out"))
    assert made.column_names == ["image", "label", "domain"]
    assert made["label"] == [label for label in (0, 1) for _ in range(18)]
    with restain.Client(server.url) as client:
        for place, (path, tile) in enumerate(sorted(expected.items())):
            rows = [made[3 * place + k] for k in range(3)]
            answer = client.augment(tile, variants=2, seed=7)
            assert np.array_equal(np.asarray(rows[0]["image"]), tile), path
            assert [row["domain"] for row in rows] == [None, *(record.domain for record in answer.provenance[0])]
            assert all(np.array_equal(np.asarray(rows[1 + k]["image"]), answer.variants[0, k]) for k in (0, 1))


@pytest.fixture
def slide(tmp_path):
    """A pyramid of 0.25 µm/px: glass with a rectangle of tissue, and the tissue itself."""
    tissue = np.asarray(Image.open(ROOT / "docs/tile.png").convert("RGB"))
    base = np.full((768, 1024, 3), 243, np.uint8)
    base[128:512, 256:768] = np.tile(tissue, (4, 6, 1))[:384, :512]
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        options = {"tile": (128, 128), "photometric": "rgb", "compression": "zlib", "resolutionunit": "CENTIMETER"}
        file.write(base, subifds=0, resolution=(4e4, 4e4), **options)
        file.write(base[::2, ::2], subfiletype=1, resolution=(2e4, 2e4), **options)
    return tmp_path / "slide.tif", base


def test_tiles_of_a_slide_have_coordinates_and_glass_is_counted(server, slide, tmp_path):
    path, base = slide
    printed = run("whole_slide", path, tmp_path / "out", "--url", server.url, "--side", 64, "--mpp", 0.5)
    # Tiles of 64 px at 0.5 µm/px are 128 px on the slide: 6 × 8 of them, 3 × 4 of tissue.
    assert printed == "12 tiles of tissue with 2 variants each; skipped 36 tiles of glass\n"
    with open(tmp_path / "out/tiles.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    corners = {(x, y) for x in (256, 384, 512, 640) for y in (128, 256, 384)}
    assert {(int(row["x"]), int(row["y"])) for row in rows} == corners
    assert len(rows) == 3 * len(corners)
    assert {row["mpp"] for row in rows} == {"0.5"}
    with restain.Client(server.url) as client:
        for x, y in corners:
            tile = np.asarray(Image.open(tmp_path / f"out/{x}_{y}.png"))
            assert np.array_equal(tile, base[y : y + 128 : 2, x : x + 128 : 2])
            made = client.augment(tile, variants=2, seed=7).variants[0]
            assert all(
                np.array_equal(np.asarray(Image.open(tmp_path / f"out/{x}_{y}_{k}.png")), made[k]) for k in (0, 1)
            )


def test_a_slide_without_a_resolution_is_refused(server, tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((256, 256, 3), np.uint8), tile=(128, 128), photometric="rgb")
    refused = subprocess.run(
        command("whole_slide", tmp_path / "plain.tif", tmp_path / "out", "--url", server.url),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 1
    assert "no resolution" in refused.stderr
