"""The data card of a collection: what it holds, how it was made, and how to load it, for people."""

from collections.abc import Sequence
from pathlib import Path

from cnnzoo.core.atomic import write_text
from cnnzoo.zoo import format as published
from cnnzoo.zoo.facts import FEW, QUANTILES, Facts
from cnnzoo.zoo.manifest import Training, write_manifest
from cnnzoo.zoo.reader import Collection

PAPER = "https://arxiv.org/abs/2002.11448"


def describe(folder: Path, name: str, trainings: Sequence[Training]) -> None:
    """Write manifest.json and README.md of the collection in `folder`, whose other files are all there."""
    facts = Facts.of(Collection.open(folder), name)
    write_manifest(folder, facts, trainings)
    write_text(folder / published.CARD, collection_card(facts, trainings))


def collection_card(facts: Facts, trainings: Sequence[Training]) -> str:
    """Return README.md of a collection's folder in the project."""
    return f"# {facts.title}\n\n{overview(facts, trainings)}\n{FILES}\n{LOADING}\n{_ORIGIN}"


def overview(facts: Facts, trainings: Sequence[Training]) -> str:
    """Return what a collection holds and how it was made: a paragraph, counts, and two tables."""
    diverged = "" if facts.diverged is None else f"; {facts.diverged:,} more diverged and stand in `diverged.csv`"
    testing = facts.networks - facts.training_networks
    accuracies = "\n".join(
        f"| {name} | " + " | ".join(f"{values[quantile]:.3f}" for quantile in QUANTILES) + " |"
        for name, values in facts.accuracies.items()
    )
    return _OVERVIEW.format(
        description=facts.description,
        networks=f"{facts.networks:,}",
        diverged=diverged,
        rows=f"{facts.rows:,}",
        parameters=f"{facts.parameters:,}",
        halves=f"{facts.training_networks:,} train, {testing:,} test",
        made_by="".join(f"{_sentence(training)}\n" for training in trainings),
        quantiles=" | ".join(QUANTILES),
        rules=" | ".join("---" for _ in QUANTILES),
        accuracies=accuracies,
        hyperparameters="\n".join(f"| `{name}` | {_range(facts, name)} |" for name in facts.hyperparameters),
    )


def _sentence(training: Training) -> str:
    return (
        f"- {training.networks:,} trained by the {training.engine} engine of cnnzoo (arithmetic {training.numerics}) "
        f"with minibatches of {training.minibatch} images; SHA-256 of the images `{training.images}`"
    )


def _range(facts: Facts, name: str) -> str:
    taken = facts.hyperparameters[name]
    if "values" not in taken:
        return f"{_shown(taken['lowest'])} to {_shown(taken['highest'])}"
    return ", ".join(map(_shown, taken["values"][:FEW])) + (", ..." if len(taken["values"]) > FEW else "")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_OVERVIEW = """{description}

- {networks} networks{diverged}
- {rows} checkpoints, {parameters} parameters each
- split by network: {halves}, so that no network is on both sides
{made_by}
## Final accuracies

| | {quantiles} |
|---|{rules}|
{accuracies}

## Hyperparameters

| name | values |
|---|---|
{hyperparameters}
"""
FILES = """## Files

| file | content |
|---|---|
| `weights.npy` | float32, one row per checkpoint |
| `metrics.csv.gz` | row i describes row i of the weights: hyperparameters, epoch (`step`), accuracies, losses |
| `layout.csv` | where each parameter tensor lies in a row |
| `split.csv` | the rows in the order of the split: the first half of the final ones trains |
| `diverged.csv` | hyperparameters of the networks that diverged and so have no rows (not in imported zoos) |
| `manifest.json` | these facts for programs, and the SHA-256 of the files above; `cnnzoo check` verifies them |
"""
LOADING = """## How to load it

NumPy and pandas, from the published files:

```python
import numpy as np, pandas as pd
weights = np.load("weights.npy", mmap_mode="r")
metrics = pd.read_csv("metrics.csv.gz", index_col=0)
```

The training half as the literature's loaders take it (nfn, neural-graphs, ScaleGMN; they want the folder, and
`split.csv` as the file of the split):

```python
split = np.loadtxt("split.csv", dtype=int)
final = split[(metrics["step"] == metrics["config.epochs"]).to_numpy()[split]]
train = final[: len(final) // 2]
weights[train], metrics["test_accuracy"].to_numpy()[train]
```

PyTorch, with cnnzoo:

```python
from cnnzoo.data import ZooDataset
data = ZooDataset(".", half="train", target="test_accuracy")
```
"""
_ORIGIN = f"""## Origin and licence

The format, the networks and the ranges of their hyperparameters are those of
[Unterthiner et al., 2020]({PAPER}).
The code and the parameters that made this folder are those of the git commit whose `dvc.lock` names it; its bytes
depend on no machine, so none is named. A licence is given when it is shared: `cnnzoo publish --license`.
"""
