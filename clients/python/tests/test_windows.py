"""Large tiles, which the server sees in several windows, and tiles of a known magnification."""

import numpy as np
import pytest
from served import SIDE, install, tiles

import restain
import restain.torch as rt


def test_a_large_tile_has_the_number_of_its_windows(client):
    large, small = tiles(1, side=5 * SIDE, seed=1), tiles(1, side=4 * SIDE, seed=2)
    made = client.augment([large[0], small[0]], variants=2, seed=3)
    assert [record.windows for record in made.provenance[0]] == [4, 4]
    assert [record.windows for record in made.provenance[1]] == [1, 1]
    # The second time by key.
    again = client.augment([large[0], small[0]], variants=2, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(made.variants, again.variants, strict=True))


def test_what_the_server_sees_in_windows_is_not_made_from_one_encoding(client):
    large = tiles(1, side=5 * SIDE, seed=1)
    encodings, style = client.encode(large), client.style_bank().characteristics[0]
    assert encodings.model.window == 4
    for synthesise in (restain.synthesise, rt.synthesise):
        with pytest.raises(ValueError, match=rf"160×160 pixels.* more than {4 * SIDE} pixels.*Client.augment"):
            synthesise(encodings, style, tiles=large)
    # The bare product is of one window, whatever the size.
    answer = client.augment(large, style=restain.Style(ids=["north/0"]), detail="model")
    bank = client.style_bank()
    assert np.array_equal(restain.synthesise(encodings, bank["north/0"])[:, 0], answer.variants[:, 0])


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
