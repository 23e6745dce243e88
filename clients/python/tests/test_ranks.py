"""Several training processes split the samples; where that cannot work, an error says so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from served import tiles

import restain
from restain.torch import RestainDataset

# Forks two training processes for every way, after the slow imports. Each reports the numbers of the tiles that it has
# had in every pass, without workers and with two.
RANKS = """
import json, os, socket, sys
import accelerate, torch
from restain import Client
from restain.torch import RestainDataset
from torch.utils.data import DataLoader, TensorDataset
from served import tiles

def passes(way, url):
    if way == "torch":
        torch.distributed.init_process_group("gloo")
        # Only torch knows.
        del os.environ["RANK"], os.environ["WORLD_SIZE"]
    pixels = torch.from_numpy(tiles(16, seed=1)).permute(0, 3, 1, 2)
    for workers in (0, 2):
        slides = TensorDataset(pixels, torch.arange(16))
        dataset = RestainDataset(slides, Client(url), batch_size=2, originals=False, seed=7)
        loader = DataLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
        if way == "accelerate":
            loader = accelerate.Accelerator(cpu=True).prepare(loader)
        count = len(loader)
        for _ in range(2):
            made = [numbers.tolist() for _, numbers in loader]
            assert len(made) == count, (len(made), count)
            yield [number for numbers in made for number in numbers]
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()

took = {}
for way in ("environment", "torch", "accelerate"):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipes = []
    for rank in range(2):
        reads, writes = os.pipe()
        pipes.append(reads)
        if os.fork() == 0:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            os.write(writes, json.dumps(list(passes(way, sys.argv[1]))).encode())
            os._exit(0)
        os.close(writes)
    took[way] = [json.loads(open(reads).read()) for reads in pipes]
print(json.dumps(took))
"""


@pytest.fixture(scope="module")
def ranks(server):
    """For every way the passes of the two processes."""
    paths = [str(Path(restain.__file__).parents[1]), str(Path(__file__).resolve().parents[3] / "tests/python")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", RANKS, server.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["environment", "torch", "accelerate"])
def test_processes_split_the_samples_of_every_epoch(ranks, way):
    first, second = ranks[way]
    assert len(first) == 4
    for ours, theirs in zip(first, second, strict=True):
        assert sorted(ours + theirs) == list(range(16))
        assert len(ours) == len(theirs) == 8
    # Another epoch is another order, and no workers or two are the same.
    assert first[0] != first[1]
    assert (first[:2], second[:2]) == (first[2:], second[2:])


def samples(dataset):
    return sorted(number for _, numbers in dataset for number in numbers.tolist())


def test_what_is_passed_comes_before_the_environment(client, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    slides = [(tile, number) for number, tile in enumerate(tiles(8, seed=2))]
    options = {"batch_size": 2, "originals": False, "seed": 7}
    assert len(samples(RestainDataset(slides, client, **options))) == 4
    assert samples(RestainDataset(slides, client, replicas=1, **options)) == list(range(8))
    other = RestainDataset(slides, client, replica=0, replicas=2, **options)
    mine = RestainDataset(slides, client, **options)
    assert sorted(samples(other) + samples(mine)) == list(range(8))


def test_ranks_that_cannot_split_are_refused(client, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    slides = [(tile, number) for number, tile in enumerate(tiles(8, seed=2))]
    with pytest.raises(ValueError, match=r"2 training processes shuffle .* needs a seed"):
        RestainDataset(slides, client)
    dataset = RestainDataset(slides, client, seed=7)
    with pytest.raises(RuntimeError, match="WORLD_SIZE is 2 and RANK is not set"):
        next(iter(dataset))
    with pytest.raises(ValueError, match="replica is 2 of 2 replicas"):
        RestainDataset(slides, client, seed=7, replica=2, replicas=2)
