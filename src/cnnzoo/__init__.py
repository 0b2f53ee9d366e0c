"""cnnzoo: make, keep and learn from large populations of small trained networks."""

__version__ = "0.1.0"
