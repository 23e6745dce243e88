"""Tars that `restain augment` writes, read with the package that defines the format."""

import gc
import io
import json
import subprocess
import warnings

import numpy as np
import webdataset
from PIL import Image
from served import PROGRAM, SIDE, environment, install, tiles


def test_samples_come_back_with_their_fields_and_provenance(tmp_path):
    install(tmp_path / "models")
    pictures = tiles(6)
    (tmp_path / "in").mkdir()
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"in/train-{shard:06}.tar")) as writer:
            for number in range(3 * shard, 3 * shard + 3):
                picture = io.BytesIO()
                Image.fromarray(pictures[number]).save(picture, "png")
                writer.write({"__key__": f"slide_3/{number:04}", "png": picture.getvalue(), "cls": number, "json": {"slide": 3}})
    flags = ["--models", tmp_path / "models", "--variants", "2", "--seed", "5", "--originals", "--threads", "1"]
    command = [PROGRAM, "augment", tmp_path / "in/train-{000000..000001}.tar", tmp_path / "out", *flags]
    subprocess.run(command, env=environment(), check=True)

    tars = [str(tmp_path / f"out/train-{shard:06}.tar") for shard in range(2)]
    with warnings.catch_warnings():
        # The package leaves its files to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
        gc.collect()
    assert len(samples) == 6 * 3
    for place, sample in enumerate(samples):
        number, variant = divmod(place, 3)
        assert sample["cls"] == number and sample["json"] == {"slide": 3}
        assert sample["png"].shape == (SIDE, SIDE, 3)
        if variant == 0:
            assert sample["__key__"] == f"slide_3/{number:04}"
            assert np.array_equal(sample["png"], pictures[number])
        else:
            assert sample["__key__"] == f"slide_3/{number:04}_v{variant - 1:02}"
            told = sample["restain.json"]
            told = told if isinstance(told, dict) else json.loads(told)
            assert (told["seed"], told["index"]) == (5, variant - 1)
            assert told["source"].endswith(f"{number:04}.png")
