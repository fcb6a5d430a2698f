"""scikit-learn's surroundings of a fit, for a tenth of the time where they do nothing."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from sklearn.base import _fit_context

from mlpx.estimators.parameters import satisfied
from mlpx.estimators.weights import Weights

Method = TypeVar("Method", bound=Callable[..., Any])


def in_context(method: Method) -> Method:
    """Decorate ``fit`` or ``partial_fit`` as scikit-learn does: check the parameters, then enter its contexts.

    These are for its callbacks, and to let its own functions, such as the one that holds rows out, check less. So they
    are not entered where there are no callbacks and no rows are held out.
    """
    everywhere = _fit_context(prefer_skip_nested_validation=True)(method)

    @wraps(method)
    def fit(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        plain = (
            type(estimator)._validate_params is Weights._validate_params
            and satisfied(estimator)
            and not estimator.early_stopping
            and not getattr(estimator, "_skl_callbacks", None)
        )
        return (method if plain else everywhere)(estimator, *args, **kwargs)

    return cast(Method, fit)
