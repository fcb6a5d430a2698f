"""Small data and quickly fitted estimators for the tests of what the estimators can do beyond scikit-learn's."""

import warnings

import numpy as np
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning

from mlpx import MLPClassifier

X, Y = make_classification(n_samples=150, n_features=6, n_informative=4, n_classes=3, random_state=0)
NUMBERS = np.column_stack([X[:, 0] * X[:, 1], X[:, 2]])


FIT = ("sample_weight", "validation_data", "mask", "X_val", "y_val", "sample_weight_val", "mask_val")


def fitted(kind=MLPClassifier, y=Y, x=X, **params):
    """Return an estimator after a few epochs, whatever warnings it gives about them; `FIT` goes to its fit."""
    settings = {"hidden_layer_sizes": (8, 5), "max_iter": 5, "random_state": 0, "learning_rate_init": 0.01, **params}
    fit = {name: settings.pop(name) for name in FIT if name in settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kind(**settings).fit(x, y, **fit)
