"""Data pipelines of torch, torchvision and albumentations over the real server."""

import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image
from served import SIDE, tiles
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import restain
from restain.torch import RestainCollate, RestainDataset, RestainTransform

pytestmark = [
    # A worker process that has forked keeps nothing of this one's threads; newer interpreters warn of it all the same.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    # More workers than this machine may have processors are what some of these tests are about.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


class Slides(Dataset):
    """Tiles with a label and a name."""

    def __init__(self, count, seed=0, kind="array"):
        self.tiles = tiles(count, seed=seed)
        self.kind = kind

    def __len__(self):
        return len(self.tiles)

    def __getitem__(self, index):
        tile = self.tiles[index]
        if self.kind == "uint8":
            tile = torch.from_numpy(tile).permute(2, 0, 1)
        if self.kind == "float":
            tile = torch.from_numpy(tile).permute(2, 0, 1) / 255
        return tile, index, f"tile {index}"


def epoch(dataset, workers, **options):
    return list(DataLoader(dataset, batch_size=None, num_workers=workers, **options))


def same(these, those):
    return len(these) == len(those) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[2] == b[2] for a, b in zip(these, those, strict=True)
    )


@pytest.mark.parametrize("kind", ["array", "uint8", "float"])
def test_a_batch_is_originals_and_variants_with_their_labels(client, kind):
    slides = Slides(3, seed=1, kind=kind)
    collate = RestainCollate(client, variants=2, seed=5)
    images, labels, names = collate([slides[place] for place in range(3)])
    assert images.shape == (9, 3, SIDE, SIDE)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [0, 1, 2, 0, 0, 1, 1, 2, 2]
    assert names[3:5] == ["tile 0", "tile 0"]
    variants = client.augment(slides.tiles, variants=2, seed=restain.epoch_seed(5, 0)).variants
    expected = np.concatenate([slides.tiles, variants.reshape(-1, SIDE, SIDE, 3)])
    expected = torch.from_numpy(expected).permute(0, 3, 1, 2)
    assert torch.equal(images, expected / 255 if kind == "float" else expected)


