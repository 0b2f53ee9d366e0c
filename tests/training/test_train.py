"""The work of the stage `train`, whole: cohorts under Lightning, resume points, shards, faults."""

import errno
import logging
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from builders import make_images
from cnnzoo import kernel
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.signals import Interrupted
from cnnzoo.images import network_input
from cnnzoo.network.module import SmallCNN
from cnnzoo.stages.entry import explain_faults
from cnnzoo.training import module, resume
from cnnzoo.training.minibatches import Schedule
from cnnzoo.zoo import shards
from cnnzoo.zoo.recipes import draw
from cnnzoo.zoo.shards import METRICS, NEVER, read_shards
from killable import COLLECTION, make_params, train
from trainings import Recorder, Zoo

IMAGES = make_images(train=80, test=40)
ENGINES = [
    "reference",
    "batched",
    pytest.param("native", marks=pytest.mark.skipif(kernel.unavailable_reason() is not None, reason="no kernel")),
]
EVERY_ENGINE = pytest.mark.parametrize("engine", ENGINES)
EPOCHS = [0, 1, 2, 3, 4, 5]


def zoo_in(root):
    return Zoo(root, IMAGES, COLLECTION)


@pytest.fixture
def zoo(tmp_path):
    return zoo_in(tmp_path / "zoo")


@pytest.fixture(autouse=True)
def sigint():
    """Lightning ignores SIGINT for good once it has handled one: put the handler back."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the bytes of the shards that an undisturbed run of an engine writes."""
    made = {}

    def files(engine):
        if engine not in made:
            zoo = zoo_in(tmp_path_factory.mktemp(engine))
            zoo.train(make_params(engine))
            made[engine] = zoo.files()
        return made[engine]

    return files


def by_network(trained):
    """Network id -> (weights (E, P), its metrics (E,) each, epoch of divergence)."""
    return {
        recipe.network: (weights, {name: shard.metrics[name][index] for name in METRICS}, shard.diverged_epoch[index])
        for shard in trained
        for index, (recipe, weights) in enumerate(zip(shard.recipes, shard.weights(), strict=True))
    }


def with_cohort_size(params, size):
    return params.model_copy(update={"train": params.train.model_copy(update={"cohort_size": size})})


def in_one_cohort(params):
    return [replace(recipe, train_fraction=1.0) for recipe in draw(params, COLLECTION)]


@pytest.mark.slow
@EVERY_ENGINE
def test_network_is_the_same_alone_or_in_a_cohort(tmp_path, engine):
    params = make_params(engine, networks=4)
    recipes = in_one_cohort(params)
    together = by_network(zoo_in(tmp_path / "together").train(params, recipes=recipes))
    alone = by_network(zoo_in(tmp_path / "alone").train(with_cohort_size(params, 1), recipes=recipes))
    assert together.keys() == alone.keys() == set(range(4))
    for network, (weights, metrics, _) in together.items():
        if engine == "batched":  # its matrix products round by their shape: ten epochs of float32
            np.testing.assert_allclose(alone[network][0], weights, rtol=1e-3, atol=1e-3)
            continue
        np.testing.assert_array_equal(alone[network][0], weights)
        for name in METRICS:
            np.testing.assert_array_equal(alone[network][1][name], metrics[name])


@pytest.mark.slow
@EVERY_ENGINE
def test_shard_holds_what_the_published_network_computes(zoo, engine):
    """An independent forward pass: weights of the shard in `SmallCNN`, on the images that the metrics speak of."""
    params = make_params(engine)
    for shard in zoo.train(params):
        for index, (recipe, rows) in enumerate(zip(shard.recipes, shard.weights(), strict=True)):
            subset = Schedule(recipe.random_seed, COLLECTION, recipe.train_fraction, images=80, minibatch=8).subset
            parts = {
                "test": (IMAGES.test_images, IMAGES.test_labels),
                "train": (IMAGES.train_images[subset], IMAGES.train_labels[subset]),
            }
            for column, row in enumerate(rows):
                network = SmallCNN.from_row(row, recipe.layout, recipe.activation)
                penalty = recipe.l2reg * np.square(row[recipe.layout.kernel_mask].astype(np.float64)).sum()
                for part, (images, labels) in parts.items():
                    with torch.no_grad():
                        logits = network(torch.from_numpy(network_input(images))[:, None]).double()
                    targets = torch.from_numpy(labels.astype(np.int64))
                    accuracy = (logits.argmax(dim=1) == targets).double().mean()
                    loss = torch.nn.functional.cross_entropy(logits, targets) + penalty
                    assert shard.metrics[f"{part}_accuracy"][index, column] == accuracy
                    assert shard.metrics[f"{part}_loss"][index, column] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.slow
