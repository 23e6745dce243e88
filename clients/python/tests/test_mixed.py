"""Tiles of several sizes in one call: variants, encodings, references, portions, failures and batches of torch."""

import numpy as np
import pytest
import torch
from PIL import Image
from served import SIDE, tiles
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import restain
from restain import Limits, Style
from restain.torch import RestainCollate, RestainDataset

# Height and width: of the model, larger, smaller, not square, and one of them twice.
SIZES = [(32, 32), (48, 40), (16, 64), (48, 40), (20, 20)]


def several(seed=0):
    """Tiles of `SIZES`: views of larger ones, as crops are."""
    big = tiles(len(SIZES), side=64, seed=seed)
    return [tile[:height, :width] for tile, (height, width) in zip(big, SIZES, strict=True)]


def alone(client, images, **options):
    """The variants of each tile in a call of its own."""
    return [client.augment(image, **options).variants[0] for image in images]


def same(these, those):
    return len(these) == len(those) and all(np.array_equal(a, b) for a, b in zip(these, those, strict=True))


def test_each_tile_has_the_variants_that_it_has_alone(client):
    images = several(1)
    answer = client.augment(images, variants=3, seed=7)
    assert isinstance(answer.variants, list)
    assert [variants.shape for variants in answer.variants] == [(3, *size, 3) for size in SIZES]
    assert same(answer.variants, alone(client, images, variants=3, seed=7))
    assert not answer.failed.any()
    for image, records in zip(images, answer.provenance, strict=True):
        assert [record.index for record in records] == [0, 1, 2]
        assert {record.tile_key for record in records} == {restain.tile_key(image).hex()}
    pictures = [Image.fromarray(image) for image in images]
    assert same(client.augment(pictures, variants=3, seed=7).variants, answer.variants)


def test_a_second_time_no_pixels_are_sent_and_then_only_what_is_missing(serve, sent):
    server, images = serve(), several(2)
    with restain.Client(server.url) as client:
        first = client.augment(images, seed=1).variants
        assert sum(sent.sizes) > sum(image.size for image in images)
        del sent.sizes[:]
        assert same(client.augment(images, seed=1).variants, first)
        assert sum(sent.sizes) < 1000
        del sent.sizes[:]
        # One new tile, twice, between known ones.
        new = several(3)[1]
        mixed = client.augment([images[4], new, images[0], new, images[0]], variants=2, seed=1)
        assert new.size < sum(sent.sizes) < 2 * new.size
        assert same(mixed.variants, alone(client, [images[4], new, images[0], new, images[0]], variants=2, seed=1))
        # Duplicates do not share memory.
        mixed.variants[1][:] = 0
        assert mixed.variants[3].any()
        assert [records[0].tile_key for records in mixed.provenance][1] == restain.tile_key(new).hex()


def test_the_models_own_detail_has_the_models_size(serve):
    server, large = serve(), tiles(5, 48, seed=30)
    with restain.Client(server.url, limits=Limits(tiles=2)) as client:
        answer = client.augment(large, variants=2, seed=1, detail="model")
        assert answer.variants.shape == (5, 2, SIDE, SIDE, 3)
        mixed = client.augment([*large, several(1)[1]], variants=2, seed=1, detail="model").variants
        assert same(mixed[:5], list(answer.variants))
        out = np.zeros_like(answer.variants)
        again = client.augment(large, variants=2, seed=1, detail="model", out=out)
        assert again.variants is out
        assert np.array_equal(out, answer.variants)
        assert again.provenance == answer.provenance
        own = tiles(3, seed=31)
        assert client.augment(own, detail="model").variants.shape == (3, 1, SIDE, SIDE, 3)
        for wrong in (np.zeros((5, 2, 48, 48, 3), np.uint8), np.zeros((5, 2, SIDE, SIDE, 3))):
            with pytest.raises(ValueError, match=r"out is .*, and must be uint8 \[5, 2, 32, 32, 3\]"):
                client.augment(large, variants=2, seed=1, detail="model", out=wrong)
        # Originals and variants of other sizes are a list.
        batch = RestainCollate(client, seed=1, detail="model")(list(large))
        assert [tuple(image.shape) for image in batch] == [(3, 48, 48)] * 5 + [(3, SIDE, SIDE)] * 5
        assert RestainCollate(client, seed=1, detail="model", originals=False)(list(large)).shape == (5, 3, SIDE, SIDE)
    with restain.Client(server.url, timeout=0.5, on_error="original") as client:
        server.kill()
        with pytest.warns(RuntimeWarning, match="originals stand in"):
            answer = client.augment(large, detail="model")
        assert np.array_equal(answer.variants[:, 0], large)


