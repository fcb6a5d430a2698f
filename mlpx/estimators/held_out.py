"""Rows to validate on, as a call of ``fit`` or ``partial_fit`` gives them: a tuple, or arguments of their own."""

from typing import Any, NamedTuple

from mlpx.estimators.devices import check_all_readable


class HeldOut(NamedTuple):
    """Rows that are scored and never trained on, not yet checked.

    Attributes
    ----------
    X, y, sample_weight, mask
        As ``fit`` takes them.
    source : str
        The arguments that they came by.
    """

    X: Any
    y: Any
    sample_weight: Any
    mask: Any
    source: str

    def misfit(self, error: Exception) -> TypeError | ValueError:
        """Return the error of a check of these rows with the arguments' names before its words."""
        kind = TypeError if isinstance(error, TypeError) else ValueError
        return kind(f"{self.source}: {error}")


def held_out(
    validation_data: Any,
    *,
    X_val: Any = None,
    y_val: Any = None,
    sample_weight_val: Any = None,
    mask_val: Any = None,
    masks: bool = False,
) -> HeldOut | None:
    """Return the rows to validate on, or None where a call gives none.

    Parameters
    ----------
    validation_data : tuple, optional
    X_val, y_val, sample_weight_val, mask_val : optional
        The same one by one: a `Pipeline` can transform ``X_val``.
    masks : bool
        Whether the estimator takes masks.

    Raises
    ------
    ValueError
        For both ways at once, or for one that is incomplete.
    """
    apart = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val, "mask_val": mask_val}
    given = [name for name, value in apart.items() if value is not None]
    if not given:
        return None if validation_data is None else _of_tuple(validation_data, masks)
    if validation_data is not None:
        raise ValueError(
            f"validation_data: is given together with {', '.join(given)}; give the rows one way or the other."
        )
    for needed in ("X_val", "y_val"):
        if needed not in given:
            raise ValueError(f"{needed}: is missing; {', '.join(given)} came without it.")
    check_all_readable(**apart)
    return HeldOut(X_val, y_val, sample_weight_val, mask_val, ", ".join(given))


def _of_tuple(validation_data: Any, masks: bool) -> HeldOut:
    is_tuple, most = isinstance(validation_data, tuple | list), 4 if masks else 3
    if not is_tuple or not 2 <= len(validation_data) <= most:
        parts = "(X, y[, sample_weight[, mask]])" if masks else "(X, y[, sample_weight])"
        came = type(validation_data).__name__ + (f" of {len(validation_data)}" if is_tuple else "")
        raise ValueError(f"validation_data: expected a tuple {parts}, got {came}.")
    X, y, weight, mask = [*validation_data, None, None][:4]
    check_all_readable("validation ", X=X, y=y, sample_weight=weight, mask=mask)
    return HeldOut(X, y, weight, mask, "validation_data")
