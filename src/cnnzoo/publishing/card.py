"""The texts of a published data set: the data card with the Hub's metadata, the citation, the licence."""

import json
from collections.abc import Sequence

from cnnzoo.publishing.release import Release
from cnnzoo.zoo.card import FILES, LOADING, PAPER, overview
from cnnzoo.zoo.facts import Facts
from cnnzoo.zoo.manifest import Training

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def data_card(facts: Facts, release: Release, files: Sequence[str], trainings: Sequence[Training]) -> str:
    """Return README.md: metadata as the Hugging Face Hub reads it, then what people want to know."""
    return _CARD.format(
        licence=release.licence.lower(),
        title=facts.title,
        quoted_title=json.dumps(facts.title),
        size=next((name for limit, name in SIZES if facts.rows < limit), "1M<n<10M"),
        overview=overview(facts, trainings),
        files=FILES,
        loading=LOADING,
        parquet=next(name for name in files if name.endswith(".parquet")),
        creators="; ".join(release.creators),
        year=release.day.year,
        version=release.version,
        licence_name=release.licence,
        licence_url=release.licence_url,
        paper=PAPER,
    )


def citation(facts: Facts, release: Release) -> str:
    """Return CITATION.cff (Citation File Format 1.2.0)."""
    authors = "".join(f"  - name: {json.dumps(name, ensure_ascii=False)}\n" for name in release.creators)
    return _CITATION.format(
        title=json.dumps(facts.title),
        authors=authors,
        licence=release.licence,
        day=release.day.isoformat(),
        version=json.dumps(release.version),
        url=f"url: {json.dumps(release.url)}\n" if release.url else "",
        paper=PAPER,
    )


def licence_text(release: Release) -> str:
    """Return LICENSE: which licence it is, and where its text stands."""
    return f"This data set is licensed under {release.licence}: {release.licence_url}\n"


_CARD = """---
license: {licence}
pretty_name: {quoted_title}
task_categories:
- tabular-regression
tags:
- model-zoo
- weight-space-learning
- small-cnn-zoo
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test-*.parquet
---

# {title}

{overview}
{files}| `data/*.parquet` | the same, one row per checkpoint, for data frames and the Hub |
| `croissant.json` | machine-readable metadata |
| `SHA256SUMS` | `sha256sum --check SHA256SUMS` |

{loading}
pandas, from Parquet:

```python
checkpoints = pd.read_parquet("{parquet}")
weights = np.stack(checkpoints["weights"])
```

R and Julia, from Parquet:

```r
checkpoints <- arrow::read_parquet("{parquet}")
```

```julia
using Parquet2, DataFrames; checkpoints = DataFrame(Parquet2.Dataset("{parquet}"))
```

## Licence and citation

{licence_name} ({licence_url}). {creators} ({year}): {title}. Version {version}.

The format, the networks and the ranges of their hyperparameters are those of
[Unterthiner et al., 2020]({paper}).
"""
_CITATION = """cff-version: 1.2.0
message: "If you use this data set, please cite it, and the paper whose format it has."
type: dataset
title: {title}
authors:
{authors}license: {licence}
version: {version}
date-released: {day}
{url}references:
  - type: article
    title: "Predicting Neural Network Accuracy from Weights"
    authors:
      - {{family-names: Unterthiner, given-names: Thomas}}
      - {{family-names: Keysers, given-names: Daniel}}
      - {{family-names: Gelly, given-names: Sylvain}}
      - {{family-names: Bousquet, given-names: Olivier}}
      - {{family-names: Tolstikhin, given-names: Ilya}}
    year: 2020
    url: {paper}
"""
