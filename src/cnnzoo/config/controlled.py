"""What must hold of a controlled population: replicates, pairs, label noise, chosen checkpoint epochs."""

from collections.abc import Sequence

from cnnzoo.core.errors import did_you_mean
from cnnzoo.network.hyperparameters import LABEL_NOISE, SAMPLED


def check_groups(networks: int, replicates: int | None, pairs: Sequence[str] | None) -> None:
    """Raise `ValueError` unless the networks form whole groups of one kind."""
    if replicates and pairs is not None:
        raise ValueError("give `replicates` or `pairs`, not both")
    size = replicates or (1 if pairs is None else 2)
    if networks % size:
        reason = f"`replicates={replicates}`" if replicates else "`pairs`"
        raise ValueError(
            f"{reason} needs a multiple of {size} as `networks`, got {networks}: every group must be whole"
        )


def check_pairs(pairs: Sequence[str], with_label_noise: bool) -> None:
    """Raise `ValueError` unless pairs differ in hyperparameters that are sampled."""
    allowed = [*SAMPLED, *[LABEL_NOISE] * with_label_noise]
    for name in pairs:
        if name not in allowed:
            raise ValueError(
                f"`pairs` names `{name}`{did_you_mean(name, allowed) or '.'} Allowed: {', '.join(allowed)}."
            )


def check_label_noise(least: float, most: float) -> None:
    """Raise `ValueError` unless the values from `least` to `most` are shares."""
    if not 0 <= least <= most <= 1:
        raise ValueError(f"`label_noise` must lie in [0, 1], got values from {least} to {most}")


def check_checkpoint_epochs(kept: Sequence[int]) -> None:
    """Raise `ValueError` unless these are epochs in ascending order."""
    if not kept or kept[0] < 0 or list(kept) != sorted(set(kept)):
        raise ValueError(f"`checkpoint_epochs` must be one or more epochs from 0 on, ascending, got {kept}")
