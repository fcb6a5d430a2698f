"""What a classifier makes of classes: targets, weights and masks of rows, and classes from outputs."""

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from mlpx.backend import host_array, to_numpy
from mlpx.errors import check_flag
from mlpx.estimators.base import BaseMLP
from mlpx.estimators.class_weights import check_class_weight, weights_of_rows
from mlpx.estimators.devices import on_host
from mlpx.estimators.naming import naming
from mlpx.estimators.rows import Rows
from mlpx.losses import ClassLoss, CustomLoss, Hinge, Loss
from mlpx.typing import Array


def _unique(y: Any) -> Array:
    """Return the sorted classes of labels, as scikit-learn's ``unique_labels``, which takes up to 80 times as long."""
    if not _plain(y):
        return unique_labels(y)
    if y.dtype.kind == "i" and y.size and y.min() >= 0 and y.max() < y.size:  # small numbers are marked, not sorted
        seen = np.zeros(y.size, bool)
        seen[y] = True
        return seen.nonzero()[0].astype(y.dtype)
    return np.unique(y)


def _plain(y: Any) -> bool:
    """Return whether labels (n,) can be nothing but classes of which each row has one."""
    return type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "iubU" and y.dtype.isnative


def _indicates(y: Any) -> bool:
    """Return whether labels are an indicator matrix, a row of which may have several."""
    return not _plain(y) and type_of_target(y).startswith("multilabel")


def _within(some: Array, classes: Array) -> bool:
    """Return whether sorted labels are all among sorted classes; np.setdiff1d takes ten times as long."""
    if some.dtype.kind != classes.dtype.kind:
        return not np.setdiff1d(some, classes).size
    places = np.searchsorted(classes, some)
    return bool((classes.take(places, mode="clip") == some).all())


def _numbers(y: Array, classes: Array) -> Array:
    """Return the place of each label among the sorted classes, in a tenth of what scikit-learn's transform takes."""
    if y.dtype.kind == classes.dtype.kind == "i" and classes[0] == 0 and classes[-1] == classes.size - 1:
        return y.astype(np.int64)
    return np.searchsorted(classes, y)


def _binarizer(y: Any) -> LabelBinarizer:
    """Return a ``LabelBinarizer`` that has seen labels."""
    made = LabelBinarizer()
    if not _plain(y):
        return made.fit(y)
    made.classes_ = _unique(y)
    made.y_type_, made.sparse_input_ = "binary" if made.classes_.size <= 2 else "multiclass", False
    return made


def check_labels(argument: str, labels: Any) -> None:
    """Raise ValueError for labels among which some are missing, or which are objects that no order exists for."""
    if labels is None or _plain(labels) or issparse(labels):
        return
    try:
        array = np.asarray(on_host(labels))
    except ValueError as error:
        raise ValueError(
            f"{argument}: has rows of different lengths; expected classes (n,) or an indicator matrix (n, n_outputs), "
            "which scikit-learn's MultiLabelBinarizer makes of lists of labels."
        ) from error
    if array.dtype.kind not in "OU" or not array.size or array.ndim == 0:
        return
    as_given = np.array(labels, dtype=object) if isinstance(labels, list | tuple) else array  # NumPy makes "nan" of NaN
    for row, each in enumerate(as_given.reshape(len(array), -1) if as_given.dtype == object else ()):
        if any(map(_missing, each)):
            came = next(filter(_missing, each))
            raise ValueError(
                f"{argument}: holds {came!r} for a class, first in row {row}; every row needs one. Leave such rows "
                "out, or give them a class of their own."
            )
    # Columns of frames have dtypes of their own, which scikit-learn converts.
    if hasattr(labels, "columns") or getattr(labels, "dtype", None) not in (None, np.dtype(object)):
        return
    kinds = {type(label) for label in array.flat}
    if not all(issubclass(kind, str) for kind in kinds):
        raise ValueError(
            f"{argument}: has dtype object and holds {', '.join(sorted(kind.__name__ for kind in kinds))}. Unknown "
            "label type; expected classes that are all strings, or an array of integers, bools or floats. Convert "
            f"them: {argument}.astype(int) for numbers, {argument}.astype(str) for names."
        )


