"""Loaders and the data module: every row once, the same batches with worker processes, nothing seen twice."""

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
from torch import nn

from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.trainer import make_trainer
from cnnzoo.data import EpochBatches, ZooDataModule, ZooDataset, make_loader
from cnnzoo.zoo import Collection


def epoch_of(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 24, 100])
def test_each_row_comes_once_in_an_epoch(batch_size, drop_last):
    batches = EpochBatches(24, batch_size, shuffle=True, drop_last=drop_last, seed=2)
    places = [batch.places.tolist() for batch in batches]
    assert len(places) == len(batches)
    flat = [place for batch in places for place in batch]
    assert len(set(flat)) == len(flat) == (24 // batch_size * batch_size if drop_last else 24)
    assert all(len(batch) == batch_size for batch in places[:-1])


def test_the_order_is_that_of_the_seed_and_the_epoch():
    def order(seed, epoch, shuffle=True):
        batches = EpochBatches(24, 24, shuffle=shuffle, seed=seed)
        batches.set_epoch(epoch)
        return next(iter(batches)).places.tolist()

    assert order(1, 0, shuffle=False) == list(range(24))
    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_targets_stay_with_their_weights(zoo):
    data = ZooDataset(zoo)
    for weights, accuracy in make_loader(data, 7, shuffle=True, seed=1):
        for row, target in zip(weights, accuracy, strict=True):
            place = next(index for index in range(len(data)) if np.array_equal(zoo.weights[data.rows[index]], row))
            assert data.targets[place] == target


@pytest.mark.slow
def test_worker_processes_give_the_same_batches_as_none(zoo):
    data = ZooDataset(zoo, epochs="all", permute=True, seed=4)
    alone, workers = (make_loader(data, 7, shuffle=True, seed=4, num_workers=n) for n in (0, 2))
    for epoch in (0, 1):
        for (x, y), (theirs, their_y) in zip(epoch_of(alone, epoch), epoch_of(workers, epoch), strict=True):
            assert torch.equal(x, theirs)
            assert torch.equal(y, their_y)
    first, second = (torch.cat([x for x, _ in epoch_of(alone, epoch)]) for epoch in (0, 1))
    assert not torch.equal(first, second)


def test_a_batch_size_of_nothing_is_refused(zoo):
    with pytest.raises(CnnzooError, match="`batch_size` must be at least 1, got 0"):
        make_loader(ZooDataset(zoo), 0)


def module_of(zoo: Collection, **options) -> ZooDataModule:
    data = ZooDataModule(zoo.path, **options)
    data.setup()
    return data


@pytest.mark.parametrize("epochs", ["final", "all"])
def test_networks_train_validate_or_test(zoo, epochs):
    data = module_of(zoo, epochs=epochs, validation=0.25, seed=3)
    networks = [set(zoo.networks[part.rows]) for part in (data.train, data.val, data.test)]
    assert [len(found) for found in networks] == [9, 3, 12]
    assert networks[0] | networks[1] == set(zoo.networks[zoo.final("train")])
    assert networks[2] == set(zoo.networks[zoo.final("test")])
    other = module_of(zoo, epochs=epochs, validation=0.25, seed=4)
    assert set(zoo.networks[other.val.rows]) != networks[1]


@pytest.mark.parametrize("per", ["tensor", "parameter"])
def test_weights_are_standardised_by_the_training_networks_alone(zoo, per):
    data = module_of(zoo, standardize=per)
    raw = zoo.weights[data.train.rows].astype(np.float64)
    kernel = zoo.layout.variables[-1]
    part = raw[:, kernel.start : kernel.end]
    mean = part.mean(axis=0) if per == "parameter" else np.full(part.shape[1], part.mean())
    deviation = np.sqrt(np.square(part - mean).mean(axis=0 if per == "parameter" else None))
    test, _ = data.test[0]
    expected = (zoo.weights[data.test.rows[0]][kernel.start : kernel.end] - mean) / deviation
    assert np.allclose(test[kernel.start : kernel.end], expected, atol=1e-5)
    assert module_of(zoo, standardize=None).test[0][0].tolist() == zoo.weights[data.test.rows[0]].tolist()


def test_only_training_networks_are_permuted_and_shuffled(zoo):
    data = module_of(zoo, standardize=None, permute=True)
    for part, loader in ((data.val, data.val_dataloader()), (data.test, data.test_dataloader())):
        assert torch.equal(torch.cat([x for x, _ in loader]), torch.from_numpy(zoo.weights[part.rows]))
    assert torch.equal(next(iter(data.predict_dataloader()))[0], next(iter(data.test_dataloader()))[0])
    assert not torch.equal(data.train[0][0], torch.from_numpy(zoo.weights[data.train.rows[0]]))
    assert data.train_dataloader().sampler.shuffle


def test_options_reach_datasets_and_loaders(zoo):
    options = {"target": ["dropout"], "layers": True, "order": "torch", "where": "dropout < 0.5", "batch_size": 3}
    data = module_of(zoo, **options, seed=8, num_workers=2, pin_memory=True)
    weights, targets = data.train[0]
    assert next(iter(weights)) == "convolutions.0.weight"
    assert targets.shape == (1,)
    assert max(zoo.metrics["config.dropout"].iloc[part.rows].max() for part in (data.train, data.val, data.test)) < 0.5
    loader = data.train_dataloader()
    assert (loader.num_workers, loader.pin_memory, loader.sampler.batch_size, loader.sampler.seed) == (2, True, 3, 8)


class Fits(lightning.LightningModule):
    """A linear model that remembers what each epoch showed it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 1)
        self.seen: list[list[float]] = []
        self.tested = 0

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch, _):
        weights, target = batch
        self.seen[-1] += weights[:, 0].tolist()
        return nn.functional.mse_loss(self.linear(weights)[:, 0], target)

    def validation_step(self, batch, _):
        self.log("val_loss", nn.functional.mse_loss(self.linear(batch[0])[:, 0], batch[1]))

    def test_step(self, batch, index):
        self.tested += len(batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


@pytest.mark.slow
def test_lightning_trains_on_it_in_another_order_each_epoch(zoo):
    data, model = ZooDataModule(zoo.path, batch_size=4), Fits(zoo.layout.size)
    trainer = make_trainer([], max_epochs=3, accelerator="cpu")
    trainer.fit(model, data)
    assert len({tuple(epoch) for epoch in model.seen}) == 3
    assert len({tuple(sorted(epoch)) for epoch in model.seen}) == 1
    assert "val_loss" in trainer.callback_metrics
    trainer.test(model, data, verbose=False)
    assert model.tested == 12


@pytest.mark.parametrize("validation", [0.0, 1.0, -0.1])
def test_a_share_that_is_none_is_refused(zoo, validation):
    with pytest.raises(CnnzooError, match="`validation` must lie between 0 and 1"):
        ZooDataModule(zoo.path, validation=validation)


def test_too_few_networks_to_validate_are_named(zoo):
    with pytest.raises(CnnzooError, match=r"12 training networks cannot be divided with `validation=0\.01`"):
        module_of(zoo, validation=0.01)
