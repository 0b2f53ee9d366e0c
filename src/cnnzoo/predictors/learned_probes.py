"""A network that reads networks: it runs them on images it learns, describes their answers, and predicts from that.

A neural functional that does not see the order of hidden channels: all it knows of the weights are a network's
answers to learned probes (`probing.py`) and statistics of its layers. Trained in Lightning, squared error.

Shape letters: n rows, B rows of a minibatch, P parameters, D numbers that describe a network, E encoded columns.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.trial import BaseTrial
from sklearn.utils import check_random_state
from torch import Tensor, nn

from cnnzoo import features
from cnnzoo.features import Statistics, compute
from cnnzoo.network.hyperparameters import VALUES
from cnnzoo.predictors.base import Arrays, Floats, Predictor, mean_logit
from cnnzoo.predictors.fitting import Batch, Regressor, Schedule, fit_module, one_thread, seeded
from cnnzoo.predictors.probing import NetworkColumns, Probing, draw_probes, find_network
from cnnzoo.predictors.tables import Encoder, Table

ACTIVATION = "config.activation"
PERCENTILES = (0.0, 25.0, 50.0, 75.0, 100.0)
FURTHEST = 5.0
"""Standard deviations to which the descriptions are cut."""
SQUARABLE = 1e15
"""To what weights are cut before statistics are taken: sums of larger squares are infinite in float32."""
ROUNDING = 1e-4
"""A description that varies less is taken to be constant: what varies may be rounding errors."""
NORM_MOMENTUM = 0.05
BLOCK = 256
"""Networks that are run at a time: about 100 MB."""
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises; afterwards it falls to zero (Smith and Topin 2017)."""


