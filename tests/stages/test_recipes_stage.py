"""Stage `recipes`: each collection gets recipes of its own."""

import pandas as pd

from small_project import ALPHA, BETA, SmallProject


def test_each_collection_gets_its_own_networks_on_its_own_data_set(tmp_path):
    project = SmallProject(tmp_path)
    project.configure({"populations.beta.networks": 5, "populations.beta.epochs": 9, "populations.beta.num_units": 2})
    for collection in (ALPHA, BETA):
        project.run("recipes", collection)
    assert set(project.files("data")) == {"recipes/alpha.csv", "recipes/beta.csv"}
    alpha, beta = (pd.read_csv(project.artifacts.recipes(collection)) for collection in (ALPHA, BETA))
    assert alpha["network"].tolist() == list(range(26))
    assert beta["network"].tolist() == list(range(5))
    for table, dataset, epochs, units in ((alpha, "mnist5k", 2, 3), (beta, "fashion_mnist", 9, 2)):
        assert (table["dataset"] == dataset).all()
        assert (table["epochs"] == epochs).all()
        assert (table["num_units"] == units).all()
    assert not set(alpha["learning_rate"]) & set(beta["learning_rate"])
