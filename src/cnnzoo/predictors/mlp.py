"""A fully connected network in Lightning: hidden ReLU layers with dropout, a logistic output, squared error.

Trained as in the published study, but what decides when to stop is set aside from the training rows (the published
notebook stopped on the test half), and the best weights are kept instead of the last.

Shape letters: n rows, B rows of a minibatch, E encoded features, H hidden units.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from optuna.trial import BaseTrial
from sklearn.utils import check_random_state
from torch import Tensor, nn

from cnnzoo.predictors.base import Arrays, Floats, Predictor, mean_logit, set_aside
from cnnzoo.predictors.fitting import Batch, Regressor, Schedule, fit_module, seeded
from cnnzoo.predictors.tables import SCALINGS, Encoder, Scaling, Table

OptimizerName = Literal["adam", "sgd"]
OPTIMIZERS: tuple[OptimizerName, ...] = ("adam", "sgd")


class DNN(Predictor):
    """`hidden_layers` layers of `hidden_units` ReLU units, dropout after each, squared error + l2 * |kernels|**2.

    A random `validation_fraction` of the training rows decides when to stop: after `patience` epochs without a better
    validation error, at the latest after `max_epochs`. The result is a function of the data, the settings and
    `random_state` alone: the global random state is neither used nor changed.
    """

    def __init__(
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

    version: ClassVar[int] = 2
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
        learning = self._tensors(table.rows(learn), fractions[learn])
        stopping = self._tensors(table.rows(stop), fractions[stop])
        with seeded(seed):
            module = _Module(self, learning[0].shape[1], start=mean_logit(fractions[learn]))
            schedule = Schedule(self.minibatch, self.max_epochs, self.patience)
            self.epochs_ = fit_module(module, learning, schedule, seed, stopping)
        self.network_ = _to_arrays(module.linear)

    def _tensors(self, table: Table, fractions: Floats) -> tuple[Tensor, Tensor]:
        inputs = torch.from_numpy(self.encoder_.transform(table).astype(np.float32))  # (n, E)
        return inputs, torch.from_numpy(fractions.astype(np.float32))

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
        self.encoder_ = Encoder(values["scaling"], self.categories_, arrays)
        self.epochs_ = values["epochs"]


class _Module(Regressor):
    """The network in training. It begins by predicting one value for all, whose logit is `start`."""

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
        nn.init.constant_(output.bias, start)
        self.network = nn.Sequential(*layers, output)
        self.linear = [layer for layer in (*layers, output) if isinstance(layer, nn.Linear)]

    def error(self, batch: Batch) -> Tensor:
        """Return the mean squared error of a minibatch: inputs (B, E), fractions (B,)."""
        inputs, fractions = batch
        return nn.functional.mse_loss(torch.sigmoid(self.network(inputs)[:, 0]), fractions)

    def penalty(self) -> Tensor:
        """Return the penalty; as in the published code the output layer's kernel has none."""
        hidden = [layer.weight for layer in self.linear[:-1]]
        return self.settings.l2 * sum((kernel.square().sum() for kernel in hidden), torch.zeros(()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer; adam in its fused form, which passes over the parameters once."""
        if self.settings.optimizer == "adam":
            return torch.optim.Adam(self.parameters(), self.settings.learning_rate, fused=True)
        return torch.optim.SGD(self.parameters(), self.settings.learning_rate)


def _to_arrays(linear: list[nn.Linear]) -> list[tuple[Any, Any]]:
    """Return (kernel (in, out), bias (out,)) of each layer, float32."""
    return [(layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()) for layer in linear]
