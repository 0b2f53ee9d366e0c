"""Croissant metadata (MLCommons, version 1.0): files with their digests, and the fields of a checkpoint.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

import json
from collections.abc import Mapping
from typing import Any

from cnnzoo.publishing.release import Release
from cnnzoo.zoo.facts import Facts

FORMATS = {
    ".npy": "application/octet-stream",
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".json": "application/json",
}
PARQUET = "application/x-parquet"
KINDS = {"f": "sc:Float", "i": "sc:Integer", "u": "sc:Integer", "b": "sc:Boolean"}
"""By the kind of a NumPy dtype; all others are text."""
DESCRIPTIONS = {
    "row": "The row in weights.npy and metrics.csv.gz.",
    "network": "The network, `modeldir` in metrics.csv.gz; its checkpoints have the same.",
    "step": "The epoch of the checkpoint; 0 is the initialisation.",
    "test_accuracy": "Share of the test images that are classified correctly.",
    "train_accuracy": "Share of the training images that are classified correctly.",
    "test_loss": "Cross-entropy on the test images, with its L2 term.",
    "train_loss": "Cross-entropy on the training images, with its L2 term.",
    "laststep": "Whether it is the last checkpoint of its network.",
    "weights": "All parameters, in the order of layout.csv.",
}


def croissant(facts: Facts, kinds: Mapping[str, str], release: Release, files: Mapping[str, str]) -> str:
    """Return croissant.json of a data set with columns of these `kinds`, whose `files` have these SHA-256 digests."""
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": facts.name,
        "alternateName": facts.title,
        "description": facts.description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": release.licence_url,
        "url": release.url or "https://arxiv.org/abs/2002.11448",
        "version": release.version,
        "datePublished": release.day.isoformat(),
        "creator": [{"@type": "sc:Person", "name": name} for name in release.creators],
        "citeAs": f"{'; '.join(release.creators)} ({release.day.year}): {facts.title}. Version {release.version}.",
        "keywords": ["model zoo", "weight space learning", "small CNN zoo"],
        "distribution": [
            *(_file(name, digest) for name, digest in sorted(files.items())),
            {
                "@type": "cr:FileSet",
                "@id": "parquet",
                "name": "parquet",
                "description": "One row per checkpoint; train and test are the halves of split.csv, by network.",
                "encodingFormat": PARQUET,
                "includes": "data/*.parquet",
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "checkpoints",
                "name": "checkpoints",
                "description": "The checkpoints of all networks.",
                "field": [_field(name, kind) for name, kind in {**kinds, "weights": "f"}.items()],
            }
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _file(name: str, digest: str) -> dict[str, str]:
    suffix = name[name.rindex(".") :]
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": PARQUET if suffix == ".parquet" else FORMATS[suffix],
        "sha256": digest,
    }


def _field(name: str, kind: str) -> dict[str, Any]:
    found = {
        "@type": "cr:Field",
        "@id": f"checkpoints/{name}",
        "name": name,
        "description": DESCRIPTIONS.get(name, f"The hyperparameter `{name}`."),
        "dataType": KINDS.get(kind, "sc:Text"),
        "source": {"fileSet": {"@id": "parquet"}, "extract": {"column": name}},
    }
    return found | ({"repeated": True} if name == "weights" else {})


CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {
    name: f"cr:{name}"
    for name in (
        *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet"),
        *("format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
        *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
    )
}
"""The prescribed one of Croissant 1.0."""
