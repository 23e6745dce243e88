"""A training run that stops within an epoch goes on there, and the server is not asked again for what was consumed."""

import pytest
import torch
from served import tiles
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

import restain
from restain.torch import RestainCollate, RestainDataset

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

WORKERS = [(0, False), (2, False), (2, True)]
COUNT, BATCH = 22, 2


class Slides(Dataset):
    def __init__(self):
        self.tiles = tiles(COUNT, seed=2)
        # Of each tile, as workers are processes: an addition to a number that they share can lose another's.
        self.reads = torch.zeros(COUNT, dtype=torch.int64).share_memory_()

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        self.reads[index] += 1
        return self.tiles[index], index


def restained(client, seed=7, **options):
    return RestainDataset(Slides(), client, batch_size=BATCH, seed=seed, in_flight=1, **options)


def same(these, those):
    pairs = zip(these, those, strict=True)
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


def stateful(dataset, workers, persists):
    return StatefulDataLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=persists)


@pytest.mark.parametrize(("workers", "persists"), WORKERS)
@pytest.mark.parametrize("seed", [None, 7])
def test_torchdata_resumes_within_an_epoch(serve, count, workers, persists, seed):
    server = serve()
    with restain.Client(server.url) as client:
        loader = stateful(restained(client, seed), workers, persists)
        whole = [list(loader)]
        passing, whole_next, state = iter(loader), [], None
        for number, batch in enumerate(passing):
            whole_next.append(batch)
            if number == 6:
                state = loader.state_dict()
        whole += [whole_next, list(loader)]
        assert not same(whole[0], whole[1])
        # As in a new process.
        dataset = restained(client, seed)
        loader = stateful(dataset, workers, persists)
        loader.load_state_dict(state)
        before = count(server, "restain_variants_total")
        rest = list(loader)
        assert same(rest, whole[1][7:])
        # Each of the four batches that are left once, and none of the seven before.
        assert count(server, "restain_variants_total") - before == COUNT - 7 * BATCH
        reads = dataset.dataset.reads
        assert int(reads.sum()) == COUNT - 7 * BATCH
        assert int(reads.max()) == 1
        following = list(loader)
        assert len(following) == COUNT // BATCH
        if seed is not None:
            assert same(following, whole[2])


@pytest.mark.parametrize(("workers", "persists"), WORKERS)
def test_torchdata_resumes_between_epochs(client, workers, persists):
    loader = stateful(restained(client), workers, persists)
    whole = [list(loader) for _ in range(2)]
    loader = stateful(restained(client), workers, persists)
    assert same(list(loader), whole[0])
    state = loader.state_dict()
    loader = stateful(restained(client), workers, persists)
    loader.load_state_dict(state)
    assert same(list(loader), whole[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_with_a_collate_function_asks_only_for_the_rest(serve, count, workers):
    server = serve()
    with restain.Client(server.url) as client:

        def loader():
            collate = RestainCollate(client, originals=False, seed=7)
            return StatefulDataLoader(Slides(), batch_size=BATCH, num_workers=workers, collate_fn=collate)

        first = loader()
        passing = iter(first)
        for _ in range(7):
            next(passing)
        state, rest = first.state_dict(), list(passing)
        again = loader()
        again.load_state_dict(state)
        before = count(server, "restain_variants_total")
        assert same(list(again), rest)
        assert count(server, "restain_variants_total") - before == COUNT - 7 * BATCH


@pytest.mark.parametrize(("workers", "persists"), WORKERS)
@pytest.mark.parametrize("seed", [None, 7])
def test_a_loop_of_ones_own_resumes(serve, count, workers, persists, seed):
    server = serve()
    options = {"batch_size": None, "num_workers": workers, "persistent_workers": persists}
    with restain.Client(server.url) as client:
        dataset = restained(client, seed)
        loader = DataLoader(dataset, **options)
        list(loader)
        whole, state = [], None
        for number, batch in enumerate(loader, 1):
            whole.append(batch)
            if number == 5:
                state = dataset.state_dict(batches=number)
        after = list(loader)
        dataset = restained(client, seed)
        dataset.load_state_dict(state)
        before = count(server, "restain_variants_total")
        # With other workers than before.
        loader = DataLoader(dataset, **{**options, "num_workers": workers + 1})
        assert same(list(loader), whole[5:])
        assert count(server, "restain_variants_total") - before == COUNT - 5 * BATCH
        following = list(loader)
        assert len(following) == len(whole)
        assert seed is None or same(following, after)


def test_without_workers_the_position_is_known(client):
    dataset = restained(client)
    assert dataset.state_dict() == {
        "seed": 7,
        "samples": COUNT,
        "batch_size": BATCH,
        "replicas": 1,
        "epoch": 0,
        "batches": 0,
    }
    loader = DataLoader(dataset, batch_size=None)
    for number, _ in enumerate(loader, 1):
        if number == 3:
            break
    assert dataset.state_dict()["batches"] == 3
    list(loader)
    assert (dataset.state_dict()["epoch"], dataset.state_dict()["batches"]) == (2, 0)
    assert (dataset.state_dict(batches=4)["epoch"], dataset.state_dict(batches=4)["batches"]) == (1, 4)
    dataset.load_state_dict({"epoch": 5, "batches": 9})
    assert (dataset.state_dict()["epoch"], dataset.state_dict()["batches"]) == (5, 9)
    assert len(list(loader)) == 2


def test_workers_make_batches_in_advance_and_the_position_must_be_told(client):
    dataset = restained(client)
    loader = DataLoader(dataset, batch_size=None, num_workers=1)
    next(iter(loader))
    with pytest.raises(RuntimeError, match="how many are consumed is unknown"):
        dataset.state_dict()
    assert dataset.state_dict(batches=1)["batches"] == 1
    assert dataset.state_dict(batches=11)["epoch"] == 1


def test_a_set_epoch_keeps_the_position_in_it_and_drops_another_aloud(client):
    dataset = restained(client)
    dataset.load_state_dict({"epoch": 2, "batches": 8})
    dataset.set_epoch(2)
    assert len(list(dataset)) == 3
    assert len(list(dataset)) == 11
    dataset.load_state_dict({"epoch": 2, "batches": 8})
    with pytest.warns(RuntimeWarning, match=r"set_epoch\(0\) drops the position"):
        dataset.set_epoch(0)
    assert len(list(dataset)) == 11


def test_a_state_of_other_batches_is_refused(client):
    state = restained(client).state_dict()
    for other, says in [
        (restained(client, seed=8), "seed 7, and this dataset has 8"),
        (restained(client, seed=7, replica=0, replicas=2), "replicas 1, and this dataset has 2"),
    ]:
        with pytest.raises(ValueError, match=says):
            other.load_state_dict(state)
    worker = {**state, "own": 3, "worker": 0, "workers": 2}
    with pytest.raises(ValueError, match="that of one worker"):
        restained(client).load_state_dict(worker)
