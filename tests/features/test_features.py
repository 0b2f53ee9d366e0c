"""Feature sets against the published notebook's formulas in plain NumPy, on random, degenerate and stored weights."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from builders import SEED, make_recipes, make_shards
from cnnzoo import features
from cnnzoo.core.errors import CnnzooError
from cnnzoo.features import streaming
from cnnzoo.network.hyperparameters import SAMPLED
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.zoo import Collection, assemble

LAYOUT = layout_of(Architecture())
ALL_LAYERS = "wstats-layers:0,1,2,3-qts:0,25,50,75,100"

# Equal to the plain formulas to rounding: float32 sums of up to 4,970 values, relative to the largest weight of a row.
TOLERANCE = 4e-6


def plain_statistics(row: np.ndarray, percentiles=(0, 25, 50, 75, 100)) -> np.ndarray:
    """What the published `extract_summary_features` returns for a flat vector."""
    return np.append(np.percentile(row, percentiles), [np.std(row), np.mean(row)])


def plain(name: str, weights: np.ndarray) -> np.ndarray:
    """The sets written down again, row by row, with the boundaries of the published notebook."""
    boundaries = [(0, 16), (16, 160), (160, 176), (176, 2480), (2480, 2496), (2496, 4800), (4800, 4810), (4810, 4970)]
    layers = {layer: boundaries[2 * layer : 2 * layer + 2] for layer in range(4)}
    rows = weights.astype(np.float64)
    if name == "wstats-glob":
        return np.stack([plain_statistics(row) for row in rows])
    kind, chosen, how = name.split("-")
    spans = [span for layer in chosen.split(":")[1].split(",") for span in layers[int(layer)]]
    if kind == "wnorm":
        return np.stack([[np.linalg.norm(row[a:b], int(how[1])) for a, b in spans] for row in rows])
    percentiles = [float(q) for q in how.split(":")[1].split(",")]
    return np.stack([np.concatenate([plain_statistics(row[a:b], percentiles) for a, b in spans]) for row in rows])


def degenerate_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((40, LAYOUT.size), dtype=np.float32)
    position = np.arange(LAYOUT.size)
    return {
        "normal": normal * 0.2,
        "constant": np.full((3, LAYOUT.size), 0.1, dtype=np.float32),
        "zero": np.zeros((3, LAYOUT.size), dtype=np.float32),
        "ascending": np.tile(position.astype(np.float32), (3, 1)),
        "descending": np.tile(-position.astype(np.float32), (3, 1)),
        # Values that depend on the index modulo the number of runs (9, 20): the guess of the slices is always wrong.
        "aligned with the runs": np.tile((position % 9 * 7 + position % 20).astype(np.float32), (3, 1)),
        "one huge": np.where(position == 300, np.float32(1e6), normal[:5]),
        "many ties": np.round(normal),
        "half dead": normal * (position % 16 < 8),
        "large mean": normal * np.float32(1e-3) + np.float32(5),
    }


@pytest.mark.parametrize("kind", degenerate_weights())
@pytest.mark.parametrize(
    "name",
    [
        *(name for name in features.PUBLISHED if name.startswith(("wstats", "wnorm"))),
        "wstats-layers:1,2-qts:0.5,10,33.3,90,99.9",
    ],
)
def test_features_are_the_plain_formulas(name, kind):
    weights = degenerate_weights()[kind].astype(np.float32)
    (found,) = features.compute(weights, LAYOUT, features.parse(name))
    expected = plain(name, weights)
    assert found.dtype == np.float32
    largest = (
        np.abs(expected).max(axis=1, keepdims=True) if "l1" in name else np.abs(weights).max(axis=1, keepdims=True)
    )
    np.testing.assert_array_less(np.abs(found - expected), TOLERANCE * np.maximum(largest, np.abs(expected)) + 1e-30)


def test_percentiles_are_those_of_numpy_to_the_last_bit():
    weights = degenerate_weights()["normal"]
    (found,) = features.compute(weights, LAYOUT, features.parse("wstats-layers:1-qts:0,25,50,75,100"))
    expected = np.percentile(weights[:, 176:2480], [0, 25, 50, 75, 100], axis=1).T.astype(np.float32)
    np.testing.assert_array_max_ulp(found[:, 7:12], expected, maxulp=1)


def test_rows_do_not_depend_on_blocks_or_threads(monkeypatch):
    weights = degenerate_weights()["normal"]
    parts = [part for name in (ALL_LAYERS, "wstats-glob", "wnorm-layers:0,3-l2") for part in features.parse(name)]
    whole = features.compute(weights, LAYOUT, parts, threads=1)
    monkeypatch.setattr(streaming, "BLOCK_ROWS", 7)
    for first, second in zip(whole, features.compute(weights, LAYOUT, parts, threads=3), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_row_with_a_nan_has_nan_statistics_and_leaves_the_others_alone():
    weights = degenerate_weights()["normal"].copy()
    (clean,) = features.compute(weights, LAYOUT, features.parse(ALL_LAYERS))
    weights[5, 1000] = np.nan  # in conv2d_1/kernel
    (found,) = features.compute(weights, LAYOUT, features.parse(ALL_LAYERS))
    assert np.isnan(found[5, 21:28]).all()
    clean[5, 21:28] = np.nan
    np.testing.assert_array_equal(found, clean)


def test_order_inside_a_tensor_does_not_matter():
    weights = degenerate_weights()["normal"]
    shuffled = weights.copy()
    shuffled[:, 176:2480] = np.random.default_rng(1).permuted(weights[:, 176:2480], axis=1)
    first, second = (features.compute(w, LAYOUT, features.parse(ALL_LAYERS))[0] for w in (weights, shuffled))
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_columns_are_named_by_tensor_and_statistic():
    (part,) = features.parse(ALL_LAYERS)
    columns = part.columns(LAYOUT)
    assert len(columns) == len(set(columns)) == 56
    assert columns[:8] == [f"conv2d/bias:{s}" for s in ("q0", "q25", "q50", "q75", "q100", "std", "mean")] + [
        "conv2d/kernel:q0"
    ]
    assert columns[24] == "conv2d_1/kernel:q75"
    assert features.parse("wstats-glob")[0].columns(LAYOUT) == [
        "all:q0",
        "all:q25",
        "all:q50",
        "all:q75",
        "all:q100",
        "all:std",
        "all:mean",
    ]
    assert features.parse("wnorm-layers:3-l2")[0].columns(LAYOUT) == ["dense/bias:l2", "dense/kernel:l2"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("weigths", "weights"),
        ("hyper.lerning_rate", "hyper.learning_rate"),
        ("wnorm-layers:0,1,2,3-l3", "wnorm-layers:0,1,2,3-l2"),
        ("wstats-layers:3,0-qts:0,25,50,75,100", "wstats-layers:3-qts:0,25,50,75,100"),
        ("wstats-layers:3-qts:0,25,50,75,101", "wstats-layers:3-qts:0,25,50,75,100"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, nearest):
    with pytest.raises(CnnzooError, match=f"did you mean `{nearest}`"):
        features.parse(name)


@pytest.mark.parametrize(
    "name",
    [
        *("wproducts-layers:0,2", "wproducts-layers:0", "wproducts-layers:0,-1", "wproducts-layers:-3,-1"),
        *("wproducts-layers:1,0", "wnorm-layers:-1,0-l1", "wspectra-layers:0,0", "wchannels-layers:2,1"),
        *("wstats-layers:0-qts:50,25", "wstats-layers:0-qts:-1,50", "wstats-layers:0-qts:", "wnorm-layers:-0-l1"),
        *("hyper.epochs", "hyper.", "weights.", "weights.-1", "hyper+", "", "probes.0", "wstats-glob-qts:50"),
    ],
)
def test_a_name_outside_the_grammar_is_refused(name):
    with pytest.raises(CnnzooError, match="unknown feature set"):
        features.parse(name)


@pytest.mark.parametrize(
    "name", ["wproducts-layers:1,2", "wproducts-layers:-2,-1", "wnorm-layers:0,3,-2-l1", "wstats-layers:0-qts:0,100"]
)
def test_a_name_inside_the_grammar_is_accepted(name):
    assert [part.name for part in features.parse(name)] == [name]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("hyper", "hyper.dropout"),
        ("hyper", "hyper"),
        ("hyper.dropout", "hyper.l2reg"),
        ("weights", "weights.0"),
        ("weights.0", "weights.00"),
        ("weights.0", "weights.1"),
        ("weights", "hyper"),
        ("wstats-glob", "wstats-glob"),
        ("wstats-glob", "wstats-layers:0-qts:50"),
        ("wstats-layers:0,1-qts:0", "wstats-layers:1,2-qts:100"),
        ("wstats-layers:0,1-qts:0", "wstats-layers:2,3-qts:0"),
        ("wnorm-layers:0,1-l1", "wnorm-layers:1-l1"),
        ("wnorm-layers:0,1-l1", "wnorm-layers:1-l2"),
        ("wnorm-layers:0-l1", "wnorm-layers:1-l1"),
    ],
)
def test_parts_that_share_a_column_are_refused_and_no_others(first, second):
    def columns(name: str) -> set[str]:
        (part,) = features.parse(name)
        return set(part.columns() if isinstance(part, features.Hyper) else part.columns(LAYOUT))

    if columns(first) & columns(second):
        with pytest.raises(CnnzooError, match=rf"`{re.escape(first)}` and `{re.escape(second)}` hold the same columns"):
            features.parse(f"{first}+{second}")
    else:
        assert [part.name for part in features.parse(f"{first}+{second}")] == [first, second]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Collection:
    folder = tmp_path_factory.mktemp("zoo")
    recipes = make_recipes(6)
    assemble(make_shards(folder / "shards", recipes), recipes, "tiny", folder / "zoo", SEED)
    return Collection.open(folder / "zoo")


def test_every_published_set_is_written_and_read_back(zoo, tmp_path):
    features.write_features(zoo, features.PUBLISHED, tmp_path / "features", threads=2)
    rows = zoo.final()[[4, 1]]
    for name in features.PUBLISHED:
        table = features.read_features(zoo, tmp_path / "features", name, rows)
        assert list(table.index) == list(rows)
        if name.startswith(("wstats", "wnorm")):
            np.testing.assert_allclose(table.to_numpy(), plain(name, zoo.weights[rows]), atol=1e-5, rtol=1e-5)
    whole = features.read_features(zoo, tmp_path / "features", "weights", rows)
    np.testing.assert_array_equal(whole.to_numpy(), zoo.weights[rows])
    layers = [features.read_features(zoo, tmp_path / "features", f"weights.{layer}", rows) for layer in range(4)]
    pd.testing.assert_frame_equal(pd.concat(layers, axis=1), whole)
    assert not list((tmp_path / "features").glob("weights*")), "the weights are read from the zoo, not copied"


def test_hyper_holds_every_sampled_hyperparameter_and_its_categories(zoo, tmp_path):
    features.write_features(zoo, ["hyper", "hyper+weights"], tmp_path / "features")
    rows = zoo.final()[:2]  # two rows hold few of the categories
    table = features.read_features(zoo, tmp_path / "features", "hyper", rows)
    assert list(table.columns) == [f"config.{name}" for name in SAMPLED]
    for column in table.columns:
        assert table[column].tolist() == zoo.metrics[column].iloc[rows].tolist()
    assert list(table["config.optimizer"].cat.categories) == ["sgd", "adam", "rmsprop"]
    both = features.read_features(zoo, tmp_path / "features", "hyper+weights", rows)
    assert both.shape == (2, len(SAMPLED) + LAYOUT.size)


def test_writing_twice_gives_the_same_bytes(zoo, tmp_path):
    for folder in ("first", "second"):
        features.write_features(zoo, ["hyper", ALL_LAYERS], tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == ["hyper.parquet", "wstats-layers_0.1.2.3-qts_0.25.50.75.100.parquet"]
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize("name", [*features.PUBLISHED, "hyper.optimizer+wstats-glob+weights.1+wnorm-layers:0,3-l1"])
def test_a_set_described_from_rows_is_the_one_written_and_read(zoo, tmp_path, name):
    features.write_features(zoo, [name], tmp_path / "features", threads=2)
    rows = zoo.final()[[4, 1]]
    read = features.read_features(zoo, tmp_path / "features", name, rows)
    described = features.describe(name, np.array(zoo.weights[rows]), zoo.layout, zoo.metrics.iloc[rows])
    pd.testing.assert_frame_equal(described.set_axis(read.index), read, rtol=1e-6)
    assert described.index.equals(zoo.metrics.index[rows])


def test_rows_that_do_not_fit_are_refused_before_they_are_described(zoo):
    weights, metrics = np.array(zoo.weights[:2]), zoo.metrics.iloc[:2]
    for wrong in (weights[:1], weights[:, 1:], weights.astype(np.float64)):
        with pytest.raises(CnnzooError, match=r"`weights` must be float32 \(2, 4970\)"):
            features.describe("wstats-glob", wrong, zoo.layout, metrics)
    with pytest.raises(CnnzooError, match=r"no column `config.dropout`, which `hyper` needs"):
        features.describe("hyper", weights, zoo.layout, metrics.drop(columns="config.dropout"))


def test_an_unwritten_set_is_named_with_the_remedy(zoo, tmp_path):
    with pytest.raises(CnnzooError, match=r"add `wstats-glob` to `features.sets`"):
        features.read_features(zoo, tmp_path, "wstats-glob", zoo.final())


def test_a_layer_that_the_networks_lack_is_named_before_any_work(zoo, tmp_path):
    with pytest.raises(CnnzooError, match=r"layers 0 to 3, there is no layer 4"):
        features.write_features(zoo, ["hyper", "weights.4"], tmp_path / "features")
    assert not (tmp_path / "features").exists()


def test_features_of_another_state_of_the_collection_are_refused(zoo, tmp_path):
    features.write_features(zoo, ["wstats-glob"], tmp_path / "features")
    longer = replace(zoo, metrics=pd.concat([zoo.metrics, zoo.metrics]))
    with pytest.raises(CnnzooError, match=r"54 rows of 7 features, the collection has 108"):
        features.read_features(longer, tmp_path / "features", "wstats-glob", np.array([0]))


def test_a_file_with_other_columns_is_refused(zoo, tmp_path):
    """Of as many rows and columns, but in another order or under other names."""
    features.write_features(zoo, [ALL_LAYERS], tmp_path / "features")
    (path,) = (tmp_path / "features").iterdir()
    table = pd.read_parquet(path)
    for wrong in (table[table.columns[::-1]], table.rename(columns={"conv2d/bias:q25": "conv2d/bias:q20"})):
        wrong.to_parquet(path, index=False)
        with pytest.raises(CnnzooError, match="run `dvc repro features` again"):
            features.read_features(zoo, tmp_path / "features", ALL_LAYERS, zoo.final())


@pytest.mark.parametrize("networks", [1, 2])
def test_categories_have_all_their_values_in_a_collection_that_holds_few(networks, tmp_path):
    recipes = make_recipes(networks)
    assemble(make_shards(tmp_path / "shards", recipes), recipes, "tiny", tmp_path / "zoo", SEED)
    zoo = Collection.open(tmp_path / "zoo")
    features.write_features(zoo, ["hyper", "hyper.optimizer"], tmp_path / "features")
    for name in ("hyper", "hyper.optimizer"):
        read = features.read_features(zoo, tmp_path / "features", name, zoo.final())
        described = features.describe(name, np.array(zoo.weights), zoo.layout, zoo.metrics)
        for table in (read, described):
            categories = table.select_dtypes("category")
            assert {column: tuple(categories[column].cat.categories) for column in categories} == {
                column: known for column, known in features.CATEGORIES.items() if column in table
            }


@pytest.mark.parametrize("name", ["hyper", "wstats-glob", "weights.3", "hyper.dropout+wnorm-layers:3-l1"])
def test_rows_are_read_in_the_order_asked_for_and_as_often(zoo, tmp_path, name):
    features.write_features(zoo, [name], tmp_path / "features")
    whole = features.read_features(zoo, tmp_path / "features", name, np.arange(len(zoo.metrics)))
    for rows in ([50, 3, 17], [8, 8, 1], [0], []):
        found = features.read_features(zoo, tmp_path / "features", name, np.array(rows, dtype=np.int64))
        assert list(found.index) == rows
        pd.testing.assert_frame_equal(found, whole.iloc[rows])


def test_sets_computed_together_are_those_computed_alone():
    """Norms of both orders and other percentiles of the same layers among them."""
    weights = degenerate_weights()["normal"]
    norms = ["wnorm-layers:0,3-l1", "wnorm-layers:3-l2", "wnorm-layers:0,1,2,3-l1"]
    names = [*norms, ALL_LAYERS, "wstats-layers:1,2-qts:10,33.3", "wstats-layers:1-qts:33.3,90", "wstats-glob"]
    parts = [features.parse(name)[0] for name in names]
    for name, together in zip(names, features.compute(weights, LAYOUT, parts), strict=True):
        (alone,) = features.compute(weights, LAYOUT, features.parse(name))
        np.testing.assert_array_equal(together, alone)
        np.testing.assert_allclose(together, plain(name, weights), rtol=1e-5, atol=1e-5)


def test_a_damaged_file_is_named(zoo, tmp_path: Path):
    features.write_features(zoo, ["wstats-glob"], tmp_path / "features")
    path = tmp_path / "features" / "wstats-glob.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CnnzooError, match=r"wstats-glob.parquet: not a whole Parquet file"):
        features.read_features(zoo, tmp_path / "features", "wstats-glob", np.array([0]))


def test_an_unknown_category_among_the_hyperparameters_is_named(zoo):
    metrics = zoo.metrics.assign(**{"config.optimizer": "lion"})
    with pytest.raises(CnnzooError, match=r"`config.optimizer` has 'lion', expected one of sgd, adam, rmsprop"):
        features.hyperparameters(metrics, features.parse("hyper")[0])
