"""Large tiles, which the server sees in several windows, and tiles of a known magnification."""

import numpy as np
import pytest
import torch
from served import SIDE, install, tiles

import restain
import restain.torch as rt
from restain.torch.synth import apply_styles


def test_a_large_tile_has_the_number_of_its_windows(client):
    large, small = tiles(1, side=5 * SIDE, seed=1), tiles(1, side=4 * SIDE, seed=2)
    made = client.augment([large[0], small[0]], variants=2, seed=3)
    assert [record.windows for record in made.provenance[0]] == [4, 4]
    assert [record.windows for record in made.provenance[1]] == [1, 1]
    # The second time by key.
    again = client.augment([large[0], small[0]], variants=2, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(made.variants, again.variants, strict=True))


def by_torch(encodings, styles, strength=1.0, tiles=None):
    """torch's variants in numpy's layout."""
    return rt.synthesise(encodings, styles, strength, tiles=tiles).permute(0, 1, 3, 4, 2).numpy()


MAKERS = [restain.synthesise, by_torch]


@pytest.mark.parametrize("synthesise", MAKERS)
@pytest.mark.parametrize("strength", [1.0, 0.3, 0.0])
def test_variants_of_tiles_in_several_windows_are_the_servers_to_the_bit(client, synthesise, strength):
    bank, style = client.style_bank(), restain.Style(ids=["north/0"])
    for seed, (height, width) in enumerate([(5 * SIDE, 5 * SIDE), (4 * SIDE + 7, 9 * SIDE), (9 * SIDE, 20)]):
        large = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), np.uint8)
        # Half of the second tile is glass, and the stain of a tile is that of its tissue.
        large[1, :, : width // 2] = 244
        encodings = client.encode(large)
        assert encodings.windows[0].count > 1
        assert encodings.anatomy.shape[0] == encodings.characteristics.shape[0] == 2 * encodings.windows[0].count
        made = synthesise(encodings, bank["north/0"], strength, tiles=large)
        wanted = client.augment(large, style=style, strength=strength).variants
        assert np.array_equal(made, wanted), (height, width)


@pytest.mark.parametrize("synthesise", MAKERS)
@pytest.mark.parametrize("side", [SIDE, 2 * SIDE, 5 * SIDE])
def test_a_tile_without_a_stain_keeps_its_own_look_as_on_the_server(client, synthesise, side):
    both = tiles(2, side=side, seed=1)
    both[1] = 243
    encodings, bank = client.encode(both), client.style_bank()
    assert encodings.takes_style.tolist() == [True, False]
    assert np.isnan(encodings.stain[1]).all()
    assert np.isfinite(encodings.stain[0]).all()
    made = synthesise(encodings, bank["north/0"], tiles=both)
    assert np.array_equal(made, client.augment(both, style=restain.Style(ids=["north/0"])).variants)
    assert np.array_equal(made[1, 0], both[1])
    bare = synthesise(client.encode(both, detail="model"), bank["north/0"])
    wanted = client.augment(both, style=restain.Style(ids=["north/0"]), detail="model").variants
    assert np.array_equal(bare, wanted)


@pytest.mark.parametrize("synthesise", MAKERS)
def test_encodings_say_what_they_are_for(client, synthesise):
    large, style = tiles(1, side=5 * SIDE, seed=1), client.style_bank().characteristics[0]
    carried, bare = client.encode(large), client.encode(large, detail="model")
    assert (carried.windows[0].count, bare.windows[0].count, bare.anatomy.shape[0]) == (4, 1, 1)
    with pytest.raises(
        ValueError, match="a tile is in 4 windows, and the bare product is of one: give `tiles`, or enc"
    ):
        synthesise(carried, style)
    with pytest.raises(ValueError, match=rf"160×160 pixels, and those of more than {4 * SIDE} pixels a side are carr"):
        synthesise(bare, style, tiles=large)
    each = np.repeat(style[None], carried.model.patches, 0)[None, None]
    with pytest.raises(ValueError, match="styles are patch by patch, and a tile is in 4 windows"):
        synthesise(carried, each, tiles=large)


def test_encodings_of_several_sizes_and_twice_the_same_tile_come_in_the_callers_order(client):
    large, small = tiles(2, side=5 * SIDE, seed=1), tiles(1, side=SIDE, seed=2)
    # By pixels, and then by key.
    for _ in range(2):
        encodings = client.encode([large[0], small[0], large[1], large[0]])
        assert encodings.counts == [4, 1, 4, 4]
        assert np.array_equal(encodings.anatomy[:4], encodings.anatomy[9:])
        one = client.encode(small)
        assert np.array_equal(encodings.anatomy[4], one.anatomy[0])
        assert encodings.keys[1] == one.keys[0]
        assert np.array_equal(encodings.stain[1], one.stain[0])
    with pytest.raises(ValueError, match=r"the tiles are in \[1, 4\] windows"):
        rt.synthesise(encodings, client.style_bank().characteristics[0], tiles=np.repeat(large[:1], 4, 0))


def test_the_size_of_a_pixel_decides_the_windows_of_encodings_and_of_slides(serve, tmp_path):
    install(tmp_path, familiar={"fidelity": 0, "mpp": [0.25, 1.0]})
    server = serve(models=tmp_path)
    with restain.Client(server.url) as client:
        several, bank = tiles(2, side=2 * SIDE, seed=4), client.style_bank()
        encodings = client.encode(several, mpp=2)
        assert encodings.counts == [25, 25]
        assert client.encode(several).counts == [1, 1]
        wanted = client.augment(several, style=restain.Style(ids=["north/0"]), mpp=2).variants
        for synthesise in MAKERS:
            assert np.array_equal(synthesise(encodings, bank["north/0"], tiles=several), wanted)
        # The context of a slide is of tiles as the model sees them.
        slide = client.add_slide(several, mpp=2)
        assert slide == client.add_slide(several, mpp=2)
        client.augment(several, slide=slide, mpp=2)
        with pytest.raises(restain.RequestError, match="mpp is 0, and must be"):
            client.add_slide(several, mpp=0)


def test_gradients_go_through_the_windows_of_a_large_tile(client):
    large, bank = tiles(2, side=5 * SIDE, seed=1), client.style_bank()
    encodings = rt.TorchEncodings.of(client.encode(large))
    styles = torch.from_numpy(np.stack([bank["north/0"], bank["south/0"]])).double().requires_grad_()
    made = apply_styles(encodings, styles, large)
    exact = rt.synthesise(encodings, styles.detach()[:, None].float(), tiles=large)[:, 0]
    assert (made * 255 - exact).abs().max() < 0.51
    made.square().sum().backward()
    assert styles.grad is not None
    assert (styles.grad != 0).any(1).all()


def test_the_size_of_a_pixel_is_passed_on_and_comes_back(client):
    several = tiles(2, seed=4)
    made = client.augment(several, seed=1, mpp=np.float32(0.5))
    assert {record.mpp for variants in made.provenance for record in variants} == {0.5}
    assert client.augment(several, seed=1).provenance[0][0].mpp is None
    with pytest.raises(restain.RequestError, match="mpp is 0, and must be"):
        client.augment(several, mpp=0)


def test_a_range_of_strengths_is_drawn_from(client):
    several = tiles(1, seed=6)
    records = client.augment(several, seed=2, variants=8, strength=(0.5, 1)).provenance[0]
    assert all(0.5 <= (record.strength or 0) < 1 for record in records)
    assert len({record.strength for record in records}) == len(records)
    with pytest.raises(restain.RequestError, match=r"strength_from is 0\.9, and must be at most strength"):
        client.augment(several, strength=(0.9, 0.5))


def test_a_tile_unlike_the_training_data_comes_with_a_warning(serve, tmp_path):
    install(tmp_path, familiar={"fidelity": 98.5})
    server = serve(models=tmp_path)
    with restain.Client(server.url) as client:
        record = client.augment(tiles(1, seed=5)).provenance[0][0]
        assert "98.5" in (record.warning or "")
        assert client.augment(tiles(1, seed=5), method="identity").provenance[0][0].warning is None
