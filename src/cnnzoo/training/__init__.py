"""Training populations of networks: cohorts, engines, checkpoints, shards."""
