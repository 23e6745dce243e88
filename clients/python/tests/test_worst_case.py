"""Worst-case styles on a real server's encodings: gradients, the ball, and batches for a training loop."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from served import ROOT, Served

import restain
import restain.torch as rt
from restain.torch.synth import _glass, apply_styles


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    server = Served(tmp_path_factory.mktemp("demo"), models=ROOT / "models")
    with restain.Client(server.url) as client:
        yield client
    server.kill()


@pytest.fixture(scope="module")
def bank(demo):
    return demo.style_bank()


def tissue(height=96, width=96):
    """uint8 [3, height, width, 3]: the synthetic tile of docs/, turned."""
    tile = np.asarray(Image.open(ROOT / "docs/tile.png").convert("RGB"))
    turned = np.stack([np.rot90(tile, quarter) for quarter in range(3)])
    return np.ascontiguousarray(np.pad(turned, ((0, 0), (0, height - 96), (0, width - 96), (0, 0)), "reflect"))


def network(seed=0):
    torch.manual_seed(seed)
    layers = [torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.Tanh(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(8, 2))


def check_near(images, made, tiles):
    """The server rounds, and with a tile of the model's size also the tile's own reconstruction; in glass once more."""
    off = (images - made).abs()
    is_glass = torch.zeros(off.shape, dtype=torch.bool)
    if tiles is not None:
        is_glass |= (_glass(torch.from_numpy(tiles)) > 0)[:, 0, ..., 0][:, None]
        assert is_glass.any()
    assert off[~is_glass].max() < 1.01
    assert off.max() < 1.51


@pytest.mark.parametrize("size", [None, (96, 96), (130, 112)])
def test_images_are_the_servers_variants_before_they_are_rounded(demo, bank, size):
    tiles = None if size is None else tissue(*size)
    encodings = rt.TorchEncodings.of(demo.encode(tissue() if tiles is None else tiles))
    styles = torch.from_numpy(bank.draw(np.random.default_rng(1), 3))
    images = apply_styles(encodings, styles, tiles) * 255
    expected = rt.synthesise(encodings, styles[:, None], tiles=tiles)[:, 0]
    check_near(images, expected, tiles)
    assert (images - expected).abs().mean() < 0.4


@pytest.mark.parametrize("size", [None, (96, 96), (130, 112)])
def test_gradients_are_finite_differences(demo, bank, size):
    tiles = None if size is None else tissue(*size)
    encodings = rt.TorchEncodings.of(demo.encode(tissue() if tiles is None else tiles))
    classifier = network().double()

    def loss(styles):
        return torch.nn.functional.cross_entropy(
            classifier(apply_styles(encodings, styles, tiles)), torch.tensor([0, 1, 0])
        )

    styles = torch.from_numpy(bank.draw(np.random.default_rng(2), 3)).double().requires_grad_()
    (slope,) = torch.autograd.grad(loss(styles), styles)
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        step = torch.randn(styles.shape, generator=generator, dtype=torch.float64) * 1e-6
        with torch.no_grad():
            difference = (loss(styles + step) - loss(styles - step)) / 2
        assert difference.item() == pytest.approx((slope * step).sum().item(), rel=1e-5)


def test_the_ball_is_that_of_the_banks_covariance(demo, bank):
    rows = [place for place, style in enumerate(bank.styles) if style.domain != bank.domains[0]]
    ball = rt.StyleBall.of(bank, exclude_domains=bank.domains[:1])
    kept = bank.characteristics[rows].astype(np.float64)
    covariance = np.cov(kept.T)
    np.testing.assert_allclose(ball.mean, kept.mean(0), atol=1e-5)
    np.testing.assert_allclose((ball.axes.double() @ ball.axes.double().T), covariance, atol=1e-4 * covariance.max())
    deviation = kept - kept.mean(0)
    inverse = np.linalg.pinv(covariance, rcond=1e-9)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", deviation, inverse, deviation))
    distance = ball.distance(torch.from_numpy(bank.characteristics[rows]), ball.mean)
    np.testing.assert_allclose(distance, expected, rtol=1e-3)
    drawn = ball.draw(np.random.default_rng(4), 50)
    assert all(any(np.array_equal(style, known) for known in bank.characteristics[rows]) for style in drawn.numpy())


@pytest.mark.parametrize(("steps", "radius"), [(1, 1.0), (4, 0.5), (2, 0.0)])
def test_styles_stay_in_the_ball_and_the_loss_rises(demo, bank, steps, radius):
    tiles, labels, classifier = tissue(), torch.tensor([0, 1, 1]), network()
    encodings, ball = demo.encode(tiles), rt.StyleBall.of(bank)
    start = ball.draw(np.random.default_rng(5), 3)

    def loss(images):
        return torch.nn.functional.cross_entropy(classifier(images), labels, reduction="none")

    worst = rt.worst_case(encodings, ball, loss, start, radius=radius, steps=steps, tiles=tiles)
    still = rt.worst_case(encodings, ball, loss, start, radius=0, tiles=tiles)
    assert torch.equal(still.styles, start)
    distance = ball.distance(worst.styles, start)
    assert (distance <= radius * 1.001 + 1e-6).all()
    if radius:
        assert (loss(worst.images) > loss(still.images)).all()
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert not worst.images.requires_grad
    # What a server makes of these styles.
    made = rt.synthesise(encodings, worst.styles[:, None], tiles=tiles)[:, 0]
    check_near(worst.images * 255, made, tiles)


def test_one_step_is_the_worst_of_the_ball_for_a_linear_loss(demo, bank):
    encodings, ball = demo.encode(tissue()), rt.StyleBall.of(bank)
    weights = torch.randn((3, 96, 96), generator=torch.Generator().manual_seed(6))
    # A model whose pixels stay around the middle of the range, so that none is clipped.
    model = dataclasses.replace(encodings.model, mean=(0.5, 0.5, 0.5), std=(0.001, 0.001, 0.001))
    faint = rt.TorchEncodings.of(dataclasses.replace(encodings, model=model))

    def linear(images):
        return (images * weights).sum((1, 2, 3))

    worst = rt.worst_case(faint, ball, linear, ball.mean, radius=2.0)
    offsets = torch.randn((200, 3, ball.axes.shape[1]), generator=torch.Generator().manual_seed(7))
    offsets = 2.0 * offsets / offsets.norm(dim=-1, keepdim=True)
    best = linear(worst.images)
    others = [linear(apply_styles(faint, ball.mean + offset @ ball.axes.T)) for offset in offsets]
    assert all((other < best).all() for other in others)


def test_a_batch_is_half_clean_and_half_worst(demo, bank):
    tiles, labels, classifier = tissue(), torch.tensor([0, 1, 1]), network()
    encodings, ball = demo.encode(tiles), rt.StyleBall.of(bank)

    def loss(images, labels):
        return torch.nn.functional.cross_entropy(classifier(images), labels)

    start = ball.mean
    images, doubled = rt.worst_case_batch(tiles, labels, encodings, ball, loss, start, radius=3.0)
    clean = torch.from_numpy(tiles).permute(0, 3, 1, 2)
    assert images.shape == (6, 3, 96, 96)
    assert torch.equal((images[:3] * 255).round().byte(), clean)
    assert doubled.tolist() == [0, 1, 1, 0, 1, 1]
    again, _ = rt.worst_case_batch(clean, labels, encodings, ball, loss, start, radius=3.0)
    assert torch.equal(images, again)
    # A training step on it lowers the loss of both halves.
    optimiser = torch.optim.SGD(classifier.parameters(), lr=0.1)
    before = [loss(half, labels).item() for half in images.chunk(2)]
    for _ in range(20):
        optimiser.zero_grad()
        loss(images, doubled).backward()
        optimiser.step()
    assert all(loss(half, labels).item() < was for half, was in zip(images.chunk(2), before, strict=True))


def test_a_loss_that_is_flat_moves_nothing_and_what_does_not_fit_is_refused(demo, bank):
    encodings, ball = demo.encode(tissue()), rt.StyleBall.of(bank)
    flat = rt.worst_case(encodings, ball, lambda images: images.sum() * 0, ball.mean)
    assert torch.equal(flat.styles, ball.mean.expand(3, -1))
    for name, options in {"radius is -1": {"radius": -1}, "steps is 0": {"steps": 0}}.items():
        with pytest.raises(ValueError, match=name):
            rt.worst_case(encodings, ball, torch.sum, ball.mean, **options)
    other = dataclasses.replace(encodings, model=dataclasses.replace(encodings.model, bundle="other"))
    with pytest.raises(ValueError, match="of bundle 'other'"):
        rt.worst_case(other, ball, torch.sum, ball.mean)
    with pytest.raises(KeyError, match="nowhere"):
        rt.StyleBall.of(bank, domains=["nowhere"])