class LearnedProbes(Predictor):
    """Probes, statistics of the layers and other columns -> `members` small networks -> their mean.

    It reads the raw weights of whole networks: a DataFrame with the columns of the feature set `weights`. A column
    `config.activation` (`hyper.activation+weights`) says with which activation to run a network; without it each is
    run with both. All other columns are encoded and go beside the descriptions. A table without the weights of whole
    networks (arrays, statistics) has such columns alone: what then remains are the small networks.

    `probe_learning_rate` 0 keeps the probes as they are drawn: the networks are run once instead of once an epoch. The
    learning rate falls to zero within `epochs`, or `max_epochs` if these are fewer; nothing is set aside to stop
    earlier (on 256 networks that cost more than it gave). The result is a function of the data, the settings and
    `random_state` alone: the global random state is neither used nor changed.
    """

    def __init__(
        self,
        probes: int = 32,
        probe_learning_rate: float = 3e-3,
        hidden_layers: int = 2,
        hidden_units: int = 128,
        members: int = 3,
        dropout: float = 0.1,
        weight_decay: float = 1e-3,
        learning_rate: float = 3e-3,
        minibatch: int = 32,
        epochs: int = 40,
        max_epochs: int = 300,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.probes = probes
        self.probe_learning_rate = probe_learning_rate
        self.hidden_layers = hidden_layers
        self.hidden_units = hidden_units
        self.members = members
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.minibatch = minibatch
        self.epochs = epochs
        self.max_epochs = max_epochs
        self.random_state = random_state

    version: ClassVar[int] = 2
    start: ClassVar[dict[str, Any]] = {
        "probe_learning_rate": 3e-3,
        "hidden_units": 128,
        "dropout": 0.1,
        "weight_decay": 1e-3,
        "learning_rate": 3e-3,
    }

    @classmethod
    def versions(cls) -> tuple[int, ...]:
        """Return its own version and that of the features, as it computes statistics itself."""
        return (cls.version, features.VERSION)

    @classmethod
    def suggest(cls, trial: BaseTrial) -> dict[str, Any]:
        """Draw settings of the head and whether probes are learned; the number of probes mattered little."""
        return {
            "probe_learning_rate": trial.suggest_categorical("probe_learning_rate", (0.0, 3e-3)),
            "hidden_units": trial.suggest_int("hidden_units", 64, 256, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.4),
            "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True),
        }

    def _learn(self, table: Table, fractions: Floats) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        network = self._network()
        self.encoder_ = Encoder.fit(_other_columns(table, network), "normal")
        with seeded(seed):
            probing = None
            if network is not None:
                probing = Probing(draw_probes(self.probes, network.layout, np.random.default_rng(seed)), network.layout)
            inputs = self._inputs(table)
            described = _describe(probing, inputs)  # (n, D + E)
            module = _Module(self, probing, described, start=mean_logit(fractions))
            if not module.learns_probes:  # then the networks need not be run again
                inputs = (described,)
            schedule = Schedule(self.minibatch, min(self.epochs, self.max_epochs))
            fit_module(module, (*inputs, torch.from_numpy(fractions.astype(np.float32))), schedule, seed)
        self.module_ = module.eval()

    def _network(self) -> NetworkColumns | None:
        return find_network([str(name) for name in getattr(self, "feature_names_in_", ())])

    def _inputs(self, table: Table) -> tuple[Tensor, ...]:
        """Return the encoded columns (n, E), and if there are networks their weights (n, P) and which have relu (n,).

        Without knowledge of the activation the last one is missing.
        """
        network = self._network()
        encoded = torch.from_numpy(self.encoder_.transform(_other_columns(table, network)).astype(np.float32))
        if network is None:
            return (encoded,)
        weights = torch.from_numpy(table.values[:, network.positions].astype(np.float32))
        is_relu = self._is_relu(table)
        return (encoded, weights) if is_relu is None else (encoded, weights, torch.from_numpy(is_relu))

    def _is_relu(self, table: Table) -> NDArray[np.bool_] | None:
        names = list(self.feature_names_in_)
        column = names.index(ACTIVATION) if ACTIVATION in names else -1
        known = table.categories.get(column, ())
        if not known or not set(known) <= set(VALUES["activation"]):
            return None
        return np.array([known[int(code)] == "relu" for code in table.values[:, column]], dtype=bool)

    def _predict_fractions(self, table: Table) -> Floats:
        with torch.no_grad():
            described = _describe(self.module_.probing, self._inputs(table))
            return np.asarray(self.module_.head_in_double(described).numpy(), dtype=np.float64)

    def _state(self, folder: Path) -> tuple[dict[str, Any], Arrays]:
        state = {f"module.{name}": value.numpy() for name, value in self.module_.state_dict().items()}
        return {}, state | dict(self.encoder_.arrays)

    def _restore(self, folder: Path, values: dict[str, Any], arrays: Arrays) -> None:
        names = [name for name in arrays if name.startswith("module.")]
        state = {name.removeprefix("module."): torch.from_numpy(arrays.pop(name)) for name in names}
        network = self._network()
        categories = _other_categories(self.categories_, self.n_features_in_, network)
        self.encoder_ = Encoder("normal", categories, arrays)
        probing = None if network is None else Probing(state["probing.probes"], network.layout)
        with seeded(0):
            self.module_ = _Module(self, probing, torch.zeros(2, len(state["centre"])), start=0.0)
        shapes = {name: value.shape for name, value in self.module_.state_dict().items()}
        self.module_.load_state_dict({name: value.reshape(shapes[name]) for name, value in state.items()})
        self.module_.eval()


def _other_categories(categories: Any, columns: int, network: NetworkColumns | None) -> Any:
    """Return the categorical columns by their position among the columns that are not weights."""
    taken = set() if network is None else set(network.positions.tolist())
    order = {column: place for place, column in enumerate(c for c in range(columns) if c not in taken)}
    return {order[column]: known for column, known in categories.items()}


def _other_columns(table: Table, network: NetworkColumns | None) -> Table:
    """Return the columns that are not weights, and after them the statistics of each layer of the networks."""
    categories = _other_categories(table.categories, table.values.shape[1], network)
    if network is None:
        return table
    values = np.delete(table.values, network.positions, axis=1)
    part = Statistics("statistics", tuple(range(len(network.layout.layers))), PERCENTILES)
    weights = np.clip(table.values[:, network.positions], -SQUARABLE, SQUARABLE).astype(np.float32, order="C")
    (statistics,) = compute(weights, network.layout, [part])
    return Table(np.concatenate([values, statistics], axis=1), categories)


def _describe(probing: Probing | None, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return what the small networks read of many rows (n, D + E), a block of networks at a time."""
    with torch.no_grad(), one_thread():
        blocks = zip(*(torch.split(part, BLOCK) for part in inputs), strict=True)
        return torch.cat([_join(probing, block) for block in blocks])


def _join(probing: Probing | None, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return descriptions and encoded columns (B, D + E)."""
    if probing is None:
        return inputs[0]
    encoded, weights, *activation = inputs
    return torch.cat([probing(weights, activation[0] if activation else None), encoded], dim=1)


class _Module(Regressor):
    """Probes and small networks in training. They begin by predicting one value for all, whose logit is `start`."""

    def __init__(self, settings: LearnedProbes, probing: Probing | None, described: Tensor, start: float) -> None:
        super().__init__()
        self.settings = settings
        self.probing = probing
        std, mean = torch.std_mean(described, dim=0, correction=0)
        self.register_buffer("centre", mean)
        self.register_buffer("scale", torch.where(std > ROUNDING * (1 + mean.abs()), std, torch.ones(())))
        self.norm = nn.BatchNorm1d(described.shape[1], momentum=NORM_MOMENTUM)
        self.members = nn.ModuleList(self._member(described.shape[1], start) for _ in range(settings.members))

    def _member(self, width: int, start: float) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(self.settings.hidden_layers):
            layers += [nn.Linear(width, self.settings.hidden_units), nn.ReLU(), nn.Dropout(self.settings.dropout)]
            width = self.settings.hidden_units
        output = nn.Linear(width, 1)
        nn.init.zeros_(output.weight)
        nn.init.constant_(output.bias, start)
        return nn.Sequential(*layers, output)

    @property
    def learns_probes(self) -> bool:
        """Whether the networks are run in every epoch."""
        return self.probing is not None and self.settings.probe_learning_rate > 0

    def head(self, described: Tensor) -> Tensor:
        """Return each member's fractions (B, M) from descriptions (B, D + E)."""
        scaled = (described - self.centre) / self.scale  # type: ignore[operator]
        if not self.training or len(scaled) > 1:  # one row has no variance
            scaled = self.norm(scaled)
        scaled = scaled.clamp(-FURTHEST, FURTHEST)
        return torch.sigmoid(torch.cat([member(scaled) for member in self.members], dim=1))

    def head_in_double(self, described: Tensor) -> Tensor:
        """Return the mean fractions (B,) in float64, where the result hardly depends on how rows are batched."""
        self.double()
        try:
            return self.head(described.double()).mean(1)
        finally:
            self.float()

    def error(self, batch: Batch) -> Tensor:
        """Return the members' mean squared error of a minibatch: inputs (or descriptions) and fractions (B,)."""
        *inputs, fractions = batch
        described = _join(self.probing, tuple(inputs)) if self.learns_probes else inputs[0]
        return (self.head(described) - fractions[:, None]).square().mean()

    def configure_optimizers(self) -> Any:
        """Return AdamW, and a schedule of one cycle over all steps."""
        rates = [self.settings.learning_rate]
        groups: list[dict[str, Any]] = [{"params": [*self.norm.parameters(), *self.members.parameters()]}]
        if self.probing is not None and self.learns_probes:
            rates.append(self.settings.probe_learning_rate)
            groups.append({"params": self.probing.parameters(), "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=rates[0], weight_decay=self.settings.weight_decay)
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        rise = WARM_UP if steps * WARM_UP != 1 else WARM_UP / 2  # torch divides by the rise less one step
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=rise)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
