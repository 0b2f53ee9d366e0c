import io

import pytest
from rich.console import Console

from cnnzoo.training import progress
from cnnzoo.training.progress import LINE_INTERVAL_S, TrainingProgress, duration


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def make(networks=4, passes=4000, terminal=False, peak=None, width=200):
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=width)
    return TrainingProgress("tiny", networks, passes, peak, console), output


def test_a_log_gets_a_line_every_ten_seconds_however_fast_training_is(clock):
    shown, output = make(passes=1_000_000)
    with shown:
        for _ in range(10_000):
            clock.now += 0.01
            shown.advance(100)
    lines = output.getvalue().splitlines()
    assert 100 / LINE_INTERVAL_S - 1 <= len(lines) - 1 <= 100 / LINE_INTERVAL_S
    assert all(len(line) < 120 for line in lines)


def test_line_tells_networks_share_rate_and_time_left(clock):
    shown, output = make()
    with shown:
        shown.finish(1)
        clock.now += 10
        shown.advance(1000)
    assert output.getvalue().splitlines() == [
        "train tiny: 1/4 networks, 25%, 100 images/s, 30 s left",
        "train tiny: 1 network in 10 s, 100 images/s",
    ]


def test_the_share_of_the_peak_is_told_where_it_is_known(clock):
    shown, output = make(peak=125.0)
    with shown:
        clock.now += 10
        shown.advance(1000)
    assert output.getvalue().splitlines() == [
        "train tiny: 0/4 networks, 25%, 100 images/s (80% of the peak), 30 s left",
        "train tiny: 0 networks in 10 s, 100 images/s (80% of the peak)",
    ]


def test_a_log_line_is_one_line_however_narrow_the_terminal_is_taken_to_be(clock):
    shown, output = make(peak=125.0, width=40)
    with shown:
        clock.now += 10
        shown.advance(1000)
    assert len(output.getvalue().splitlines()) == 2


def test_resumed_work_counts_as_done_but_not_as_speed(clock):
    shown, output = make()
    with shown:
        shown.skip(3000)
        clock.now += 10
        shown.advance(500)
    assert output.getvalue().splitlines()[0] == "train tiny: 0/4 networks, 88%, 50 images/s, 10 s left"


def test_nothing_to_train_is_no_division_by_zero(clock):
    shown, output = make(networks=0, passes=0)
    with shown:
        pass
    assert output.getvalue() == "train tiny: 0 networks in 0 s, 0 images/s\n"


def test_failed_training_prints_no_summary(clock):
    shown, output = make()
    with pytest.raises(KeyboardInterrupt), shown:
        raise KeyboardInterrupt
    assert output.getvalue() == ""


def test_a_terminal_gets_a_bar_that_ends_with_the_summary():
    shown, output = make(terminal=True)
    with shown:
        shown.advance(4000)
        shown.finish(4)
    assert "4/4 networks, 100%" in output.getvalue()
    assert "━" in output.getvalue()
    assert output.getvalue().rstrip().endswith("images/s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00 min"),
        (200, "3:20 min"),
        (3599.6, "1:00 h"),
        (18420, "5:07 h"),
        (360000, "100:00 h"),
    ],
)
def test_duration_is_for_people(seconds, text):
    assert duration(seconds) == text
