"""The record in MLflow: one run per network, one per predictor search. The only package that imports mlflow, and lazily.

Training and search call these functions and never fail because the record cannot be kept: the shards and the models
are the product, MLflow shows them.
"""

from cnnzoo.tracking.location import check_writable
from cnnzoo.tracking.zoo import ZooTracker, sync_zoo

__all__ = ["ZooTracker", "check_writable", "sync_zoo"]
