"""Each op in the words of the peers: PyTorch's functions, JAX's `jit`, SciPy and NumPy where they have it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.op_cases import OpCase
from benchmarks.peers import Absent, jax, load, torch
from mlpx.cli.samples import LR

Call = Callable[[], Any]


def _with_gradient(t: Any, z: Any, loss_of: Callable[[Any], Any]) -> Call:
    """Return a call that computes a loss and its gradient with respect to z, as the loss ops do."""
    z.requires_grad_()

    def call() -> tuple[Any, Any]:
        loss = loss_of(z)
        return loss.detach(), t.autograd.grad(loss, z)[0]

    return call


def _torch_losses(t: Any, case: OpCase, z: Any, target: Any) -> Call:
    f = t.nn.functional
    rows = z.shape[0]
    sums: dict[str, Callable[[Any], Any]] = {
        "softmax_cross_entropy": lambda z: f.cross_entropy(z, target),
        "sigmoid_cross_entropy": lambda z: f.binary_cross_entropy_with_logits(z, target, reduction="sum") / rows,
        "squared_error": lambda z: f.mse_loss(z, target, reduction="sum") / (2 * rows),
        "absolute_error": lambda z: f.l1_loss(z, target, reduction="sum") / rows,
        "huber": lambda z: f.huber_loss(z, target, reduction="sum") / rows,
        "quantile": lambda z: f.l1_loss(z, target, reduction="sum") / (2 * rows),
        "poisson": lambda z: f.poisson_nll_loss(z, target, reduction="sum") / rows,
    }
    return _with_gradient(t, z, sums[case.op])


def _torch_update(t: Any, case: OpCase, w: Any, g: Any) -> Call:
    p = t.nn.Parameter(w.clone())
    p.grad = g
    o = t.optim
    makers: dict[str, Callable[[], Any]] = {
        "sgd_inplace": lambda: o.SGD([p], LR, fused=True),
        "momentum_inplace": lambda: o.SGD([p], LR, momentum=0.9, fused=True),
        "adagrad_inplace": lambda: o.Adagrad([p], LR, fused=True),
        "rmsprop_inplace": lambda: o.RMSprop([p], LR),
        "adadelta_inplace": lambda: o.Adadelta([p], LR),
        "adam_inplace": lambda: o.Adam([p], LR, fused=True),
        "rprop_inplace": lambda: o.Rprop([p], LR),
    }
    optimizer = makers[case.op]()

    def call() -> tuple[Any, ...]:
        optimizer.step()
        return (p.detach(),)

    return call


def pytorch(case: OpCase) -> Call:
    """Return PyTorch's own function, or its composition where it has none."""
    t = torch()
    a = [t.from_numpy(v) if isinstance(v, np.ndarray) else v for v in case.args]
    if case.op.endswith("_inplace"):
        return _torch_update(t, case, a[0], a[1])
    if case.op.endswith(("_error", "_entropy")) or case.op in ("huber", "quantile", "poisson"):
        return _torch_losses(t, case, a[0].clone(), a[1])
    f, aten, eps = t.nn.functional, t.ops.aten, case.params.get("eps", 0.0)
    relu = case.params.get("activation") == "relu"
    calls: dict[str, Call] = {
        "softmax": lambda: t.softmax(a[0], -1),
        "log_softmax": lambda: t.log_softmax(a[0], -1),
        "masked_softmax": lambda: t.softmax(a[0].masked_fill(~a[1], -t.inf), -1).nan_to_num(0.0),
        "softmax_grad": lambda: aten._softmax_backward_data(a[0], a[1], -1, a[0].dtype),
        "log_softmax_grad": lambda: aten._log_softmax_backward_data(a[0], a[1], -1, a[0].dtype),
        "masked_softmax_grad": lambda: aten._softmax_backward_data(a[0], a[1], -1, a[0].dtype),
        "dense": lambda: t.relu_(f.linear(*a)) if relu else f.linear(*a),
        "dense_grad": lambda: _linear_backward(aten, *a),
        "dense_grad_rows": lambda: _rows_backward(aten, *a),
        "activation": lambda: t.tanh(a[0]),
        "activation_grad": lambda: aten.tanh_backward(a[0], a[1]),
        "dropout": lambda: f.dropout(a[0], case.params["p"]),
        "batch_norm": lambda: f.batch_norm(a[0], None, None, a[1], a[2], True, 0.0, eps),
        "batch_norm_inference": lambda: f.batch_norm(a[0], a[3], a[4], a[1], a[2], False, 0.0, eps),
        "layer_norm": lambda: f.layer_norm(a[0], a[1].shape, a[1], a[2], eps),
    }
    if case.op in calls:
        return calls[case.op]
    if not case.op.endswith("norm_grad") and case.op != "batch_norm_inference_grad":
        raise Absent(f"PyTorch has no {case.op} of its own")
    dy, x, gamma, mean, var = a
    inverse = 1 / t.sqrt(var + eps)
    wanted = [True, True, True]
    if case.op == "layer_norm_grad":
        return lambda: aten.native_layer_norm_backward(dy, x, gamma.shape, mean, inverse, gamma, gamma, wanted)
    train = case.op == "batch_norm_grad"
    return lambda: aten.native_batch_norm_backward(dy, x, gamma, mean, var, mean, inverse, train, eps, wanted)


