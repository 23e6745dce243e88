"""Does augmentation help on a hospital that a classifier has never seen? Measured on tiles of made-up hospitals.

    restain-train phantom --out data/phantom --tiles-per-domain 400 --size 96
    restain-train fit --data data/seen --out models/phantom/1        # data/seen: without the hospital that is left out
    restain-train styles --bundle models/phantom/1 --data data/seen
    restain serve --models models
    python examples/phantom.py data/phantom --unseen hospital_4

Two small networks are trained alike, for as many updates, on the tiles of all hospitals but one: one on the tiles as
they are, one on batches that hold a variant of each of their tiles as well. Both are then asked about tiles of the
known hospitals that were kept back, and about the hospital that was left out; the server is configured not to use that
hospital's styles, if it has them. A figure measured here says nothing about real slides.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from restain import Client, Style
from restain.torch import RestainDataset


def folder(root: Path, domain: str, classes: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """The tiles of a hospital, uint8 [n, 3, H, W], and their classes."""
    files = [
        (path, label) for label, name in enumerate(classes) for path in sorted((root / domain / name).glob("*.png"))
    ]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor([label for _, label in files])


def network(classes: int) -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(3, 16), *block(16, 32), *block(32, 64), *block(64, 64)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def values(images: torch.Tensor) -> torch.Tensor:
    """Pixels as the network takes them."""
    return images.float() / 127.5 - 1


def train(loader: DataLoader, dataset: RestainDataset | None, classes: int, epochs: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = network(classes)
    updates = epochs * len(loader)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=updates)
    model.train()
    for epoch in range(epochs):
        if dataset is not None:
            dataset.set_epoch(epoch)
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(values(images)), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    right = [
        (model(values(part)).argmax(1) == said) for part, said in zip(images.split(64), labels.split(64), strict=True)
    ]
    return float(torch.cat(right).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folders DOMAIN/CLASS/*.png")
    parser.add_argument("--unseen", help="the hospital to leave out (the last one)")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--model")
    parser.add_argument("--method", choices=["vit", "color-match", "hed-jitter"], default="vit")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3, help="seeds to train with")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    domains = sorted(path.name for path in options.data.iterdir() if path.is_dir())
    unseen = options.unseen or domains[-1]
    classes = sorted(path.name for path in (options.data / unseen).iterdir())
    known = [folder(options.data, domain, classes) for domain in domains if domain != unseen]
    # Every fifth tile of the known hospitals is kept back.
    kept = [torch.arange(len(labels)) % 5 == 0 for _, labels in known]
    training = [torch.cat([part[i][~held] for part, held in zip(known, kept, strict=True)]) for i in (0, 1)]
    inside = [torch.cat([part[i][held] for part, held in zip(known, kept, strict=True)]) for i in (0, 1)]
    outside = folder(options.data, unseen, classes)
    print(f"{len(training[1])} tiles of {', '.join(d for d in domains if d != unseen)} to train on; unseen: {unseen}")

    client = Client(options.url, model=options.model)
    has_unseen = unseen in [domain.domain for domain in client.styles().domains]
    style = Style(exclude_domains=[unseen]) if has_unseen else None
    slides = TensorDataset(*training)
    print("| | known hospitals | unseen hospital | seconds |\n|---|---|---|---|")
    for name in ("without", options.method):
        scores, started = [], time.monotonic()
        for seed in range(options.runs):
            if name == "without":
                generator = torch.Generator().manual_seed(seed)
                dataset, loader = None, DataLoader(slides, batch_size=32, shuffle=True, generator=generator)
            else:
                dataset = RestainDataset(slides, client, batch_size=32, seed=seed, method=options.method, style=style)
                loader = DataLoader(dataset, batch_size=None, num_workers=options.workers, persistent_workers=True)
            model = train(loader, dataset, len(classes), options.epochs, seed)
            scores.append((accuracy(model, *inside), accuracy(model, *outside)))
        means = np.mean(scores, axis=0)
        each = [", ".join(f"{score[i]:.3f}" for score in scores) for i in (0, 1)]
        seconds = time.monotonic() - started
        print(f"| {name} | {means[0]:.3f} ({each[0]}) | {means[1]:.3f} ({each[1]}) | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
