"""What both estimators share: the checks round a fit, and what it leaves behind."""

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin, is_classifier
from sklearn.utils.validation import _check_sample_weight, _check_y, check_consistent_length, validate_data

from mlpx.backend import NUMPY, dtype_name
from mlpx.errors import Later, warn
from mlpx.estimators.checkpoints import FitCheckpoints
from mlpx.estimators.devices import backend_for, check_all_readable, checked, home_of, on_host
from mlpx.estimators.epochs import Epochs, without_lone_row
from mlpx.estimators.explain import Explained
from mlpx.estimators.export import Exporting
from mlpx.estimators.held_out import HeldOut
from mlpx.estimators.losses import CHECKED_ROWS, check_function
from mlpx.estimators.minimise import fit_full_batch, fit_lbfgs
from mlpx.estimators.naming import FOREIGN, named, naming, passes
from mlpx.estimators.observers import Announcer, CallbackSupport, Observers
from mlpx.estimators.prediction import all_finite
from mlpx.estimators.randomness import random_state_of
from mlpx.estimators.rows import Rows, weighed
from mlpx.estimators.saving import Saving
from mlpx.estimators.solvers import on_batches
from mlpx.estimators.stopping import Watch
from mlpx.estimators.training_state import TrainingState
from mlpx.losses import CustomLoss
from mlpx.plan.threads import on_threads
from mlpx.typing import Array


def _has_steps(estimator: Any) -> bool:
    if not on_batches(estimator.solver):
        raise AttributeError(f"partial_fit needs a solver of mini-batches; {estimator.solver!r} sees all rows at once.")
    return True


