"""Interchangeable engines that train a cohort of networks: reference, batched, native."""

from cnnzoo.training.engines.base import Cohort, Engine, Scores

__all__ = ["Cohort", "Engine", "Scores"]
