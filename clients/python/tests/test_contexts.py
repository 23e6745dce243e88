"""Contexts of slides by name: drawn once, the same everywhere, added again where a server has lost them."""

import asyncio
import json
import pickle
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from served import SIDE, tiles
from torch.utils.data import DataLoader, Dataset

import restain
from restain import SlideContexts, Style
from restain.torch import RestainCollate, RestainDataset

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

NORTH = Style(ids=["north/0"])
NAMES = [f"node_{place % 3}" for place in range(24)]


class Samples(Dataset):
    """Tiles with their numbers and the names of their slides; counts what is read."""

    def __init__(self, seed, names=NAMES):
        self.tiles, self.names, self.read = tiles(len(names), seed=seed), names, 0

    def __len__(self):
        return len(self.tiles)

    def __getitem__(self, index):
        self.read += 1
        return {"image": self.tiles[index], "number": index, "slide": self.names[index]}


def expected(client, samples, ids, seed):
    """The variants of all tiles, one call for each slide."""
    made = np.empty_like(samples.tiles)
    for name, slide in ids.items():
        mine = [place for place, other in enumerate(samples.names) if other == name]
        made[mine] = client.augment(samples.tiles[mine], seed=seed, style=NORTH, slide=slide).variants[:, 0]
    return made


def variants(loader):
    """The variants of one pass, in the order of the samples."""
    made = {}
    for batch in loader:
        images, numbers = batch["image"].permute(0, 2, 3, 1).numpy(), batch["number"].tolist()
        made |= dict(zip(numbers, images, strict=True))
    return np.stack([made[number] for number in sorted(made)])


def test_names_become_contexts_of_some_tiles_of_each_slide(client, sent):
    samples = Samples(50)
    contexts = SlideContexts(client, samples.tiles, NAMES, count=5)
    answer = client.augment(samples.tiles, seed=3, style=NORTH, slide=contexts.of(NAMES))
    ids = dict(zip(NAMES, contexts.ids(NAMES), strict=True))
    assert len(set(ids.values())) == 3
    assert set(ids.values()) <= set(client.slides())
    assert np.array_equal(answer.variants[:, 0], expected(client, samples, ids, 3))
    assert [records[0].slide for records in answer.provenance] == [ids[name] for name in NAMES]
    # A context is that of five tiles of the slide, which others draw as well; it is in no one's memory alone.
    other = SlideContexts(client, list(samples.tiles), np.array(NAMES), count=5)
    assert [other.ids([name])[0] for name in ids] == list(ids.values())
    assert pickle.loads(pickle.dumps(contexts)).ids(["node_1"]) == [ids["node_1"]]
    assert SlideContexts(client, samples.tiles, NAMES, count=5, seed=1).ids(["node_1"]) != [ids["node_1"]]
    numbers = torch.arange(24) % 3
    by_number = SlideContexts(client, samples.tiles, numbers, count=8)
    assert by_number.ids(numbers[:3]) == [client.add_slide(samples.tiles[place::3]) for place in range(3)]
    # They are known now: a second call is one request, of keys.
    del sent.sizes[:]
    client.augment(samples.tiles, seed=3, style=NORTH, slide=contexts.of(NAMES))
    assert len(sent.sizes) == 1
    assert sent.sizes[0] < 3000


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("named_by", ["column", "key", "function", "collate"])
def test_batches_of_torch_take_names(client, workers, named_by):
    samples = Samples(51)
    options = {"originals": False, "seed": 7, "style": NORTH}
    if named_by == "collate":
        contexts = SlideContexts(client, samples, "slide", tile_of=lambda sample: sample["image"])
        collate = RestainCollate(client, image="image", slides=contexts, **options)
        loader = DataLoader(samples, batch_size=5, collate_fn=collate, num_workers=workers)
    else:
        by = {"column": NAMES, "key": "slide", "function": lambda sample: sample["slide"]}[named_by]
        dataset = RestainDataset(samples, client, batch_size=5, image="image", slide_of=by, **options)
        loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    ids = {name: client.add_slide(samples.tiles[place::3]) for place, name in enumerate(sorted(set(NAMES)))}
    held = client.slides()
    for epoch in range(2):
        made = variants(loader)
        assert np.array_equal(made, expected(client, samples, ids, restain.epoch_seed(7, epoch)))
    # All processes have drawn the same tiles.
    assert client.slides() == held


def test_tiles_are_drawn_once_for_all_workers(client):
    samples = Samples(52)
    dataset = RestainDataset(samples, client, batch_size=4, image="image", slide_of=NAMES, seed=1)
    next(iter(DataLoader(dataset, batch_size=None, num_workers=2)))
    # Forked workers of another pass find the ids in shared memory, and so does this process.
    before = samples.read
    dataset._slides.ids(NAMES)
    assert samples.read == before


