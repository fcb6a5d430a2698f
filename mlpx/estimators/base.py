"""What both estimators share: a network behind scikit-learn's attributes, and its training loop."""

import warnings
from typing import Any, Self

import numpy as np
from sklearn.base import _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, validate_data

from mlpx import interrupt
from mlpx.errors import DivergenceError, TrainingInterrupted, check_count
from mlpx.estimators.explain import Explained
from mlpx.estimators.minimise import Objective, lbfgs
from mlpx.estimators.parameters import STOCHASTIC
from mlpx.estimators.snapshot import Snapshot
from mlpx.estimators.steps import Steps
from mlpx.estimators.stopping import next_rate
from mlpx.model import Sequential
from mlpx.optimizers import OPTIMIZERS, Adam, Momentum, Nesterov, Optimizer
from mlpx.typing import Array


def _has_steps(estimator: Any) -> bool:
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(f"partial_fit needs solver 'adam' or 'sgd'; {estimator.solver!r} sees all rows at once.")
    return True


class BaseMLP(Explained):
    """What `MLPClassifier` and `MLPRegressor` share; not for use by itself."""

    def _keep(self, given: dict[str, Any]) -> None:
        """Set the constructor's arguments as attributes, as scikit-learn wants it."""
        self.__dict__.update({name: value for name, value in given.items() if name not in ("self", "__class__")})

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train from new weights, or with ``warm_start`` from those of the last fit.

        Parameters
        ----------
        X : array or sparse matrix (n, n_features)
        y : array (n,) or (n, n_outputs)
            Classes, an indicator matrix of labels, or numbers.
        sample_weight : array (n,), optional
            At least 0.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Rows to score after each epoch, in ``validation_scores_``; ``early_stopping`` then goes by them and holds
            nothing out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For data or parameters that cannot work; the estimator is then as it was.
        """
        return self._fit(X, y, sample_weight, validation_data=validation_data)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        incremental: bool = False,
        classes: Any = None,
        validation_data: Any = None,
    ) -> Self:
        before = Snapshot(self.__dict__)
        try:
            if incremental:
                self._first_call(y, classes)
            self._train(X, y, sample_weight, incremental, validation_data)
        except BaseException:
            before.restore(self.__dict__)
            raise
        return self

    def _train(self, X: Any, y: Any, sample_weight: Any, incremental: bool, validation_data: Any) -> None:
        widths = self.hidden_layer_sizes if np.iterable(self.hidden_layer_sizes) else [self.hidden_layer_sizes]
        sizes = [check_count("hidden_layer_sizes", width) for width in widths]
        fresh = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._checked(X, y, reset=fresh)
        target, y, stratify = self._encode(y, incremental)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
            if (sample_weight < 0).any():
                raise ValueError("sample_weight: holds negative values; expected at least 0.")
        sample_weight = self._row_weights(y, sample_weight, incremental)
        if callable(self.loss) and sample_weight is not None:
            raise ValueError("loss: a function of your own takes no weights, of rows or of classes; use a named loss.")
        self._random_state = check_random_state(self.random_state)
        if fresh:
            self._start([X.shape[1], *sizes, self.n_outputs_], X.dtype.name if self.dtype == "auto" else self.dtype)
        net = self._network()
        X = X if X.dtype == net.dtype else X.astype(net.dtype)
        target = target if target.dtype.kind == "i" else np.ascontiguousarray(target, net.dtype)
        weight = None if sample_weight is None else np.ascontiguousarray(sample_weight, net.dtype)
        if self.solver in STOCHASTIC:
            held_out = None
            if validation_data is not None:
                held_out = self._checked(*validation_data[:2], reset=False) + tuple(validation_data[2:3] or (None,))
            self._fit_stochastic(net, X, target, y, stratify, weight, incremental, held_out)
        else:
            refused = (self.dropout, self.batch_norm, self.clip_norm is not None, self.callbacks, validation_data)
            if any(refused):
                raise ValueError(
                    "solver='lbfgs' takes no dropout, batch_norm, clip_norm, callbacks and validation_data."
                )
            self._fit_lbfgs(net, X, target, weight)
        if not np.isfinite(net.parameters).all():
            raise self._not_finite()

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        checked: tuple[Any, Any] = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=not is_classifier(self),
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        return checked

    def _row_weights(self, y: Any, sample_weight: Array | None, incremental: bool) -> Array | None:
        """Return the weight of each row, or None."""
        return sample_weight

    def _not_finite(self) -> ValueError:
        return ValueError(
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            "preprocessed, for example with StandardScaler; else try a smaller learning_rate_init."
        )

    # --- mini-batches ---------------------------------------------------------------------------------------------

    def _new_optimizer(self) -> Optimizer:
        lr = float(self.learning_rate_init)
        clip = self.clip_norm
        if self.solver == "adam":
            betas = float(self.beta_1), float(self.beta_2)
            return Adam(lr=lr, beta1=betas[0], beta2=betas[1], eps=float(self.epsilon), clip_norm=clip)
        if self.solver != "sgd":
            return OPTIMIZERS[self.solver](lr=lr, clip_norm=clip)
        made = (Nesterov if self.nesterovs_momentum else Momentum)(lr=lr, clip_norm=clip)
        made.momentum = float(self.momentum)  # set afterwards: 1 is allowed here
        return made

    def _fit_stochastic(
        self,
        net: Sequential,
        x: Any,
        target: Array,
        y: Any,
        stratify: Any,
        weight: Array | None,
        incremental: bool,
        held_out: Any,
    ) -> None:
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = self._new_optimizer()
            self._optimizer.start(net)
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.early_stopping and held_out is None:
            rows, others = train_test_split(
                np.arange(x.shape[0]),
                random_state=self._random_state,
                test_size=self.validation_fraction,
                stratify=stratify,
            )
            if others.size < 2:
                raise ValueError(
                    "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
                )
            held_out = (x[others], y[others], None if weight is None else weight[others])
            x, target, weight = x[rows], target[rows], None if weight is None else weight[rows]
        n = x.shape[0]
        if self.batch_size != "auto" and self.batch_size > n:
            warnings.warn(f"batch_size={self.batch_size} is larger than the {n} rows and is clipped.", stacklevel=5)
        batch_size = min(200 if self.batch_size == "auto" else self.batch_size, n)
        seed = int(self._random_state.randint(2**31 - 1)) if self.dropout else 0
        steps = Steps(net, x, target, weight, batch_size, self._optimizer, float(self.alpha), self.n_threads, seed)
        with interrupt.held_back() as pressed:
            self._epochs(steps, n, held_out, pressed, incremental)
        if self.early_stopping:
            self._watch.restore(net.buffers)

    def _epochs(self, steps: Steps, n: int, held_out: Any, pressed: interrupt.Interrupt, incremental: bool) -> None:
        def stop_if_pressed(taken: int) -> None:
            if pressed.requested:
                raise TrainingInterrupted("Training interrupted by user.")

        order = np.arange(n)
        self.n_iter_ = 0
        while self.n_iter_ < self.max_iter:
            if self.shuffle:
                drawn = np.arange(n)  # as sklearn.utils.shuffle draws it, without its checks
                self._random_state.shuffle(drawn)
                order = order[drawn]
            try:
                stop_if_pressed(0)
                self.loss_ = steps.epoch(order, self._optimizer.lr, stop_if_pressed)
            except TrainingInterrupted as interruption:
                warnings.warn(str(interruption), stacklevel=6)
                return
            except DivergenceError as error:
                raise self._not_finite() from error
            self.n_iter_ += 1
            self.t_ += n
            stop = self._after_epoch(held_out)
            for callback in self.callbacks or ():
                stop = bool(callback(self)) or stop
            if stop or incremental:
                return
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
            "converged yet.",
            ConvergenceWarning,
            stacklevel=6,
        )

    def _after_epoch(self, held_out: Any) -> bool:
        """Look at the epoch's loss or score, adapt the learning rate, and return whether to stop."""
        watch, optimizer = self._watch, self._optimizer
        watch.losses.append(self.loss_)
        self._say(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
        if held_out is not None:
            watch.scores.append(self._score(*held_out))
            self._say(f"Validation score: {watch.scores[-1]:f}")
        if self.early_stopping:
            watch.see_score(watch.scores[-1], self.tol, self._net.buffers)
        else:
            watch.see_loss(self.loss_, self.tol)
        what = "Validation score did not improve" if self.early_stopping else "Training loss did not improve"
        self._publish()
        policy = self.learning_rate if self.solver == "sgd" else "constant"
        if policy == "invscaling":
            optimizer.lr = float(self.learning_rate_init) / (self.t_ + 1) ** self.power_t
        if watch.idle <= self.n_iter_no_change:
            return False
        message = f"{what} more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs."
        lr, message = next_rate(policy, optimizer.lr, message)
        self._say(message)
        if lr is None:
            return True
        optimizer.lr, watch.idle = lr, 0
        return False

    def _say(self, message: str) -> None:
        if self.verbose:
            print(message)

    def _publish(self) -> None:
        """Set scikit-learn's attributes from what the fit remembers."""
        if self.solver not in STOCHASTIC:
            return
        watch = self._watch
        self.loss_curve_ = watch.losses
        early = self.early_stopping
        self.best_loss_ = None if early else watch.best_loss
        self.validation_scores_ = watch.scores if early or watch.scores else None
        self.best_validation_score_ = watch.best_score if early else None

    # --- all rows at once -----------------------------------------------------------------------------------------

    def _fit_lbfgs(self, net: Sequential, x: Any, target: Array, weight: Array | None) -> None:
        x = x if isinstance(x, np.ndarray) else x.toarray()
        objective = Objective(net, x, target, weight, float(self.alpha), self.n_threads)
        result = lbfgs(objective, max_iter=self.max_iter, max_fun=self.max_fun, tol=self.tol)
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = float(result.fun)

    def _first_call(self, y: Any, classes: Any) -> None:
        """Prepare for the first of several calls of ``partial_fit``, where there is anything to prepare."""
