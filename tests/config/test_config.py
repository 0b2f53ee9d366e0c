import copy
import math
import pickle

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from cnnzoo import config
from cnnzoo.config import Imported, Range, load, validate
from cnnzoo.core.errors import CnnzooError
from cnnzoo.features.names import PUBLISHED, check_feature_sets
from imports import ROOT

PARAMS = ROOT / "params.yaml"
DATA = YAML(typ="safe").load(PARAMS.read_text())
ABSENT = object()


def changed(**changes):
    """Return params.yaml as a dict; `changes` map dotted keys to new values (`ABSENT` removes the key)."""
    data = copy.deepcopy(DATA)
    for key, value in changes.items():
        *path, last = key.split(".")
        place = data
        for part in path:
            place = place[part]
        if value is ABSENT:
            del place[last]
        else:
            place[last] = value
    return data


def check(data):
    """Check parameters as every stage does: the records, then the feature sets."""
    check_feature_sets(validate(data, "params.yaml"), "params.yaml")


def add_imported(path, name, entry):
    config.add_imported(path, name, entry, check_feature_sets)


def test_shipped_params_are_valid_and_hold_the_published_ranges():
    params = load(PARAMS)
    assert params.recipes.learning_rate.log_uniform == [5e-4, 5e-2]
    assert params.recipes.l2reg.log_uniform == [1e-8, 1e-2]
    assert params.recipes.init_std.log_uniform == [1e-3, 0.5]
    assert params.recipes.dropout.uniform == [0.0, 0.7]
    assert params.recipes.train_fraction.choice == [0.1, 0.25, 0.5, 1.0]
    assert params.recipes.activation.choice == ["relu", "tanh"]
    assert params.recipes.optimizer.choice == ["sgd", "adam", "rmsprop"]
    assert set(params.recipes.w_init.choice) == {
        "he_normal",
        "glorot_normal",
        "orthogonal",
        "RandomNormal",
        "TruncatedNormal",
    }
    assert (params.recipes.epochs, params.recipes.epochs_between_checkpoints) == (86, 20)


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "0.001", "1.0e-3"])
def test_every_notation_of_a_number_is_a_number(tmp_path, number):
    """PyYAML would read `1e-3` as a string."""
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text().replace("log_uniform: [5e-4, 5e-2]", f"log_uniform: [{number}, 5e-2]"))
    assert load(path).recipes.learning_rate.log_uniform == [1e-3, 5e-2]


