"""What a classifier says of rows: probabilities or margins, the classes they point to, how often that is right, and
pictures of it.
"""

from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score
from sklearn.utils.metaestimators import available_if

from mlpx import ops
from mlpx.backend import backend_of, dtype_name, to_numpy
from mlpx.estimators.devices import check_all_readable, home_of, on_host, sent_back
from mlpx.estimators.labels import Labelled, check_labels
from mlpx.estimators.naming import naming
from mlpx.losses import Hinge
from mlpx.typing import Array

FEW = 1 << 10
"""Elements of an array for which calls take longer than what they compute."""


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
        now = self._pinned()
        if not now._binary():
            return now._output(X, mask)
        z = now._of_both(now._output(X, logits=True))
        few = type(z) is np.ndarray and z.size <= FEW  # an op takes ten times as long to begin
        p = expit(z) if few else ops.activation(z, kind="sigmoid")[0]
        return p if mask is None else now._where_possible(p, mask, 1.0, 0.0)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any, mask: Any = None) -> Array:
        """Return the logarithm of ``predict_proba``, in nats: from the logits, so finite where that rounds to 0."""
        now = self._pinned()
        z = now._output(X, logits=True)
        backend, dtype = backend_of(z), dtype_name(z)
        xp, z = backend.xp, backend.asarray(z, "float64")  # where a float32 probability rounds to 1, it is not 0
        if now.out_activation_ == "softmax":
            z = z if mask is None else now._where_possible(z, mask, None, -np.inf)
            with np.errstate(invalid="ignore"):
                log_p = ops.log_softmax(z)
            log_p = log_p if mask is None else xp.where(xp.isnan(log_p), z, log_p)  # rows without a possible class
        else:
            z = now._of_both(z) if now._binary() else z
            log_p = xp.minimum(z, xp.zeros_like(z)) - xp.log(1.0 + xp.exp(-xp.abs(z)))
            log_p = log_p if mask is None else now._where_possible(log_p, mask, 0.0, -np.inf)
        return backend.asarray(log_p, dtype)

    def _binary(self) -> bool:
        """Return whether one output, the logit of the second class, stands for both."""
        attributes = vars(self)
        return attributes.get("n_outputs_") == 1 and attributes["out_activation_"] == "logistic"

    def _of_both(self, z: Array) -> Array:
        """Return the logits of both classes (n, 2), each of the class against the other: neither is 1 less the other.

        With one class in training it alone is possible: (n, 1), infinite.
        """
        backend = backend_of(z)
        if len(vars(self).get("classes_", (0, 1))) == 1:
            return backend.xp.full_like(z, np.inf)
        return backend.xp.concat([-z, z], axis=1)

    def _where_possible(self, values: Array, mask: Any, certain: float | None, impossible: float) -> Array:
        """Return values (n, n_classes) with others for classes that are impossible, or if given, certain."""
        backend = backend_of(values)
        xp, flags = backend.xp, backend.asarray(self._checked_mask(mask, values.shape[0]))
        if certain is not None:
            values = xp.where(xp.all(flags, axis=1, keepdims=True), values, xp.full_like(values, certain))
        return xp.where(flags, values, xp.full_like(values, impossible))

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
