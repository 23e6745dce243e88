"""Trains a classifier with Lightning on tiles and their variants.

    python examples/lightning_module.py data/tiles --url http://127.0.0.1:8080     # data/tiles: CLASS/*.png

Needs `pip install 'restain[torch]' lightning torchvision`. `Tiles` is a DataModule for your own trainer: training
batches hold every tile and one variant, validation batches the tiles alone.
"""

from __future__ import annotations

import argparse

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from restain import Client
from restain.torch import RestainDataset

AS_FLOAT = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


class Tiles(lightning.LightningDataModule):
    """Tiles in folders by class, a fifth of them for validation."""

    def __init__(self, folder: str, url: str, batch_size: int = 32, workers: int = 2, seed: int = 7) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        tiles = ImageFolder(self.hparams.folder, transform=AS_FLOAT)
        self.classes = len(tiles.classes)
        generator = torch.Generator().manual_seed(self.hparams.seed)
        self.training, self.held_out = random_split(tiles, [0.8, 0.2], generator)

    def train_dataloader(self) -> DataLoader:
        # Epochs count themselves, and every process of a distributed trainer gets its share.
        options = {"batch_size": self.hparams.batch_size, "seed": self.hparams.seed}
        batches = RestainDataset(self.training, Client(self.hparams.url), **options)
        return DataLoader(batches, batch_size=None, num_workers=self.hparams.workers)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.held_out, batch_size=self.hparams.batch_size)


class Classifier(lightning.LightningModule):
    def __init__(self, classes: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(3, 16, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.network = nn.Sequential(*convolutions, nn.Linear(16, classes))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        images, labels = batch
        self.log("accuracy", (self.network(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", help="folders CLASS/*.png")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    tiles = Tiles(options.tiles, options.url, workers=options.workers)
    tiles.setup("fit")
    trainer = lightning.Trainer(max_epochs=options.epochs, logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(tiles.classes), tiles)
    print(f"accuracy {trainer.callback_metrics['accuracy']:.3f} after {trainer.global_step} updates")


if __name__ == "__main__":
    main()