@pytest.mark.parametrize("method", ["color-match", "hed-jitter", "identity"])
def test_methods_on_pixels_take_them_too(client, method):
    images = several(4)
    answer = client.augment(images, seed=3, method=method)
    assert same(answer.variants, alone(client, images, seed=3, method=method))


def test_large_calls_become_several_requests(serve, sent):
    server, images = serve("--max-tiles", 4), several(5) * 3
    with restain.Client(server.url) as client:
        expected = alone(client, images, seed=5)
        del sent.sizes[:]
        # By number, by bytes of the body, and as the server demands.
        assert same(client.augment(images, seed=5).variants, expected)
        assert len(sent.sizes) >= 4
    few = Limits(tiles=3), Limits(body_bytes=(64 << 10) + 12_000), Limits(answer_bytes=12_000)
    for limits, least in zip(few, (5, 6, 6), strict=True):
        with restain.Client(server.url, limits=limits) as client:
            del sent.sizes[:]
            assert same(client.augment(images, seed=5).variants, expected)
            assert len(sent.sizes) >= least


def test_replicas_share_a_call(replicas):
    servers, images = replicas(2), several(6)
    with restain.Client(servers[0].url) as one, restain.Client([server.url for server in servers]) as both:
        expected = one.augment(images, variants=2, seed=9)
        answer = both.augment(images, variants=2, seed=9)
        assert same(answer.variants, expected.variants)
        assert [records[0].tile_key for records in answer.provenance] == [
            records[0].tile_key for records in expected.provenance
        ]
        servers[1].kill()
        assert same(both.augment(images, variants=2, seed=9).variants, expected.variants)


def test_styles_of_the_batch_see_all_sizes(client):
    images = several(7)
    style = Style(source="batch")
    answer = client.augment(images, seed=2, style=style)
    assert [variants.shape[1:3] for variants in answer.variants] == SIZES
    assert same(client.augment(images, seed=2, style=style).variants, answer.variants)


def test_references_and_added_domains_may_have_several_sizes(serve):
    server, images, own = serve(), several(8), tiles(2, seed=9)
    with restain.Client(server.url) as client:
        answer = client.augment(own, seed=4, style=Style(references=images))
        first = client.augment(own, seed=4, style=Style(references=images[:1]))
        assert answer.variants.shape == first.variants.shape
        assert not np.array_equal(answer.variants, first.variants)
        added = client.add_styles("ours", images)
        assert added.domain == "ours"
        assert client.augment(own, style=Style(domains=["ours"])).provenance[0][0].domain == "ours"


def test_encodings_are_of_one_size_and_give_each_tiles_variants(client):
    images, bank = several(10), client.style_bank()
    encodings = client.encode(images)
    assert encodings.anatomy.shape == (len(SIZES), encodings.model.patches, encodings.model.half)
    assert list(encodings.keys) == [restain.tile_key(image).hex() for image in images]
    made = client.augment(images, style=Style(ids=[bank.styles[0].id])).variants
    for place, image in enumerate(images):
        one = restain.Encodings(
            encodings.anatomy[place, None], encodings.characteristics[place, None], ("",), encodings.model
        )
        again = restain.synthesise(one, bank.characteristics[0], tiles=image[None])
        assert np.array_equal(again[0], made[place])


def test_copies_stand_in_for_variants(serve):
    server, images = serve(), several(11)
    server.kill()
    away = restain.Client(server.url, timeout=0.5, on_error="original")
    with away as client, pytest.warns(RuntimeWarning, match="originals stand in"):
        answer = client.augment(images, variants=2)
    assert answer.failed.all()
    assert same(answer.variants, [np.stack([image] * 2) for image in images])
    assert answer.provenance[1][0].method == "original"


async def test_coroutines_take_them_too(server):
    images = several(12)
    async with restain.AsyncClient(server.url) as client:
        answer = await client.augment(images, seed=1)
    assert [variants.shape[1:3] for variants in answer.variants] == SIZES


