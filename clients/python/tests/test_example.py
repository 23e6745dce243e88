"""The example runs from folders of pictures to a table."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image
from served import tiles

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/phantom.py"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_the_example_prints_both_accuracies(server, tmp_path, monkeypatch, capsys):
    for seed, domain in enumerate(["north", "south", "west"]):
        for label, name in enumerate(["normal", "tumour"]):
            folder = tmp_path / domain / name
            folder.mkdir(parents=True)
            for number, tile in enumerate(tiles(8, seed=10 * seed + label)):
                Image.fromarray(tile).save(folder / f"{number}.png")
    arguments = [str(tmp_path), "--url", server.url, "--epochs", "2", "--runs", "1", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *arguments])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "24 tiles of north, south to train on; unseen: west"
    assert [line.split("|")[1].strip() for line in lines[3:]] == ["without", "vit"]
    assert all(0 <= float(cell.split()[0]) <= 1 for line in lines[3:] for cell in line.split("|")[2:4])
