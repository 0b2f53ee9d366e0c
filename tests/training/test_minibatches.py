from dataclasses import replace

import numpy as np
import pytest

from cnnzoo.core.errors import CnnzooError
from cnnzoo.training.minibatches import Schedule

SCHEDULE = Schedule(seed=7, collection="tiny", fraction=0.25, images=4000, minibatch=64)


@pytest.mark.parametrize(
    ("images", "fraction", "size"),
    [(4000, 0.1, 400), (4000, 1.0, 4000), (60000, 0.25, 15000), (73257, 0.1, 7325), (73257, 0.5, 36628)],
)
def test_subset_has_the_published_size(images, fraction, size):
    schedule = replace(SCHEDULE, images=images, fraction=fraction)
    assert schedule.subset_size == size == len(schedule.subset)
    assert len(np.unique(schedule.subset)) == size
    assert 0 <= schedule.subset.min() <= schedule.subset.max() < images
    assert schedule.steps == size // 64


def test_subset_is_drawn_once_at_random():
    schedules = [replace(SCHEDULE), replace(SCHEDULE, minibatch=32)]
    np.testing.assert_array_equal(schedules[0].subset, schedules[1].subset)
    assert abs(schedules[0].subset.mean() - 1999.5) < 4.5 * 4000 / np.sqrt(12 * 1000)
    for other in (replace(SCHEDULE, seed=8), replace(SCHEDULE, collection="other")):
        common = len(np.intersect1d(other.subset, SCHEDULE.subset))
        assert abs(common - 250) < 4.5 * np.sqrt(1000 * 0.25 * 0.75)


def test_every_image_of_the_subset_is_seen_at_most_once_an_epoch_and_the_incomplete_minibatch_is_dropped():
    minibatches = SCHEDULE.epoch(1)
    assert minibatches.shape == (1000 // 64, 64) == (15, 64)
    assert len(np.unique(minibatches)) == minibatches.size
    assert 0 <= minibatches.min() <= minibatches.max() < 1000


def test_exact_minibatches_drop_nothing():
    minibatches = replace(SCHEDULE, minibatch=100).epoch(3)
    np.testing.assert_array_equal(np.sort(minibatches.ravel()), np.arange(1000))


def test_order_is_the_same_for_all_networks_of_a_fraction_and_new_every_epoch():
    np.testing.assert_array_equal(SCHEDULE.epoch(2), replace(SCHEDULE).epoch(2))
    orders = [SCHEDULE.epoch(epoch).ravel() for epoch in range(1, 9)]
    correlations = np.corrcoef(orders)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 4.5 / np.sqrt(960)


def test_orders_of_two_fractions_or_collections_differ():
    for other in (replace(SCHEDULE, fraction=0.5), replace(SCHEDULE, collection="other"), replace(SCHEDULE, seed=8)):
        assert not np.array_equal(other.epoch(1)[0], SCHEDULE.epoch(1)[0])


def test_minibatch_that_is_larger_than_the_subset_is_refused_before_any_training():
    assert replace(SCHEDULE, minibatch=1000).steps == 1
    with pytest.raises(CnnzooError) as caught:
        replace(SCHEDULE, minibatch=1001)
    message = str(caught.value)
    for part in ("`populations.tiny.minibatch=1001`", "1000 images", "`train_fraction=0.25`", "at most 1000"):
        assert part in message
