"""Epochs count themselves under Lightning and accelerate, which tell a dataset nothing or something."""

import pytest
import torch
from served import tiles
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import restain
from restain.torch import RestainCollate, RestainDataset

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:lightning.pytorch.utilities.warnings.PossibleUserWarning"),
]

WORKERS = [(0, False), (2, False), (2, True)]
COUNT, BATCH = 8, 2
SLIDES = [(tile, number) for number, tile in enumerate(tiles(COUNT, seed=3))]


def loader(client, part, workers, persists, kind=DataLoader):
    options = {"num_workers": workers, "persistent_workers": persists}
    if part == "dataset":
        dataset = RestainDataset(SLIDES, client, batch_size=BATCH, originals=False, seed=7)
        return kind(dataset, batch_size=None, **options)
    collate = RestainCollate(client, originals=False, seed=7)
    return kind(SLIDES, batch_size=BATCH, shuffle=True, collate_fn=collate, **options)


def expected(client, epoch):
    several = client.augment([tile for tile, _ in SLIDES], seed=restain.epoch_seed(7, epoch)).variants[:, 0]
    return {number: tile.transpose(2, 0, 1).tobytes() for number, tile in enumerate(several)}


def seen(batches):
    return {int(n): image.numpy().tobytes() for batch in batches for image, n in zip(*batch, strict=True)}


def fit(made, epochs, save=None, resume=None):
    """Runs Lightning, and returns the batches of each epoch. With `save`, it is interrupted there in step 6."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.batches = {}

        def training_step(self, batch, _):
            self.batches.setdefault(self.current_epoch, []).append(batch)
            return self.weight * batch[1].sum()

        def on_train_batch_end(self, *_):
            if save is not None and self.global_step == 6:
                self.trainer.save_checkpoint(save)
                raise KeyboardInterrupt

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", enable_checkpointing=False, **quiet)
    try:
        trainer.fit(module, made, ckpt_path=resume)
    except (KeyboardInterrupt, SystemExit):
        assert save is not None
    return module.batches


@pytest.mark.parametrize(("workers", "persists"), WORKERS)
@pytest.mark.parametrize("part", ["dataset", "collate"])
def test_lightning_repeats_no_epoch(client, part, workers, persists):
    batches = fit(loader(client, part, workers, persists), 3)
    for epoch in range(3):
        assert seen(batches[epoch]) == expected(client, epoch)


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_resumes_within_an_epoch_with_torchdatas_loader(serve, count, tmp_path, workers):
    server = serve()
    with restain.Client(server.url) as client:
        whole = [expected(client, epoch) for epoch in range(3)]
        saved = tmp_path / "last.ckpt"
        first = fit(loader(client, "dataset", workers, False, StatefulDataLoader), 3, save=saved)
        before = count(server, "restain_variants_total")
        rest = fit(loader(client, "dataset", workers, False, StatefulDataLoader), 3, resume=saved)
        assert seen(first[0]) == whole[0]
        assert seen(first[1]) | seen(rest[1]) == whole[1]
        assert not set(seen(first[1])) & set(seen(rest[1]))
        assert seen(rest[2]) == whole[2]
        assert count(server, "restain_variants_total") - before == COUNT // 2 + COUNT


@pytest.mark.parametrize(("workers", "persists"), WORKERS)
@pytest.mark.parametrize("part", ["dataset", "collate"])
def test_accelerate_repeats_no_epoch(client, part, workers, persists):
    import accelerate

    made = accelerate.Accelerator(cpu=True).prepare(loader(client, part, workers, persists))
    for epoch in range(3):
        assert seen(made) == expected(client, epoch)
