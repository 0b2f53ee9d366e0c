"""Work spread over the workers of a Ray cluster: cohorts that train, searches that tune.

The driver, the process that runs the stage, divides the work and hands it out; workers send back events; the driver
alone writes files and tracks, so nothing but the network is shared. What is made does not depend on who makes it.

On both sides: `events.py`, what is sent; `identity.py`, what must agree. On the workers: `worker.py`. On the driver:
`placement.py` divides, `pool.py` keeps the workers busy and repeats what is lost, `collector.py` puts the shards
together, `training.py` does it for a collection. Only `ray_backend.py` imports Ray.
"""
