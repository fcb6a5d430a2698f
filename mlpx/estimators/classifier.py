"""The classifier."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Self

from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from mlpx.estimators.base import _has_steps
from mlpx.estimators.checkpoints import fit_checkpoints
from mlpx.estimators.context import in_context
from mlpx.estimators.decisions import Deciding
from mlpx.estimators.held_out import held_out
from mlpx.estimators.losses import LossFunction, given
from mlpx.estimators.parameters import AT_LEAST_ZERO, CONSTRAINTS, ZERO_TO_ONE
from mlpx.estimators.scoring import Scorer
from mlpx.losses import (
    BinaryCrossEntropy,
    BinaryFocal,
    ClassLoss,
    CrossEntropy,
    CustomLoss,
    Focal,
    Hinge,
    LabelLoss,
    Loss,
)
from mlpx.optimizers import Optimizer
from mlpx.optimizers.full_batch import FullBatch
from mlpx.schedules import Schedule


class MLPClassifier(Deciding):
    """scikit-learn's ``MLPClassifier`` on mlpx: the same parameters, the same numbers, in less time.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Width of each hidden layer; an empty sequence leaves a linear model.
    activation : str or sequence of str, default="relu"
        "identity", "logistic", "tanh", "relu" or any other of `mlpx.ops`, for all hidden layers or one each.
    solver : str, Optimizer or FullBatch, default="adam"
        "adam", "sgd" or "lbfgs" as in scikit-learn; "momentum", "nesterov", "adamw", "rmsprop", "adagrad", "adadelta"
        or "rprop" (steps on all rows, unless ``batch_size`` says otherwise), with ``learning_rate_init`` and else their
        defaults in `mlpx.optimizers`; all rows at once: "conjugate_gradient", "scaled_conjugate_gradient" and, for
        squared errors, "levenberg_marquardt". Objects of `mlpx.optimizers` carry their options,
        the learning rate among them; they are copied.
    alpha : float, default=0.0001
        Penalty, at least 0: the loss of each batch gets ``alpha / 2`` times the squared norm of the weights (not of the
        biases and norms), divided by its rows, or by their weights. Solver objects may have penalties beside it.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is 200, or all where there are fewer.
    learning_rate : str or Schedule, default="constant"
        For "sgd": "constant", "invscaling" (``learning_rate_init / (t + 1) ** power_t`` after t rows) or "adaptive"
        (a fifth after each ``n_iter_no_change`` epochs without improvement). For every solver that steps on
        mini-batches: "cosine", "one_cycle", "step", "exponential", "inverse_scaling", "reduce_on_plateau" or "warm_up",
        or an object of `mlpx.schedules`: it multiplies the learning rate, over ``max_iter`` epochs or calls of
        ``partial_fit``; later calls warn.
    learning_rate_init : float, default=0.001
        Learning rate, above 0, of every solver that is a name and steps on mini-batches.
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Most epochs, or iterations of a solver that takes all rows at once.
    shuffle : bool, default=True
        Whether each epoch takes the rows in a new order.
    random_state : int, RandomState or None, default=None
        Chooses weights, orders, held-out rows and what dropout drops; an int gives the same fit each time.
    tol : float, default=1e-4
        An improvement of loss or score below it is none; for "lbfgs" the largest gradient at which it has converged.
    verbose : bool, default=False
        Whether to print the loss of each epoch, or iteration.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the last one. Parameters that have changed act, but for those that
        need other weights (``hidden_layer_sizes``, norms, a loss of other outputs), which are refused.
    momentum : float, default=0.9
        For "sgd", "momentum" and "nesterov", in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether the momentum of "sgd" is Nesterov's.
    early_stopping : bool, default=False
        Whether to go by the score of held-out rows, which ends the fit and chooses the weights that it leaves, after an
        epoch that diverged too, whose score is NaN; see ``partial_fit`` for what it means there. As in scikit-learn
        "lbfgs" passes it over, unless ``fit`` is given ``validation_data``.
    validation_fraction : float, default=0.1
        The share of rows that ``early_stopping`` holds out, in [0, 1); two classes keep their shares.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        For "adam": decay of its means of gradients and of their squares, in [0, 1), and what keeps its quotient finite.
    n_iter_no_change : int, default=10
        A fit ends when more epochs than this in a row have brought no improvement.
    max_fun : int, default=15000
        For "lbfgs": most evaluations of the loss.
    loss : str, Loss or callable, default="log_loss"
        "log_loss", in nats; "focal", which makes little of rows that are right already; "hinge", one class against the
        rest (`predict`, and `decision_function` in place of probabilities). Objects of `mlpx.losses` carry their
        options: `CrossEntropy` and `Focal` for several classes, `BinaryCrossEntropy` and `BinaryFocal` for two or for
        labels, `Hinge`, `CustomLoss`. Or a function ``loss(y_true, output) -> (mean loss, its gradient for output)`` of
        whole batches, whose gradient is tried on eight rows before a fit. ``y_true`` holds 0 and 1, a column per class,
        of the shape of ``output``: the probabilities; of two classes that of the second alone, (n, 1). It takes no
        weights.
    focus : float, default=2.0
        For "focal": at least 0, often written gamma; 0 is "log_loss".
    dropout : float, default=0.0
        Probability of dropping each unit of each hidden layer in training, in [0, 1).
    batch_norm, layer_norm : bool, default=False
        Whether to normalise before each hidden activation: each unit over the rows of the batch (in predictions by
        running statistics), or each row over the units. One of the two at most. With ``batch_norm`` a step has two rows
        at least: where ``batch_size`` leaves one over, it takes more.
    class_weight : dict, list of dict or "balanced", optional
        Weights of the classes, at least 0, which multiply ``sample_weight``; classes without one weigh 1. For an
        indicator matrix a list with a dict of the weights of 0 and 1 for each label, whose product a row weighs.
        "balanced" makes all classes count alike.
    label_smoothing : float, default=0.0
        The share of each target, in [0, 1), that is spread evenly over all classes. For "log_loss".
    clip_norm : float, optional
        The largest norm of a step's gradient over all weights, above 0, before the penalty; default: no limit.
    scoring : str or callable, optional
        What scores held-out rows, and chooses the best weights: "loss" (minus it), a name of scikit-learn's scorers, or
        a function ``scorer(estimator, X, y[, sample_weight]) -> float``, of which more is better. Default: the measure
        of ``score``, which says little of rare classes; "loss" moves with every row.
    warm_start_optimizer : bool, default=False
        Whether a ``warm_start`` also goes on with the state of the optimiser, such as Adam's means and the learning
        rate that "adaptive" has reached; else, as in scikit-learn, with the weights alone. Schedules start anew.
    callbacks : list, optional
        Functions called after each epoch, or iteration, with an estimator that has the weights of then (the one that
        is being fitted keeps its own until the fit is complete); one that returns something true ends the fit.
        scikit-learn's own go to ``set_callbacks``, from its version 1.9 on.
    progress_bar : bool or "auto", default=False
        Whether ``fit`` draws a progress bar on standard error; "auto" draws it on a terminal.
    n_threads : int, optional
        Threads to use at most; default, and further limits, as in `mlpx.MLP.fit`. Small networks take one.
    dtype : str, default="auto"
        "float32" or "float64", of the weights and all arithmetic; "auto" follows the data that ``fit`` sees.
    device : str, default="auto"
        "cpu"; "cuda", through CuPy, where a GPU works; or "auto": where the data lie that ``fit`` sees. Predictions lie
        where their rows do. Pickles made on a GPU hold arrays of the host.

    Attributes
    ----------
    classes_ : array
        The classes, in the order of the columns of ``predict_proba``.
    coefs_, intercepts_ : list of array
        Weights (n_in, n_out) and biases (n_out,) by layer: views of the network's own, so that writing to them, or
        putting other arrays in their place, changes predictions. Each fit and each call of ``partial_fit`` ends with
        new arrays; those of before stay as they are.
    norms_ : list of dict
        With a norm: for each hidden layer its arrays "gamma", "beta" and, for batch norms, the running "mean" and
        "var", each (n_units,); views likewise.
    loss_, best_loss_, best_validation_score_ : float
        The last and the least training loss, with the penalty, and the best score; of the latter two the one that does
        not decide the end of a fit is None.
    loss_curve_, validation_loss_curve_, validation_scores_ : list of float
        By epoch, or iteration: the training loss, and, with held-out rows, their loss without the penalty, and score.
    stopped_ : bool
        Whether early stopping has ended the training, with the best weights in place.
    n_iter_, t_, n_layers_, n_outputs_, n_features_in_ : int
        Epochs of the last fit; rows seen; layers with the input; outputs; features.
    feature_names_in_ : array of str
        Only after fitting to a frame whose columns have names.
    out_activation_ : str
        "softmax", or "logistic" for two classes and for indicator matrices; "identity" for "hinge".
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  (scikit-learn's own convention)
        **CONSTRAINTS,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
        "label_smoothing": [ZERO_TO_ONE],
        "loss": [StrOptions({"log_loss", "focal", "hinge"}), Loss, callable],
        "focus": [AT_LEAST_ZERO],
    }

    def __init__(
        self,
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
        loss: str | Loss | LossFunction = "log_loss",
        focus: float = 2.0,
        dropout: float = 0.0,
        batch_norm: bool = False,
        layer_norm: bool = False,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
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
        if self.loss == "hinge" or isinstance(self.loss, Hinge):
            return "identity"
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _loss(self, head: str) -> Loss:
        if self.label_smoothing and self.loss != "log_loss":
            raise ValueError(f"label_smoothing: is for loss='log_loss'; set it to 0 for loss={self.loss!r}.")
        exclusive = head == "softmax"
        if self.loss == "focal":
            return (Focal if exclusive else BinaryFocal)(self.focus)
        if self.loss == "hinge":
            return Hinge()
        if self.loss == "log_loss":
            return (CrossEntropy if exclusive else BinaryCrossEntropy)(label_smoothing=self.label_smoothing)
        made = given(self.loss)
        if not isinstance(made, ClassLoss | LabelLoss | CustomLoss):
            raise ValueError(
                f"loss: {made!r} is a loss of numbers; expected one of classes, such as {CrossEntropy()!r}."
            )
        if not isinstance(made, Hinge | CustomLoss) and isinstance(made, ClassLoss) != exclusive:
            one, many = "several classes of which a row has one", "two classes or independent labels"
            came, wanted = (one, many) if exclusive else (many, one)
            right = "CrossEntropy and Focal" if exclusive else "BinaryCrossEntropy and BinaryFocal"
            raise ValueError(f"loss: {made!r} is for {wanted}; y has {came}, for which there are {right}.")
        return made

    @in_context
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: Any = None,
        mask: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        mask_val: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: float = 60.0,
        resume: bool = False,
    ) -> Self:
        """Train from new weights, or with ``warm_start`` from those of the last fit.

        Parameters
        ----------
        X : array or sparse matrix (n, n_features)
        y : array (n,) or (n, n_outputs)
            Classes, or an indicator matrix of labels.
        sample_weight : array (n,), optional
            At least 0.
        validation_data : tuple (X, y[, sample_weight[, mask]]), optional
            Rows to score after each epoch, in ``validation_scores_`` and ``validation_loss_curve_``;
            ``early_stopping`` then goes by them and holds nothing out.
        mask : array (n, n_classes), bool, optional
            True where a class is possible, in the order of ``classes_``; each row's own must be. Impossible ones get
            probability 0 and no gradient. For "log_loss" and "focal".
        X_val, y_val, sample_weight_val, mask_val : optional
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
        apart = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val, "mask_val": mask_val}
        kept = fit_checkpoints(checkpoint, every, resume)
        return self._fit(X, y, sample_weight, held_out(validation_data, **apart, masks=True), mask, checkpoints=kept)

    @available_if(_has_steps)  # type: ignore[untyped-decorator]
    @in_context
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        validation_data: Any = None,
        mask: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        mask_val: Any = None,
    ) -> Self:
        """Take one epoch over the given rows, from where the last call left.

        With ``early_stopping`` each call ends with a score: of ``validation_data``, or of a ``validation_fraction`` of
        the call's rows, held out before its epoch. The weights of the best score so far are kept aside while training
        goes on from the newest. After more than ``n_iter_no_change`` calls without an improvement of ``tol`` the best
        ones are put back, ``stopped_`` is True, and further calls change nothing, with a warning, so that a loop of
        calls ends where ``fit`` would with the same held-out rows; `restore_best` puts them back earlier. The first
        call after a ``fit`` counts anew. Scores compare only on the same rows: give ``validation_data`` where each call
        brings others; where the same rows come again, an int ``random_state`` holds the same ones out each time.

        Options of the solver that have changed act, and its state stays; another solver starts.

        Parameters
        ----------
        X, y, sample_weight, validation_data, mask, X_val, y_val, sample_weight_val, mask_val
            As in ``fit``.
        classes : array, optional
            All classes that will ever come; needed at the first call.

        Returns
        -------
        self
        """
        apart = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val, "mask_val": mask_val}
        validation = held_out(validation_data, **apart, masks=True)
        return self._fit(X, y, sample_weight, validation, mask, incremental=True, classes=classes)
