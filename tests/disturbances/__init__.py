"""Faults of the machine, put into the real pipeline while it works: `python benchmarks/faults.py`.

A pass takes a small project through all stages, with a fault at each; after a fault the stage runs again undisturbed.
At the end `data/`, `models/` and MLflow's record must equal those of a project that was left in peace, and nothing may
be left behind. (tests/faults holds another kind of fault: mistakes in the code, which the tests must notice.)
"""