FAULTS = [
    # (key, value, what the message must say)
    ("train.engin", "auto", ["`train.engin`", "did you mean `engine`?", "cohort_size"]),
    ("trian", {}, ["`trian`", "did you mean `train`?"]),
    ("populations.mnist5k.netwroks", 3, ["`populations.mnist5k.netwroks`", "did you mean `networks`?"]),
    ("recipes.dropout.uniformly", [0, 1], ["`recipes.dropout.uniformly`", "did you mean `uniform`?"]),
    ("recipes.activation.choise", [], ["`recipes.activation.choise`", "did you mean `choice`?"]),
    ("train.engine", "fast", ["`train.engine`", "'native'", "'fast'"]),
    ("train.cohort_size", 0, ["`train.cohort_size`", "greater than or equal to 1", "0"]),
    ("train.cohort_size", "many", ["`train.cohort_size`", "integer", "'many'"]),
    ("train.cohort_size", 2.5, ["`train.cohort_size`", "integer", "2.5"]),
    ("train.cohort_size", True, ["`train.cohort_size`", "integer", "True"]),
    ("train", None, ["`train`"]),
    ("train", ABSENT, ["`train`", "missing"]),
    ("search.trials", ABSENT, ["`search.trials`", "missing"]),
    ("search.predictors", ["linear", "forest"], ["`search.predictors.1`", "'catboost'", "'forest'"]),
    (
        "search.only",
        {"learned_probes": ["hyper"]},
        ["`search.only` names `learned_probes`", "lists only ['linear', 'catboost', 'dnn']"],
    ),
    ("search.only", {"dnn": ["hyper.dropout"]}, ["`search.only.dnn` names `hyper.dropout`", "has: hyper, wstats"]),
    ("search.only", {"dnn": ["probe"]}, ["`search.only.dnn` names `probe`", "did you mean `probes`"]),
    ("search.only", {"dn": ["hyper"]}, ["`search.only.dn`: ", "'dnn'"]),
    ("search.predictors", ["linear", "nfn"], ["`search.predictors.1`: `nfn` is now called `learned_probes`"]),
    ("search.only", {"nfn": ["hyper"]}, ["`search.only.nfn`: `nfn` is now called `learned_probes`"]),
    ("forecast.predictor", "nfn", ["`forecast.predictor`: `nfn` is now called `learned_probes`"]),
    ("features.sets", ["published", "published"], ["`features.sets`", "`published` stands twice"]),
    ("search.predictors", ["dnn", "dnn"], ["`search.predictors`: names a value twice", "dnn"]),
    ("search.predictors", [], ["`search.predictors`: must name at least one value"]),
    ("datasets", [], ["`datasets`: must name at least one value"]),
    ("datasets", ["mnist5k", "mnist5k"], ["`datasets`: names a value twice", "mnist5k"]),
    ("search.folds", 1, ["`search.folds`", "2", "1"]),
    ("evaluate.confidence", 1.0, ["`evaluate.confidence`", "less than 1", "1.0"]),
    ("evaluate.bootstrap", 0, ["`evaluate.bootstrap`", "1"]),
    ("runtime.threads", -1, ["`runtime.threads`", "-1"]),
    ("runtime.resume_interval_s", -1, ["`runtime.resume_interval_s`", "-1"]),
    ("runtime.resume_interval_s", math.nan, ["`runtime.resume_interval_s`", "nan"]),
    ("runtime.device", "gpu", ["`runtime.device`", "cuda", "'gpu'"]),
    ("seed", -1, ["`seed`", "-1"]),
    ("seed", "1", ["`seed`", "integer", "'1'"]),
    ("datasets", ["imagenet"], ["`datasets.0`", "'mnist5k'", "'imagenet'"]),
    ("datasets", ["mnist"], ["populations.mnist5k.dataset", "mnist5k", "['mnist']"]),
    ("populations", {}, ["`collections` names `mnist5k`", "define: nothing"]),
    ("collections", [], ["`collections`: must name at least one value"]),
    ("collections", ["mnist"], ["`collections` names `mnist`", "did you mean `mnist5k`", "define: mnist5k"]),
    ("imported", {"mnist5k": {"dataset": "mnist5k"}}, ["`mnist5k` stands in `populations` and in `imported`"]),
    ("imported.old", {"dataset": "mnist", "networks": 3}, ["`imported.old.networks`: unknown key", "num_units"]),
    ("populations.mnist5k.epochs", 0, ["`populations.mnist5k.epochs`", "1", "0"]),
    ("forecast.features", "weights.4", ["`forecast.features`: feature set `weights.4`", "there is no layer 4"]),
    ("populations.mnist5k.networks", 1, ["`populations.mnist5k.networks`", "2", "1"]),
    ("populations.mnist5k.replicates", 1, ["`populations.mnist5k.replicates`", "2", "1"]),
    ("populations.mnist5k.replicates", 3, ["`replicates=3` needs a multiple of 3 as `networks`, got 512"]),
    ("populations.mnist5k.pairs", "dropuot", ["`pairs` names `dropuot`", "did you mean `dropout`?"]),
    ("populations.mnist5k.pairs", "label_noise", ["`pairs` names `label_noise`", "Allowed: learning_rate"]),
    ("populations.mnist5k.pairs", [], ["must name at least one value"]),
    ("populations.mnist5k.label_noise", {"uniform": [0.0, 1.5]}, ["`label_noise` must lie in [0, 1]", "1.5"]),
    ("populations.mnist5k.checkpoint_epochs", [0, 5, 5], ["`checkpoint_epochs`", "ascending", "[0, 5, 5]"]),
    ("populations.mnist5k.checkpoint_epochs", [-1, 5], ["`checkpoint_epochs`", "from 0 on"]),
    ("populations.mnist5k.checkpoint_epochs", [0, 87], ["`populations.mnist5k.checkpoint_epochs` ends with 87", "86"]),
    ("populations.mnist5k.minibatch", 0, ["`populations.mnist5k.minibatch`", "1", "0"]),
    ("populations.mnist5k.num_layers", 9, ["`populations.mnist5k.num_layers`", "4", "9"]),
    ("recipes.epochs", 0, ["`recipes.epochs`", "1", "0"]),
    ("recipes.epochs_between_checkpoints", 0, ["`recipes.epochs_between_checkpoints`", "1"]),
    ("recipes.learning_rate", {"log_uniform": [0, 1]}, ["`recipes.learning_rate`", "positive"]),
    ("recipes.learning_rate", {"log_uniform": [1e-2]}, ["`recipes.learning_rate`", "[low, high]"]),
    ("recipes.learning_rate", {"log_uniform": [1e-2, 1e-3]}, ["`recipes.learning_rate`", "low <= high"]),
    ("recipes.learning_rate", {"log_uniform": [1e-3, math.inf]}, ["`recipes.learning_rate`", "finite"]),
    ("recipes.learning_rate", {"uniform": [0, 1], "choice": [1]}, ["`recipes.learning_rate`", "exactly one"]),
    ("recipes.learning_rate", {}, ["`recipes.learning_rate`", "exactly one"]),
    ("recipes.learning_rate", {"uniform": [-1, 1]}, ["`learning_rate`", "greater than 0", "-1"]),
    ("recipes.learning_rate", {"uniform": [0, 1]}, ["`learning_rate`", "greater than 0", "0.0"]),
    ("recipes.init_std", {"choice": [0.1, 0]}, ["`init_std`", "greater than 0", "0.0"]),
    ("recipes.l2reg", {"uniform": [-1, 0]}, ["`l2reg`", "0 or greater", "-1"]),
    ("recipes.learning_rate", {"choice": []}, ["`recipes.learning_rate.choice`", "at least one"]),
    ("recipes.dropout", {"uniform": [0, 1.0]}, ["`dropout`", "[0, 0.99]", "1.0"]),
    ("recipes.train_fraction", {"choice": [0.5, 1.5]}, ["`train_fraction`", "(0, 1]", "1.5"]),
    ("recipes.train_fraction", {"choice": [0.0]}, ["`train_fraction`", "(0, 1]", "0.0"]),
    ("recipes.activation", {"choice": ["gelu"]}, ["`recipes.activation.choice.0`", "'relu'", "'gelu'"]),
    ("features.sets", [], ["`features.sets`: must name at least one value"]),
    ("features.sets", ["hyper", "hyper"], ["`features.sets`: names a value twice", "hyper"]),
    ("features.sets", ["weigths"], ["`features.sets`: unknown feature set `weigths`", "did you mean `weights`"]),
    ("features.sets", ["weights.4"], ["`features.sets`: feature set `weights.4`", "there is no layer 4"]),
    ("images.mirrors", "folder", ["`images.mirrors`", "list", "'folder'"]),
]


