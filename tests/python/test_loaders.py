"""What `restain augment` writes, with originals, loaded by the packages that people load such data sets with."""

import io
import json
import subprocess
import tarfile
import warnings

import datasets
import numpy as np
import pytest
import torchvision
import webdataset
from PIL import Image
from required import missing
from served import PROGRAM, SIDE, environment, install, tiles

VARIANTS = 2


def augment(home, source, out, *flags, check=True):
    install(home / "models")
    flags = ["--models", home / "models", "--variants", VARIANTS, "--seed", 5, "--originals", "--threads", 1, *flags]
    command = [PROGRAM, "augment", source, out, *flags]
    return subprocess.run([str(word) for word in command], env=environment(), check=check, stderr=subprocess.PIPE, text=True)


def put_tar(tmp_path, kinds):
    """Writes a tar with a tile of each of these kinds; returns their pixels as they are decoded, int [side, side, 3] each."""
    (tmp_path / "in").mkdir()
    given = []
    with webdataset.TarWriter(str(tmp_path / "in/train-000.tar")) as writer:
        for number, (kind, picture) in enumerate(zip(kinds, tiles(len(kinds)), strict=True)):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind))
            given.append(np.asarray(Image.open(file).convert("RGB")).astype(int))
            writer.write({"__key__": f"{number:04}", kind: file.getvalue(), "cls": number})
    return given


def load(kind, tmp_path, **where):
    with warnings.catch_warnings():
        # The package leaves files to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return datasets.load_dataset(kind, split="train", cache_dir=str(tmp_path / "cache"), **where)


