"""Estimators for scikit-learn's users: change one import line, and the same program runs on mlpx."""

from mlpx.estimators.classifier import MLPClassifier
from mlpx.estimators.importance import ImportanceDisplay
from mlpx.estimators.regressor import MLPRegressor

__all__ = ["ImportanceDisplay", "MLPClassifier", "MLPRegressor"]