@pytest.mark.parametrize(("key", "value", "says"), FAULTS, ids=[f"{key}={str(value)[:20]}" for key, value, _ in FAULTS])
def test_faulty_value_is_refused_and_its_key_named(key, value, says):
    with pytest.raises(CnnzooError) as caught:
        check(changed(**{key: value}))
    message = str(caught.value)
    assert message.startswith("params.yaml is not valid:\n  - ")
    for part in says:
        assert part in message


def test_a_predictor_can_be_limited_to_some_of_the_sets():
    sets = {"features.sets": ["hyper", "weights", "probes"], "search.predictors": ["linear", "learned_probes"]}
    params = validate(changed(**sets, **{"search.only": {"learned_probes": ["weights"]}}), "params.yaml")
    assert params.searches == (
        ("linear", "hyper"),
        ("linear", "weights"),
        ("learned_probes", "weights"),
        ("linear", "probes"),
    )


def test_published_stands_for_the_14_sets_of_the_study():
    sets = validate(
        changed(**{"features.sets": ["hyper", "published", "weights.1+hyper"]}), "params.yaml"
    ).features.sets
    assert sets == [*PUBLISHED, "weights.1+hyper"]
    assert len(PUBLISHED) == 14


def test_collection_name_that_is_no_folder_name_is_refused():
    data = changed()
    data["populations"]["../evil"] = data["populations"].pop("mnist5k")
    with pytest.raises(CnnzooError, match=r"populations.*evil"):
        validate(data, "params.yaml")