def test_what_does_not_fit_is_named(client):
    images = several(13)
    with pytest.raises(ValueError, match=r"tiles\[1\] is float64 \[4, 4, 3\], and must be uint8 \[height, width, 3\]"):
        client.augment([images[0], np.zeros((4, 4, 3)), images[1]])
    with pytest.raises(ValueError, match=r"out is uint8 \[1\], and must be None: the tiles have several sizes"):
        client.augment(images, out=np.zeros(1, np.uint8))
    with pytest.raises(restain.RequestError, match="8 pixels, and must have from 16") as refused:
        client.augment([images[0], images[1][:8]])
    assert (refused.value.list, refused.value.index) == ("tile", 1)


def test_bare_products_have_the_models_size(client):
    made = client.augment(several(17), variants=2, detail="model").variants
    assert [variants.shape for variants in made] == [(2, SIDE, SIDE, 3)] * len(SIZES)


def labelled(seed=0):
    return [(torch.from_numpy(image.copy()).permute(2, 0, 1), label) for label, image in enumerate(several(seed))]


@pytest.mark.parametrize("originals", [True, False])
def test_a_batch_is_a_list_of_images_with_their_labels(client, originals):
    samples = labelled(14)
    images, labels = RestainCollate(client, variants=2, seed=5, originals=originals)(samples)
    kept = [image for image, _ in samples] if originals else []
    variants = client.augment(several(14), variants=2, seed=restain.epoch_seed(5, 0)).variants
    expected = [*kept, *(torch.from_numpy(variant).permute(2, 0, 1) for each in variants for variant in each)]
    assert len(images) == len(expected)
    assert all(torch.equal(image, wanted) for image, wanted in zip(images, expected, strict=True))
    assert labels.tolist() == [*(range(5) if originals else []), 0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_crop_after_the_variants_makes_it_a_tensor(client):
    samples = [(image / 255, label) for image, label in labelled(15)]
    listed, _ = RestainCollate(client, seed=5)(samples)
    images, labels = RestainCollate(client, seed=5, then=v2.CenterCrop(16))(samples)
    assert images.shape == (10, 3, 16, 16)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[7], v2.CenterCrop(16)(listed[7]))
    assert len(labels) == 10


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_make_the_same_batches(client):
    samples = labelled(16) * 2
    dataset = RestainDataset(samples, client, batch_size=4, seed=3)
    dataset.set_epoch(0)
    here, there = (list(DataLoader(dataset, batch_size=None, num_workers=workers)) for workers in (0, 2))
    assert [len(images) for images, _ in here] == [8, 8, 4]
    for (images, labels), (others, other_labels) in zip(here, there, strict=True):
        assert torch.equal(labels, other_labels)
        assert all(torch.equal(image, other) for image, other in zip(images, others, strict=True))


@pytest.mark.parametrize("method", ["vit", "hed-jitter"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_error_names_the_tile_of_the_call(replicas, method, count):
    servers, good = replicas(count), list(tiles(7, seed=32))
    small = tiles(1, 15, seed=33)[0]
    with restain.Client([server.url for server in servers], limits=Limits(tiles=3)) as client:
        # Cached, so that only what is missing is sent.
        client.augment(good[:4])
        several = [*good[:3], good[0], good[0], *good[3:], small, small]
        slides = [client.add_slide(good[:4]), None] * 5 + [None]
        for options in ({}, {"slide": slides[0]}, {} if method == "hed-jitter" else {"slide": slides}):
            for _ in range(2):
                with pytest.raises(restain.InvalidRequest) as raised:
                    client.augment(several, method=method, **options)
                error = raised.value
                assert (error.code, error.list) == ("tile_size", "tile")
                assert error.index in (9, 10)
                assert error.detail.startswith(f"tile {error.index} is 15×15 pixels")
                assert str(error) == f"tile_size: {error.detail}"
        with pytest.raises(restain.InvalidRequest, match="tile 3 is 15×15 pixels") as raised:
            client.encode([*good[:3], small])
        assert raised.value.index == 3
        with pytest.raises(restain.InvalidRequest, match="tile 4 is 15×15 pixels"):
            client.add_slide([good[0], good[0], *good[:2], small])
        with pytest.raises(restain.InvalidRequest, match="reference 1 is 15×15 pixels"):
            client.augment(good, style=Style(references=[good[0], small]))
