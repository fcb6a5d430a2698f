"""The regressor."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import RegressorMixin
from sklearn.metrics import d2_pinball_score, r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from mlpx.backend import backend_of, to_numpy
from mlpx.errors import check_number, warn
from mlpx.estimators.base import BaseMLP, _has_steps
from mlpx.estimators.checkpoints import fit_checkpoints
from mlpx.estimators.context import in_context
from mlpx.estimators.devices import check_all_readable, on_host
from mlpx.estimators.held_out import held_out
from mlpx.estimators.losses import LossFunction, given
from mlpx.estimators.naming import entries, naming
from mlpx.estimators.parameters import ABOVE_ZERO, CONSTRAINTS
from mlpx.estimators.rows import Rows
from mlpx.estimators.scoring import Scorer
from mlpx.layers import Activation
from mlpx.losses import ClassLoss, Gamma, Huber, LabelLoss, Loss, Poisson, Quantile, find
from mlpx.optimizers import Optimizer
from mlpx.optimizers.full_batch import FullBatch
from mlpx.schedules import Schedule
from mlpx.typing import Array


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """scikit-learn's ``MLPRegressor`` on mlpx: the same parameters, the same numbers, in less time.

    Parameters
    ----------
    loss : str, Loss or callable, default="squared_error"
        "squared_error" (half of it, the mean over outputs), or "poisson" for counts and rates: the output is then
        positive. Also "gamma" for positive numbers whose error is a factor (as are prices, durations and claims; the
        output is positive too), "absolute_error", "huber" and "quantile"; or an object of `mlpx.losses`
        with its options; or a function ``loss(y_true, output) -> (mean loss, its gradient for output)`` of whole
        batches, arrays (n, n_outputs) both, whose gradient is tried on eight rows before a fit. It takes no weights.
    delta : float, default=1.0
        For "huber": where it turns linear, in units of y, above 0.
    quantiles : sequence of float, default=(0.5,)
        For "quantile": the levels in (0, 1), each with an output of its own. ``score`` is then the mean of
        ``d2_pinball_score`` over the levels. ``predict`` has a column for each of several: scikit-learn's
        ``VotingRegressor`` and ``StackingRegressor``, which take one number a row, want a single level.
    hidden_layer_sizes, activation, solver, ... : as in `MLPClassifier`

    Attributes
    ----------
    out_activation_ : str
        "identity", or "exp" for "poisson" and "gamma".
    coefs_, intercepts_, loss_, loss_curve_, ... : as in `MLPClassifier`
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  (scikit-learn's own convention)
        **CONSTRAINTS,
        "loss": [
            StrOptions({"squared_error", "poisson", "absolute_error", "huber", "quantile", "gamma"}),
            Loss,
            callable,
        ],
        "delta": [ABOVE_ZERO],
        "quantiles": ["array-like"],
    }

    def __init__(
        self,
        loss: str | Loss | LossFunction = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str | Optimizer | FullBatch = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Schedule = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        delta: float = 1.0,
        quantiles: Sequence[float] = (0.5,),
        dropout: float = 0.0,
        batch_norm: bool = False,
        layer_norm: bool = False,
        clip_norm: float | None = None,
        scoring: str | Scorer | None = None,
        warm_start_optimizer: bool = False,
        callbacks: Sequence[Callable[[Any], Any]] | None = None,
        progress_bar: bool | str = False,
        n_threads: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        self._keep(locals())

    def _out_activation(self) -> str:
        if isinstance(self.loss, str):
            return "exp" if self.loss in ("poisson", "gamma") else "identity"
        return "exp" if given(self.loss).fuses(Activation("exp")) else "identity"

    def _loss(self, head: str) -> Loss:
        if not isinstance(self.loss, str):
            made = given(self.loss)
            if isinstance(made, ClassLoss | LabelLoss):
                raise ValueError(f"loss: {made!r} is a loss of classes; expected one of numbers, such as {Huber()!r}.")
            return made
        if self.loss == "huber":
            return Huber(float(self.delta))
        return Quantile(self._levels()) if self.loss == "quantile" else find(self.loss)

    def _levels(self) -> tuple[float, ...]:
        """Return the quantiles to predict."""
        levels = entries("quantiles", self.quantiles)
        if not levels:
            raise ValueError("quantiles: is empty; expected at least one level in (0, 1).")
        return tuple(check_number("quantiles", level, 0.0, 1.0, open_low=True, open_high=True) for level in levels)

    def _learn_targets(self, y: Any, incremental: bool) -> Any:
        """Learn the number of outputs, or check that it is that of earlier calls; return the numbers as they came."""
        y = self._numeric(y)
        if hasattr(self, "coefs_") and (self.warm_start or incremental):
            self._check_outputs(y, self._loss(""))
        self.n_outputs_ = self._targets(y, self._loss("")).shape[1]
        return y

    def _known(self, y: Any) -> Any:
        """Return the numbers of validation data, as many to a row as in training."""
        y = self._numeric(y)
        self._check_outputs(y, self._trained_loss())
        return y

    def _check_outputs(self, y: Array, loss: Loss) -> None:
        """Raise ValueError unless the network has an output for each number, or quantile, of a row."""
        if self._targets(y, loss).shape[1] == self.n_outputs_:
            return
        if isinstance(loss, Quantile):
            raise ValueError(f"quantiles: {len(loss.q)} levels; the network was made for {self.n_outputs_}.")
        raise ValueError(f"y: has shape {y.shape}; training had {self.n_outputs_} numbers in each row.")

    def _numeric(self, y: Any) -> Any:
        """Return numbers (n,) where they came as one column; TypeError for what is no number."""
        if issparse(y) or y.dtype.kind not in "fiub":
            came = f"a sparse {type(y).__name__}" if issparse(y) else f"dtype {y.dtype}"
            raise TypeError(f"y: expected real numbers (floats, integers or bools) in a dense array, got {came}.")
        return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _targets(self, y: Any, loss: Loss) -> Array:
        """Return targets (n, n_outputs) for the network."""
        if isinstance(loss, Poisson) and y.min() < 0:
            raise ValueError(f"y: holds {y.min():g}; loss='poisson' takes counts and rates of at least 0.")
        if isinstance(loss, Gamma) and y.min() <= 0:
            raise ValueError(f"y: holds {y.min():g}; loss='gamma' takes numbers above 0.")
        target = y.reshape(-1, 1) if y.ndim == 1 else y
        if isinstance(loss, Quantile):
            if target.shape[1] > 1:
                raise ValueError(f"y: has {target.shape[1]} columns; loss='quantile' takes one number per row.")
            target = np.repeat(target, len(loss.q), axis=1)
        return np.asarray(target, np.float64)

    def _stratify_by(self, rows: Rows) -> None:
        """Return nothing: numbers have no shares."""

    @in_context
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: float = 60.0,
        resume: bool = False,
    ) -> Self:
        """Train from new weights, or with ``warm_start`` from those of the last fit.

        Parameters
        ----------
        X : array or sparse matrix (n, n_features)
        y : array (n,) or (n, n_outputs)
        sample_weight : array (n,), optional
            At least 0.
        validation_data : tuple (X, y[, sample_weight]), optional
            Rows to score after each epoch, in ``validation_scores_`` and ``validation_loss_curve_``;
            ``early_stopping`` then goes by them and holds nothing out.
        X_val, y_val, sample_weight_val : optional
            The parts of ``validation_data`` one by one. In a `Pipeline`, ``transform_input=["X_val"]`` takes ``X_val``
            through the steps before, which nothing does for the tuple.
        checkpoint, every, resume : optional
            As in `mlpx.MLP.fit`, for solvers of mini-batches: a folder, in which the estimator is written at the end of
            an epoch, each so many seconds, and whether to go on from there.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For data or parameters that cannot work; the estimator is then as it was.
        """
        apart = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        kept = fit_checkpoints(checkpoint, every, resume)
        return self._fit(X, y, sample_weight, held_out(validation_data, **apart), checkpoints=kept)

    @available_if(_has_steps)  # type: ignore[untyped-decorator]
    @in_context
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Take one epoch over the given rows, from where the last call left; parameters as in ``fit``.

        With ``early_stopping`` as `MLPClassifier.partial_fit` says.
        """
        apart = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        return self._fit(X, y, sample_weight, held_out(validation_data, **apart), incremental=True)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R^2; for quantiles, its counterpart for the pinball loss."""
        check_all_readable(y=y, sample_weight=sample_weight)
        now = self._pinned()
        output = to_numpy(now._output(X))
        with naming("y" if sample_weight is None else "y, sample_weight"):
            return now._agreement(on_host(y), output, on_host(sample_weight))

    def _agreement(self, y: Any, output: Array, weight: Any) -> float:
        loss = self._trained_loss()
        if not isinstance(loss, Quantile):
            return float(r2_score(y, self._numbers(output), sample_weight=weight))
        levels = enumerate(loss.q)
        return float(np.mean([d2_pinball_score(y, output[:, i], sample_weight=weight, alpha=q) for i, q in levels]))

    def _score_of(self, rows: Rows, output: Array) -> float:
        """Return the score of an output for held-out rows."""
        return self._agreement(rows.y, output, on_host(rows.weight))

    def _numbers(self, output: Array) -> Array:
        return output[:, 0] if output.shape[1] == 1 else output

    def predict(self, X: Any) -> Array:
        """Return the prediction of each row: (n,), or (n, n_outputs) for several outputs.

        ``X`` may be larger than memory, such as a `numpy.memmap`: rows are taken block by block. Rates that overflow to
        infinity, of losses such as "poisson", bring a RuntimeWarning.
        """
        output = self._pinned()._output(X)
        xp = backend_of(output).xp
        if self.out_activation_ == "exp" and not bool(xp.all(xp.isfinite(output))):
            warn("predict: some rates overflow to infinity; these rows are far from those of training.", RuntimeWarning)
        return self._numbers(output)
