"""What figures have in common, looked at as matplotlib's artists."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from cnnzoo import drawing


@pytest.fixture
def axis():
    return Figure().subplots()


def luminance(colour) -> float:
    """Relative luminance of a colour, as WCAG 2 defines it."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in mpl.colors.to_rgb(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other) -> float:
    """Contrast ratio of two colours, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_predictions_stand_over_true_accuracies_with_the_diagonal(axis):
    target, predicted = np.array([0.1, 0.4, 0.9]), np.array([0.2, 0.7, 0.6])
    drawing.against_truth(axis, target, predicted)
    (points,) = axis.collections
    assert points.get_offsets().tolist() == np.stack([target, predicted], axis=1).tolist()
    (line,) = axis.lines
    assert (line.get_xy1(), line.get_slope()) == ((0, 0), 1)
    assert axis.get_xlim() == axis.get_ylim() == (-0.02, 1.02)


def test_of_many_networks_some_are_shown_from_the_first_to_the_last(axis):
    count = 3 * drawing.MOST_POINTS
    target = np.linspace(0, 1, count)
    drawing.against_truth(axis, target, 1 - target)
    shown = np.asarray(axis.collections[0].get_offsets())
    assert len(shown) == drawing.MOST_POINTS
    assert shown[0].tolist() == [0, 1]
    assert shown[-1].tolist() == [1, 0]
    assert np.diff(shown[:, 0]).max() < 5 / count, "evenly spread"
    np.testing.assert_allclose(shown.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("count", "most", "places"),
    [(5, 10, [0, 1, 2, 3, 4]), (1, 3, [0]), (9, 5, [0, 2, 4, 6, 8]), (100, 3, [0, 50, 99]), (0, 4, [])],
)
def test_places_are_spread_evenly_from_end_to_end(count, most, places):
    assert drawing.spread(count, most).tolist() == places


def test_offsets_of_points_are_distinct_centred_and_always_the_same():
    offsets = drawing.jitter(50)
    assert len(set(offsets.round(6))) == 50
    assert np.abs(offsets).max() < 0.5
    assert abs(offsets.mean()) < 0.02
    assert drawing.jitter(20).tolist() == offsets[:20].tolist()


def test_many_points_are_smaller_and_paler_than_few():
    styles = [drawing.dot_style(count) for count in (1, 200, 2000, 100_000)]
    for key in ("s", "alpha"):
        values = [style[key] for style in styles]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[-1] > 0


@pytest.mark.parametrize("colours", ["viridis", "Blues", "RdYlGn"])
def test_texts_of_cells_can_be_read_on_their_ground_and_stand_in_their_cells(axis, colours):
    shades = np.append(np.linspace(0, 1, 11), np.nan).reshape(3, 4)
    texts = np.array([[f"{row},{column}" for column in range(4)] for row in range(3)])
    scale = mpl.colormaps[colours]
    drawing.cells(axis, texts, shades, scale)
    assert sorted(text.get_text() for text in axis.texts) == sorted(texts.reshape(-1)[:-1])
    for text in axis.texts:
        column, row = text.get_position()
        assert text.get_text() == f"{row},{column}"
        ground = scale(shades[row, column])
        assert contrast(text.get_color(), ground) > 2.5
    (image,) = axis.images
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), shades)
    assert image.get_clim() == (0, 1)


def test_fractions_are_shown_as_percent_and_whole_numbers_plainly(axis):
    drawing.as_percent(axis.yaxis)
    assert axis.yaxis.get_major_formatter()(0.5) == "50%"
    axis.set_xscale("log")
    drawing.as_plain(axis.xaxis, [1, 10, 100])
    assert axis.get_xticks().tolist() == [1, 10, 100]
    assert [axis.xaxis.get_major_formatter()(tick) for tick in axis.get_xticks()] == ["1", "10", "100"]
    assert axis.xaxis.get_minorticklocs().tolist() == []


def test_many_names_below_an_axis_are_aslant_and_few_are_straight(axis):
    for straight, angle in ((3, 0), (2, 30)):
        drawing.name_columns(axis, ["a", "b", "c"], straight)
        assert [(tick, label.get_text()) for tick, label in enumerate(axis.get_xticklabels())] == [
            (0, "a"),
            (1, "b"),
            (2, "c"),
        ]
        assert {label.get_rotation() for label in axis.get_xticklabels()} == {angle}


def test_long_labels_are_broken_between_words_and_lose_nothing():
    label = "statistics of all layers and answers to synthetic images " * 2
    lines = drawing.wrapped(label, 30).splitlines()
    assert max(map(len, lines)) <= 30
    assert " ".join(lines) == label.strip()
    assert drawing.wrapped("", 30) == ""


def test_a_picture_has_its_size_and_the_same_bytes_again():
    def paint(figure):
        figure.subplots().plot([0, 1], [1, 0])

    png = drawing.draw(3, 2, paint)
    assert imread(io.BytesIO(png)).shape[:2] == (2 * drawing.DOTS_PER_INCH, 3 * drawing.DOTS_PER_INCH)
    assert drawing.draw(3, 2, paint) == png


def test_categories_share_colours_only_when_there_are_more_of_them_than_colours():
    count = len(drawing.CATEGORY_COLOURS)
    assert len({drawing.category_colour(place) for place in range(count)}) == count
    assert drawing.category_colour(count) == drawing.category_colour(0)