def test_networks_learn(zoo):
    params = make_params("batched")
    recipes = [replace(recipe, learning_rate=0.01, dropout=0.0, epochs=40) for recipe in in_one_cohort(params)]
    for shard in zoo.train(params, recipes=recipes):
        assert (shard.metrics["train_loss"][:, -1] < 0.9 * shard.metrics["train_loss"][:, 0]).all()
        assert shard.metrics["test_accuracy"][:, -1].mean() > 0.2


@pytest.mark.slow
@EVERY_ENGINE
def test_listener_hears_every_cohort_from_start_to_shard(zoo, engine):
    listener = Recorder()
    trained = zoo.train(make_params(engine), listener)
    for shard in trained:
        assert [event for event in listener.heard if event[1] == shard.name] == [
            ("start", shard.name, engine),
            *(("checkpoint", shard.name, epoch) for epoch in EPOCHS),
            ("finish", shard.name),
        ]
    assert len(listener.heard) == 8 * len(trained)
    assert sorted(listener.trained) == list(range(6))


@pytest.mark.slow
@EVERY_ENGINE
def test_two_runs_write_the_same_bytes(zoo, engine, undisturbed):
    zoo.train(make_params(engine))
    assert zoo.files() == undisturbed(engine)
    assert zoo.unfinished() == []


@pytest.mark.parametrize("block", [1, 8 * 6 * 2])
def test_size_of_a_training_call_changes_no_bit(zoo, undisturbed, monkeypatch, block):
    monkeypatch.setattr(module, "CALL_IMAGES", block)
    zoo.train(make_params("batched"))
    assert zoo.files() == undisturbed("batched")


@pytest.mark.slow
@pytest.mark.skipif(kernel.unavailable_reason() is not None, reason="no kernel")
@pytest.mark.parametrize("threads", [0, 2, 5])
def test_number_of_threads_changes_no_bit(zoo, undisturbed, threads):
    zoo.train(make_params("native", threads=threads))
    assert zoo.files() == undisturbed("native")


def test_rerun_trains_nothing_and_rewrites_nothing(zoo):
    zoo.train(make_params("batched"))
    before, listener = zoo.stamps(), Recorder()
    zoo.train(make_params("batched"), listener)
    assert listener.heard == []
    assert zoo.stamps() == before


def test_growing_trains_the_new_networks_alone(zoo):
    zoo.train(make_params("batched", networks=6))
    before, listener = zoo.stamps(), Recorder()
    trained = zoo.train(make_params("batched", networks=11), listener)
    assert sorted(listener.trained) == [6, 7, 8, 9, 10]
    assert before.items() <= zoo.stamps().items()
    assert sorted(by_network(trained)) == list(range(11))


@pytest.mark.slow
def test_shrinking_trains_nothing(zoo):
    params = with_cohort_size(make_params("batched"), 1)
    zoo.train(params)
    listener = Recorder()
    trained = zoo.train(params, listener, draw(params, COLLECTION)[:3])
    assert listener.heard == []
    assert sorted(by_network(trained)) == [0, 1, 2]


@pytest.mark.slow
def test_stale_shards_go_only_when_their_successors_are_there(zoo):
    params = make_params("batched")
    zoo.train(params)
    old = zoo.files()
    changed = [replace(recipe, l2reg=0.5) for recipe in draw(params, COLLECTION)]
    with pytest.raises(RuntimeError):
        zoo.train(params, Recorder(fail_at=[10]), changed)
    assert old.items() <= zoo.files().items()
    zoo.train(params, recipes=changed)
    assert not old.keys() & zoo.files().keys()


@pytest.mark.slow
@EVERY_ENGINE
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_resumed_training_equals_undisturbed_training_bit_for_bit(zoo, engine, undisturbed, error):
    params = make_params(engine, resume_interval_s=0)
    heard = []
    for _ in range(200):
        # Stop at the third or fourth event: at epoch 1, 2 or, resumed, later. Always some epochs further.
        listener = Recorder(fail_at=[4], error=error)
        try:
            zoo.train(params, listener)
            break
        except (error, SystemExit):
            heard += listener.heard
    else:
        pytest.fail("training made no progress")
    assert zoo.files() == undisturbed(engine)
    assert zoo.unfinished() == []
    starts = sum(event[0] == "start" for event in heard)
    assert starts > sum(event[0] == "checkpoint" and event[2] == 0 for event in heard)  # some did go on