def test_tiles_of_unknown_slides_start_from_themselves(client):
    several, names = tiles(6, seed=53), ["a", None, "a", "a", "", "a"]
    contexts = SlideContexts(client, several, names)
    answer = client.augment(several, variants=2, seed=1, style=NORTH, slide=contexts.of(names))
    without = client.augment(several, variants=2, seed=1, style=NORTH)
    (slide,) = set(contexts.ids(["a"]))
    assert [records[0].slide for records in answer.provenance] == [slide, None, slide, slide, None, slide]
    assert np.array_equal(answer.variants[[1, 4]], without.variants[[1, 4]])
    assert not np.array_equal(answer.variants[0], without.variants[0])
    out = np.zeros((6, 2, SIDE, SIDE, 3), np.uint8)
    client.augment(several, variants=2, seed=1, style=NORTH, slide=contexts.of(names), out=out)
    assert np.array_equal(out, answer.variants)
    pixels = client.augment(several, seed=1, method="color-match", slide=contexts.of(names))
    assert [records[0].slide for records in pixels.provenance] == [slide, None, slide, slide, None, slide]
    sizes = [several[0], tiles(1, 48, seed=54)[0], several[2]]
    mixed = client.augment(sizes, variants=2, seed=1, style=NORTH, slide=[slide, None, slide])
    assert np.array_equal(mixed.variants[2], answer.variants[2])
    assert mixed.provenance[1][0].slide is None


def test_a_slide_with_few_tiles_of_tissue_has_no_context_and_is_said_once(client):
    several = tiles(12, seed=55)
    several[4:8] = 243
    several[9:11] = several[8]
    names = ["enough"] * 4 + ["glass"] * 4 + ["one tile"] * 3 + ["single"]
    contexts = SlideContexts(client, several, names)
    with pytest.warns(RuntimeWarning, match=r"slide '\w+' has \d tiles with tissue, and its context needs 4") as warned:
        answer = client.augment(several, seed=1, slide=contexts.of(names))
    assert contexts.ids(names)[4:] == [None] * 8
    assert len(warned) == 1
    assert [records[0].slide is not None for records in answer.provenance] == [True] * 4 + [False] * 8
    # A copy in another process is not news either.
    assert pickle.loads(pickle.dumps(contexts)).ids(names)[4:] == [None] * 8
    # Tiles of glass are left out where there are others.
    several[4:8] = tiles(4, seed=56)
    names = ["a"] * 8 + ["b"] * 4
    several[8:] = 243
    both = SlideContexts(client, np.concatenate([several[:8], several[8:], several[:1]]), [*names, "a"], fewest=8)
    with pytest.warns(RuntimeWarning, match="slide 'b' has 0 tiles"):
        assert both.ids(["a", "b"]) == [client.add_slide(several[:8]), None]


def test_a_server_that_keeps_no_more_contexts_is_warned_of_once(serve, tmp_path):
    server = serve("--state", tmp_path)
    several = tiles(12, seed=57)
    names = ["kept"] * 4 + ["new"] * 4 + ["newer"] * 4
    with restain.Client(server.url) as client:
        kept = client.add_slide(several[:4])
        server.kill()
        (path,) = (tmp_path / "slides").glob("*.safetensors")
        fill(path)
        server.start()
        assert len(client.slides()) == 4096
        contexts = SlideContexts(client, several, names)
        with pytest.warns(RuntimeWarning, match=r"slide 'new' has no context: bank_full: 4096 slides") as warned:
            answer = client.augment(several, seed=1, slide=contexts.of(names))
        assert len(warned) == 1
        assert [records[0].slide for records in answer.provenance] == [kept] * 4 + [None] * 8
        # There is no second warning, which would be an error here, and the server is not asked again.
        assert contexts.ids(names) == [kept] * 4 + [None] * 8
        dataset = RestainDataset(list(several), client, batch_size=6, slide_of=names, seed=1)
        with pytest.warns(RuntimeWarning, match="has no context") as warned:
            assert len(list(dataset)) == 2
        assert len(warned) == 1


def fill(path):
    """Makes as many slides of the one in a server's file as it keeps."""
    with safe_open(path, "numpy") as opened:
        (own,) = json.loads(opened.metadata()["domains"])
    ids = sorted([own, *(f"{number:032x}" for number in range(4095))])
    tensors = {name: np.repeat(tensor, 4096, axis=0) for name, tensor in load_file(path).items()}
    tensors["domain"] = np.arange(4096, dtype=tensors["domain"].dtype)
    save_file(tensors, path, {"domains": json.dumps(ids)})


def test_a_context_is_of_as_many_tiles_as_a_request_takes(serve):
    several = tiles(24, seed=63)
    with restain.Client(serve("--max-tiles", 6).url) as client:
        (slide,) = set(SlideContexts(client, several, ["a"] * 24).ids(["a"]))
        assert client.slides() == (slide,)
        with pytest.raises(restain.TooLarge):
            SlideContexts(client, several, ["a"] * 24, fewest=8).ids(["a"])