def _linear_backward(aten: Any, dy: Any, x: Any, w: Any, y: Any) -> tuple[Any, ...]:
    dz = aten.threshold_backward(dy, y, 0)
    return dz @ w, dz.T @ x, dz.sum(0)


def _rows_backward(aten: Any, dy: Any, x: Any, y: Any) -> tuple[Any, ...]:
    dz = aten.threshold_backward(dy, y, 0)
    return dz[:, :, None] * x[:, None, :], dz


def jax_jit(case: OpCase) -> Call:
    """Return the op's reference on `jax.numpy`, compiled: the same formula, fused by XLA."""
    from mlpx import ops

    j, jnp = jax(), load("jax.numpy")
    if case.op.endswith("_inplace"):
        raise Absent("JAX has no update in place")
    if any(isinstance(v, np.ndarray) and v.dtype == np.float64 for v in case.args):
        raise Absent("JAX computes in float32 unless told otherwise")
    arrays = [jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in case.args]
    reference = ops.ALL[case.op].reference

    def formula(*args: Any) -> Any:
        if case.op == "softmax_cross_entropy":
            return j.value_and_grad(lambda z: _cross_entropy(j, jnp, z, args[1]))(args[0])
        return reference(jnp, *args, **case.params)

    compiled = j.jit(formula)
    try:
        j.block_until_ready(compiled(*arrays))
    except Exception as error:
        raise Absent(f"JAX cannot trace this reference ({type(error).__name__})") from error
    return lambda: j.block_until_ready(compiled(*arrays))


def _cross_entropy(j: Any, jnp: Any, z: Any, labels: Any) -> Any:
    return -jnp.mean(jnp.take_along_axis(j.nn.log_softmax(z), labels[:, None], axis=1))


def scipy(case: OpCase) -> Call:
    """Return SciPy's softmax or log_softmax."""
    function = getattr(load("scipy.special", "scipy"), case.op)
    return lambda: function(case.args[0], axis=-1)


def numpy(case: OpCase) -> Call:
    """Return the plain batched product of a dense layer without activation."""
    x, w, b = case.args
    return lambda: x @ w.T + b


def bound(case: OpCase) -> tuple[str, Call]:
    """Return a bound: a product of the same size, or a copy of the bytes that must be moved.

    An op's result is a new array, and so is the copy, but for ops that work in place. (Who keeps memory for results, or
    takes it from the caller, can be faster than a copy into memory that the system must give.)
    """
    if case.product:
        n, i, o = case.product
        dtype = case.args[0].dtype
        a, b = np.ones((n, i), dtype), np.ones((i, o), dtype)
        out = np.empty((n, o), dtype)
        return "gemm", lambda: np.matmul(a, b, out=out)
    results = moved(case)
    source = np.ones(max(1, results // 2), np.uint8)
    if not case.op.endswith("_inplace"):
        return "copy", source.copy
    target = np.empty_like(source)
    return "copy", lambda: np.copyto(target, source)


def moved(case: OpCase) -> int:
    """Return the bytes that a call must read and write at least."""
    given = sum(v.nbytes for v in case.args if isinstance(v, np.ndarray))
    if case.op.endswith("_inplace"):
        return 2 * given - case.args[1].nbytes
    if case.op == "dense_grad_rows":
        return given + case.args[0].nbytes * (1 + case.args[1].shape[1])
    return given + case.args[0].nbytes
