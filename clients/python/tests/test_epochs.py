"""Epochs count themselves: no pass repeats another one, with any number of workers, persistent or not."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from served import tiles
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

import restain
from restain.torch import RestainCollate, RestainDataset, RestainTransform

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

# Workers, and whether they persist.
WORKERS = [(0, False), (2, False), (2, True)]


class Slides(Dataset):
    """Tiles and their numbers, with a transform on the way."""

    def __init__(self, count, transform=None):
        self.tiles, self.transform = tiles(count, seed=1), transform

    def __len__(self):
        return len(self.tiles)

    def __getitem__(self, index):
        tile = torch.from_numpy(self.tiles[index]).permute(2, 0, 1)
        return (tile if self.transform is None else self.transform(tile)), index


def loaders(client, part, seed, workers, persists, shuffle=True):
    """A loader of variants only, made by each part of the package."""
    options = {"num_workers": workers, "persistent_workers": persists}
    if part == "dataset":
        made = RestainDataset(Slides(8), client, batch_size=2, originals=False, seed=seed, shuffle=shuffle)
        return DataLoader(made, batch_size=None, **options)
    if part == "collate":
        collate = RestainCollate(client, originals=False, seed=seed)
        return DataLoader(Slides(8), batch_size=2, shuffle=shuffle, collate_fn=collate, **options)
    slides = Slides(8, RestainTransform(client, seed=seed))
    return DataLoader(slides, batch_size=2, shuffle=shuffle, **options)


def variants(loader):
    """The bytes of one pass, by the tile's number."""
    made = {}
    for images, numbers in loader:
        made |= {int(number): image.numpy().tobytes() for image, number in zip(images, numbers, strict=True)}
    assert sorted(made) == list(range(8))
    return made


def distinct(passes):
    return len({tuple(sorted(made.items())) for made in passes})


@pytest.mark.parametrize(("workers", "persists"), WORKERS)
@pytest.mark.parametrize("part", ["dataset", "collate", "transform"])
@pytest.mark.parametrize("seed", [None, 7])
def test_no_pass_repeats_another_one(client, part, seed, workers, persists):
    loader = loaders(client, part, seed, workers, persists)
    passes = [variants(loader) for _ in range(3)]
    assert distinct(passes) == 3
    if seed is not None:
        # Pass n is epoch n, of any number of workers, in any order.
        for number, made in enumerate(passes):
            several = client.augment(Slides(8).tiles, seed=restain.epoch_seed(seed, number)).variants[:, 0]
            assert made == {place: tile.transpose(2, 0, 1).tobytes() for place, tile in enumerate(several)}


def test_other_loaders_over_the_same_dataset_count_on(client):
    dataset = RestainDataset(Slides(8), client, batch_size=2, originals=False, seed=7)
    alone = [variants(DataLoader(dataset, batch_size=None)) for _ in range(3)]
    other = RestainDataset(Slides(8), client, batch_size=2, originals=False, seed=7)
    mixed = [variants(DataLoader(other, batch_size=None, num_workers=workers)) for workers in (2, 0, 3)]
    assert alone == mixed
    # A copy goes its own way from here; neither counts for the other.
    copies = copy.deepcopy(other), pickle.loads(pickle.dumps(other))
    fourth = variants(DataLoader(dataset, batch_size=None))
    assert [variants(DataLoader(made, batch_size=None, num_workers=1)) for made in copies] == [fourth, fourth]
    assert variants(DataLoader(other, batch_size=None)) == fourth


def test_a_pass_that_was_left_counts(client):
    for workers in (0, 2):
        dataset = RestainDataset(Slides(8), client, batch_size=2, originals=False, seed=7)
        loader = DataLoader(dataset, batch_size=None, num_workers=workers)
        next(iter(loader))
        several = client.augment(Slides(8).tiles, seed=restain.epoch_seed(7, 1)).variants[:, 0]
        assert variants(loader)[3] == several[3].transpose(2, 0, 1).tobytes()


