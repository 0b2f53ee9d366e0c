"""A project folder in which a test trains, and a listener that remembers what it heard."""

from cnnzoo.config import validate
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.training.train import train_collection
from cnnzoo.zoo.recipes import draw
from cnnzoo.zoo.shards import METRICS
from killable import PARAMS

TINY = "tiny"
"""A collection whose name is not that of its data set."""


def tiny_params(engine="batched", recipes=(), train=(), runtime=(), **population):
    """Return valid parameters of the collection `tiny`: 6 networks of 5 epochs, with sections changed as given."""
    return validate(
        PARAMS
        | {
            "populations": {
                TINY: {"dataset": "mnist5k", "networks": 6, "minibatch": 8, "num_units": 4, "num_layers": 2}
                | population
            },
            "collections": [TINY],
            "recipes": PARAMS["recipes"]
            | {
                "train_fraction": {"choice": [0.5, 1.0]},
                "optimizer": {"choice": ["adam"]},
                "activation": {"choice": ["relu"]},
                "epochs": 5,
                "epochs_between_checkpoints": 2,
            }
            | dict(recipes),
            "train": PARAMS["train"] | {"engine": engine} | dict(train),
            "runtime": PARAMS["runtime"] | {"threads": 1, "device": "cpu"} | dict(runtime),
            "features": {"sets": ["hyper"]},  # the default sets name a layer that these networks lack
            "forecast": {"predictor": "linear", "features": "hyper"},
        },
        "test",
    )


class Recorder:
    """A listener that remembers what it heard, and raises where a test says so."""

    def __init__(self, fail_at=(), error=RuntimeError):
        self.heard = []
        self.trained = []
        self.fail_at = set(fail_at)
        self.error = error

    def start(self, cohort, origin, recipes):
        self.heard.append(("start", cohort, origin.engine))
        self.trained += [recipe.network for recipe in recipes]

    def checkpoint(self, cohort, epoch, metrics):
        self.heard.append(("checkpoint", cohort, epoch))
        assert set(metrics) == set(METRICS)
        if len(self.heard) in self.fail_at:
            raise self.error

    def finish(self, shard, nodes=()):
        self.heard.append(("finish", shard.name))


class Zoo:
    """A project folder with images, in which a test trains."""

    def __init__(self, root, images, collection, dataset="mnist5k"):
        self.artifacts = Artifacts(root)
        self.collection = collection
        images.save(self.artifacts.images(dataset))

    def train(self, params, listener=None, recipes=None):
        listener = listener or Recorder()
        recipes = draw(params, self.collection) if recipes is None else recipes
        return train_collection(self.artifacts, params, self.collection, recipes, listener)

    def files(self):
        """Name -> bytes of every shard."""
        return {path.name: path.read_bytes() for path in self.artifacts.checkpoints(self.collection).iterdir()}

    def stamps(self):
        """What changes if a shard is written again, even with the same bytes."""
        folder = self.artifacts.checkpoints(self.collection)
        return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}

    def unfinished(self):
        return [path for path in self.artifacts.unfinished(self.collection).iterdir() if path.name != "lock"]
