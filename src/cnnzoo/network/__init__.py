"""The network of the paper: shape and layout of its weights, the torch module, its hyperparameters."""