def test_all_faults_are_listed_at_once():
    faults = {"train.engin": "auto", "search.trials": 0, "runtime.device": "gpu", "seed": ABSENT}
    with pytest.raises(CnnzooError) as caught:
        validate(changed(**faults), "params.yaml")
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == len(faults)
    for key in faults:
        assert any(f"`{key}`" in line for line in lines)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"train: [1, 2", "not valid YAML"),
        (b"seed: 1\nseed: 2\n", "not valid YAML"),
        (b"\xff\xfe", "not valid YAML"),
        (b"", "expected sections"),
        (b"- 1\n- 2\n", "expected sections"),
        (b"just a word", "expected sections"),
    ],
)
def test_file_that_is_not_a_mapping_is_refused(tmp_path, content, says):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(CnnzooError, match=says) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("train: [1, 2\n", ", line 2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\nseed: 1\nseed: 2\n", ', line 3: not valid YAML: found duplicate key "seed" with value "2" '),
        ("a: 1\nb: !!python/none x\n", ", line 2: not valid YAML: could not determine a constructor"),
        ("a: \x01\n", ": not valid YAML: special characters are not allowed"),
        ("seed: 2024-13-45\n", ": not valid YAML: month must be in 1..12"),
    ],
)
def test_yaml_fault_is_told_by_line_without_the_librarys_advice(tmp_path, content, says):
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(CnnzooError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}{says}")
    assert len(message.splitlines()) == 1
    assert "<unicode string>" not in message


def test_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(CnnzooError, match=r"params\.yaml: cannot be read .*root of the project"):
        load(tmp_path / "params.yaml")


