"""What an estimator learnt and how: gradients of its output, and a plot of its losses."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpx.backend import NUMPY, Backend, host_array
from mlpx.backend.conversion import as_float_array
from mlpx.errors import check_count
from mlpx.estimators.devices import check_all_readable, checked, home_of
from mlpx.estimators.importance import ImportanceDisplay
from mlpx.estimators.naming import naming
from mlpx.estimators.prediction import Predicting
from mlpx.layers import Context
from mlpx.typing import Array

MOST_STEPS = 1 << 20
"""Points on the way from a baseline to a row: more change no digit of float64."""


class Explained(Predicting):
    """The parts of an estimator that explain it."""

    def gradients(self, X: Any) -> Array:
        """Return the derivatives of the network's outputs with respect to the features.

        Parameters
        ----------
        X : array (n, n_features)

        Returns
        -------
        gradients : array (n, n_features), or (n, n_outputs, n_features) for several outputs
            Of probabilities for a classifier (of the second class, where there are two), of predictions for a
            regressor.
        """
        check_is_fitted(self)
        now = self._pinned()
        x, home = now._dense_rows(X)
        return home.asarray(now._gradients(x))

    def _dense_rows(self, X: Any) -> tuple[Array, Backend]:
        """Return checked rows as the network takes them, and where they came from."""
        check_all_readable(X=X)
        net, home = self._network(), home_of(X)
        with naming("X"):
            if home is NUMPY:
                x = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
            else:
                x = checked(self, X, home, reset=False)
        return net.backend.asarray(x, net.dtype), home

    def _gradients(self, x: Array) -> Array:
        net = self._network()
        backend = net.backend
        mask = backend.asarray(np.ones((x.shape[0], self.n_outputs_), bool)) if self._masked else None
        y, backprop = net.forward(x, Context(mask=mask))
        each = []
        for output in range(y.shape[1]):
            dy = backend.zeros(tuple(y.shape), net.dtype)
            dy[:, output] = 1.0
            each.append(backprop(dy))
        return each[0] if len(each) == 1 else backend.xp.stack(each, axis=1)

    def integrated_gradients(self, X: Any, baseline: Any = 0.0, *, steps: int = 50) -> Array:
        """Return how much each feature contributes to the difference between a row's output and a baseline's.

        Parameters
        ----------
        X : array (n, n_features)
        baseline : number or array (n_features,), or (n, n_features)
        steps : int
            Points on the way from the baseline to the row at which `gradients` are taken.

        Returns
        -------
        contributions : array of the shape of `gradients`
            Their sum over the features is the difference of the outputs, but for an error of order ``1 / steps ** 2``
            on smooth stretches.
            Source: Sundararajan, Taly and Yan 2017, "Axiomatic attribution for deep networks".
        """
        check_is_fitted(self)
        steps = check_count("steps", steps, 1, MOST_STEPS)
        now = self._pinned()
        x, home = now._dense_rows(X)
        backend = now._net.backend
        start = as_float_array("baseline", host_array("baseline", baseline), "float64", NUMPY)
        if not np.isfinite(start).all():
            raise ValueError("baseline: holds NaN or infinity; expected finite numbers.")
        start = backend.asarray(start, now._net.dtype)
        if tuple(start.shape) not in ((), (x.shape[1],), tuple(x.shape)):
            raise ValueError(
                f"baseline: has shape {tuple(start.shape)}; expected a number, or ({x.shape[1]},) one for each feature."
            )
        way = x - backend.xp.broadcast_to(start, x.shape)
        mean = sum(now._gradients(x - (1.0 - (step + 0.5) / steps) * way) for step in range(steps)) / steps
        return home.asarray(mean * (way[:, None, :] if mean.ndim == 3 else way))

    def plot_importance(self, X: Any, **options: Any) -> ImportanceDisplay:
        """Draw how much each feature matters for the rows ``X``; options as in `ImportanceDisplay.from_estimator`."""
        return ImportanceDisplay.from_estimator(self, X, **options)

    def plot_loss(self, ax: Any = None) -> Any:
        """Draw the training loss, and validation losses and scores where there are any, against the epochs.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Default: a new figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        check_is_fitted(self)
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(layout="constrained")
        ax.plot(np.arange(1, len(self.loss_curve_) + 1), self.loss_curve_, label="training loss")
        ax.set(xlabel="epoch", ylabel="loss")
        if getattr(self, "validation_loss_curve_", None):
            curve = self.validation_loss_curve_
            ax.plot(np.arange(1, len(curve) + 1), curve, "C2", label="validation loss")
            ax.legend()
        if getattr(self, "validation_scores_", None):
            right = ax.twinx()
            right.plot(np.arange(1, len(self.validation_scores_) + 1), self.validation_scores_, "C1")
            right.set_ylabel("validation score", color="C1")
        return ax