def test_torchs_seed_set_again_does_not_repeat_a_numbered_pass(client):
    dataset = RestainDataset(Slides(8), client, batch_size=2, originals=False, seed=7)
    passes = []
    for _ in range(3):
        torch.manual_seed(1)
        passes.append(variants(DataLoader(dataset, batch_size=None, num_workers=2)))
    assert distinct(passes) == 3


def test_two_loaders_at_once_are_two_passes(client):
    dataset = RestainDataset(Slides(8), client, batch_size=2, originals=False, seed=7)
    both = [iter(DataLoader(dataset, batch_size=None, num_workers=2)) for _ in range(2)]
    passes = [variants(loader) for loader in both]
    assert distinct(passes) == 2


def test_spawned_workers_share_the_count(client):
    pixels = torch.from_numpy(tiles(8, seed=1)).permute(0, 3, 1, 2)
    dataset = RestainDataset(TensorDataset(pixels, torch.arange(8)), client, batch_size=2, originals=False, seed=7)
    context = multiprocessing.get_context("spawn")
    loader = DataLoader(
        dataset, batch_size=None, num_workers=2, persistent_workers=True, multiprocessing_context=context
    )
    passes = [variants(loader) for _ in range(2)]
    other = RestainDataset(Slides(8), client, batch_size=2, originals=False, seed=7)
    assert passes == [variants(DataLoader(other, batch_size=None)) for _ in range(2)]
    # The spawned workers have counted for this process too.
    assert dataset.state_dict(batches=0)["epoch"] == 1


@pytest.mark.parametrize("part", ["dataset", "collate"])
def test_an_epoch_that_is_set_stays_until_the_next_is(client, part):
    loader = loaders(client, part, 7, 2, True)
    counted = loader.dataset if part == "dataset" else loader.collate_fn
    counted.set_epoch(np.int64(4))
    passes = [variants(loader) for _ in range(2)]
    counted.set_epoch(5)
    passes.append(variants(loader))
    assert passes[0] == passes[1]
    assert distinct(passes) == 2
    with pytest.raises(ValueError, match="epoch is -1"):
        counted.set_epoch(-1)


def test_collate_and_transform_count_on_after_loading(client):
    collate = RestainCollate(client, originals=False, seed=7)
    loader = DataLoader(Slides(8), batch_size=2, collate_fn=collate)
    passes = [variants(loader) for _ in range(4)]
    assert collate.state_dict() == {"epoch": 3}
    transform = RestainTransform(client, seed=7)
    for again in (RestainCollate(client, originals=False, seed=7), transform):
        again.load_state_dict({"epoch": 2} if again is not transform else {"_extra_state": {"epoch": 2}})
        options = {"collate_fn": again} if again is not transform else {}
        slides = Slides(8, transform if again is transform else None)
        loader = DataLoader(slides, batch_size=2, num_workers=2, persistent_workers=True, **options)
        assert [variants(loader) for _ in range(2)] == passes[2:]
    assert transform.state_dict() == {"_extra_state": {"epoch": 3}}


def test_transforms_of_torchvision_pass_the_count_on(client):
    slides = Slides(8, v2.Compose([RestainTransform(client, seed=7), v2.ToDtype(torch.uint8)]))
    loader = DataLoader(slides, batch_size=2, num_workers=2, persistent_workers=True)
    assert distinct([variants(loader) for _ in range(2)]) == 2


class Albumented(Slides):
    def __getitem__(self, index):
        made = self.transform(image=self.tiles[index])["image"]
        return torch.from_numpy(made).permute(2, 0, 1), index


@pytest.mark.filterwarnings("ignore::UserWarning:albumentations", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("workers", "persists"), WORKERS)
@pytest.mark.parametrize("seed", [None, 7])
def test_albumentations_in_workers_repeat_nothing_and_are_repeatable(client, workers, persists, seed):
    import albumentations

    from restain.albumentations import Restain

    def passes():
        torch.manual_seed(3)
        pipeline = albumentations.Compose([Restain(client)], seed=seed)
        loader = DataLoader(Albumented(8, pipeline), batch_size=2, num_workers=workers, persistent_workers=persists)
        return [variants(loader) for _ in range(3)]

    made = passes()
    assert distinct(made) == 3
    if seed is not None:
        assert passes() == made
