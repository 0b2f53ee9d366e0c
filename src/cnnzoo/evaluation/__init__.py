"""What the predictors are worth: comparison on held-out networks, and forecasts from early checkpoints."""
