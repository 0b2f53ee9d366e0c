"""Who diverged, and since when: told by an engine that follows a script instead of training.

Shape letters: N networks, P parameters.
"""

import numpy as np
import pytest

from builders import make_images
from cnnzoo.training.cohort_run import CohortRun
from cnnzoo.training.engines import Scores
from cnnzoo.training.job import Job
from cnnzoo.training.progress import TrainingProgress
from cnnzoo.zoo.recipes import draw
from cnnzoo.zoo.shards import NEVER, read_shard
from trainings import TINY, Recorder, Zoo, tiny_params

IMAGES = make_images(train=40, test=20, size=9)
STEPS = 5
"""Minibatches of 8 in an epoch of 40 images."""
EPOCHS = (0, 1, 2, 3, 10)
NETWORKS = 4
PARAMS = tiny_params(
    recipes={"epochs": 10, "epochs_between_checkpoints": 10, "train_fraction": {"choice": [1.0]}},
    runtime={"resume_interval_s": 0},
    networks=NETWORKS,
)


class ScriptedEngine:
    """Its weights are the epoch's number; at the epochs of the script a weight or a loss is not finite.

    It also stands for the choice of an engine: `make` returns itself.
    """

    name = arithmetic = "scripted"
    numerics, device = "1", "cpu"

    def __init__(self, bad_weight=(), bad_test_loss=(), bad_train_loss=()):
        self.bad_weight, self.bad_losses = dict(bad_weight), (dict(bad_test_loss), dict(bad_train_loss))
        self.epoch = 0

    def make(self, cohort, minibatch):
        self.shape = cohort.size, cohort.layout.size
        assert minibatch == 8
        return self

    def load_images(self, images, labels):
        pass

    def train(self, minibatches, first_step):
        self.epoch = (first_step + len(minibatches)) // STEPS

    def evaluate(self, images, labels):
        loss, half = np.full(self.shape[0], 2.0), {20: 0, 40: 1}[len(labels)]
        for network, epoch in self.bad_losses[half].items():
            loss[network] = np.inf if self.epoch >= epoch else 2.0
        return Scores(np.full(self.shape[0], 0.25), loss)

    def weights(self):
        weights = np.full(self.shape, self.epoch, dtype=np.float32)
        for network, epoch in self.bad_weight.items():
            weights[network, 7] = np.nan if self.epoch >= epoch else self.epoch
        return weights

    def state(self):
        return {"weights": self.weights()}

    def load_state(self, state):
        assert set(state) == {"weights"}

    def peak_rate(self, architecture, image_size):
        return None


@pytest.fixture
def zoo(tmp_path):
    return Zoo(tmp_path, IMAGES, TINY)


def run(zoo, engine, listener=None):
    job = Job(zoo.artifacts, PARAMS, TINY, IMAGES, engine, listener or Recorder())
    cohort = CohortRun(job, draw(PARAMS, TINY))
    with TrainingProgress(TINY, NETWORKS, 1) as progress:
        return read_shard(cohort.run(progress).path)


@pytest.mark.parametrize("epoch", range(1, 11))
def test_divergence_has_its_epoch_even_between_two_checkpoints(zoo, epoch):
    shard = run(zoo, ScriptedEngine(bad_weight={2: epoch}))
    assert shard.epochs == EPOCHS
    assert shard.diverged_epoch.tolist() == [NEVER, NEVER, epoch, NEVER]
    lost = np.isnan(shard.weights()[2]).any(axis=1)
    assert lost.tolist() == [checkpoint >= epoch for checkpoint in EPOCHS]


def test_every_network_has_the_epoch_of_its_first_divergence(zoo):
    shard = run(zoo, ScriptedEngine(bad_weight={0: 9, 1: 1, 3: 5}))
    assert shard.diverged_epoch.tolist() == [9, 1, NEVER, 5]


def test_a_loss_that_is_not_finite_in_either_half_is_divergence(zoo):
    """Weights may be finite, and so large that the loss on some images is not."""
    shard = run(zoo, ScriptedEngine(bad_test_loss={0: 2, 2: 3}, bad_train_loss={1: 2, 2: 10}))
    assert shard.diverged_epoch.tolist() == [2, 2, 3, NEVER]
    assert np.isfinite(shard.metrics["train_loss"][0]).all()
    assert np.isinf(shard.metrics["test_loss"][0, 2:]).all()


def test_the_initialisation_counts_as_epoch_0(zoo):
    assert run(zoo, ScriptedEngine(bad_test_loss={3: 0})).diverged_epoch.tolist() == [NEVER, NEVER, NEVER, 0]


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_cohort_remembers_who_diverged_and_what_was_recorded(zoo, stop):
    """The engine forgets its script at the resume: what is known of the first epochs is in the resume point."""
    with pytest.raises(RuntimeError):
        run(zoo, ScriptedEngine(bad_test_loss={0: 0, 1: 1}), Recorder(fail_at=[2 + stop + 1]))
    shard = run(zoo, ScriptedEngine(bad_weight={2: 9}))
    assert shard.diverged_epoch.tolist() == [0, 1, 9, NEVER]
    assert shard.weights()[3, :, 0].tolist() == list(EPOCHS)
    assert np.isinf(shard.metrics["test_loss"][0, : stop + 1]).all()
    assert (shard.metrics["test_loss"][3] == 2.0).all()


def test_checkpoints_hold_the_weights_of_their_epochs(zoo):
    weights = run(zoo, ScriptedEngine()).weights()
    assert (weights == np.array(EPOCHS, dtype=np.float32)[None, :, None]).all()
