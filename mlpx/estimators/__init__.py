"""Estimators for scikit-learn's users: change one import line, and the same program runs on mlpx."""

from mlpx.estimators.classifier import MLPClassifier
from mlpx.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
