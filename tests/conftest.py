"""Lies here so that pytest puts tests/ on the path: `from builders import make_shard` works in every test."""
