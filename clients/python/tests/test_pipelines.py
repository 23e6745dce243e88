"""Samples of every shape that torchvision and torch pass around, and pipelines of albumentations that are saved."""

import collections
import io
import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from served import SIDE, tiles
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

import restain
from restain.torch import RestainCollate, RestainDataset, RestainTransform

# Importing albumentations warns.
albumenting = pytest.mark.filterwarnings("ignore::UserWarning:albumentations", "ignore::DeprecationWarning")


class Sample(NamedTuple):
    name: str
    tile: np.ndarray
    grade: int


def restained(client, several, seed):
    return client.augment(several, seed=restain.epoch_seed(seed, 0)).variants[:, 0]


def as_image(tile):
    return tv_tensors.Image(torch.from_numpy(tile).permute(2, 0, 1))


@pytest.mark.parametrize("image", ["tile", 1, -2])
def test_named_tuples_stay_named_tuples(client, image):
    several = tiles(2, seed=1)
    samples = [Sample(f"tile {n}", tile, n) for n, tile in enumerate(several)]
    batch = RestainCollate(client, image=image, seed=3)(samples)
    assert type(batch) is Sample
    assert batch.name == ["tile 0", "tile 1"] * 2
    assert batch.grade.tolist() == [0, 1, 0, 1]
    wanted = np.concatenate([several, restained(client, several, 3)])
    assert np.array_equal(batch.tile.permute(0, 2, 3, 1).numpy(), wanted)
    dataset = RestainDataset(samples, client, batch_size=2, image=image, seed=3, shuffle=False)
    assert np.array_equal(next(iter(DataLoader(dataset, batch_size=None))).tile, batch.tile)
    made = RestainTransform(client, seed=3)(samples[0])
    assert type(made) is Sample
    assert (made.name, made.grade) == ("tile 0", 0)
    assert np.array_equal(made.tile, restained(client, several[:1], 3)[0])
    with pytest.raises(TypeError, match="image is 'picture', and must be an index or a field's name"):
        RestainCollate(client, image="picture")(samples)


def test_mappings_keep_their_type_and_order_and_the_image_is_found(client):
    several = tiles(2, seed=2)
    for kind in (dict, collections.OrderedDict, collections.UserDict):
        samples = [kind({"id": n, "picture": as_image(tile), "box": [1.0, 2.0]}) for n, tile in enumerate(several)]
        batch = RestainCollate(client, seed=3)(samples)
        assert type(batch) is kind
        assert list(batch) == ["id", "picture", "box"]
        assert batch["id"].tolist() == [0, 1, 0, 1]
        assert batch["picture"].shape == (4, 3, SIDE, SIDE)
    with pytest.raises(KeyError, match="image is 'x', and samples have 'id', 'picture', 'box'"):
        RestainCollate(client, image="x")(samples)
    with pytest.raises(KeyError, match="image is 0, and samples have 'id'"):
        RestainCollate(client)([{"id": 1}])


def test_a_transform_takes_the_samples_of_torchvision(client):
    tile, mask = tiles(1, seed=3)[0], torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    wanted = torch.from_numpy(restained(client, tile, 3)[0]).permute(2, 0, 1)
    target = {"boxes": tv_tensors.BoundingBoxes([[0, 0, 4, 4]], format="XYXY", canvas_size=(SIDE, SIDE)), "id": 7}
    pipeline = v2.Compose([RestainTransform(client, seed=3), v2.ToDtype(torch.float32, scale=True)])
    samples = [
        {"image": as_image(tile), "mask": tv_tensors.Mask(mask), "target": target, "path": "a.png"},
        (as_image(tile), {**target, "mask": tv_tensors.Mask(mask)}),
        [7, as_image(tile)],
    ]
    for sample in samples:
        made = pipeline(sample)
        leaves, before = torch.utils._pytree.tree_leaves(made), torch.utils._pytree.tree_leaves(sample)
        for leaf, given in zip(leaves, before, strict=True):
            if isinstance(given, tv_tensors.Image):
                assert type(leaf) is tv_tensors.Image
                assert torch.equal((leaf * 255).round().byte(), wanted)
            elif isinstance(given, torch.Tensor):
                assert type(leaf) is type(given)
                assert torch.equal(leaf, given)
            else:
                assert leaf == given
        assert type(made) is type(sample)
    # As v2 does: without a typed image, a colour PIL image or else the first tensor is it.
    grey = Image.fromarray(np.zeros((SIDE, SIDE), np.uint8))
    made = RestainTransform(client, seed=3)({"mask": grey, "image": Image.fromarray(tile)})
    assert made["mask"] is grey
    assert np.array_equal(np.asarray(made["image"]), wanted.permute(1, 2, 0).numpy())
    made = RestainTransform(client, seed=3)({"a": torch.from_numpy(tile).permute(2, 0, 1), "b": wanted})
    assert torch.equal(made["a"], wanted)
    assert made["b"] is wanted
    with pytest.raises(TypeError, match="contains no image"):
        RestainTransform(client)({"label": 3})


def test_images_of_several_sizes(client):
    large, small = tiles(1, side=48, seed=4)[0], tiles(1, side=20, seed=5)[0]
    made = RestainTransform(client, seed=1)({"near": as_image(small), "far": as_image(large)})
    for name, tile in {"near": small, "far": large}.items():
        alone = RestainTransform(client, seed=1)(tile)
        assert alone.shape == tile.shape
        assert np.array_equal(made[name].permute(1, 2, 0).numpy(), alone)


