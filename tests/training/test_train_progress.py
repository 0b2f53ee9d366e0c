"""What a person sees while networks train, and how often a resume point is written."""

import re
import time
from dataclasses import replace

import pytest
from safetensors import safe_open

from builders import make_images
from cnnzoo import kernel
from cnnzoo.zoo.recipes import draw
from trainings import TINY, Recorder, Zoo, tiny_params

# 84 images are 10 minibatches of 8 (4 images are left out), half of them are 5 minibatches (2 are left out).
IMAGES = make_images(train=84, test=20, size=9)
PASSES = {1.0: 80, 0.5: 40}
EPOCHS = 5
LINE = re.compile(r"train tiny: (\d+)/(\d+) networks, (\d+)%, ")


class Clock:
    """A clock that goes on when it is read, or when a test says so."""

    def __init__(self, step=0.0):
        self.now, self.step = 1000.0, step

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def zoo(tmp_path):
    return Zoo(tmp_path, IMAGES, TINY)


def recipes_of(params, fractions=(0.5, 1.0, 1.0, 0.5, 1.0)):
    return [replace(recipe, train_fraction=f) for recipe, f in zip(draw(params, TINY), fractions, strict=False)]


def lines_of(capsys):
    """The networks done and the percentage of each line that training has shown."""
    shown = LINE.findall(capsys.readouterr().err)
    assert {int(total) for _, total, _ in shown} <= {5}
    return [(int(done), int(share)) for done, _, share in shown]


def expected_lines(cohorts, epoch=0):
    """A line after each epoch and one at the end of each cohort; the first cohort goes on after `epoch`."""
    total = sum(EPOCHS * networks * PASSES[fraction] for networks, fraction in cohorts)
    lines, networks_done, passes = [], 0, 0
    for networks, fraction in cohorts:
        passes += epoch * networks * PASSES[fraction]
        for _ in range(EPOCHS - epoch):
            passes += networks * PASSES[fraction]
            lines.append((networks_done, round(100 * passes / total)))
        networks_done += networks
        lines.append((networks_done, round(100 * passes / total)))
        epoch = 0
    return lines


def test_each_line_tells_the_share_of_all_image_passes_of_all_networks(zoo, capsys, monkeypatch):
    monkeypatch.setattr(time, "monotonic", Clock(step=100.0))  # a line is due each time
    params = tiny_params()
    zoo.train(params, recipes=recipes_of(params))
    assert lines_of(capsys) == expected_lines([(2, 0.5), (3, 1.0)])


@pytest.mark.parametrize("epoch", [1, 3])
def test_resumed_training_goes_on_with_the_share_that_was_done(zoo, capsys, monkeypatch, epoch):
    monkeypatch.setattr(time, "monotonic", Clock(step=100.0))
    params = tiny_params(runtime={"resume_interval_s": 0})
    with pytest.raises(RuntimeError):  # hears the start and epochs 0, 1 ...; the point is that of the epoch before
        zoo.train(params, Recorder(fail_at=[2 + epoch + 1]), recipes_of(params))
    lines_of(capsys)
    zoo.train(params, recipes=recipes_of(params))
    assert lines_of(capsys) == expected_lines([(2, 0.5), (3, 1.0)], epoch)


def test_nothing_is_left_to_train_after_the_last_epoch_of_a_resumed_cohort(zoo, capsys, monkeypatch):
    """The passes that are shown are those of the engine: epochs after the last would be shown, and cost time."""
    monkeypatch.setattr(time, "monotonic", Clock(step=100.0))
    params = tiny_params(runtime={"resume_interval_s": 0})
    with pytest.raises(RuntimeError):
        zoo.train(params, Recorder(fail_at=[2 + EPOCHS]), recipes_of(params, fractions=[1.0] * 5))
    lines_of(capsys)
    zoo.train(params, recipes=recipes_of(params, fractions=[1.0] * 5))
    assert lines_of(capsys) == [(0, 100), (5, 100)]


def test_listener_is_told_the_engine_that_trains_where_the_choice_is_automatic(zoo):
    listener = Recorder()
    zoo.train(tiny_params("auto", recipes={"epochs": 1}), listener)
    chosen = "native" if kernel.unavailable_reason() is None else "batched"
    assert {event[2] for event in listener.heard if event[0] == "start"} == {chosen}


def points(zoo):
    """The epochs of all resume points that lie there now."""
    found = []
    for path in zoo.unfinished():
        with safe_open(path, framework="numpy") as file:
            found.append(int(file.metadata()["epoch"]))
    return found


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(25.0, [[], [], [], [], [3], [3]]), (15.0, [[], [], [], [2], [2], [4]]), (3600.0, [[]] * 6)],
)
def test_a_resume_point_is_written_when_the_interval_since_the_last_one_is_over(zoo, monkeypatch, interval, expected):
    """Every epoch takes ten seconds; a checkpoint is told before the point of its epoch is written."""
    clock, seen = Clock(), []
    monkeypatch.setattr(time, "monotonic", clock)

    class Slow(Recorder):
        def checkpoint(self, cohort, epoch, metrics):
            seen.append(points(zoo))
            clock.now += 10.0 if epoch else 0.0

    params = tiny_params(runtime={"resume_interval_s": interval})
    zoo.train(params, Slow(), recipes_of(params, fractions=[1.0] * 5))
    assert seen == expected


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"l2reg": 0.5}, {"learning_rate": 0.001}, {"w_init": "orthogonal"}])
def test_changed_recipes_do_not_go_on_from_the_resume_point_of_the_old_ones(zoo, tmp_path, change):
    params = tiny_params(runtime={"resume_interval_s": 0})
    recipes = recipes_of(params)
    with pytest.raises(RuntimeError):
        zoo.train(params, Recorder(fail_at=[5]), recipes)
    assert points(zoo) == [2]
    changed = [replace(recipe, **change) for recipe in recipes]
    zoo.train(params, recipes=changed)
    fresh = Zoo(tmp_path / "fresh", IMAGES, TINY)
    fresh.train(params, recipes=changed)
    assert zoo.files() == fresh.files()