def _missing(label: Any) -> bool:
    """Return whether an object says that there is no label: None, NaN, NaT or pandas' NA."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # NA, which has no truth value
        return True
    except ValueError:  # an array
        return False


def _ravelled(y: Any) -> Any:
    return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y


class Labelled(BaseMLP):
    """The parts of a classifier that know its classes."""

    def _learn_targets(self, y: Any, incremental: bool) -> Any:
        """Learn the classes, or check that they are those of earlier calls; return the labels."""
        y = _ravelled(y)
        fresh = not hasattr(self, "classes_") or not (self.warm_start or incremental)
        with naming("y"):
            binarizer: Any = _binarizer(y) if fresh else vars(self)["_label_binarizer"]
            if not fresh and _indicates(y) and not str(binarizer.y_type_).startswith("multilabel"):
                raise ValueError("y: is an indicator matrix of labels; earlier calls had classes, one for each row.")
            if not fresh and not _indicates(y) and str(binarizer.y_type_).startswith("multilabel"):
                raise ValueError("y: holds classes, one for each row; earlier calls had an indicator matrix of labels.")
            classes = binarizer.classes_ if fresh else _unique(y)
        if fresh:
            self._label_binarizer, self.classes_ = binarizer, classes
        else:
            self._check_classes(classes)
        self.n_outputs_ = 1 if self._label_binarizer.y_type_ == "binary" else len(self.classes_)
        check_class_weight(self.class_weight, self.classes_, several=self._multilabel())
        return y

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        y = on_host(y)
        check_labels("y", y)
        return super()._checked(X, y, reset=reset)

    def _learnt(self) -> dict[str, Any]:
        kept = self._label_binarizer
        return {"classes": self.classes_, "labels": [str(kept.y_type_), bool(kept.sparse_input_)]}

    def _take_learnt(self, state: dict[str, Any]) -> None:
        classes, (kind, sparse) = state["classes"], state["labels"]
        if not isinstance(classes, np.ndarray) or classes.ndim != 1 or not classes.size:
            raise TypeError("the classes are no array")
        if classes.dtype != object and not (classes[1:] > classes[:-1]).all():
            raise ValueError("the classes are not in order")
        outputs = {"binary": 1, "multiclass": classes.size, "multilabel-indicator": classes.size}[kind]
        if outputs != self.n_outputs_ or (kind == "binary" and classes.size > 2):
            raise ValueError(f"{classes.size} classes of the kind {kind!r} do not fit {self.n_outputs_} outputs")
        made = LabelBinarizer()
        made.classes_, made.y_type_, made.sparse_input_ = classes, kind, check_flag("sparse", sparse)
        self._label_binarizer, self.classes_ = made, classes

    def _check_classes(self, classes: Array) -> None:
        """Raise ValueError for labels that an earlier call has not announced."""
        if self.warm_start and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {self.classes_}, `y` has {classes}"
            )
        if not _within(classes, self.classes_):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _first_call(self, y: Any, classes: Any) -> None:
        check_labels("classes", classes)
        with naming("classes"):
            first = _check_partial_fit_first_call(self, classes)
        if not first:
            return
        check_labels("y", y)
        with naming("y"):
            several = _indicates(y)
        if not several and np.ndim(classes) != 1:
            raise ValueError(f"classes: has shape {np.shape(classes)}; expected all classes, (n_classes,).")
        with naming("y" if several else "classes"):
            self._label_binarizer = LabelBinarizer().fit(y if several else classes)

    def _known(self, y: Any) -> Any:
        """Return the labels of validation data, all of which training has seen."""
        y = _ravelled(y)
        if _indicates(y) != self._multilabel():
            one, many = "classes, one for each row", "an indicator matrix of labels"
            raise ValueError(f"y: expected {many if self._multilabel() else one}, as in training.")
        if np.setdiff1d(_unique(y), self.classes_).size:
            raise ValueError(f"y has classes that training has not; it has {self.classes_}.")
        return y

    def _multilabel(self) -> bool:
        """Return whether a row may have several labels."""
        return str(self._label_binarizer.y_type_).startswith("multilabel")

    def _targets(self, y: Any, loss: Loss) -> Array:
        """Return targets for the network: class numbers, or a column of 0 and 1 for each output."""
        numbered = isinstance(loss, ClassLoss)
        if not numbered and self._label_binarizer.y_type_ != "binary":
            return np.asarray(self._label_binarizer.transform(y)).astype(np.float64)
        numbers = _numbers(y, self.classes_)
        return numbers if numbered else numbers.reshape(-1, 1).astype(np.float64)

    def _stratify_by(self, rows: Rows) -> Array | None:
        """Return what a split keeps the shares of, as in scikit-learn: two classes."""
        return to_numpy(rows.target).astype(bool) if self.n_outputs_ == 1 else None

    def _row_weights(self, y: Any, incremental: bool) -> list[Array]:
        if self.class_weight is None:
            return []
        if incremental and self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' needs all rows at once; pass partial_fit a dict.")
        numbers = None if self._multilabel() else _numbers(y, self.classes_)
        return [weights_of_rows(self.class_weight, y, numbers, self.classes_)]

    def _checked_mask(self, mask: Any, n: int) -> Array:
        """Return a mask as bools (n, n_classes)."""
        if self._multilabel():
            raise ValueError("mask: is for classes of which a row has one; these are independent labels.")
        loss = self._trained_loss()
        if isinstance(loss, Hinge | CustomLoss):
            raise ValueError(f"mask: loss={loss.name!r} takes none; 'log_loss' and 'focal' do.")
        flags, shape = host_array("mask", mask), (n, len(self.classes_))
        if flags.shape != shape:
            raise ValueError(f"mask: has shape {flags.shape}; expected {shape}, a row and a class each.")
        if flags.dtype != bool and not ((flags == 0) | (flags == 1)).all():
            raise ValueError("mask: holds values other than True and False.")
        return flags.astype(bool, copy=False)

    def _with_mask(self, rows: Rows, mask: Array) -> Rows:
        """Return rows with a mask. Of two classes, a row that allows one of them has nothing to teach: weight 0."""
        number = rows.target[:, 0].astype(int) if self.n_outputs_ == 1 else rows.target
        forbidden = np.flatnonzero(~mask[np.arange(rows.n), number])
        if forbidden.size:
            raise ValueError(f"y: the class of row {forbidden[0]} is one that its mask forbids.")
        rows.mask = mask
        if self.n_outputs_ == 1:
            free = mask.all(axis=1)
            if not free.any():
                raise ValueError("mask: leaves no row a choice; there is nothing to learn.")
            rows.weight = free.astype(np.float64) if rows.weight is None else rows.weight * free
        return rows

    def _labels(self, output: Array) -> Array:
        """Return what ``LabelBinarizer.inverse_transform`` makes of an output, which takes 0.1 ms to begin."""
        kind, threshold = self._label_binarizer.y_type_, 0.0 if isinstance(self._trained_loss(), Hinge) else 0.5
        if kind == "multiclass":
            return self.classes_[output.argmax(axis=1)]
        output = output.ravel() if self.n_outputs_ == 1 else output
        if kind == "binary" and self.classes_.size == 2:
            return self.classes_[(output > threshold).astype(np.int64)]
        return self._label_binarizer.inverse_transform(output, threshold=threshold)

    def _score_of(self, rows: Rows, output: Array) -> float:
        """Return the accuracy of an output for held-out rows."""
        if rows.mask is not None and self.n_outputs_ == 1:
            output = self._forced(output, to_numpy(rows.mask))
        labels, weight = self._labels(output), on_host(rows.weight)
        if self._multilabel():
            return float(accuracy_score(rows.y, labels, sample_weight=weight))
        return float(np.average(rows.y == labels, weights=weight))  # the same, without scikit-learn's millisecond
