"""Variants made on this side of the wire are the server's, to the bit."""

import numpy as np
import pytest
import torch
from served import ROOT, tiles

import restain
import restain.torch as restain_torch
from restain import Part, StyleBank
from restain.bank import BankStyle


def makers():
    """The two that make variants, with torch's brought into numpy's layout."""

    def by_torch(encodings, styles, strength=1.0, tiles=None):
        made = restain_torch.synthesise(encodings, styles, strength, tiles=tiles)
        return made.permute(0, 1, 3, 4, 2).numpy()

    return [restain.synthesise, by_torch]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A server of the demo bundle: patches of 8 px at a rank of 8, and styles of real tissue."""
    from served import Served

    server = Served(tmp_path_factory.mktemp("demo"), models=ROOT / "models")
    with restain.Client(server.url) as client:
        yield client
    server.kill()


@pytest.mark.parametrize("synthesise", makers())
@pytest.mark.parametrize("strength", [1.0, 0.3, 0.0])
def test_every_style_of_the_bank_gives_the_servers_pixels(demo, synthesise, strength):
    several, bank = tiles(2, side=96, seed=1), demo.style_bank()
    chosen = bank.styles[::7]
    styles = np.stack([bank[style.id] for style in chosen])
    encodings = demo.encode(several)
    for detail, carried_by in [("model", None), ("carry", several)]:
        made = synthesise(encodings, styles, strength, tiles=carried_by)
        assert made.shape == (2, len(chosen), 96, 96, 3)
        for place, style in enumerate(chosen):
            named = restain.Style(ids=[style.id])
            wanted = demo.augment(several, style=named, strength=strength, detail=detail)
            assert np.array_equal(made[:, place], wanted.variants[:, 0]), (detail, style.id)


@pytest.mark.parametrize("synthesise", makers())
@pytest.mark.parametrize("size", [(256, 256), (224, 160), (40, 130), (16, 16), (512, 512), (500, 1100)])
def test_tiles_of_every_size_give_the_servers_pixels(demo, synthesise, size):
    several, bank = np.random.default_rng(3).integers(0, 256, (2, *size, 3), np.uint8), demo.style_bank()
    style = bank.styles[3]
    encodings = demo.encode(several)
    for strength in (1.0, 0.4, 0.0):
        wanted = demo.augment(several, style=restain.Style(ids=[style.id]), strength=strength).variants
        made = synthesise(encodings, bank[style.id], strength, tiles=several)
        assert np.array_equal(made, wanted), strength
        assert strength > 0 or np.array_equal(made[:, 0], several)


@pytest.mark.parametrize("synthesise", makers())
def test_a_blend_gives_the_servers_pixels(demo, synthesise):
    several, bank = tiles(2, side=96, seed=2), demo.style_bank()
    parts = {bank.styles[0].id: 0.3, bank.styles[-1].id: 1.1}
    style = restain.Style(blend=[Part(weight, id=id) for id, weight in parts.items()])
    made = synthesise(demo.encode(several), bank.blend(parts), tiles=several)
    assert np.array_equal(made, demo.augment(several, style=style).variants)


@pytest.mark.parametrize("synthesise", makers())
def test_a_style_for_each_tile_and_for_each_patch(client, synthesise):
    several = tiles(3, seed=3)
    encodings = client.encode(several)
    own = synthesise(encodings, encodings.characteristics[:, None])
    aligned = restain.Style(source="own", placement="aligned")
    assert np.array_equal(own, client.augment(several, style=aligned, detail="model").variants)
    assert np.array_equal(own[:, 0], restain.reconstruct(encodings))
    # [n, K, h]: a tile's own patches, as the server takes them from the tile.
    answer = client.augment(several, variants=2, style=restain.Style(source="own"), seed=1, detail="model")
    patches = [[int(record.style.rpartition("#")[2]) for record in records] for records in answer.provenance]
    styles = np.stack([encodings.characteristics[tile][places] for tile, places in enumerate(patches)])
    assert np.array_equal(synthesise(encodings, styles), answer.variants)


def test_encodings_stay_on_a_device(client):
    encodings = client.encode(tiles(2, seed=4))
    held = restain_torch.TorchEncodings.of(encodings, "cpu")
    style = encodings.characteristics[0, 3]
    made = restain_torch.synthesise(held, torch.from_numpy(style))
    assert made.shape == (2, 1, 3, 32, 32)
    assert np.array_equal(made[:, 0].permute(0, 2, 3, 1).numpy(), restain.synthesise(encodings, style)[:, 0])


@pytest.mark.parametrize("synthesise", [restain.synthesise, restain_torch.synthesise])
def test_styles_that_do_not_fit_are_refused_with_what_would(client, synthesise):
    encodings = client.encode(tiles(2, seed=5))
    with pytest.raises(ValueError, match=r"styles are \[3, 5, 24\], and must be \[24\], \[K, 24\], \[2, K, 24\]"):
        synthesise(encodings, np.zeros((3, 5, 24), np.float32))
    with pytest.raises(ValueError, match=r"strength is 1\.5"):
        synthesise(encodings, np.zeros(24, np.float32), 1.5)


def bank():
    styles = [
        BankStyle(f"{domain}/{n}", domain, (), ()) for domain, count in [("a", 2), ("b", 6)] for n in range(count)
    ]
    added = BankStyle("ours/0", "ours", (), (), "added")
    model = restain.EncoderModel("m", "1", "", 2, 1, 4, "planar", (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    return StyleBank(np.arange(9, dtype=np.float32)[:, None] * np.ones(12, np.float32), (*styles, added), model)


def test_drawing_takes_every_domain_as_often_as_another():
    drawn = bank().draw(np.random.default_rng(1), (1000, 2))
    assert drawn.shape == (1000, 2, 12)
    assert bank().draw(np.random.default_rng(1), np.int64(3)).shape == (3, 12)
    assert 900 < (drawn[..., 0] < 2).sum() < 1100
    assert set(np.unique(drawn)) == set(range(8))
    assert set(np.unique(bank().draw(np.random.default_rng(1), 50, domains=["ours"]))) == {8}
    assert set(np.unique(bank().draw(np.random.default_rng(1), 50, exclude_domains=["b"]))) == {0, 1}


def test_a_bank_refuses_what_it_does_not_have():
    with pytest.raises(KeyError, match="a, b, ours"):
        bank().draw(np.random.default_rng(), 1, domains=["c"])
    with pytest.raises(ValueError, match="no style of the bank is left"):
        bank().draw(np.random.default_rng(), 1, domains=["a"], exclude_domains=["a"])
    with pytest.raises(KeyError, match="a/7"):
        bank()["a/7"]
    with pytest.raises(ValueError, match="above 0"):
        bank().blend({"a/0": 0})


# Geometries that no bundle at hand has: other patch sides, where the server does not fuse, and interleaved pixels.
@pytest.mark.parametrize("order", ["planar", "interleaved"])
@pytest.mark.parametrize("style_bias", [False, True])
@pytest.mark.parametrize(("side", "patch", "rank"), [(32, 16, 3), (12, 4, 2), (28, 14, 7)])
def test_numpy_and_torch_agree_and_are_the_plain_product(side, patch, rank, style_bias, order):
    random = np.random.default_rng(7)
    mean, std = (0.7441, 0.5895, 0.7214), (0.1301, 0.1489, 0.1107)
    model = restain.EncoderModel("m", "1", "", side, patch, rank, order, mean, std, style_bias=style_bias)
    assert model.style_length == 3 * patch * (rank + style_bias)
    anatomy = random.normal(size=(2, model.patches, model.half)).astype(np.float16)
    characteristics = random.normal(size=(2, model.patches, model.style_length)).astype(np.float16)
    encodings = restain.Encodings(anatomy, characteristics, ("", ""), model)
    styles = random.normal(size=(3, model.style_length)).astype(np.float32)
    made = restain.synthesise(encodings, styles)
    assert np.array_equal(makers()[1](encodings, styles), made)
    for size in [(side, side), (2 * side, side + 5), (side - 1, side // 2)]:
        pixels = random.integers(0, 256, (2, *size, 3), np.uint8)
        for strength in [1.0, 0.3]:
            carried = restain.synthesise(encodings, styles, strength, tiles=pixels)
            assert np.array_equal(makers()[1](encodings, styles, strength, tiles=pixels), carried), (size, strength)
        assert np.array_equal(restain.synthesise(encodings, styles, 0.0, tiles=pixels)[:, 1], pixels)
    left = anatomy.astype(np.float64).reshape(2, 1, model.patches, 3, patch, rank)
    values = left @ styles[:, : model.half].astype(np.float64).reshape(1, 3, 1, 3, rank, patch)
    if style_bias:
        values = values + styles[:, model.half :].reshape(1, 3, 1, 3, 1, patch)
    if order == "planar":
        values = values.transpose(0, 1, 2, 4, 5, 3)
    grid = side // patch
    values = values.reshape(2, 3, grid, grid, patch, patch, 3).transpose(0, 1, 2, 4, 3, 5, 6)
    pixels = np.clip((values.reshape(2, 3, side, side, 3) * std + mean) * 255, 0, 255)
    # In double precision another half is another level, and no more than that.
    assert np.abs(made - pixels).max() < 0.501
