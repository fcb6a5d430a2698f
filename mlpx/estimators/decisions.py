"""What a classifier says of rows: probabilities or margins, the classes they point to, how often that is right, and
pictures of it.
"""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score
from sklearn.utils.metaestimators import available_if

from mlpx.backend import backend_of, to_numpy
from mlpx.estimators.devices import check_all_readable, home_of, on_host, sent_back
from mlpx.estimators.labels import Labelled, check_labels
from mlpx.estimators.naming import naming
from mlpx.losses import Hinge
from mlpx.typing import Array


def _has_margins(estimator: Any) -> bool:
    """Return whether an estimator was fitted with the hinge loss, or would be."""
    fitted = vars(estimator).get("_fitted")
    loss = estimator.loss if fitted is None or fitted.by_hand else fitted.architecture.loss
    return isinstance(loss, Hinge) or (isinstance(loss, str) and loss == "hinge")


def _has_probabilities(estimator: Any) -> bool:
    if _has_margins(estimator):
        raise AttributeError("loss='hinge' gives margins and no probabilities; see decision_function.")
    return True


class Deciding(ClassifierMixin, Labelled):  # type: ignore[misc]
    """The parts of a classifier that predict classes."""

    def predict(self, X: Any, mask: Any = None) -> Array:
        """Return the most probable class of each row (n,), or an indicator matrix of labels (n, n_outputs).

        Parameters
        ----------
        X : array or sparse matrix (n, n_features)
            It may be larger than memory, such as a `numpy.memmap`: rows are taken block by block.
        mask : array (n, n_classes), bool, optional
            True where a class is possible, at least one in each row.
        """
        now = self._pinned()
        output = now._output(X, mask)
        if mask is not None and not (possible := to_numpy(mask).any(axis=1)).all():
            raise ValueError(f"mask: row {possible.argmin()} allows no class; there is none to predict.")
        return sent_back(now._labels(to_numpy(output)), home_of(output))

    @available_if(_has_margins)  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> Array:
        """Return the margins that ``loss="hinge"`` is computed from; the class of the largest is predicted.

        Returns
        -------
        margins : array (n, n_classes), or (n,) for two classes
            Above 0 where a class (of two, the second) or a label is predicted against the rest.
        """
        output = self._pinned()._output(X)
        return output[:, 0] if output.shape[1] == 1 else output

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any, mask: Any = None) -> Array:
        """Return the probability of each class (n, n_classes), in the order of ``classes_``; not for "hinge".

        With a ``mask`` (n, n_classes), True where a class is possible, the others are exactly 0 and the possible ones
        sum to 1; rows without any are all 0. It works whether or not the estimator was trained with masks. ``X`` may
        be larger than memory, as in `predict`.
        """
        output = self._pinned()._output(X, mask)
        if output.shape[1] > 1:
            return output
        backend, first = backend_of(output), 1 - output
        if mask is not None:
            first = backend.xp.where(backend.asarray(to_numpy(mask)[:, :1] != 0), first, backend.xp.zeros_like(first))
        return backend.xp.concat([first, output], axis=1)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any, mask: Any = None) -> Array:
        """Return the logarithm of ``predict_proba``, in nats."""
        p = self.predict_proba(X, mask)
        with np.errstate(divide="ignore"):
            return backend_of(p).xp.log(p)

    def score(self, X: Any, y: Any, sample_weight: Any = None, mask: Any = None) -> float:
        """Return the accuracy of ``predict``: the share of rows, or of their weight, that is right."""
        check_all_readable(y=y, sample_weight=sample_weight)
        check_labels("y", y)
        labels = on_host(self.predict(X, mask))
        with naming("y" if sample_weight is None else "y, sample_weight"):
            return float(accuracy_score(on_host(y), labels, sample_weight=on_host(sample_weight)))

    def plot_confusion(self, X: Any, y: Any, ax: Any = None) -> Any:
        """Draw how often each class is taken for each other; return scikit-learn's ``ConfusionMatrixDisplay``."""
        return ConfusionMatrixDisplay.from_estimator(self, X, y, ax=ax)

    def plot_decision_boundary(self, X: Any, y: Any = None, ax: Any = None) -> Any:
        """Draw the class predicted at each point of the plane, for data of two features, and the rows if ``y`` is
        given; return scikit-learn's ``DecisionBoundaryDisplay``.
        """
        display = DecisionBoundaryDisplay.from_estimator(self, X, response_method="predict", alpha=0.5, ax=ax)
        if y is not None:
            x = np.asarray(X)
            display.ax_.scatter(x[:, 0], x[:, 1], c=np.searchsorted(self.classes_, y), edgecolor="k", s=20)
        return display

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
