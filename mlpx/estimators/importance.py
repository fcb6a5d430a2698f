"""How much each feature matters to an estimator, as a bar plot."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from mlpx.errors import check_count, unknown
from mlpx.estimators.devices import check_all_readable, on_host
from mlpx.typing import Array

KINDS = ("integrated_gradients", "gradients")


class ImportanceDisplay:
    """Bars of the importance of each feature, in the manner of scikit-learn's displays.

    It is recommended to make one with `from_estimator`, or ``estimator.plot_importance``.

    Parameters
    ----------
    importances : array (n_features,)
    feature_names : sequence of str
    label : str
        What the bars measure.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer
        From the bottom up, the most important feature last.
    """

    def __init__(self, importances: Array, feature_names: Sequence[str], label: str = "importance") -> None:
        self.importances = np.asarray(importances)
        self.feature_names = [str(name) for name in feature_names]
        if self.importances.shape != (len(self.feature_names),):
            raise ValueError(
                f"feature_names: has {len(self.feature_names)} names for importances of shape "
                f"{self.importances.shape}; expected one for each."
            )
        self.label = label

    def plot(self, ax: Any = None, *, max_features: int = 20, **bar_options: Any) -> Self:
        """Draw the bars of the ``max_features`` most important features; options go to ``ax.barh``."""
        shown = np.argsort(self.importances, kind="stable")[-check_count("max_features", max_features) :]
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(layout="constrained")
        names = [self.feature_names[i] for i in shown]
        self.bars_ = ax.barh(np.arange(shown.size), self.importances[shown], tick_label=names, **bar_options)
        ax.set_xlabel(self.label)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        kind: str = "integrated_gradients",
        baseline: Any = None,
        feature_names: Sequence[str] | None = None,
        ax: Any = None,
        max_features: int = 20,
        **bar_options: Any,
    ) -> Self:
        """Compute the importances from rows, and draw them.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Fitted.
        X : array (n, n_features)
        kind : str
            "integrated_gradients": the mean size of each feature's contribution to the difference between a row's
            output and the baseline's, in units of the output. "gradients": the mean size of the output's derivative,
            per unit of the feature, so that features of different scale do not compare. Several outputs are averaged.
        baseline : number or array (n_features,), optional
            For integrated gradients; default: the mean row.
        feature_names : sequence of str, optional
            Default: the names of the columns that the estimator was fitted to, else "feature 0" and so on.
        ax : matplotlib Axes, optional
            Default: a new figure.
        max_features : int
            The most bars.
        **bar_options
            For ``ax.barh``.

        Returns
        -------
        ImportanceDisplay
        """
        check_is_fitted(estimator)
        check_all_readable(X=X)
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
        if kind == "gradients":
            each, label = estimator.gradients(X), "mean |d output / d feature|"
        else:
            if baseline is None:
                x, _ = estimator._dense_rows(X)
                baseline = np.asarray(on_host(x), np.float64).mean(axis=0)
            each, label = estimator.integrated_gradients(X, baseline), "mean |contribution to the output|"
        importances = np.abs(on_host(each)).reshape(-1, each.shape[-1]).mean(axis=0)
        if feature_names is None:
            numbered = [f"feature {i}" for i in range(importances.size)]
            feature_names = getattr(estimator, "feature_names_in_", numbered)
        return cls(importances, feature_names, label).plot(ax, max_features=max_features, **bar_options)
