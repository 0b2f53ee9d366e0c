"""What training would cost before it is done: on this machine, measured, and on a cluster, simulated."""
