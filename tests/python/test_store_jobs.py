"""`restain augment` and `restain-train` on data of an object store, which dies and comes back."""

import io
import json
import os
import signal
import subprocess
import tarfile
import time

import pytest
from buckets import BadLine
from PIL import Image
from served import PROGRAM, TARGET, environment, install, tiles, until

TRAINER = os.environ.get("RESTAIN_TRAIN_PROGRAM", TARGET / "debug/restain-train")
TARS, SAMPLES = 3, 12


@pytest.fixture
def shards(buckets, tmp_path):
    """The URL of a bucket with tars of tiles, which lie in tmp_path/in as well."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(TARS):
        with tarfile.open(folder / f"train-{number:03}.tar", "w") as tar:
            for place, tile in enumerate(tiles(SAMPLES, side=64, seed=number)):
                buffer = io.BytesIO()
                Image.fromarray(tile).save(buffer, "png")
                for name, content in ((f"{place:04}.png", buffer.getvalue()), (f"{place:04}.cls", b"1")):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    install(tmp_path / "models")
    url = buckets.make("tiles")
    buckets.put(folder, "tiles", "raw/")
    buckets.client().put_object(Bucket="tiles", Key="raw/notes.txt", Body=b"not a tar")
    return f"{url}/raw"


def command(tmp_path, *words, seed=8, variants=3):
    flags = ["--models", tmp_path / "models", "--variants", variants, "--threads", 1]
    flags += [] if seed is None else ["--seed", seed]
    return [str(word) for word in (PROGRAM, "augment", *words, *flags)]


def augment(tmp_path, *words, **options):
    folder = tmp_path / "here"
    folder.mkdir(exist_ok=True)
    job = command(tmp_path, *words, **options)
    return subprocess.run(job, env=environment(), cwd=folder, capture_output=True, text=True, timeout=300)


def done(ended):
    assert ended.returncode == 0, ended.stderr
    return ended


def as_written_here(tmp_path, **options):
    done(augment(tmp_path, tmp_path / "in", tmp_path / "out", **options))
    return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def in_bucket(buckets, prefix):
    return {name.removeprefix(prefix): buckets.get("tiles", name) for name in buckets.names("tiles", prefix)}


def test_a_bucket_becomes_what_a_folder_becomes(buckets, shards, tmp_path):
    ended = done(augment(tmp_path, shards, "s3://tiles/more"))
    assert f"{TARS * SAMPLES} tiles, {TARS * SAMPLES * 3} variants" in ended.stdout
    assert "notes.txt" in ended.stdout
    assert in_bucket(buckets, "more/") == as_written_here(tmp_path)
    # Nothing but data lies in OUT, and what the job remembers beside it.
    notes = buckets.names("tiles", "more.restain/")
    assert "more.restain/job.json" in notes and len([name for name in notes if "/tars/" in name]) == TARS
    again = done(augment(tmp_path, shards, "s3://tiles/more"))
    assert f"{TARS * SAMPLES} tiles were done before" in again.stdout


def test_tars_are_named_one_by_one_or_by_a_pattern_and_go_to_a_folder_too(buckets, shards, tmp_path):
    whole = as_written_here(tmp_path)
    done(augment(tmp_path, f"{shards}/train-{{000..002}}.tar", tmp_path / "by-pattern"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "by-pattern").iterdir()} == whole
    done(augment(tmp_path, f"{shards}/train-001.tar", tmp_path / "one"))
    assert (tmp_path / "one/train-001.tar").read_bytes() == whole["train-001.tar"]


def test_a_killed_job_goes_on_here_and_on_another_machine(buckets, shards, tmp_path):
    whole = as_written_here(tmp_path, variants=20)
    words = [shards, "s3://tiles/more", "--state", tmp_path / "state"]
    job = subprocess.Popen(command(tmp_path, *words, variants=20), env=environment(), stderr=subprocess.DEVNULL)
    until(lambda: buckets.names("tiles", "more/"))
    job.send_signal(signal.SIGKILL)
    job.wait()
    first = len(buckets.names("tiles", "more/"))
    assert first < TARS
    elsewhere = [shards, "s3://tiles/more", "--state", tmp_path / "another"]
    ended = done(augment(tmp_path, *elsewhere, variants=20))
    assert f"{first * SAMPLES} tiles were done before" in ended.stdout
    assert in_bucket(buckets, "more/") == whole


def test_parts_on_several_machines_draw_one_seed_and_are_one_job(buckets, shards, tmp_path):
    for part in range(2):
        state = tmp_path / f"machine-{part}"
        done(augment(tmp_path, shards, "s3://tiles/more", "--shard", f"{part}/2", "--state", state, seed=None))
    seed = json.loads(buckets.get("tiles", "more.restain/job.json"))["terms"]["seed"]
    assert in_bucket(buckets, "more/") == as_written_here(tmp_path, seed=seed)
    other = augment(tmp_path, shards, "s3://tiles/more", "--state", tmp_path / "third", seed=seed + 1)
    assert other.returncode == 2 and f"seed was {seed} and is {seed + 1}" in other.stderr


def test_a_store_that_dies_ends_the_job_in_one_line_and_the_job_goes_on_later(buckets, shards, tmp_path):
    whole = as_written_here(tmp_path, variants=20)
    words = [shards, "s3://tiles/more", "--state", tmp_path / "state"]
    job = subprocess.Popen(command(tmp_path, *words, variants=20), env=environment(), stderr=subprocess.PIPE, text=True)
    until(lambda: buckets.names("tiles", "more/"))
    buckets.stop()
    _, said = job.communicate(timeout=120)
    assert job.returncode == 1
    assert [line for line in said.splitlines() if line.startswith("restain:") and "cannot be reached" in line], said
    buckets.go_on()
    done(augment(tmp_path, *words, variants=20))
    assert in_bucket(buckets, "more/") == whole


def test_a_slow_line_that_is_cut_loses_nothing(buckets, shards, tmp_path, monkeypatch):
    whole = as_written_here(tmp_path)
    line = BadLine(buckets.port, cut_after=30_000, cuts=4, pause=0.005)
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
    done(augment(tmp_path, shards, "s3://tiles/more"))
    line.close()
    assert line.cuts == 0
    assert in_bucket(buckets, "more/") == whole


def test_what_cannot_be_is_refused_before_a_byte_is_written(buckets, shards, tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(tiles(1)[0]).save(tmp_path / "images/a.png")
    for words, said in [
        ([tmp_path / "images", "s3://tiles/more"], "IN holds tiles as files"),
        ([shards, "s3://tiles"], "the whole of a bucket"),
        ([shards, "s3://tiles/raw"], "holds files, and s3://tiles/raw.restain holds no job that made them"),
        ([f"{shards}/train-009.tar", tmp_path / "o"], "there is no such object"),
        ([f"{shards}/none", tmp_path / "o"], "IN holds no .tar"),
        (["ftp://host/a.tar", tmp_path / "o"], "begins with none of s3://"),
        ([shards, tmp_path / "o", "--split", "train"], "leave out --split"),
        ([shards, tmp_path / "o", "--layout", "wilds"], "leave out --layout"),
    ]:
        ended = augment(tmp_path, *words)
        assert ended.returncode == 2 and said in ended.stderr, ended.stderr
    assert set(buckets.names("tiles")) == {"raw/notes.txt", *(f"raw/train-{number:03}.tar" for number in range(TARS))}


def test_a_tar_whose_keys_collide_never_takes_its_place(buckets, shards, tmp_path):
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        for name in ("a.png", "a_v00.png"):
            buffer = io.BytesIO()
            Image.fromarray(tiles(1)[0]).save(buffer, "png")
            entry = tarfile.TarInfo(name)
            entry.size = len(buffer.getvalue())
            tar.addfile(entry, io.BytesIO(buffer.getvalue()))
    buckets.client().upload_file(str(tmp_path / "odd.tar"), "tiles", "odd/odd.tar")
    ended = augment(tmp_path, "s3://tiles/odd", "s3://tiles/more", "--originals")
    assert ended.returncode == 1
    assert "sample a_v00 and a variant of another would have one key" in ended.stderr
    assert buckets.names("tiles", "more/") == []


def test_a_model_is_fetched_for_a_job(buckets, shards, tmp_path):
    buckets.put(tmp_path / "models", "tiles", "models/")
    words = [tmp_path / "in", tmp_path / "by-url", "--models-cache", tmp_path / "copies"]
    job = [*command(tmp_path, *words)]
    job[job.index(str(tmp_path / "models"))] = "s3://tiles/models"
    done(subprocess.run(job, env=environment(), capture_output=True, text=True, timeout=300))
    assert {path.name: path.read_bytes() for path in (tmp_path / "by-url").iterdir()} == as_written_here(tmp_path)


def test_a_trainer_fetches_its_data_once(buckets, shards, tmp_path):
    fit = "fit --recipe cross --preset tiny --batch 4 --mixes 1 --steps 2 --device cpu --seed 5"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RESTAIN_")} | {"OMP_NUM_THREADS": "1"}

    def trained(data, out):
        words = [str(TRAINER), *fit.split(), "--data", str(data), "--data-cache", str(tmp_path / "copies"), "--out", f"models/{out}/1"]
        ended = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return ended.stderr, (tmp_path / f"models/{out}/1/weights.safetensors").read_bytes()

    said, there = trained(shards, "there")
    assert f"{TARS + 1} objects" in said
    (copy,) = (tmp_path / "copies").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in copy.glob("*.tar")}
    said, again = trained(shards, "again")
    assert "were copied" not in said
    assert {path.name: path.stat().st_mtime_ns for path in copy.glob("*.tar")} == before
    assert there == again
    begun = time.monotonic()
    words = [str(TRAINER), *fit.split(), "--data", "s3://no-such/tiles", "--out", "models/none/1"]
    ended = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1 and "s3://no-such/tiles: there is no such bucket" in ended.stderr
    assert time.monotonic() - begun < 30