class Terminator(Recorder):
    """Sends SIGTERM to this process at the checkpoint of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def checkpoint(self, cohort, epoch, metrics):
        super().checkpoint(cohort, epoch, metrics)
        if epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGTERM)


@EVERY_ENGINE
@pytest.mark.parametrize("epoch", [0, 2, 4, 5])
def test_training_that_is_asked_to_end_saves_its_state_inside_an_epoch(zoo, engine, undisturbed, monkeypatch, epoch):
    """Asked at the start, at the end of an epoch, and after the last one, which the shard keeps."""
    monkeypatch.setattr(module, "CALL_IMAGES", 1)  # a step at a time
    params, listener = make_params(engine, resume_interval_s=3600), Terminator(epoch)
    with pytest.raises(Interrupted):
        zoo.train(params, listener)
    cohort = listener.heard[0][1]
    if epoch == EPOCHS[-1]:
        assert zoo.unfinished() == []
        assert list(zoo.files()) == [f"{cohort}.safetensors"]
    else:
        saved = resume.ResumePoint(zoo.artifacts.unfinished(COLLECTION), cohort).load()
        assert (saved.epoch, saved.step) == (epoch, 0 if epoch else 1)
    zoo.train(params)
    assert zoo.files() == undisturbed(engine)


def test_long_epochs_are_saved_inside_too(zoo, monkeypatch):
    monkeypatch.setattr(module, "CALL_IMAGES", 1)
    saved = []
    monkeypatch.setattr(resume.ResumePoint, "save", lambda *arguments: saved.append(arguments[1:3]))
    zoo.train(make_params("batched", resume_interval_s=0))
    assert saved[:5] == [(0, step) for step in range(1, 6)]
    assert (1, 0) in saved


@pytest.mark.slow
def test_killed_training_resumes_to_the_same_bytes(zoo, undisturbed, monkeypatch):
    """SIGKILL at random moments, again and again, whatever is being written."""
    engine = "native" if kernel.unavailable_reason() is None else "batched"
    # Each process is forked from one that has imported everything: what is killed is training, not imports.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killable"])
    random, log = np.random.default_rng(8), zoo.artifacts.root / "log"
    kills, points = 0, 0
    for _ in range(100):
        log.write_text("")
        process = context.Process(target=train, args=(str(zoo.artifacts.root), engine))
        process.start()
        events, delay = random.integers(1, 5), random.uniform(0.0, 0.03)
        while process.is_alive() and len(log.read_text().splitlines()) < events:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        points += any(path.suffix == ".safetensors" for path in zoo.unfinished())
    assert process.exitcode == 0
    assert kills >= 3
    assert points >= 1
    assert zoo.files() == undisturbed(engine)
    assert zoo.unfinished() == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "altered", "foreign", "empty"])
def test_damaged_resume_point_is_left_unused_with_a_warning(zoo, undisturbed, caplog, damage):
    params = make_params("batched", resume_interval_s=0)
    with pytest.raises(RuntimeError):
        zoo.train(params, Recorder(fail_at=[5]))
    (point,) = zoo.unfinished()
    content = point.read_bytes()
    altered = content[:-1] + bytes([content[-1] ^ 1])
    point.write_bytes({"truncated": content[:-1], "altered": altered}.get(damage, b""))
    if damage == "foreign":
        save_file({"x": np.zeros(3)}, point)
    with caplog.at_level(logging.WARNING):
        zoo.train(params)
    assert f"{point}: damaged" in caplog.text
    assert "starts again" in caplog.text
    assert zoo.files() == undisturbed("batched")


def test_finished_cohort_leaves_no_resume_point_even_if_the_next_one_fails(zoo):
    params, listener = make_params("batched", resume_interval_s=0), Recorder(fail_at=[8 + 5])
    with pytest.raises(RuntimeError):
        zoo.train(params, listener)
    failed = listener.heard[-1][1]
    assert [path.name for path in zoo.unfinished()] == [f"{failed}.safetensors"]


def test_resumed_training_remembers_when_a_network_diverged(zoo, tmp_path):
    params = make_params("batched", networks=3, resume_interval_s=0)
    recipes = in_one_cohort(params)
    recipes[1] = replace(recipes[1], learning_rate=1e30)
    with pytest.raises(RuntimeError):
        zoo.train(params, Recorder(fail_at=[6]), recipes)
    (resumed,) = zoo.train(params, recipes=recipes)
    assert resumed.diverged_epoch.tolist() == [NEVER, 1, NEVER]
    other = zoo_in(tmp_path / "undisturbed")
    other.train(params, recipes=recipes)
    assert zoo.files() == other.files()


def test_resume_points_of_other_recipes_are_swept(zoo):
    params = make_params("batched", resume_interval_s=0)
    with pytest.raises(RuntimeError):
        zoo.train(params, Recorder(fail_at=[5]))
    assert zoo.unfinished()
    zoo.train(params, recipes=[replace(recipe, l2reg=0.5) for recipe in draw(params, COLLECTION)])
    assert zoo.unfinished() == []


def test_resume_interval_bounds_how_often_points_are_written(zoo, monkeypatch):
    saved = []
    monkeypatch.setattr(resume.ResumePoint, "save", lambda *arguments: saved.append(arguments))
    zoo.train(make_params("batched", resume_interval_s=3600))
    assert saved == []


def test_second_run_at_the_same_time_is_refused(zoo):
    params = make_params("batched")
    refused = []

    class Second(Recorder):
        def start(self, cohort, origin, recipes):
            super().start(cohort, origin, recipes)
            with pytest.raises(CnnzooError, match=r"another run is training `mnist5k` now .*lock.*Wait for it, or end"):
                zoo.train(params)
            refused.append(cohort)

    trained = zoo.train(params, Second())
    assert sorted(refused) == sorted(shard.name for shard in trained)
    with pytest.raises(RuntimeError):
        zoo.train(params, Recorder(fail_at=[2]), draw(make_params("batched", networks=9), COLLECTION))
    zoo.train(params)  # the lock is free again, even after a failure


def test_full_disk_keeps_former_shards_and_says_so(zoo, monkeypatch, capsys):
    writes, write = [], shards.atomic_file

    def filling(path):
        writes.append(path)
        if len(writes) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path)

    params = with_cohort_size(make_params("batched"), 1)
    with monkeypatch.context() as patched:
        patched.setattr(shards, "atomic_file", filling)
        assert explain_faults(lambda: zoo.train(params)) == 1
    message = capsys.readouterr().err
    assert f"error: No space left on device ({writes[2]}). Free some space" in message
    assert "what is finished is kept" in message
    kept = zoo.stamps()
    assert len(kept) == 2
    assert sorted(by_network(zoo.train(params))) == list(range(6))
    assert kept.items() <= zoo.stamps().items()


@pytest.mark.slow
@EVERY_ENGINE
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_diverged_network_is_kept_with_its_epoch_and_leaves_the_others_as_they_were(tmp_path, engine, optimizer):
    params = make_params(engine, networks=3)
    recipes = [replace(recipe, optimizer=optimizer) for recipe in in_one_cohort(params)]
    healthy = by_network(zoo_in(tmp_path / "healthy").train(params, recipes=recipes))
    wild = [*recipes[:1], replace(recipes[1], learning_rate=1e30), *recipes[2:]]
    zoo = zoo_in(tmp_path / "wild")
    diverged = by_network(zoo.train(params, recipes=wild))
    assert [diverged[network][2] for network in range(3)] == [NEVER, 1, NEVER]
    for network in (0, 2):
        np.testing.assert_array_equal(diverged[network][0], healthy[network][0])
    weights, metrics, _ = diverged[1]
    np.testing.assert_array_equal(weights[0], healthy[1][0][0])
    assert np.isfinite(metrics["test_loss"][0])
    assert not np.isfinite(metrics["test_loss"][1:]).any()
    assert len(read_shards(zoo.artifacts.checkpoints(COLLECTION))) == 1
    listener = Recorder()
    zoo.train(params, listener, wild)
    assert listener.heard == []  # not trained again


def test_bad_input_is_found_before_anything_is_made(zoo):
    params = make_params("batched")
    population = params.populations[COLLECTION].model_copy(update={"minibatch": 41})
    with pytest.raises(CnnzooError, match=r"populations\.mnist5k\.minibatch=41"):
        zoo.train(params.model_copy(update={"populations": {COLLECTION: population}}))
    deep = [replace(recipe, num_layers=4) for recipe in draw(params, COLLECTION)]
    with pytest.raises(CnnzooError, match="too small for `num_layers=4`"):
        zoo.train(params, recipes=deep)
    assert not zoo.artifacts.checkpoints(COLLECTION).exists()
    zoo.artifacts.images("mnist5k").unlink()
    with pytest.raises(CnnzooError, match="make it with `dvc repro images`"):
        zoo.train(params)
