"""The record in MLflow: one run per network, one per predictor search.

The only package that imports mlflow, and only when something is recorded or shown.

Training and search call these functions and never fail because the record cannot be kept: the shards and the models
are the product, MLflow shows them.
"""

from cnnzoo.tracking.location import check_writable
from cnnzoo.tracking.searches import SearchRun, search_run
from cnnzoo.tracking.ui import experiment_links, serve_ui
from cnnzoo.tracking.zoo import ZooTracker, sync_zoo

__all__ = ["SearchRun", "ZooTracker", "check_writable", "experiment_links", "search_run", "serve_ui", "sync_zoo"]
