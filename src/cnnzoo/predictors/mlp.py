"""A fully connected network in Lightning: hidden ReLU layers with dropout, a logistic output, squared error.

Trained as in the published study, but what decides when to stop is set aside from the training rows (the published
notebook stopped on the test half), and the best weights are kept instead of the last.

Shape letters: n rows, B rows of a minibatch, E encoded features, H hidden units.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytorch_lightning as lightning
import torch
from optuna.trial import BaseTrial
from sklearn.utils import check_random_state
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from cnnzoo.predictors.base import Arrays, Floats, Predictor, set_aside
from cnnzoo.predictors.tables import SCALINGS, Encoder, Scaling, Table

OptimizerName = Literal["adam", "sgd"]
OPTIMIZERS: tuple[OptimizerName, ...] = ("adam", "sgd")
VALIDATION_BATCH = 4096
VALIDATION_LOSS = "validation_loss"


class DNN(Predictor):
    """`hidden_layers` layers of `hidden_units` ReLU units, dropout after each, squared error + l2 * |kernels|**2.

    A random `validation_fraction` of the training rows decides when to stop: after `patience` epochs without a better
    validation error, at the latest after `max_epochs`. The result is a function of the data, the settings and
    `random_state` alone: the global random state is neither used nor changed.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - scikit-learn: each setting is an argument
        self,
        hidden_layers: int = 3,
        hidden_units: int = 256,
        dropout: float = 0.05,
        l2: float = 1e-6,
        optimizer: OptimizerName = "adam",
        learning_rate: float = 2e-3,
        minibatch: int = 64,
        scaling: Scaling = "normal",
        max_epochs: int = 300,
        patience: int = 20,
        validation_fraction: float = 0.15,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.hidden_layers = hidden_layers
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.l2 = l2
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.minibatch = minibatch
        self.scaling = scaling
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    start: ClassVar[dict[str, Any]] = {
        "hidden_layers": 3,
        "hidden_units": 256,
        "dropout": 0.05,
        "l2": 1e-6,
        "optimizer": "adam",
        "learning_rate_adam": 2e-3,
        "minibatch": 64,
        "scaling": "normal",
    }

    @classmethod
    def suggest(cls, trial: BaseTrial) -> dict[str, Any]:
        """Draw settings: the published ranges, and narrower, smaller networks for small collections."""
        optimizer = trial.suggest_categorical("optimizer", OPTIMIZERS)
        rates = {"adam": (2e-4, 1e-2), "sgd": (1e-2, 0.5)}[optimizer]
        return {
            "hidden_layers": trial.suggest_int("hidden_layers", 3, 9),
            "hidden_units": trial.suggest_int("hidden_units", 64, 512, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.2),
            "l2": trial.suggest_float("l2", 1e-8, 1e-3, log=True),
            "optimizer": optimizer,
            "learning_rate": trial.suggest_float(f"learning_rate_{optimizer}", *rates, log=True),
            "minibatch": trial.suggest_categorical("minibatch", (32, 64, 128, 256, 512)),
            "scaling": trial.suggest_categorical("scaling", SCALINGS),
        }

    def _learn(self, table: Table, fractions: Floats) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"`optimizer` is {self.optimizer!r}, allowed are {', '.join(map(repr, OPTIMIZERS))}")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        learn, stop = set_aside(len(fractions), self.validation_fraction, np.random.default_rng(seed))
        self.encoder_ = Encoder.fit(table.rows(learn), self.scaling)
        learning = self._dataset(table.rows(learn), fractions[learn])
        stopping = self._dataset(table.rows(stop), fractions[stop])
        with _seeded(seed), _quiet():
            module = _Module(self, learning.tensors[0].shape[1], start=float(fractions[learn].mean()))
            keeper = _KeepBest(self.patience, stopping)
            trainer = lightning.Trainer(
                accelerator="cpu",
                devices=1,
                max_epochs=self.max_epochs,
                callbacks=[keeper],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
            )
            order = RandomSampler(learning, generator=torch.Generator().manual_seed(seed))
            batches = _loader(learning, order, self.minibatch)
            held = _loader(stopping, SequentialSampler(stopping), VALIDATION_BATCH)
            trainer.fit(module, batches, held if len(stop) else None)
        keeper.restore(module)
        self.epochs_ = trainer.current_epoch if keeper.best is None else keeper.best_epoch
        self.network_ = _to_arrays(module.linear)

    def _dataset(self, table: Table, fractions: Floats) -> TensorDataset:
        inputs = torch.from_numpy(self.encoder_.transform(table).astype(np.float32))  # (n, E)
        return TensorDataset(inputs, torch.from_numpy(fractions.astype(np.float32)))

    def _predict_fractions(self, table: Table) -> Floats:
        """Evaluate in float64, where the result does not depend on how rows are batched."""
        hidden = self.encoder_.transform(table)  # (n, E), then (n, H)
        *layers, (weight, bias) = self.network_
        for kernel, shift in layers:
            hidden = np.maximum(hidden @ kernel.astype(np.float64) + shift, 0)
        score = hidden @ weight.astype(np.float64) + bias  # (n, 1)
        return np.asarray(1 / (1 + np.exp(-np.clip(score[:, 0], -500, 500))), dtype=np.float64)

    def _state(self, folder: Path) -> tuple[dict[str, Any], Arrays]:
        arrays: Arrays = dict(self.encoder_.arrays)
        for index, (kernel, bias) in enumerate(self.network_):
            arrays |= {f"layer_{index}.kernel": kernel, f"layer_{index}.bias": bias}
        return {"scaling": self.encoder_.scaling, "epochs": self.epochs_, "layers": len(self.network_)}, arrays

    def _restore(self, folder: Path, values: dict[str, Any], arrays: Arrays) -> None:
        self.network_ = [
            (arrays.pop(f"layer_{index}.kernel"), arrays.pop(f"layer_{index}.bias"))
            for index in range(values["layers"])
        ]
        self.encoder_ = Encoder(values["scaling"], self.words_, arrays)
        self.epochs_ = values["epochs"]