def test_a_context_that_the_server_has_lost_is_added_again(serve):
    server, samples = serve(), Samples(58)
    with restain.Client(server.url) as client:
        contexts = SlideContexts(client, samples.tiles, NAMES)
        dataset = RestainDataset(samples, client, batch_size=4, image="image", slide_of=NAMES, seed=7, style=NORTH)
        first = client.augment(samples.tiles, seed=1, style=NORTH, slide=contexts.of(NAMES))
        collate = RestainCollate(
            client,
            image="image",
            slides=SlideContexts(client, samples, "slide", tile_of=lambda sample: sample["image"]),
            seed=7,
            style=NORTH,
        )
        batch = collate([samples[place] for place in range(4)])
        list(dataset)
        for again in (
            lambda: client.augment(samples.tiles, seed=1, style=NORTH, slide=contexts.of(NAMES)).variants,
            lambda: collate([samples[place] for place in range(4)])["image"],
            lambda: [one["image"] for one in DataLoader(dataset, batch_size=None, num_workers=2)],
            lambda: [one["image"] for one in dataset],
        ):
            server.kill()
            server.start()
            assert client.slides() == ()
            made = again()
            assert len(client.slides()) == 3
            if isinstance(made, np.ndarray):
                assert np.array_equal(made, first.variants)
            if isinstance(made, torch.Tensor):
                assert torch.equal(made, batch["image"])


def test_replicas_that_come_back_get_the_contexts(replicas):
    servers, samples = replicas(3), Samples(59)
    with restain.Client([server.url for server in servers], timeout=60) as client:
        contexts = SlideContexts(client, samples.tiles, NAMES)
        servers[2].kill()
        first = client.augment(samples.tiles, seed=1, style=NORTH, slide=contexts.of(NAMES))
        servers[2].start()
        for server in servers[:2]:
            server.kill()
            server.start()
        for _ in range(3):
            again = client.augment(samples.tiles, seed=1, style=NORTH, slide=contexts.of(NAMES))
            assert np.array_equal(again.variants, first.variants)
    with restain.Client(servers[0].url, spread="gateway") as client:
        contexts = SlideContexts(client, samples.tiles, NAMES)
        with pytest.warns(RuntimeWarning, match="has no context: behind_gateway"):
            assert contexts.ids(NAMES) == [None] * 24


def test_originals_stand_in_while_contexts_cannot_be_added(serve):
    server, samples = serve(), Samples(60)
    server.kill()
    with restain.Client(server.url, timeout=0.5, on_error="original") as client:
        contexts = SlideContexts(client, samples.tiles, NAMES)
        with pytest.warns(RuntimeWarning, match="originals stand in"):
            answer = client.augment(samples.tiles, seed=1, slide=contexts.of(NAMES))
        assert answer.failed.all()
        assert np.array_equal(answer.variants[:, 0], samples.tiles)
        dataset = RestainDataset(samples, client, batch_size=8, image="image", slide_of=NAMES, seed=1)
        assert all(torch.equal(batch["image"][:8], batch["image"][8:]) for batch in dataset)
        server.start()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answer = client.augment(samples.tiles, seed=1, slide=contexts.of(NAMES), timeout=30)
        assert not answer.failed.any()
        assert None not in {records[0].slide for records in answer.provenance}
    with restain.Client(server.url, timeout=0.5) as client:
        server.kill()
        with pytest.raises(restain.Unavailable):
            client.augment(samples.tiles, slide=SlideContexts(client, samples.tiles, NAMES).of(NAMES))


def test_asyncio_takes_names(server):
    async def made():
        async with restain.AsyncClient(server.url) as client:
            several = tiles(4, seed=61)
            contexts = SlideContexts(client.client, several, ["a"] * 4)
            return await client.augment(several, slide=contexts.of(["a"] * 4), seed=1)

    assert None not in {records[0].slide for records in asyncio.run(made()).provenance}


def test_names_that_do_not_fit_are_explained(client):
    several = tiles(3, seed=62)
    with pytest.raises(ValueError, match="slide_of has 2 names for 3 tiles, and must have one for each"):
        SlideContexts(client, several, ["a", "b"])
    with pytest.raises(ValueError, match="slide 'c' has no tiles here"):
        client.augment(several, slide=SlideContexts(client, several, ["a", "b", "b"]).of(["a", "b", "c"]))
    with pytest.raises(ValueError, match="give the key of the name"):
        RestainCollate(client, slides=SlideContexts(client, several, ["a", "b", "b"]))(list(several))
    with pytest.raises(ValueError, match="give one of them"):
        RestainDataset(list(several), client, slide_of=["a"] * 3, slide="x")
    with pytest.raises(ValueError, match="give one of them"):
        RestainCollate(client, slides=SlideContexts(client, several, ["a"] * 3), slide="x")
    chosen = torch.from_numpy(tiles(4, seed=62)).permute(0, 3, 1, 2)
    with pytest.raises(ValueError, match=r"tiles are uint8 \[1, 3, 32, 32\], and must be uint8"):
        SlideContexts(client, chosen, ["a"] * 4).ids(["a"])
    with pytest.raises(ValueError, match="fewest is 5"):
        SlideContexts(client, several, ["a"] * 3, count=4, fewest=5)
