"""How networks are fitted, on a module that counts its steps: the weight after an epoch tells which epoch it was."""

import math

import pytest
import torch
from torch import Tensor

from cnnzoo.predictors.fitting import Batch, Regressor, Schedule, fit_module, seeded


class Counter(Regressor):
    """Its weight grows by 1 with each step of SGD; its error on rows set aside follows a script by that weight."""

    def __init__(self, script: list[float]) -> None:
        super().__init__()
        self.script = script
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[float] = []
        self.batches: list[list[float]] = []

    def error(self, batch: Batch) -> Tensor:
        if self.training:
            self.batches.append(batch[-1].tolist())
            return -self.weight
        self.seen.append(float(self.weight))
        return torch.tensor(self.script[round(float(self.weight))])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def rows(count: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(count, 1), torch.arange(count, dtype=torch.float32)


@pytest.mark.parametrize(
    ("script", "patience", "best", "last"),
    [
        ([6, 5, 4, 3, 2, 1, 0], 2, 6, 6),  # ever better
        ([6, 5, 4, 9, 9, 1, 0], 2, 2, 4),  # two epochs without a better one, though a better one would follow
        ([6, 5, 4, 9, 9, 1, 0], 3, 6, 6),
        ([6, 5, 4, 9, 9, 1, 7], 3, 5, 6),  # the best is not the last
        ([1, 5, 4, 3, 2, 2, 2], 4, 0, 4),  # none is better than the untrained network
        ([6, 5, 5, 5, 5, 1, 0], 2, 1, 3),  # as good is not better
        ([6, math.nan, math.nan, 1, 1, 1, 1], 2, 0, 2),
    ],
)
def test_the_weights_of_the_best_epoch_are_kept_and_training_stops_after_patience(script, patience, best, last):
    module = Counter(script)
    found = fit_module(module, rows(4), Schedule(4, 6, patience), seed=0, stopping=rows(3))
    assert found == best
    assert float(module.weight) == best
    assert sorted(set(module.seen)) == list(range(last + 1))


@pytest.mark.parametrize("stopping", [None, rows(0)])
def test_with_nothing_set_aside_training_runs_to_its_limit(stopping):
    module = Counter([])
    assert fit_module(module, rows(4), Schedule(4, 6, patience=1), seed=0, stopping=stopping) == 6
    assert float(module.weight) == 6


class Level(Counter):
    """Its error is that of a constant: it compares the weight with the fractions."""

    def error(self, batch: Batch) -> Tensor:
        error = (self.weight - batch[-1]).square().mean()
        return super().error(batch) if self.training else error


def test_the_validation_error_is_the_mean_over_rows_not_over_batches():
    """Rows are validated 4,096 at a time: the four of the last batch count as four rows."""
    held = torch.zeros(4100)
    held[-4:] = 100.0
    module = Level([])
    assert fit_module(module, rows(2), Schedule(2, 3, patience=9), 0, (torch.zeros(4100, 1), held)) == 0


class Penalised(Counter):
    """Its penalty takes back twice what the error gives."""

    def penalty(self) -> Tensor:
        return 2 * self.weight


def test_the_penalty_is_added_to_the_error_of_each_minibatch():
    module = Penalised([])
    fit_module(module, rows(4), Schedule(2, 3), seed=0)
    assert float(module.weight) == -6


def test_each_epoch_has_every_row_once_in_another_order_that_the_seed_draws():
    def batches(seed: int) -> list[list[float]]:
        module = Counter([])
        fit_module(module, rows(10), Schedule(4, 3), seed)
        return module.batches

    first = batches(5)
    assert [len(batch) for batch in first] == [4, 4, 2] * 3
    epochs = [[row for batch in first[start : start + 3] for row in batch] for start in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert batches(5) == first
    assert batches(6) != first


def test_seeding_is_taken_back_and_follows_the_seed():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(7):
        first = torch.rand(3)
    with seeded(8):
        second = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(first, second)