def test_folders_load_as_folders_of_classes(tmp_path):
    pictures = tiles(4)
    for number, picture in enumerate(pictures):
        folder = tmp_path / "in" / ["normal", "tumour"][number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    augment(tmp_path, tmp_path / "in", tmp_path / "out")

    loaded = torchvision.datasets.ImageFolder(tmp_path / "out")
    assert loaded.classes == ["normal", "tumour"]
    assert sorted(label for _, label in loaded) == [0] * 6 + [1] * 6

    loaded = load("imagefolder", tmp_path, data_dir=str(tmp_path / "out"))
    assert loaded.features["label"].names == ["normal", "tumour"]
    assert sorted(loaded["label"]) == [0] * 6 + [1] * 6
    assert all(image.size == (SIDE, SIDE) for image in loaded["image"])


def test_tars_load_in_webdataset_and_datasets(tmp_path):
    pictures = tiles(3)
    (tmp_path / "in").mkdir()
    with webdataset.TarWriter(str(tmp_path / "in/train-000.tar")) as writer:
        for number, picture in enumerate(pictures):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "png")
            writer.write({"__key__": f"{number:04}", "png": file.getvalue(), "cls": number})
    augment(tmp_path, tmp_path / "in", tmp_path / "out")
    tar = str(tmp_path / "out/train-000.tar")

    loaded = load("webdataset", tmp_path, data_files={"train": tar})
    assert len(loaded) == 3 * (1 + VARIANTS)
    methods = [record["method"] for record in loaded["restain.json"]]
    assert methods == ["original", "vit", "vit"] * 3
    assert np.array_equal(np.asarray(loaded[3]["png"]), pictures[1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(tar, shardshuffle=False).decode("rgb8"))
    assert [sample["cls"] for sample in samples] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len({frozenset(sample) for sample in samples}) == 1, "every sample has the same fields"
    record = samples[0]["restain.json"]
    assert (record if isinstance(record, dict) else json.loads(record))["index"] == -1


def test_originals_and_variants_of_jpeg_tiles_have_the_same_fields(tmp_path):
    put_tar(tmp_path, ["jpg", "jpg"])
    augment(tmp_path, tmp_path / "in", tmp_path / "out")

    loaded = load("webdataset", tmp_path, data_files={"train": str(tmp_path / "out/train-000.tar")})
    assert set(loaded.column_names) == {"__key__", "__url__", "cls", "jpg", "restain.json"}
    assert [image.format for image in loaded["jpg"]] == ["JPEG"] * 2 * (1 + VARIANTS)


# Two kinds in one tar, as some are collected, and formats that are asked for.
@pytest.mark.parametrize(
    "kinds, flags",
    [
        (["tif", "tiff"], []),
        (["png", "tif"], []),
        (["jpg", "png", "tif"], ["--format", "png"]),
        (["png", "tif"], ["--format", "webp", "--quality", 100]),
    ],
)
def test_originals_are_written_in_the_format_of_their_variants(tmp_path, kinds, flags):
    given = put_tar(tmp_path, kinds)
    augment(tmp_path, tmp_path / "in", tmp_path / "out", *flags)

    written = "webp" if "webp" in flags else "png"
    loaded = load("webdataset", tmp_path, data_files={"train": str(tmp_path / "out/train-000.tar")})
    assert set(loaded.column_names) == {"__key__", "__url__", "cls", written, "restain.json"}
    assert [image.format for image in loaded[written]] == [written.upper()] * len(kinds) * (1 + VARIANTS)
    for number, (kind, picture) in enumerate(zip(kinds, given, strict=True)):
        original = loaded[number * (1 + VARIANTS)]
        assert original["restain.json"]["method"] == "original"
        difference = np.abs(np.asarray(original[written].convert("RGB")).astype(int) - picture).max()
        # Decoders of JPEG round as they like.
        assert difference <= (3 if kind == "jpg" else 0)


@pytest.mark.parametrize("flags", [["--format", "jpeg"], ["--format", "webp"]])
def test_a_format_that_would_change_originals_is_refused_before_anything_is_written(tmp_path, flags):
    put_tar(tmp_path, ["png", "png"])
    ended = augment(tmp_path, tmp_path / "in", tmp_path / "out", *flags, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "field png" in ended.stderr and "--format png" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_names_in_latin_1_are_read_and_written_in_utf_8(tmp_path):
    (tmp_path / "in").mkdir()
    # As an old program of Windows writes them. Python holds such bytes as lone surrogates.
    name = "Präparat".encode("latin-1").decode("utf-8", "surrogateescape")
    with tarfile.open(tmp_path / "in/train-000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, picture in enumerate(tiles(2)):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "png")
            for field, content in {"png": file.getvalue(), "cls": b"%d" % number}.items():
                member = tarfile.TarInfo(f"{name}_{number}.{field}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    augment(tmp_path, tmp_path / "in", tmp_path / "out")
    tar = str(tmp_path / "out/train-000.tar")

    keys = [f"Präparat_{number}{variant}" for number in range(2) for variant in ["", "_v00", "_v01"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(tar, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == keys
    assert [sample["cls"] for sample in samples] == [0, 0, 0, 1, 1, 1]
    loaded = load("webdataset", tmp_path, data_files={"train": tar})
    assert loaded["__key__"] == keys
    assert loaded[1]["restain.json"]["source"] == "train-000.tar/Präparat_0.png"


def test_a_wilds_root_loads_in_wilds(tmp_path):
    try:
        from wilds.datasets.camelyon17_dataset import Camelyon17Dataset
    except ImportError as error:
        missing(f"the package wilds cannot be imported: {error}")
    root = tmp_path / "in/camelyon17_v1.0"
    # As spreadsheets write it back: without the zeros of patients, and without the number of the row.
    rows = ["patient,node,x_coord,y_coord,tumor,slide,center,split"]
    for number, picture in enumerate(tiles(5)):
        slide = f"patient_{number:03}_node_1"
        patches = root / "patches" / slide
        patches.mkdir(parents=True)
        Image.fromarray(picture).save(patches / f"patch_{slide}_x_96_y_0.png")
        rows.append(f"{number},1,96.0,0,{number % 2},{number},{number},0")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    (root / "RELEASE_v1.0.txt").write_text("")
    augment(tmp_path, tmp_path / "in", tmp_path / "out/camelyon17_v1.0")

    loaded = Camelyon17Dataset(root_dir=str(tmp_path / "out"))
    assert len(loaded) == 5 * (1 + VARIANTS)
    assert loaded[0][0].size == (SIDE, SIDE)
    # Of each patch its two variants, and then itself; centre 1 is val, and centre 2 test.
    assert loaded.y_array.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert len(loaded.get_subset("val")) == len(loaded.get_subset("test")) == 3
    assert np.array_equal(np.asarray(loaded[5][0]), tiles(5)[1])