class _Module(lightning.LightningModule):
    """The network in training. It begins by predicting `start`, the mean target: few steps then do no harm."""

    def __init__(self, settings: DNN, inputs: int, start: float) -> None:
        super().__init__()
        self.settings = settings
        layers: list[nn.Module] = []
        width = inputs
        for _ in range(settings.hidden_layers):
            linear = nn.Linear(width, settings.hidden_units)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.ReLU(), nn.Dropout(settings.dropout)]
            width = settings.hidden_units
        output = nn.Linear(width, 1)
        nn.init.zeros_(output.weight)
        nn.init.constant_(output.bias, float(np.log((start + 1e-3) / (1 - start + 1e-3))))
        self.network = nn.Sequential(*layers, output)
        self.linear = [layer for layer in (*layers, output) if isinstance(layer, nn.Linear)]

    def error(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean squared error of a minibatch: inputs (B, E), fractions (B,)."""
        inputs, fractions = batch
        return nn.functional.mse_loss(torch.sigmoid(self.network(inputs)[:, 0]), fractions)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss; as in the published code the output layer's kernel is not penalised."""
        hidden = [layer.weight for layer in self.linear[:-1]]
        penalty = sum((kernel.square().sum() for kernel in hidden), torch.zeros(()))
        return self.error(batch) + self.settings.l2 * penalty

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log the validation error, weighted by the rows of each batch."""
        self.log(VALIDATION_LOSS, self.error(batch), on_epoch=True, batch_size=len(batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer; adam in its fused form, which passes over the parameters once."""
        if self.settings.optimizer == "adam":
            return torch.optim.Adam(self.parameters(), self.settings.learning_rate, fused=True)
        return torch.optim.SGD(self.parameters(), self.settings.learning_rate)


class _KeepBest(lightning.Callback):
    """Early stopping that keeps the best weights in memory (Lightning's own pair needs checkpoints on disk).

    The untrained network takes part: a training that diverges falls back to the mean.
    """

    def __init__(self, patience: int, held: TensorDataset) -> None:
        self.patience = patience
        self.held = held
        self.best_loss = float("inf")
        self.best_epoch = 0
        self.best: dict[str, Tensor] | None = None

    def on_fit_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Note the untrained network, if anything was set aside to compare it on."""
        assert isinstance(module, _Module)
        if len(self.held):
            with torch.no_grad():
                self._note(float(module.eval().error((self.held.tensors[0], self.held.tensors[1]))), 0, module)
            module.train()

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Note the epoch if it is the best so far; stop after `patience` epochs without a better one."""
        loss, epoch = float(trainer.callback_metrics[VALIDATION_LOSS]), trainer.current_epoch + 1
        if loss < self.best_loss:
            self._note(loss, epoch, module)
        elif epoch - self.best_epoch >= self.patience:
            trainer.should_stop = True

    def _note(self, loss: float, epoch: int, module: lightning.LightningModule) -> None:
        self.best_loss, self.best_epoch = loss, epoch
        self.best = {name: value.clone() for name, value in module.state_dict().items()}

    def restore(self, module: lightning.LightningModule) -> None:
        """Give the module its best weights back, if there was a validation."""
        if self.best is not None:
            module.load_state_dict(self.best)


def _loader(dataset: TensorDataset, order: Any, size: int) -> DataLoader[Any]:
    """Return minibatches that are cut out of the tensors by one indexing each, not row by row."""
    return DataLoader(dataset, sampler=BatchSampler(order, size, drop_last=False), batch_size=None)


def _to_arrays(linear: list[nn.Linear]) -> list[tuple[Any, Any]]:
    """Return (kernel (in, out), bias (out,)) of each layer, float32."""
    return [(layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()) for layer in linear]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator (initialisers and dropout have no other) and put its state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's notes on devices and its advice on data-loading workers: the data lie in memory."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
