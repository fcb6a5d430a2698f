"""What held-out rows say of a network: its loss on them, and what it predicts."""

from typing import Any

import numpy as np
from scipy.sparse import issparse

from mlpx.backend import to_numpy
from mlpx.estimators.losses import reported
from mlpx.estimators.rows import Rows
from mlpx.estimators.scoring import score_of
from mlpx.estimators.sparse import DENSE_ELEMENTS, stays_sparse
from mlpx.layers import Context
from mlpx.layers.passes import through
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.typing import Array


def look(estimator: Any, held_out: Rows) -> None:
    """Take an epoch's loss and score of held-out rows into the estimator's curves; NaN where outputs are not finite."""
    net, watch = estimator._net, estimator._watch
    loss, output = evaluate(net, held_out)
    watch.validation_losses.append(loss)
    watch.scores.append(score_of(estimator, held_out, loss, output))
    estimator._say(f"Validation score: {watch.scores[-1]:f}")
    if estimator.early_stopping:
        watch.see_score(watch.scores[-1], estimator.tol, net.buffers)


def evaluate(net: Network, rows: Rows) -> tuple[float, Array]:
    """Return the loss over rows in scikit-learn's units, without a penalty, and the output on the host."""
    if not issparse(rows.x) or stays_sparse(rows.x, rows.n):
        return _looked_at(net, rows, rows.x)
    losses, counts, outputs = [], [], []
    at_once = max(1, DENSE_ELEMENTS // rows.x.shape[1])
    for start in range(0, rows.n, at_once):
        part = rows.take(slice(start, start + at_once))
        loss, output = _looked_at(net, part, part.x.toarray())
        losses.append(loss)
        counts.append(part.n if part.weight is None else float(part.weight.sum()))
        outputs.append(output)
    return float(np.average(losses, weights=counts if any(counts) else None)), np.concatenate(outputs)


def _looked_at(net: Network, rows: Rows, x: Any) -> tuple[float, Array]:
    with np.errstate(all="ignore"):  # weights on their way to infinity: the score tells
        mask = rows.mask
        if mask is None and net.layers[-1].uses_mask:  # trained with masks, and looked at without
            mask = net.backend.asarray(np.ones((rows.n, net.n_out), bool))
        batch = Batch(x, rows.target, mask, rows.weight)
        loss, z = _layer_by_layer(net, batch) if issparse(x) else net.evaluate_batch(batch)
        head = net.layers[len(net.body()) :]
        output = head[0].forward(z, Context(mask=mask))[0] if head else z
        weight = None if rows.weight is None else to_numpy(rows.weight)
        return reported(net.loss, loss, rows.target, weight), to_numpy(output)


def _layer_by_layer(net: Network, batch: Batch) -> tuple[float, Array]:
    """Return what `Network.evaluate` does, for sparse rows."""
    z = through(net.body(), batch.x, Context(mask=batch.mask))[0]
    return float(net.loss(z, batch.target, batch.sample_weight, net.loss_mask(batch))[0]), z
