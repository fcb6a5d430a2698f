"""Labels that are no classes, and weights of classes."""

import re

import numpy as np
import pytest
from estimators_kit import X, Y, fitted
from scipy.sparse import csr_array
from sklearn.utils.class_weight import compute_sample_weight

from mlpx import MLPClassifier

NAMES = np.array(["ant", "bee", "cat"], object)[Y]


class Ambiguous:
    """Stands in for pandas' NA, which has no truth value."""

    def __eq__(self, other):
        return self

    def __ne__(self, other):
        return self

    def __hash__(self):
        return 0

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    def __repr__(self):
        return "<NA>"


def with_label(label, as_list=False):
    y = NAMES.copy()
    y[7] = label
    return y.tolist() if as_list else y


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("missing", [None, np.nan, Ambiguous(), np.datetime64("NaT")], ids=repr)
def test_missing_labels_are_named(missing, as_list) -> None:
    said = re.escape(f"y: holds {missing!r} for a class, first in row 7; every row needs one")
    y = with_label(missing, as_list)
    trained = fitted(y=NAMES)
    for call in (
        lambda: fitted(y=y),
        lambda: MLPClassifier().partial_fit(X, y, classes=["ant", "bee", "cat"]),
        lambda: trained.partial_fit(X, y),
        lambda: trained.score(X, y),
    ):
        with pytest.raises(ValueError, match=f"^{said}"):
            call()
    with pytest.raises(ValueError, match=f"^validation_data: {said}"):
        fitted(y=NAMES, validation_data=(X, y))


def test_announced_classes_are_looked_at_alike() -> None:
    with pytest.raises(ValueError, match=r"^classes: holds None for a class, first in row 1"):
        MLPClassifier().partial_fit(X, NAMES, classes=["ant", None])


@pytest.mark.parametrize(
    ("y", "held"),
    [
        (Y.astype(object), "int"),
        ((Y > 0).astype(object), "bool"),
        (with_label(3), "int, str"),
        (with_label(b"a"), "bytes, str"),
    ],
)
def test_objects_that_are_no_names(y, held) -> None:
    with pytest.raises(ValueError, match=rf"^y: has dtype object and holds {held}\. .*y\.astype\(int\)"):
        fitted(y=y)


def test_lists_of_numbers_and_of_names_are_classes() -> None:
    for y in (Y.tolist(), NAMES.tolist(), NAMES.astype(str).tolist(), (Y > 0).tolist()):
        np.testing.assert_array_equal(fitted(y=y).classes_, np.unique(y))


def test_rows_of_different_lengths() -> None:
    with pytest.raises(ValueError, match=r"^y: has rows of different lengths.*MultiLabelBinarizer"):
        fitted(y=[[0, 1], [2]] * 75)


def test_frames_whose_columns_miss_values() -> None:
    pandas = pytest.importorskip("pandas")
    for series in (pandas.Series(with_label(pandas.NA)), pandas.Series(with_label(None), dtype="string")):
        with pytest.raises(ValueError, match=r"^y: holds .* for a class, first in row 7"):
            fitted(y=series)
    for series in (pandas.Series(Y, dtype="Int64"), pandas.Series(NAMES), pandas.Series(NAMES, dtype="category")):
        assert len(fitted(y=series).classes_) == 3


# --- rows that early stopping cannot hold out -------------------------------------------------------------------------


@pytest.mark.parametrize("names", [np.array([0, 1]), np.array(["ant", "bee"])], ids=["numbers", "names"])
def test_a_class_of_one_row_is_named(names) -> None:
    y = names[(np.arange(150) == 3).astype(int)]
    said = rf"^early_stopping: .* cannot be held out: class {names[1]} has a single one\. Give validation_data.*least"
    with pytest.raises(ValueError, match=said):
        fitted(y=y, early_stopping=True)