def test_variants_alone_and_samples_of_other_shapes(client):
    several = tiles(2, seed=2)
    alone = RestainCollate(client, originals=False, seed=1)(list(several))
    assert alone.shape == (2, 3, SIDE, SIDE)
    samples = [{"x": tile, "y": {"grade": 1.0}, "id": "a"} for tile in several]
    batch = RestainCollate(client, image="x", seed=1, then=lambda images: images.float() / 255)(samples)
    assert batch["x"].shape == (4, 3, SIDE, SIDE)
    assert batch["x"].dtype == torch.float32
    assert batch["y"]["grade"].shape == (4,)
    assert batch["id"] == ["a"] * 4
    assert torch.equal((batch["x"][2:] * 255).round().byte(), alone)
    with pytest.raises(ValueError, match="normalise after"):
        RestainCollate(client)([torch.full((3, SIDE, SIDE), -1.0)])


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(client):
    dataset = RestainDataset(Slides(22, seed=3), client, batch_size=4, seed=9)
    dataset.set_epoch(1)
    alone = epoch(dataset, 0)
    assert [len(batch[1]) for batch in alone] == [8, 8, 8, 8, 8, 4]
    assert sorted(label for batch in alone for label in batch[1][: len(batch[1]) // 2].tolist()) == list(range(22))
    assert same(alone, epoch(dataset, 3))
    dataset.set_epoch(2)
    other = epoch(dataset, 2)
    assert not same(alone, other)
    # Not only in another order.
    first = {int(label): image for batch in alone for image, label in zip(batch[0][-2:], batch[1][-2:], strict=True)}
    variants = {
        int(label): image
        for batch in other
        for image, label in zip(*(half[len(half) // 2 :] for half in batch[:2]), strict=True)
    }
    assert any(not torch.equal(image, variants[label]) for label, image in first.items())


def test_a_variant_depends_on_seed_epoch_and_tile_alone(client):
    slides = Slides(12, seed=4)

    def variants(batch_size, shuffle, workers):
        dataset = RestainDataset(slides, client, batch_size=batch_size, shuffle=shuffle, originals=False, seed=1)
        batches = epoch(dataset, workers)
        return {int(label): image for batch in batches for image, label in zip(batch[0], batch[1], strict=True)}

    one, other = variants(4, False, 0), variants(5, True, 2)
    assert all(torch.equal(one[label], other[label]) for label in range(12))


def test_workers_that_persist_hear_of_a_new_epoch(client):
    dataset = RestainDataset(Slides(8, seed=5), client, batch_size=4, seed=2)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    epochs = []
    for number in (0, 1, 0):
        dataset.set_epoch(number)
        epochs.append(list(loader))
    assert same(epochs[0], epochs[2])
    assert not same(epochs[0], epochs[1])
    del loader


def test_without_a_seed_torchs_generator_decides(client):
    dataset = RestainDataset(Slides(8, seed=6), client, batch_size=4)

    def run(workers):
        torch.manual_seed(3)
        return [epoch(dataset, workers) for _ in range(2)]

    for workers in (0, 2):
        first, second = run(workers)
        assert not same(first, second)
        assert all(same(a, b) for a, b in zip(run(workers), (first, second), strict=True))


def test_the_second_epoch_sends_no_pixels(serve, count):
    server = serve()
    slides = Slides(16, seed=7)
    with restain.Client(server.url) as client:
        dataset = RestainDataset(slides, client, batch_size=4, seed=1)
        epoch(dataset, 2)
        assert count(server, "restain_encodings_cache_misses_total") > 0
        missed = count(server, "restain_encodings_cache_misses_total")
        dataset.set_epoch(1)
        epoch(dataset, 2)
        assert count(server, "restain_encodings_cache_misses_total") == missed
        assert count(server, "restain_encodings_cache_hits_total") == 16


def test_replicas_share_an_epoch_equally(client):
    parts = [
        RestainDataset(Slides(11, seed=8), client, batch_size=2, seed=4, replica=replica, replicas=2)
        for replica in (0, 1)
    ]
    seen = [[label for batch in epoch(part, 0) for label in batch[1][: len(batch[1]) // 2].tolist()] for part in parts]
    assert [len(labels) for labels in seen] == [5, 5]
    assert not set(seen[0]) & set(seen[1])
    assert [len(part) for part in parts] == [3, 3]
    with pytest.raises(ValueError, match="give them the same"):
        RestainDataset(Slides(11), client, replica=0, replicas=2)


def test_an_epoch_may_be_left(client):
    dataset = RestainDataset(Slides(40, seed=9), client, batch_size=2, seed=1)
    for workers in (0, 2):
        for batch in DataLoader(dataset, batch_size=None, num_workers=workers):
            assert batch[0].shape[0] == 4
            break


def test_an_error_in_a_worker_is_the_error(client):
    dataset = RestainDataset(Slides(4), client, style=restain.Style(domains=["east"]))
    with pytest.raises(restain.InvalidRequest, match="east"):
        epoch(dataset, 1)


def test_training_goes_on_when_the_server_goes(serve):
    server = serve()
    with restain.Client(server.url, on_error="original", timeout=0.5) as client:
        dataset = RestainDataset(Slides(8, seed=10), client, batch_size=4, seed=1)
        server.kill()
        with pytest.warns(RuntimeWarning, match="originals stand in"):
            batches = epoch(dataset, 0)
        assert all(torch.equal(batch[0][:4], batch[0][4:]) for batch in batches)


def test_a_collate_function_works_in_workers(client):
    loader = DataLoader(
        Slides(8, seed=11), batch_size=4, collate_fn=RestainCollate(client, seed=3), num_workers=2, pin_memory=False
    )
    assert [batch[1].tolist() for batch in loader] == [[0, 1, 2, 3] * 2, [4, 5, 6, 7] * 2]


def work_after_fork(client, tile, made):
    made.put(client.augment(tile, seed=1).variants)


def test_a_client_lives_through_a_fork(client):
    tile = tiles(1, seed=12)
    expected = client.augment(tile, seed=1).variants
    context = multiprocessing.get_context("fork")
    made = context.Queue()
    process = context.Process(target=work_after_fork, args=(client, tile, made))
    process.start()
    assert np.array_equal(made.get(), expected)
    process.join()
    assert np.array_equal(client.augment(tile, seed=1).variants, expected)


def test_a_transform_gives_back_what_it_was_given(client):
    transform = RestainTransform(client, seed=4)
    tile = tiles(1, seed=13)[0]
    expected = client.augment(tile, seed=restain.epoch_seed(4, 0)).variants[0, 0]
    assert np.array_equal(transform(tile), expected)
    assert np.array_equal(np.asarray(transform(Image.fromarray(tile))), expected)
    tensor = torch.from_numpy(tile).permute(2, 0, 1)
    wanted = torch.from_numpy(expected).permute(2, 0, 1)
    assert torch.equal(transform(tensor), wanted)
    assert torch.equal(transform(tensor / 255), wanted / 255)
    assert torch.equal(transform(torch.stack([tensor, tensor])), torch.stack([wanted, wanted]))
    assert transform(tile, "label")[1] == "label"
    transform.set_epoch(1)
    epochs = [transform(tile) for number in range(8) if transform.set_epoch(number) is None]
    assert any(not np.array_equal(made, expected) for made in epochs)


def test_a_share_of_images_is_changed_and_the_seed_says_which(client):
    several = tiles(32, seed=14)
    transform = RestainTransform(client, p=0.5, seed=1)
    made = transform(several)
    changed = (made != several).any(axis=(1, 2, 3))
    assert 6 < changed.sum() < 26
    assert np.array_equal(np.stack([transform(tile) for tile in several]), made)
    assert np.array_equal(RestainTransform(client, p=0.0)(several), several)


def test_it_fits_into_torchvision(client):
    from torchvision import tv_tensors

    image = tv_tensors.Image(torch.from_numpy(tiles(1, seed=15)[0]).permute(2, 0, 1))
    pipeline = v2.Compose([RestainTransform(client, seed=1), v2.ToDtype(torch.float32, scale=True)])
    made, label = pipeline(image, 3)
    assert isinstance(made, tv_tensors.Image)
    assert (made.shape, made.dtype, label) == ((3, SIDE, SIDE), torch.float32, 3)
    assert torch.equal((made * 255).round().byte(), RestainTransform(client, seed=1)(image))


@pytest.mark.filterwarnings("ignore::UserWarning:albumentations", "ignore::DeprecationWarning")
def test_it_fits_into_albumentations(client):
    # Here and not above: the import itself warns.
    import albumentations

    from restain.albumentations import Restain

    tile, mask = tiles(1, seed=16)[0], np.zeros((SIDE, SIDE), np.uint8)

    def run(seed):
        pipeline = albumentations.Compose([Restain(client, p=1.0), albumentations.HorizontalFlip(p=1.0)], seed=seed)
        return pipeline(image=tile, mask=mask)

    made = run(7)
    assert made["image"].shape == tile.shape
    assert not np.array_equal(made["image"], tile[:, ::-1])
    assert np.array_equal(made["mask"], mask)
    assert np.array_equal(run(7)["image"], made["image"])
    assert any(not np.array_equal(run(seed)["image"], made["image"]) for seed in range(8))