def test_yaml_cannot_run_code(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(f"seed: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(CnnzooError):
        load(path)
    assert not (tmp_path / "made").exists()


def test_parameters_can_go_to_another_process():
    params = load(PARAMS)
    assert copy.copy(params) == params
    assert pickle.loads(pickle.dumps(params)) == params


def test_parameters_are_frozen_at_every_depth():
    params = load(PARAMS)
    for record, name in ((params, "seed"), (params.train, "engine"), (params.recipes.dropout, "uniform")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(record, name, None)


def test_unknown_collection_names_the_nearest_one():
    with pytest.raises(CnnzooError, match=r"`mnist5`.*did you mean `mnist5k`\?.*Defined: mnist5k"):
        load(PARAMS).population("mnist5")


def test_shipped_params_describe_the_documented_collection():
    """What README.md promises to make; another value changes data and results of everyone who runs `make repro`."""
    params = load(PARAMS)
    assert (params.seed, params.datasets, params.collections) == (20200226, ["mnist5k"], ["mnist5k"])
    assert params.populations["mnist5k"].model_dump() == {
        "dataset": "mnist5k", "networks": 512, "minibatch": 64, "num_units": 16, "num_layers": 3, "epochs": None,
            "replicates": None, "pairs": None, "label_noise": None, "checkpoint_epochs": None,
    }  # fmt: skip
    recipe = "wstats-layers:0,1,2,3-qts:0,25,50,75,100"
    assert params.features.sets == ["hyper", recipe, "probes", f"{recipe}+probes"]
    assert params.forecast.model_dump() == {"predictor": "catboost", "features": recipe}
    assert (params.train.engine, params.train.cohort_size) == ("auto", 256)
    assert params.search.predictors == ["linear", "catboost", "dnn"]
    assert params.search.only == {}
    assert (params.search.trials, params.search.folds) == (6, 3)
    assert (params.search.max_trees, params.search.max_epochs) == (300, 100)
    assert (params.evaluate.bootstrap, params.evaluate.confidence) == (1000, 0.95)
    assert params.imported == {}


def test_a_collection_has_the_published_architecture_unless_it_says_otherwise():
    params = validate(
        changed(
            populations={
                "published": {"dataset": "mnist5k", "networks": 4, "minibatch": 8},
                "other": {"dataset": "mnist5k", "networks": 4, "minibatch": 8, "num_units": 5, "num_layers": 4},
            },
            collections=["published"],
        ),
        "params.yaml",
    )
    found = {name: population.architecture for name, population in params.populations.items()}
    assert (found["published"].num_units, found["published"].num_layers) == (16, 3)
    assert (found["other"].num_units, found["other"].num_layers) == (5, 4)
    assert params.populations["published"].epochs is None


SHALLOW = {"dataset": "mnist5k", "networks": 4, "minibatch": 8, "num_layers": 2}


@pytest.mark.parametrize("kind", ["populations", "imported"])
def test_every_collection_that_is_compared_has_the_layers_of_the_feature_sets(kind):
    """In whatever place it stands; one that is only made need not have them."""
    data = changed()
    entry = SHALLOW if kind == "populations" else {"dataset": "mnist5k", "num_layers": 2}
    data[kind]["shallow"] = entry
    check(data)
    assert validate(data, "params.yaml").definition("shallow").num_layers == 2
    data["collections"] = ["mnist5k", "shallow"]
    with pytest.raises(CnnzooError, match=r"`features\.sets`"):
        check(data)


@pytest.mark.parametrize(
    ("distribution", "bounds"),
    [
        ({"uniform": [0.25, 0.5]}, (0.25, 0.5)),
        ({"log_uniform": [1e-4, 1e-2]}, (1e-4, 1e-2)),
        ({"choice": [0.5, 0.1, 0.9, 0.3]}, (0.1, 0.9)),
    ],
)
def test_bounds_are_the_smallest_and_the_largest_value(distribution, bounds):
    assert Range(**distribution).bounds == bounds


def test_searches_are_ordered_by_input_then_predictor():
    params = validate(
        changed(**{"features.sets": ["probes", "hyper"], "search.predictors": ["dnn", "linear"]}), "params.yaml"
    )
    assert params.searches == (("dnn", "probes"), ("linear", "probes"), ("dnn", "hyper"), ("linear", "hyper"))


@pytest.fixture
def own_params(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text())
    return path


def test_an_imported_collection_is_entered_with_all_that_it_is(own_params):
    before = load(own_params)
    entry = Imported(dataset="cifar10", num_units=12, num_layers=4)
    add_imported(own_params, "abroad", entry)
    after = load(own_params)
    assert after.imported == {"abroad": entry}
    assert after.collections == ["mnist5k", "abroad"]
    assert after.model_copy(update={"imported": {}, "collections": ["mnist5k"]}) == before


def test_entering_a_collection_changes_two_lines_of_the_file(own_params):
    """Comments, quotes and long lines stay as a person wrote them."""
    before = own_params.read_text().splitlines()
    add_imported(own_params, "abroad", Imported(dataset="mnist"))
    after = own_params.read_text().splitlines()
    assert [line for line in after if line not in before] == [
        "imported:",
        "  abroad: {dataset: mnist}",
        "collections: [mnist5k, abroad]",
    ]
    assert [line for line in after if line in before] == [
        line for line in before if line not in ("imported: {}", "collections: [mnist5k]")
    ]


def test_entering_a_collection_twice_lists_it_once(own_params):
    for dataset in ("mnist", "cifar10"):
        add_imported(own_params, "abroad", Imported(dataset=dataset))
    params = load(own_params)
    assert params.collections == ["mnist5k", "abroad"]
    assert params.imported["abroad"].dataset == "cifar10"


def test_a_refused_import_leaves_the_file_as_it_was(own_params):
    """Its networks lack a layer that the feature sets name."""
    before = own_params.read_bytes()
    with pytest.raises(CnnzooError, match="with `abroad` in `imported` is not valid"):
        add_imported(own_params, "abroad", Imported(dataset="mnist", num_layers=2))
    assert own_params.read_bytes() == before
