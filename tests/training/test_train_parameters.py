"""What determines a shard, and whether each parameter and input of training reaches what it is for."""

import hashlib
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from builders import make_images
from cnnzoo import kernel
from cnnzoo.core.atomic import TEMPORARY
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import ImageSet
from cnnzoo.training.engines.batched import BatchedEngine
from cnnzoo.training.engines.native import NativeEngine
from cnnzoo.training.engines.reference import ReferenceEngine
from cnnzoo.zoo.recipes import draw
from trainings import TINY, Recorder, Zoo, tiny_params

IMAGES = make_images(train=40, test=20, size=9)
SHORT = {"epochs": 1, "train_fraction": {"choice": [1.0]}}
PARAMS = tiny_params(recipes=SHORT, networks=2)
ENGINES = [
    pytest.param("reference", ReferenceEngine),
    pytest.param("batched", BatchedEngine),
    pytest.param(
        "native", NativeEngine, marks=pytest.mark.skipif(kernel.unavailable_reason() is not None, reason="no kernel")
    ),
]


@pytest.fixture
def zoo(tmp_path):
    return Zoo(tmp_path / "zoo", IMAGES, TINY)


def with_changed(images, array, index, value):
    arrays = {name: getattr(images, name).copy() for name in asdict(images)}
    assert arrays[array][index] != value
    arrays[array][index] = value
    return ImageSet(**arrays)


@pytest.mark.parametrize(
    ("array", "index"),
    [("train_images", (39, 8, 8, 0)), ("train_labels", 39), ("test_images", (19, 0, 0, 0)), ("test_labels", 0)],
)
def test_images_of_other_content_make_new_shards(zoo, array, index):
    """One pixel or label is enough, in either half; the data set's name and its file are the same."""
    zoo.train(PARAMS)
    old = zoo.files()
    changed = with_changed(IMAGES, array, index, (getattr(IMAGES, array)[index] + 1) % 10)
    changed.save(zoo.artifacts.images("mnist5k"))
    listener = Recorder()
    zoo.train(PARAMS, listener)
    assert sorted(listener.trained) == [0, 1]
    assert not old.keys() & zoo.files().keys()
    IMAGES.save(zoo.artifacts.images("mnist5k"))
    zoo.train(PARAMS)
    assert zoo.files() == old


@pytest.mark.parametrize(("engine", "kind"), ENGINES)
def test_origin_of_a_shard_tells_all_that_trained_it(zoo, engine, kind):
    content = hashlib.sha256()
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        array = getattr(IMAGES, name)
        content.update(f"{name}{array.shape}".encode() + array.tobytes())
    for shard in zoo.train(tiny_params(engine, recipes=SHORT, networks=2, minibatch=4)):
        assert asdict(shard.origin) == {
            "collection": TINY,
            "minibatch": 4,
            "images": content.hexdigest(),
            "engine": engine,
            "numerics": kind.numerics,
        }


@pytest.mark.parametrize("change", ["minibatch", "engine", "numerics"])
def test_another_minibatch_engine_or_arithmetic_trains_every_network_again(zoo, monkeypatch, change):
    old = [shard.name for shard in zoo.train(PARAMS)]
    params, listener = PARAMS, Recorder()
    if change == "minibatch":
        params = tiny_params(recipes=SHORT, networks=2, minibatch=4)
    elif change == "engine":
        params = tiny_params("reference", recipes=SHORT, networks=2)
    else:
        monkeypatch.setattr(BatchedEngine, "numerics", "another")
    new = [shard.name for shard in zoo.train(params, listener)]
    assert sorted(listener.trained) == [0, 1]
    assert not set(old) & set(new)


def test_an_automatic_choice_keeps_what_another_engine_has_trained(zoo):
    before = zoo.train(tiny_params("reference", recipes=SHORT, networks=2))
    listener = Recorder()
    after = zoo.train(tiny_params("auto", recipes=SHORT, networks=3), listener)
    assert listener.trained == [2]
    assert {shard.name for shard in before} < {shard.name for shard in after}


def test_two_collections_of_one_data_set_have_different_networks_and_shards(zoo, tmp_path):
    """Initial weights, subset, order and dropout are keyed by the collection."""
    recipes = draw(PARAMS, TINY)
    twin = Zoo(tmp_path / "twin", IMAGES, "twin")
    params = PARAMS.model_copy(update={"populations": {"twin": PARAMS.populations[TINY]}, "collections": ["twin"]})
    (first,), (second,) = zoo.train(PARAMS, recipes=recipes), twin.train(params, recipes=recipes)
    assert first.recipes == second.recipes
    assert first.name != second.name
    layout = recipes[0].layout
    for a, b in zip(first.weights()[:, 0], second.weights()[:, 0], strict=True):
        assert not (a == b)[layout.kernel_mask].any()


def test_images_are_those_of_the_data_set_of_the_collection(tmp_path):
    zoo = Zoo(tmp_path, IMAGES, TINY)
    make_images(train=40, test=20, size=9, seed=1).save(zoo.artifacts.images(TINY))  # not these
    assert {shard.origin.images for shard in zoo.train(PARAMS)} == {IMAGES.digest}


@pytest.mark.parametrize("order", [1, -1])
def test_every_fraction_is_checked_before_anything_is_trained(zoo, order):
    """A tenth of 40 images is less than a minibatch of 8, whichever network is the first."""
    recipes = [
        replace(recipe, train_fraction=fraction)
        for recipe, fraction in zip(draw(PARAMS, TINY), (0.1, 1.0)[::order], strict=True)
    ]
    listener = Recorder()
    with pytest.raises(CnnzooError, match=r"`populations\.tiny\.minibatch=8` is larger than the 4 images"):
        zoo.train(PARAMS, listener, recipes)
    assert listener.heard == []
    assert not zoo.artifacts.checkpoints(TINY).exists()


@pytest.mark.parametrize("threads", [1, 3])
def test_torch_works_on_as_many_threads_as_are_asked_for(zoo, threads):
    zoo.train(tiny_params(recipes=SHORT, networks=2, runtime={"threads": threads}))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("size", "cohorts"), [(1, 4), (3, 2), (4, 1)])
def test_a_shard_holds_at_most_cohort_size_networks(zoo, size, cohorts):
    recipes = SHORT | {"optimizer": {"choice": ["sgd"]}}
    trained = zoo.train(tiny_params(recipes=recipes, networks=4, train={"cohort_size": size}))
    assert len(trained) == cohorts
    assert max(len(shard.recipes) for shard in trained) == size
    assert sorted(recipe.network for shard in trained for recipe in shard.recipes) == list(range(4))


def test_what_killed_writers_left_is_deleted_before_training_starts(zoo):
    folders = zoo.artifacts.checkpoints(TINY), zoo.artifacts.unfinished(TINY)
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / f"{TEMPORARY}1-0123456789abcdef.safetensors").write_bytes(b"half")
    found = []

    class Looking(Recorder):
        def start(self, cohort, origin, recipes):
            found.append([path.name for folder in folders for path in folder.glob(f"{TEMPORARY}*")])

    zoo.train(PARAMS, Looking())
    assert found
    assert not any(found)


def test_a_population_with_epochs_of_its_own_trains_for_so_long(zoo):
    (shard,) = zoo.train(tiny_params(recipes=SHORT, networks=2, epochs=4))
    assert shard.epochs == (0, 1, 2, 3, 4)
    assert np.isfinite(shard.weights()).all()