def test_shares_that_hold_no_rows_out_or_leave_none() -> None:
    with pytest.raises(ValueError, match=r"^validation_fraction: is 0, and early_stopping needs rows"):
        fitted(early_stopping=True, validation_fraction=0.0)
    fitted(validation_fraction=0.0)
    with pytest.raises(
        ValueError, match=r"^early_stopping: validation_fraction=0.999 of 150 rows cannot be held out\."
    ):
        fitted(early_stopping=True, validation_fraction=0.999)


def test_importance_of_sparse_rows() -> None:
    with pytest.raises(TypeError, match=r"^Sparse data was passed for X, but dense data is required"):
        fitted().plot_importance(csr_array(X))


# --- weights of classes -----------------------------------------------------------------------------------------------

LABELS = (X[:, :3] > 0).astype(int)
LISTS = [{0: 1.0, 1: 3.0}, {1: 0.5}, {}]


@pytest.mark.parametrize("kind", [np.array, csr_array])
def test_a_list_weighs_the_labels_of_each_row(kind) -> None:
    by_hand = np.where(LABELS[:, 0], 3.0, 1.0) * np.where(LABELS[:, 1], 0.5, 1.0)
    given, expected = fitted(y=kind(LABELS), class_weight=LISTS), fitted(y=LABELS, sample_weight=by_hand)
    np.testing.assert_allclose(given.coefs_[0], expected.coefs_[0], rtol=1e-12)
    np.testing.assert_allclose(by_hand, compute_sample_weight(LISTS, LABELS))


@pytest.mark.parametrize(
    ("y", "weights", "error", "said"),
    [
        (LABELS, {0: 1}, ValueError, "class_weight: expected for several labels a list of 3 dicts.*; got a dict"),
        (
            LABELS,
            LISTS[:2],
            ValueError,
            "class_weight: expected for several labels a list of 3 dicts.*; got a list of 2",
        ),
        (LABELS, [{}, {}, "balanced"], TypeError, r"class_weight\[2\]: expected a dict .*got str"),
        (
            LABELS,
            [{}, {1: -1}, {}],
            ValueError,
            r"class_weight\[1\]\[1\]: expected a finite number in \[0, inf\], got -1",
        ),
        (Y, LISTS, ValueError, "class_weight: a list is for several labels; expected a dict"),
        (Y, {0: np.inf}, ValueError, r"class_weight\[0\]: expected a finite number"),
        (Y, {2: "much"}, TypeError, r"class_weight\[2\]: expected a number, got 'much'"),
        (Y, (1, 2, 3), ValueError, "The 'class_weight' parameter of MLPClassifier must be"),
    ],
)
def test_weights_of_classes_that_cannot_be(y, weights, error, said) -> None:
    with pytest.raises(error, match=f"^{said}"):
        fitted(y=y, class_weight=weights)


def test_keys_that_are_no_class_are_named() -> None:
    said = r"^class_weight: has keys that are no class: '1', 7\. The classes are 0, 1, 2; those without a key weigh 1"
    with pytest.warns(UserWarning, match=said):
        model = fitted(class_weight={0: 2.0, "1": 5.0, 7: 1.0})
    np.testing.assert_array_equal(model.coefs_[0], fitted(class_weight={0: 2.0}).coefs_[0])
    with pytest.warns(UserWarning, match=r"^class_weight\[1\]: has keys that are no class: 2\. The classes are 0, 1;"):
        fitted(y=LABELS, class_weight=[{}, {2: 1.0}, {}])
    named = fitted(y=NAMES, class_weight={"ant": 2.0, np.str_("bee"): 3.0})
    np.testing.assert_array_equal(named.coefs_[0], fitted(class_weight={0: 2.0, np.int64(1): 3.0}).coefs_[0])


def test_rows_of_a_call_may_lack_the_classes_that_are_weighed() -> None:
    model = MLPClassifier(class_weight={0: 5.0}, random_state=0)
    assert model.partial_fit(X[Y == 1], Y[Y == 1], classes=[0, 1, 2]).n_iter_ == 1