def pipelines(client, **options):
    import albumentations as A

    from restain.albumentations import Restain

    return A, A.Compose([Restain(client, **options), A.HorizontalFlip(p=0.5)], seed=7)


@albumenting
def test_albumentations_takes_floats_in_0_to_1(client):
    tile = tiles(1, seed=6)[0]
    _, pipeline = pipelines(client)
    _, floating = pipelines(client)
    whole, real = pipeline(image=tile)["image"], floating(image=tile.astype(np.float32) / 255)["image"]
    assert real.dtype == np.float32
    assert np.array_equal(real, whole.astype(np.float32) / np.float32(255))
    with pytest.raises(ValueError, match=r"pixels from -1 to -1, and must be in 0\.\.1: normalise after"):
        floating(image=np.full((SIDE, SIDE, 3), -1, np.float32))


@albumenting
def test_albumentations_takes_many_images_and_several_sizes(client):
    A, _ = pipelines(client)
    from restain.albumentations import Restain

    several = tiles(3, seed=7)
    transform = Restain(client)
    assert A.Compose([transform], seed=7)(images=several)["images"].shape == several.shape
    seed = transform.get_applied_params()["seed"]
    assert not np.array_equal(several, client.augment(several, seed=seed).variants[:, 0])
    sizes = transform.apply_to_images([tiles(1, side=side)[0] for side in (20, 48)], seed=1)
    assert [made.shape for made in sizes] == [(20, 20, 3), (48, 48, 3)]


@albumenting
@pytest.mark.parametrize("form", ["dict", "json", "yaml"])
def test_albumentations_pipelines_are_saved_and_loaded(server, tmp_path, form):
    style = restain.Style(domains=["north"], share="request")
    options = {"style": style, "strength": np.float32(0.5), "priority": "bulk", "p": 0.75}
    with restain.Client(server.url, key="rs_secret", timeout=30, headers={"x-api-key": "rs_other"}) as client:
        A, pipeline = pipelines(client, **options)
        if form == "dict":
            saved = json.loads(json.dumps(A.to_dict(pipeline)))
            loaded = A.from_dict(saved)
        else:
            A.save(pipeline, tmp_path / "pipeline", data_format=form)
            saved = (tmp_path / "pipeline").read_text()
            loaded = A.load(tmp_path / "pipeline", data_format=form)
        assert "rs_" not in str(saved)
        transform = loaded.transforms[0]
        assert transform.p == options.pop("p")
        assert transform.options == options
        assert (transform.client.url, transform.client.timeout) == (server.url, 30)
        loaded.set_random_seed(7)
        several = tiles(6, seed=8)
        made = [[pipe(image=tile)["image"] for tile in several] for pipe in (pipeline, loaded)]
        assert np.array_equal(*made)
        assert not np.array_equal(made[0], several)
        repr(pipeline)


@albumenting
def test_a_pipeline_with_references_a_blend_or_a_spread_is_saved(client):
    A, pipeline = pipelines(client, style=restain.Style(references=tiles(1, seed=9)))
    again = A.from_dict(A.to_dict(pipeline)).transforms[0].options["style"]
    assert again.references.dtype == np.uint8
    assert np.array_equal(again.references, tiles(1, seed=9))
    blend = restain.Style(blend=[restain.Part(1, id="north/0"), restain.Part(2, domain="west")])
    for style in (blend, restain.Style(domains=["north"], spread=1.5)):
        A, pipeline = pipelines(client, style=style)
        assert A.from_dict(A.to_dict(pipeline)).transforms[0].options["style"] == style


@albumenting
def test_albumentations_replays_what_it_has_done(client):
    import albumentations as A

    from restain.albumentations import Restain

    tile, other = tiles(2, seed=10)
    pipeline = A.ReplayCompose([Restain(client, strength=0.5), A.HorizontalFlip(p=0.5)])
    for _ in range(3):
        made = pipeline(image=tile)
        replay = json.loads(json.dumps(made["replay"]))
        assert np.array_equal(A.ReplayCompose.replay(replay, image=tile)["image"], made["image"])
        seed = replay["transforms"][0]["params"]["seed"]
        wanted = client.augment(other, seed=seed, strength=0.5).variants[0, 0]
        flipped = wanted[:, ::-1] if replay["transforms"][1]["applied"] else wanted
        assert np.array_equal(A.ReplayCompose.replay(replay, image=other)["image"], flipped)


def test_a_float_tensor_survives_the_way_there_and_back(client):
    tile = torch.from_numpy(tiles(1, seed=11)[0]).permute(2, 0, 1)
    for kind in (torch.float16, torch.float32, torch.float64):
        made = RestainTransform(client, method="identity")(tile.to(kind) / 255)
        assert made.dtype == kind
        assert torch.equal((made.double() * 255).round().byte(), tile)
    stream = io.BytesIO()
    Image.fromarray(tile.permute(1, 2, 0).numpy()).save(stream, "PNG")
    opened = Image.open(stream)
    assert np.array_equal(np.asarray(RestainTransform(client, method="identity")(opened)), tile.permute(1, 2, 0))
