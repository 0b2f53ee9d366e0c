"""`check`: every kind of damage is found, named and placed; sound folders pass."""

import csv
import gzip
import io
import re
import shutil

import numpy as np
import pytest
from test_reader import make_published

from builders import make_collection
from cnnzoo.zoo import check, checker


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Four networks with rows: five, of which network 3 diverged."""
    return make_collection(tmp_path_factory.mktemp("zoo"), networks=5, diverged={3: 1})


@pytest.fixture
def folder(sound, tmp_path):
    """A copy without manifest: with it, every change is a fault (tests/zoo/test_manifest.py)."""
    return shutil.copytree(sound, tmp_path / "zoo", ignore=shutil.ignore_patterns("manifest.json"))


def read_metrics(folder):
    with gzip.open(folder / "metrics.csv.gz", "rt", newline="") as file:
        return list(csv.reader(file))


def write_metrics(folder, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    (folder / "metrics.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def set_metric(line, column, value):
    """Damage one value; lines count from 1 and include the header."""

    def damage(folder):
        rows = read_metrics(folder)
        rows[line - 1][rows[0].index(column)] = value
        write_metrics(folder, rows)

    return damage


def edit_metrics(change):
    def damage(folder):
        rows = read_metrics(folder)
        write_metrics(folder, change(rows) or rows)

    return damage


def edit_weights(change):
    def damage(folder):
        weights = np.load(folder / "weights.npy")
        changed = change(weights)
        np.save(folder / "weights.npy", weights if changed is None else changed, allow_pickle=True)

    return damage


def edit_bytes(name, change):
    def damage(folder):
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return damage


def edit_text(name, old, new):
    def damage(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return damage


def swap(first, second):
    def change(rows):
        rows[first], rows[second] = rows[second], rows[first]

    return edit_metrics(change)


def remove(name):
    return lambda folder: (folder / name).unlink()


def move_columns(rows):
    return [[*row[:20], row[21], row[20], *row[22:]] for row in rows]


def set_nan(row):
    def change(weights):
        weights[row, 100] = np.nan

    return edit_weights(change)


def leak(folder):
    """Swap two epoch-0 rows of networks on different sides: still a permutation."""
    lines = (folder / "split.csv").read_text().splitlines()
    first, last = [place for place, row in enumerate(lines) if int(row) % 9 == 0][0::3]
    lines[first], lines[last] = lines[last], lines[first]
    (folder / "split.csv").write_text("\n".join(lines) + "\n")


def named_gzip(content):
    packed = io.BytesIO()
    with gzip.GzipFile(filename="metrics.csv", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()


DAMAGES = {
    "no weights": (remove("weights.npy"), "weights.npy: not there"),
    "no layout": (remove("layout.csv"), "layout.csv: not there"),
    "no metrics": (remove("metrics.csv.gz"), "metrics.csv.gz: not there"),
    "no split": (remove("split.csv"), "split.csv: not there"),
    "weights float64": (edit_weights(lambda w: w.astype(np.float64)), "must be float32.*got <f8"),
    "weights big-endian": (edit_weights(lambda w: w.astype(">f4")), "must be float32.*got >f4"),
    "weights one-dimensional": (edit_weights(np.ravel), r"got <f4 \(178920,\)"),
    "weights Fortran order": (edit_weights(np.asfortranarray), "must be stored in C order"),
    "weights pickled": (edit_weights(lambda w: np.array([{"a": 1}], dtype=object)), "not a whole .npy file"),
    "weights truncated": (edit_bytes("weights.npy", lambda b: b[:-4]), "not a whole .npy file"),
    "weights with a tail": (
        edit_bytes("weights.npy", lambda b: b + b"xx"),
        "715810 bytes, its header announces 715808",
    ),
    "weights not npy": (edit_bytes("weights.npy", lambda b: b"PK\x03\x04" + b), "not a whole .npy file"),
    "weights empty": (edit_bytes("weights.npy", lambda b: b""), "not a whole .npy file"),
    "too few weights": (edit_weights(lambda w: w[:-1]), "35 rows, but metrics.csv.gz has 36"),
    "too narrow weights": (edit_weights(lambda w: w[:, :-1]), "4969 columns, but layout.csv has 4970"),
    "final weights not finite": (set_nan(17), "row 17 has weights that are not finite"),
    "early weights not finite": (set_nan(9), "row 9 has weights that are not finite"),
    "layout header": (edit_text("layout.csv", "varname", "name"), "layout.csv: the header must be"),
    "layout gap": (edit_text("layout.csv", "160,176,16", "161,177,16"), "layout.csv, line 4.*expected start 160"),
    "layout foreign": (
        edit_text("layout.csv", "conv2d_2/bias", "conv2d_9/bias"),
        "not that of a network of this family",
    ),
    "layout binary": (edit_bytes("layout.csv", lambda b: b"\xff\xfe" + b), "layout.csv: cannot be read"),
    "metrics not gzip": (edit_bytes("metrics.csv.gz", gzip.decompress), "not a whole gzip file"),
    "metrics truncated": (edit_bytes("metrics.csv.gz", lambda b: b[: len(b) // 2]), "not a whole gzip file"),
    "metrics altered": (edit_bytes("metrics.csv.gz", lambda b: b[:-8] + b"0123" + b[-4:]), "not a whole gzip file"),
    "metrics empty": (edit_bytes("metrics.csv.gz", lambda b: gzip.compress(b"", mtime=0)), "not a whole gzip file"),
    "metrics header only": (edit_metrics(lambda rows: rows[:1]), "metrics.csv.gz: holds no rows"),
    "gzip time": (
        edit_bytes("metrics.csv.gz", lambda b: b[:4] + b"\x01" + b[5:]),
        "gzip header holds a name or a time",
    ),
    "missing column": (edit_metrics(lambda rows: [row[:-1] for row in rows]), "line 1: .*missing 'laststep'"),
    "unknown column": (edit_metrics(lambda rows: [[*row, "x"] for row in rows]), "line 1: .*unknown 'x'"),
    "column twice": (
        edit_metrics(lambda rows: [[*row, row[-1]] for row in rows]),
        "column 24 is 'laststep', expected 'not",
    ),
    "columns swapped": (edit_metrics(move_columns), "column 20 is 'train_accuracy', expected 'test_loss'"),
    "index named": (set_metric(1, "", "index"), "line 1: .*missing ''; unknown 'index'"),
    "index twice": (set_metric(3, "", "tiny/000000/permanent_ckpt-0"), "line 3: the index 'tiny.*occurs twice"),
    "index wrong": (
        set_metric(3, "", "elsewhere"),
        "line 3: the index is 'elsewhere', expected 'tiny/000000/permanent_",
    ),
    "accuracy above 1": (set_metric(5, "test_accuracy", "98.1"), r"line 5: `test_accuracy` is '98.1', .* \[0, 1\]"),
    "accuracy missing": (set_metric(5, "train_accuracy", ""), "line 5: `train_accuracy` is '', expected a fraction"),
    "loss not finite": (set_metric(5, "test_loss", "nan"), "line 5: `test_loss` is 'nan', expected a finite number"),
    "rate not a number": (set_metric(2, "config.learning_rate", "high"), "line 2: `config.learning_rate` is 'high'"),
    "step not whole": (set_metric(2, "step", "0.5"), "line 2: `step` is '0.5', expected a whole number"),
    "epochs absurd": (set_metric(2, "config.epochs", "1e300"), "line 2: `config.epochs` is '1e300', expected a whole"),
    "epochs too many": (set_metric(2, "config.epochs", "2000000000"), "line 2: .*expected more than the file has rows"),
    "between zero": (set_metric(2, "config.epochs_between_checkpoints", "0"), "line 2: .*whole number of 1 or more"),
    "activation unknown": (
        set_metric(4, "config.activation", "gelu"),
        "line 4: `config.activation` is 'gelu', .*relu or",
    ),
    "laststep wrong": (set_metric(4, "laststep", "True"), "line 4: `laststep` is True at step 2"),
    "laststep no word": (set_metric(4, "laststep", "yes"), "line 4: `laststep` is 'yes', expected True or False"),
    "units of another layout": (
        set_metric(6, "config.num_units", "8"),
        "line 6: `config.num_units` is 8, but .* has 16",
    ),
    "hyperparameter drifts": (set_metric(7, "config.dropout", "0.1"), "line 7: `config.dropout` is 0.1, but 0.43"),
    "steps in numeric order": (swap(4, 5), "line 2: network 'tiny/000000' has the steps 0 1 2 3 20 40"),
    "network cut": (
        edit_metrics(lambda rows: rows[:-1]),
        "line 29: network 'tiny/000004' has the steps 0 1 2 20 3 40 60 80,",
    ),
    "network scattered": (swap(4, 15), "rows of network 'tiny/000000' are not consecutive"),
    "networks out of order": (
        edit_metrics(lambda rows: [rows[0], *rows[10:19], *rows[1:10], *rows[19:]]),
        "line 11: network 'tiny/000000' comes after 'tiny/000001': not in network order",
    ),
    "modeldir foreign": (
        set_metric(2, "modeldir", "mnist/000000"),
        "line 2: `modeldir` is 'mnist/000000', expected `tiny/",
    ),
    "modeldir malformed": (
        set_metric(37, "modeldir", "tiny/4"),
        "line 37: `modeldir` is 'tiny/4', expected `tiny/<network",
    ),
    "modeldir of 19 digits": (
        set_metric(2, "modeldir", f"tiny/{10**18}"),
        "line 2: `modeldir` is 'tiny/1000000000000000000', expected",
    ),
    "modeldir beyond 64 bits": (
        set_metric(2, "modeldir", f"tiny/{10**23}"),
        "line 2: `modeldir` is 'tiny/100000000000000000000000', expected",
    ),
    "step beyond all epochs": (set_metric(2, "step", "1e300"), "line 2: `step` is '1e300', expected a whole number"),
    "split short": (edit_bytes("split.csv", lambda b: b[b.index(b"\n") + 1 :]), "35 lines, the matrix has 36 rows"),
    "split with header": (
        edit_bytes("split.csv", lambda b: b"row\n" + b),
        "split.csv: every line must be one row index",
    ),
    "split repeats": (edit_text("split.csv", "\n3\n", "\n4\n"), "not a permutation of 0 ... 35: row"),
    "split negative": (edit_text("split.csv", "\n3\n", "\n-3\n"), "not a permutation"),
    "split leaks": (leak, "leakage: network tiny/00000. is in one half at epoch 0 and in the other at epoch 86"),
    "diverged header": (edit_text("diverged.csv", "network,", "id,"), "diverged.csv: line 1: .*missing 'network'"),
    "diverged field": (
        edit_bytes("diverged.csv", lambda b: b"x" * 200_000),
        "diverged.csv: cannot be read .field larger",
    ),
    "layout field": (edit_bytes("layout.csv", lambda b: b"x" * 200_000), "layout.csv: cannot be read .field larger"),
    "diverged empty": (edit_bytes("diverged.csv", lambda b: b""), "diverged.csv: line 1: .*missing 'network'"),
    "diverged line": (edit_text("diverged.csv", "\n3,", "\nthree,"), "diverged.csv: line 2: expected 18 values"),
    "diverged of another script": (edit_text("diverged.csv", "\n3,", "\n\u00b3,"), "diverged.csv: line 2: expected 18"),
    "diverged without end": (
        edit_text("diverged.csv", "\n3,", "\n" + 5000 * "3" + ","),
        "diverged.csv: line 2: expected 18",
    ),
    "diverged has rows": (
        edit_text("diverged.csv", "\n3,", "\n2,"),
        "line 2: network 2 is listed as diverged, but has",
    ),
    "index empty": (set_metric(3, "", ""), "metrics.csv.gz: line 3: the index '' is empty or occurs twice"),
    "index of another epoch": (
        set_metric(3, "", "tiny/000000/permanent_ckpt-7"),
        "line 3: the index is 'tiny/000000/permanent_ckpt-7', expected 'tiny/000000/permanent_ckpt-1'",
    ),
    "laststep missing at the end": (set_metric(10, "laststep", "False"), "line 10: `laststep` is False at step 86"),
    "gzip name": (
        edit_bytes("metrics.csv.gz", lambda data: named_gzip(gzip.decompress(data))),
        "metrics.csv.gz: its gzip header holds a name or a time: equal content would give unequal bytes",
    ),
    "split with a row beyond the matrix": (
        edit_bytes("split.csv", lambda data: data + b"36\n"),
        "split.csv: 37 lines, the matrix has 36 rows",
    ),
    "split with a row beyond in place of another": (
        edit_text("split.csv", "\n3\n", "\n36\n"),
        "split.csv: not a permutation of 0 ... 35: row 3 occurs 0 times .1 rows do not",
    ),
    "step of another epoch": (
        set_metric(7, "step", "41"),
        "line 2: network 'tiny/000000' has the steps 0 1 2 20 3 41 60 80 86, expected 0 1 2 20 3 40 60 80 86",
    ),
    "row twice": (
        edit_metrics(lambda rows: [*rows[:3], [f"{rows[2][0]}x", *rows[2][1:]], *rows[3:]]),
        "line 2: network 'tiny/000000' has the steps 0 1 1 2 20",
    ),
    "layout of one variable": (edit_text("layout.csv", "(10,)", "(5, 2)"), "not that of a network of this family"),
    "layout without its last line": (
        edit_bytes("layout.csv", lambda data: data[: data.index(b"sequential/dense/kernel")]),
        "layout.csv: every layer has a bias and a kernel, got 7 variables",
    ),
    "layout shape": (edit_text("layout.csv", "(16, 10)", "[16, 10]"), "layout.csv, line 9: cannot be read"),
}


def test_a_sound_folder_has_no_problems(folder):
    assert check(folder) == []


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_named_and_placed(folder, name):
    damage, message = DAMAGES[name]
    damage(folder)
    problems = check(folder)
    assert any(re.search(message, problem) for problem in problems), problems
    assert all(problem.startswith(str(folder)) for problem in problems)


def test_all_problems_are_told_not_just_the_first(folder):
    for name in ("accuracy above 1", "rate not a number", "weights with a tail", "layout gap"):
        DAMAGES[name][0](folder)
    problems = "\n".join(check(folder))
    for part in ("test_accuracy", "learning_rate", "header announces", "layout.csv, line 4"):
        assert part in problems


def test_a_fault_in_many_lines_is_one_message_with_their_number(folder):
    def change(rows):
        for row in rows[1:]:
            row[rows[0].index("test_accuracy")] = "2"

    edit_metrics(change)(folder)
    fault = "line 2: `test_accuracy` is '2', expected a fraction in [0, 1] (and 35 more lines)"
    assert check(folder) == [f"{folder / 'metrics.csv.gz'}: {fault}"]


def test_a_folder_that_is_not_there_is_one_problem(tmp_path):
    assert check(tmp_path / "nowhere") == [f"{tmp_path / 'nowhere'}: no such folder"]


def test_an_empty_folder_lacks_all_three_files(tmp_path):
    assert len(check(tmp_path)) == 3


def test_a_published_folder_is_sound_without_our_extra_files(sound, tmp_path):
    assert check(make_published(sound, tmp_path / "published")) == []


def test_in_a_published_folder_only_final_weights_must_be_finite(sound, tmp_path):
    published = make_published(sound, tmp_path / "published")
    set_nan(9)(published)
    assert check(published) == []
    set_nan(26)(published)
    assert "row 26" in check(published)[0]


def test_the_matrix_is_checked_in_blocks(folder, monkeypatch):
    monkeypatch.setattr(checker, "BLOCK_BYTES", 5 * 4970 * 4)  # 36 rows: seven blocks and one row
    set_nan(35)(folder)
    assert "row 35 has weights that are not finite (1 such rows)" in check(folder)[0]


SIZE_COLUMNS = ("config.num_layers", "config.num_units", "config.epochs", "config.epochs_between_checkpoints")
WHOLE_COLUMNS = ("config.random_seed", "step")
REAL_COLUMNS = ("config.dropout", "config.init_std", "config.l2reg", "config.learning_rate", "config.train_fraction")
ACCURACY_COLUMNS = ("test_accuracy", "train_accuracy")
LOSS_COLUMNS = ("test_loss", "train_loss")
HYPERPARAMETERS = (
    *("config.activation", "config.b_init", "config.dataset", "config.dnn_architecture", "config.dropout"),
    *("config.epochs", "config.epochs_between_checkpoints", "config.init_std", "config.l2reg", "config.learning_rate"),
    *("config.num_layers", "config.num_units", "config.optimizer", "config.random_seed", "config.train_fraction"),
    "config.w_init",
)
WRONG_VALUES = [
    *((column, value, "a whole number of 1 or more") for column in SIZE_COLUMNS for value in ("x", "", "0", "-3")),
    *((column, value, "a whole number of 1 or more") for column in SIZE_COLUMNS for value in ("2.5", "2147483648")),
    *((column, value, "a whole number") for column in WHOLE_COLUMNS for value in ("x", "", "1.5", "inf", "nan")),
    *((column, value, "a finite number") for column in REAL_COLUMNS for value in ("x", "", "inf", "nan")),
    *((column, value, "a finite number") for column in LOSS_COLUMNS for value in ("x", "", "-inf", "nan")),
    *((column, value, r"a fraction in [0, 1]") for column in ACCURACY_COLUMNS for value in ("x", "", "nan", "inf")),
    *((column, value, r"a fraction in [0, 1]") for column in ACCURACY_COLUMNS for value in ("-0.001", "1.001")),
    *(("config.activation", value, "relu or tanh") for value in ("", "Relu", "gelu")),
    *(("laststep", value, "True or False") for value in ("", "true", "1")),
]


@pytest.mark.parametrize(("column", "value", "expected"), WRONG_VALUES)
def test_a_value_that_a_column_cannot_hold_is_told_with_what_it_should_be(folder, column, value, expected):
    set_metric(5, column, value)(folder)
    fault = f"{folder / 'metrics.csv.gz'}: line 5: `{column}` is {value!r}, expected {expected}"
    assert fault in check(folder)


@pytest.mark.parametrize("column", HYPERPARAMETERS)
def test_a_hyperparameter_that_changes_inside_a_network_is_told(folder, column):
    rows = read_metrics(folder)
    place = rows[0].index(column)
    first = rows[19][place]  # line 20 is the first of network 2
    other = {"relu": "tanh"}.get(first, f"{first}0" if first.isdigit() else "0.125" if first[0].isdigit() else "other")
    set_metric(24, column, other)(folder)
    problems = [problem for problem in check(folder) if "but" in problem and "first row of the same network" in problem]
    assert len(problems) == 1
    assert f"line 24: `{column}` is " in problems[0]


@pytest.mark.parametrize("name", ["num_units", "num_layers"])
def test_a_shape_that_is_not_the_layouts_is_told(folder, name):
    edit_metrics(lambda rows: [rows[0], *(replace_value(rows[0], row, f"config.{name}", "5") for row in rows[1:])])(
        folder
    )
    expected = {"num_units": 16, "num_layers": 3}[name]
    fault = f"line 2: `config.{name}` is 5, but layout.csv has {expected} (and 35 more lines)"
    assert check(folder) == [f"{folder / 'metrics.csv.gz'}: {fault}"]


def replace_value(header, row, column, value):
    place = header.index(column)
    return [*row[:place], value, *row[place + 1 :]]


@pytest.mark.parametrize("place", range(9))
def test_leakage_is_found_at_every_epoch(folder, place):
    """Rows of one epoch of two networks on different sides change places; `place` is that in the order of strings."""
    epoch = (0, 1, 2, 20, 3, 40, 60, 80, 86)[place]
    lines = (folder / "split.csv").read_text().splitlines()
    first, last = [position for position, row in enumerate(lines) if int(row) % 9 == place][0::3]
    ends = sorted(f"tiny/{(0, 1, 2, 4)[int(lines[position]) // 9]:06d}" for position in (first, last))
    lines[first], lines[last] = lines[last], lines[first]
    (folder / "split.csv").write_text("\n".join(lines) + "\n")
    problems = check(folder)
    if epoch == 86:  # then every other epoch disagrees with the last
        assert [re.search(r"epoch (\d+) and", problem)[1] for problem in problems] == [
            "0",
            "1",
            "2",
            "3",
            "20",
            "40",
            "60",
            "80",
        ]
        return
    fault = f"leakage: network {ends[0]} is in one half at epoch {epoch} and in the other at epoch 86 (2 such networks)"
    assert problems == [f"{folder / 'split.csv'}: {fault}"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("3,{values},x", "line 2: expected 18 values, network and epoch as numbers"),
        ("x,{values},1", "line 2: expected 18 values, network and epoch as numbers"),
        ("3,{values}", "line 2: expected 18 values, network and epoch as numbers"),
        ("3,{values},1,1", "line 2: expected 18 values, network and epoch as numbers"),
        ("-3,{values},1", "line 2: expected 18 values, network and epoch as numbers"),
        ("4,{values},1", "line 2: network 4 is listed as diverged, but has rows"),
        ("000004,{values},1", "line 2: network 000004 is listed as diverged, but has rows"),
    ],
)
def test_a_line_of_the_diverged_networks_that_cannot_be_is_told(folder, line, told):
    header, old = (folder / "diverged.csv").read_text().splitlines()
    values = ",".join(old.split(",")[1:-1])
    (folder / "diverged.csv").write_text(f"{header}\n{line.format(values=values)}\n")
    assert check(folder) == [f"{folder / 'diverged.csv'}: {told}"]


def test_a_wrong_score_does_not_end_the_check(folder):
    for damage in (
        set_metric(5, "test_accuracy", "2"),
        set_metric(6, "train_loss", "x"),
        set_metric(7, "config.dropout", "0.1"),
        set_metric(8, "step", "61"),
        set_metric(3, "", "elsewhere"),
        edit_text("diverged.csv", "\n3,", "\n2,"),
        edit_bytes("split.csv", lambda data: data + b"0\n"),
    ):
        damage(folder)
    problems = "\n".join(check(folder))
    for part in ("line 5", "line 6", "line 7", "has the steps", "'elsewhere'", "network 2 is listed", "37 lines"):
        assert part in problems


def swap_networks_in_the_split(folder):
    """Exchange two networks of the test half, at every epoch."""
    lines = (folder / "split.csv").read_text().splitlines()
    (folder / "split.csv").write_text("\n".join([*lines[:18], *lines[27:], *lines[18:27]]) + "\n")


def set_everywhere(column, value):
    return edit_metrics(lambda rows: [rows[0], *(replace_value(rows[0], row, column, value) for row in rows[1:])])


NEAR_MISSES = {
    "accuracies of 0 and 1": (set_metric(5, "test_accuracy", "0"), set_metric(6, "train_accuracy", "1.0")),
    "a loss below 0": (set_metric(5, "test_loss", "-0.5"),),
    "a negative random seed": (set_everywhere("config.random_seed", "-5"),),
    "steps as real numbers": (set_metric(5, "step", "20.0"),),
    "whole numbers in other words": (set_everywhere("config.epochs_between_checkpoints", "2e1"),),
    "an initialiser of another kind": (set_everywhere("config.w_init", "lecun_normal"),),
    "no dropout, no penalty": (set_everywhere("config.dropout", "0"), set_everywhere("config.l2reg", "0")),
    "nobody diverged": (edit_bytes("diverged.csv", lambda data: data[: data.index(b"\n") + 1]),),
    "another network diverged": (edit_text("diverged.csv", "\n3,", "\n5,"),),
    "halves in another order": (swap_networks_in_the_split,),
    "another compression": (
        edit_bytes("metrics.csv.gz", lambda data: gzip.compress(gzip.decompress(data), compresslevel=1, mtime=0)),
    ),
    "large weights": (edit_weights(lambda weights: np.where(weights > 0, np.float32(3e38), weights)),),
    "shapes without spaces": (edit_text("layout.csv", "(3, 3, 1, 16)", "(3,3,1,16)"),),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_is_unusual_but_allowed_passes(folder, name):
    for change in NEAR_MISSES[name]:
        change(folder)
    assert check(folder) == []


def named(names):
    """Give networks other names in `modeldir` and index, as published archives have them."""

    def change(folder):
        rows = read_metrics(folder)
        place = rows[0].index("modeldir")
        for row in rows[1:]:
            row[place] = f"/home/{names[int(row[place][-6:])]}"
            row[0] = f"{row[place]}/{row[0].rpartition('/')[2]}"
        write_metrics(folder, rows)

    return change


PUBLISHED_NEAR_MISSES = {
    "a time in the gzip header": (edit_bytes("metrics.csv.gz", lambda data: data[:4] + b"\x01" + data[5:]),),
    "a name in the gzip header": (edit_bytes("metrics.csv.gz", lambda data: named_gzip(gzip.decompress(data))),),
    "losses that are gone": (set_metric(5, "test_loss", ""), set_metric(6, "train_loss", "nan")),
    "no split, no diverged": (remove("split.csv"), remove("diverged.csv")),
    "an index of another form": (set_metric(3, "", "elsewhere"),),
    "early weights not finite": (set_nan(9), set_nan(7)),
}


@pytest.mark.parametrize("name", PUBLISHED_NEAR_MISSES)
def test_what_ours_must_hold_and_published_folders_need_not(folder, name):
    named(("3", "1", "2", "", "0"))(folder)
    for change in PUBLISHED_NEAR_MISSES[name]:
        change(folder)
    assert check(folder) == []


PUBLISHED_DAMAGES = {
    name: DAMAGES[name]
    for name in (
        *("no weights", "no layout", "no metrics", "weights float64", "too few weights", "too narrow weights"),
        *("final weights not finite", "missing column", "unknown column", "columns swapped", "accuracy above 1"),
        *("accuracy missing", "rate not a number", "step not whole", "activation unknown", "units of another layout"),
        *("between zero", "epochs absurd", "index named", "layout foreign", "metrics truncated"),
    )
} | {
    "index empty": DAMAGES["index empty"],
    "index twice": (set_metric(3, "", "/home/3/permanent_ckpt-0"), "line 3: the index '/home/3/perm.*occurs twice"),
    "hyperparameter drifts": (set_metric(7, "config.optimizer", "adam"), "line 7: `config.optimizer` is 'adam', but"),
    "network cut": (edit_metrics(lambda rows: rows[:-1]), "36 rows, but metrics.csv.gz has 35"),
    "step twice": (set_metric(4, "step", "1"), "line 4: network '/home/3' has step 1 twice"),
    "network scattered": (swap(4, 15), "rows of network '/home/3' are not consecutive"),
    "loss no number but final weights lost": (set_nan(35), "row 35 has weights that are not finite"),
}


@pytest.mark.parametrize("name", PUBLISHED_DAMAGES)
def test_damage_of_a_published_folder_is_found(folder, name):
    named(("3", "1", "2", "", "0"))(folder)
    for extra in ("split.csv", "diverged.csv"):
        (folder / extra).unlink()
    damage, message = PUBLISHED_DAMAGES[name]
    damage(folder)
    problems = check(folder)
    assert any(re.search(message, problem) for problem in problems), problems


def test_networks_that_trained_for_different_times_pass_in_one_folder(folder):
    """Network 1 has its rows up to epoch 60 alone: as many epochs as its last step says."""
    header, *rows = read_metrics(folder)
    epochs = header.index("config.epochs")
    kept = [place for place in range(36) if place not in {16, 17}]
    for place in range(9, 16):
        rows[place][epochs] = "60"
    named(("3", "1", "2", "", "0"))(write_rows(folder, header, rows, kept))
    for extra in ("split.csv", "diverged.csv"):
        (folder / extra).unlink()
    assert check(folder) == []
    edit_weights(lambda weights: np.where(np.arange(34)[:, None] == 15, np.inf, weights).astype(np.float32))(folder)
    assert "row 15 has weights that are not finite (1 such rows)" in check(folder)[0]  # its last row, at epoch 60


def write_rows(folder, header, rows, kept):
    """Keep some rows of metrics and weights."""
    write_metrics(folder, [header, *(rows[place] for place in kept)])
    np.save(folder / "weights.npy", np.load(folder / "weights.npy")[kept])
    return folder
