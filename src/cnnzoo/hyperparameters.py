"""The hyperparameters that differ between the networks of a collection, by their published names."""

RANGED = ("learning_rate", "l2reg", "init_std", "dropout")
CHOSEN = ("train_fraction", "activation", "optimizer", "w_init")
SAMPLED = RANGED + CHOSEN
