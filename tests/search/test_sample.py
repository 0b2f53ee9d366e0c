"""What predictors learn from, against the files of a collection read with pandas alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from samples import make_sample

from cnnzoo.search import read_sample
from zoos import FINAL, STATISTICS, make_project, tell_scores_apart

NETWORKS = 21


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A collection with an odd number of networks and four different scores."""
    artifacts = make_project(tmp_path_factory.mktemp("sample"), {"tiny": NETWORKS}, [STATISTICS, "hyper"])
    return artifacts, tell_scores_apart(artifacts.zoo("tiny"))


@pytest.mark.parametrize("half", ["train", "test"])
def test_a_sample_is_the_final_checkpoints_of_one_half_with_their_test_accuracies(made, half):
    """By the published protocol: of the final rows in the order of split.csv the first half trains."""
    artifacts, zoo = made
    folder = artifacts.zoo("tiny")
    metrics = pd.read_csv(folder / "metrics.csv.gz", index_col=0)
    split = [int(line) for line in (folder / "split.csv").read_text().splitlines()]
    final = [row for row in split if metrics["step"].iloc[row] == FINAL]
    chosen = final[: NETWORKS // 2] if half == "train" else final[NETWORKS // 2 :]
    expected = metrics.iloc[sorted(chosen)]
    found = read_sample(artifacts, zoo, "tiny", "hyper", half)
    assert found.rows.tolist() == sorted(chosen)
    assert list(found.networks) == expected["modeldir"].tolist()
    assert found.target.tolist() == expected["test_accuracy"].tolist()
    for column in found.features:
        assert found.features[column].tolist() == expected[column].tolist()


def test_features_of_a_sample_are_those_of_its_rows(made):
    artifacts, zoo = made
    for half in ("train", "test"):
        found = read_sample(artifacts, zoo, "tiny", STATISTICS, half)
        kernel = np.asarray(zoo.weights[found.rows, -40:], dtype=np.float64)  # (n, 4 * 10): the dense kernel
        column = next(name for name in found.features if name.startswith("dense/kernel") and name.endswith("100"))
        np.testing.assert_allclose(found.features[column], kernel.max(axis=1), rtol=1e-6)


def test_the_digest_of_a_sample_tells_the_halves_and_the_sets_apart(made):
    artifacts, zoo = made
    keys = [(features, half) for features in ("hyper", STATISTICS) for half in ("train", "test")]
    digests = [read_sample(artifacts, zoo, "tiny", *key).digest() for key in keys]
    assert len(set(digests)) == 4
    assert digests == [read_sample(artifacts, zoo, "tiny", *key).digest() for key in keys]


def test_every_value_accuracy_and_name_counts_in_the_digest():
    sample = make_sample(5)
    table, target = sample.features, sample.target
    digests = [sample.digest()]
    for place in range(5):
        digests.append(replace(sample, target=np.where(np.arange(5) == place, 0.5, target)).digest())
        for column in table:
            changed = np.where(np.arange(5) == place, 0.5, table[column])
            digests.append(replace(sample, features=table.assign(**{column: changed})).digest())
    digests += [replace(sample, features=table.rename(columns={column: "x"})).digest() for column in table]
    digests.append(replace(sample, features=table.set_axis(["signal", "noise", "other"], axis=1)).digest())
    assert len(set(digests)) == 1 + 5 * 4 + 3 + 1
    assert sample.digest() == replace(sample, features=table.copy(), target=target.copy()).digest()
