"""The only source of randomness.

Every random draw comes from a generator keyed by the root seed, a purpose, and what the draw is for (a collection,
a network id, an epoch). So a network draws the same numbers whether it is made alone or with thousands of others,
and no draw depends on how many came before it.
"""

import hashlib

import numpy as np


def seed_sequence(root: int, purpose: str, *key: str | int) -> np.random.SeedSequence:
    """Return the seed sequence of one purpose; distinct keys give independent streams.

    `key` parts are distinguished by type and position: `("a", 1)`, `("a", "1")` and `("a1",)` are three keys.
    """
    text = repr((purpose, *key)).encode()
    words = np.frombuffer(hashlib.sha256(text).digest(), dtype="<u4")
    return np.random.SeedSequence(root, spawn_key=tuple(int(word) for word in words))


def generator(root: int, purpose: str, *key: str | int) -> np.random.Generator:
    """Return a fresh PCG64 generator for one purpose and key."""
    return np.random.Generator(np.random.PCG64(seed_sequence(root, purpose, *key)))


def key_words(root: int, purpose: str, *key: str | int) -> tuple[int, int]:
    """Return two 32-bit words, the key of a counter-based generator (see `training.dropout`)."""
    first, second = seed_sequence(root, purpose, *key).generate_state(2, np.uint32)
    return int(first), int(second)