class BaseMLP(CallbackSupport, Saving, Exporting, Explained):
    """What `MLPClassifier` and `MLPRegressor` share; not for use by itself."""

    def _keep(self, given: dict[str, Any]) -> None:
        """Set the constructor's arguments as attributes, as scikit-learn wants it."""
        self.__dict__.update(given)
        for name in ("self", "__class__"):
            self.__dict__.pop(name, None)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: HeldOut | None,
        mask: Any = None,
        *,
        incremental: bool = False,
        classes: Any = None,
        checkpoints: FitCheckpoints | None = None,
    ) -> Self:
        """Fit an estimator apart and take over what it learnt: one that fails leaves this one as it is."""
        check_all_readable(X=X, y=y, sample_weight=sample_weight, mask=mask)
        announcer = None if incremental else self._begin_callbacks(X, y, sample_weight)
        work, before = self._apart(), dict(vars(self))
        if announcer is not None:
            announcer.work = work
        if incremental:
            work._first_call(y, classes)
        later = work._train(X, y, sample_weight, validation, mask, incremental, announcer, checkpoints)
        self._become(work, before)
        if announcer is not None:
            announcer.end()
        for message, category in later:
            warn(message, category)
        return self

    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: HeldOut | None,
        mask: Any,
        incremental: bool,
        announcer: Any,
        checkpoints: FitCheckpoints | None,
    ) -> Later:
        """Train, and return what is to be warned of."""
        self._widths()
        fresh = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._checked(X, y, reset=fresh)
        y = self._learn_targets(y, incremental)
        masked = mask is not None or (self._masked and not fresh)
        architecture = self._architecture(self._out_activation(), masked=masked)
        known = None if "_fitted" not in vars(self) else self._trained_loss()
        self._random_state = random_state_of(self.random_state)
        if checkpoints is not None:
            checkpoints.begin(self, self._random_state)
        before: TrainingState = TrainingState() if fresh else vars(self).get("_training") or TrainingState()
        self._training = before.resumed()
        self._training.checkpoints = checkpoints
        if fresh:
            dtype = dtype_name(X) if self.dtype == "auto" else self.dtype
            sizes = [X.shape[1], *self._widths(), self.n_outputs_]
            own = self._start(architecture, sizes, dtype, backend_for(self.device, X))
            self.n_iter_ = self.t_ = 0
            self.n_layers_ = len(sizes)
            self.out_activation_ = architecture.head
            self._publish()
        else:
            own = self._continue(architecture)
            if not (incremental or validation is not None):
                self._watch.best = None  # as in scikit-learn, where their score is to be beaten nevertheless
        self._show(own)
        self._watch.begin(early_stopping=self.early_stopping, incremental=incremental)
        rows = self._rows(X, y, sample_weight, mask, incremental)
        if isinstance(architecture.loss, CustomLoss) and (fresh or architecture.loss != known):
            few = rows.take(slice(0, CHECKED_ROWS))
            check_function(architecture.loss, own.predict(few.together()), few.target)
        guard = before.guarded()
        try:
            if on_batches(self.solver):
                later = on_threads(self.n_threads, self._fit_batches, rows, validation, incremental, announcer)
            else:
                later = on_threads(self.n_threads, self._fit_all, rows, validation, announcer)
            xp = own.net.backend.xp
            if not bool(xp.all(xp.isfinite(own.net.parameters))):
                raise self._not_finite(rows)
        except BaseException:
            guard.undo()
            raise
        self.stopped_ = self._watch.over
        self._training.own, self._training.checkpoints = own if incremental else None, None
        if incremental:  # whose network goes on training, unseen
            self._show(own.copied())
        else:
            self._training.kept = None  # it holds on to a copy of rows
        return later

    @property
    def _watch(self) -> Watch:
        """What training remembers from epoch to epoch."""
        training: TrainingState = self._training
        return training.watch

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        home, y = home_of(X), on_host(y)
        if home is not NUMPY:
            X = checked(self, X, home, reset=reset)
            y = _check_y(y, multi_output=True, y_numeric=not is_classifier(self), estimator=self)
            check_consistent_length(X, y)
            return X, y
        if self._plainly_right(X, y, reset):
            if reset:
                self.n_features_in_ = X.shape[1]
                self.__dict__.pop("feature_names_in_", None)
            return X, y
        numeric, options = not is_classifier(self), {"accept_sparse": "csr", "dtype": (np.float64, np.float32)}
        try:
            pair: tuple[Any, Any] = validate_data(
                self, X, y, multi_output=True, y_numeric=numeric, reset=reset, **options
            )
        except FOREIGN as error:
            if named("X, y", error) is error:
                raise
            fine = passes(lambda: validate_data(self, X, reset=reset, **options))
            raise named("y" if fine else "X", error)  # noqa: B904  (its cause is set)
        return pair

    def _plainly_right(self, X: Any, y: Any, reset: bool) -> bool:
        """Return whether rows and targets are arrays that scikit-learn's checks, which take longer, leave alone."""
        return (
            type(X) is type(y) is np.ndarray
            and X.ndim == 2
            and X.dtype in (np.float32, np.float64)
            and y.ndim in (1, 2)
            and y.dtype.kind in ("iubf" if isinstance(self, RegressorMixin) else "iubfU")
            and X.shape[0] == y.shape[0]
            and min(X.size, y.size) > 0
            and (reset or (X.shape[1] == self.n_features_in_ and not hasattr(self, "feature_names_in_")))
            and all_finite(X)
            and (y.dtype.kind != "f" or all_finite(y))
        )

    def _rows(self, X: Any, y: Any, sample_weight: Any, mask: Any, incremental: bool) -> Rows:
        """Return checked data as the network takes them."""
        net = self._net
        if sample_weight is not None:
            with naming("sample_weight"):
                sample_weight = _check_sample_weight(on_host(sample_weight), X if home_of(X) is NUMPY else y)
                sample_weight = np.asarray(sample_weight, np.float64)
            if (sample_weight < 0).any():
                raise ValueError("sample_weight: holds negative values; expected at least 0.")
        factors = self._row_weights(y, incremental) + ([] if sample_weight is None else [sample_weight])
        weight, exponent = weighed(factors)
        loss = self._trained_loss()
        if isinstance(loss, CustomLoss) and weight is not None:
            raise ValueError("loss: a function of your own takes no weights, of rows or of classes; use a named loss.")
        rows = Rows(X, y, self._targets(y, loss), weight, None, exponent)
        if loss is self.loss:  # of which nobody knows yet whether its options fit the outputs
            loss.prepare(rows.target, (rows.n, self.n_outputs_), net.dtype, NUMPY)
        if mask is not None:
            rows = self._with_mask(rows, self._checked_mask(mask, rows.n))
        rows = rows.on(net.backend, net.dtype)
        rows.check_weigh("the rows")
        return rows

    def _row_weights(self, y: Any, incremental: bool) -> list[Array]:
        """Return weights of each row beside those that are given."""
        return []

    def _first_call(self, y: Any, classes: Any) -> None:
        """Prepare for the first of several calls of ``partial_fit``, where there is anything to prepare."""

    def _not_finite(self, rows: Rows) -> ValueError:
        smaller = "; else try a smaller learning_rate_init" if on_batches(self.solver) else ""
        return ValueError(
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            f"preprocessed, for example with StandardScaler (here {rows.largest()}){smaller}."
        )

    def _say(self, message: str) -> None:
        if self.verbose:
            print(message)

    # --- mini-batches, and all rows at once -----------------------------------------------------------------------

    def _fit_batches(
        self, rows: Rows, validation: HeldOut | None, incremental: bool, announcer: Announcer | None
    ) -> Later:
        if self.early_stopping and incremental and self._watch.over:
            ended = "partial_fit: early stopping has ended the training (stopped_), so this call changes nothing. "
            return [(f"{ended}To train on, set early_stopping=False, or fit.", UserWarning)]
        chooser = self._random_state
        if incremental and self.early_stopping and validation is None:
            # From call to call the same seed is to hold the same rows out, whether or not weights were drawn before.
            chooser = random_state_of(self.random_state)
        rows, held_out = self._hold_out(rows, validation, chooser)
        with Observers(self, announcer, bar=not incremental) as observers:
            Epochs(self, rows, held_out, incremental, observers).run()
        return observers.later

    def _fit_all(self, rows: Rows, validation: HeldOut | None, announcer: Announcer | None) -> Later:
        refused = (self.dropout, self.clip_norm is not None)
        if any(refused) or self.learning_rate not in ("constant", "invscaling", "adaptive"):
            raise ValueError(
                f"solver={self.solver!r} takes no dropout, clip_norm and schedule: it sees all rows at once, and finds "
                "its steps by comparing losses."
            )
        self.n_iter_ = 0
        rows, held_out = self._hold_out(rows, validation, self._random_state)
        if self._net.buffers.statistics.size:
            without_lone_row(rows.n, rows.n)
        with Observers(self, announcer, bar=True) as observers:
            if self.solver == "lbfgs":
                fit_lbfgs(self, self._net, rows, held_out, observers)
            else:
                fit_full_batch(self, self._net, rows, held_out, observers, self.solver)
        return observers.later

    def _hold_out(self, rows: Rows, given: HeldOut | None, chooser: Any) -> tuple[Rows, Rows | None]:
        """Return the rows to train on, and those to score: none, a share of the rows, or what the user gave."""
        self._watch.over = False
        if given is None:
            if not self.early_stopping or self.solver == "lbfgs":  # which scikit-learn's passes over
                return rows, None
            kept, held_out = rows.split(self.validation_fraction, chooser, self._stratify_by(rows))
            kept.check_weigh("the rows left to train on, beside those that early_stopping holds out,")
            held_out.check_weigh("the rows that early_stopping holds out")
            return kept, held_out
        try:
            X, y = self._checked(given.X, given.y, reset=False)
            return rows, self._rows(X, self._known(y), given.sample_weight, given.mask, False)
        except (TypeError, ValueError) as error:
            raise given.misfit(error) from error

    def _publish(self) -> None:
        """Set scikit-learn's attributes, and those beside them, from what the fit remembers."""
        watch, early = self._watch, self.early_stopping
        self.loss_curve_ = watch.losses
        batches = on_batches(self.solver)
        if batches:
            self.best_loss_ = None if early else watch.best_loss
        if batches or watch.scores:
            self.validation_scores_ = watch.scores if early or watch.scores else None
            self.validation_loss_curve_ = watch.validation_losses if early or watch.scores else None
            self.best_validation_score_ = watch.best_score if early else None

    def restore_best(self) -> Self:
        """Put back the weights of the best validation score, of ``partial_fit`` with ``early_stopping`` so far.

        It does so by itself once ``n_iter_no_change`` calls have brought no improvement; call it when you stop
        earlier.

        Returns
        -------
        self
        """
        work, before = self._apart(), dict(vars(self))
        if "_training" not in before or work._watch.best is None:
            raise ValueError("restore_best: no best weights are kept; partial_fit with early_stopping=True keeps them.")
        work._network()
        best = work._fitted.copied()
        work._watch.restore(best.net.buffers)
        work._show(best)
        self._become(work, before)
        return self
