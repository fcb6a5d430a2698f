"""Dense layers of a step on a GPU: products, and what stands around them, in as few launches as the device allows."""

from dataclasses import dataclass, field
from typing import Any

from mlpx.typing import Array
from mlpx_kernels import Unsupported
from mlpx_kernels.activations import CODES, SAVES_INPUT
from mlpx_kernels.cuda import dense as dense_kernels
from mlpx_kernels.cuda.gemm import autotune, cublaslt
from mlpx_kernels.cuda.runtime import cast as cast_kernels

TAKEN_ALONG = ("relu", "gelu_tanh")
"""Activations that a product of cuBLASLt takes along, and whose gradient the backward product above does."""


@dataclass
class Place:
    """A dense layer's arrays for one number of rows, and its launches as far as they are settled.

    Attributes
    ----------
    x, y : array (n, n_in), (n, n_out)
    z : array (n, n_out)
        What the activation's gradient needs: the pre-activation, or the output ``y`` itself.
    d, dx : array (n, n_out), (n, n_in)
        Gradients for output and input; ``dx`` is None where nobody wants it. ``d`` becomes the one for z.
    w, b, dw, db : array
        Views into the flat buffers; b and db are None without a bias.
    kind : str
        The activation.
    w_factor, d_factor : array
        What products take for w and d: the arrays themselves, or bfloat16 copies.
    forward, own_grad, weight_grad, input_grad : list of launches
        Output; the gradients through the activation and of the bias; of the weights; for the input.
    """

    x: Array
    y: Array
    z: Array
    d: Array
    dx: Array | None
    w: Array
    b: Array | None
    dw: Array
    db: Array | None
    kind: str
    w_factor: Array = None
    d_factor: Array = None
    forward: list[Any] = field(default_factory=list)
    own_grad: list[Any] = field(default_factory=list)
    weight_grad: list[Any] = field(default_factory=list)
    input_grad: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.w_factor, self.d_factor = self.w, self.d

    def backward(self) -> list[Any]:
        """Return the launches of the backward pass through this layer, in order."""
        return [*self.own_grad, *self.weight_grad, *self.input_grad]

    @property
    def size(self) -> str:
        """Rows, inputs, outputs, dtype and activation, for the memory of what was faster."""
        return f"{self.x.shape[0]}x{self.x.shape[1]}x{self.y.shape[1]} {self.y.dtype} {self.kind}"


def settle(place: Place, above: Place | None, products: Any, xp: Any, *, bias_later: bool) -> None:
    """Fill in a layer's launches, taking epilogues where they are faster on this device.

    Parameters
    ----------
    above : Place, optional
        The layer above if it is dense; settled already, since its product may take our gradient along.
    products : mlpx_kernels.cuda.gemm.products.Products
    bias_later : bool
        Whether whoever reads ``y`` adds the bias, as the loss does.
    """
    _plain(place, products, bias_later=bias_later)
    if products.name != "cuBLASLt" or place.b is None or place.w_factor is not place.w:
        return
    if place.kind in TAKEN_ALONG and above is not None and _both_ways(place, above, products, xp):
        return
    if place.kind == "relu" or (place.kind == "identity" and not bias_later):
        fused = _prepared(lambda: products.forward(place.x, place.w, place.y, bias=place.b, kind=place.kind))
        if fused and _faster("forward", place, place.forward, fused):
            place.forward = fused
    if place.kind == "identity":
        fused = _prepared(lambda: products.weight_grad(place.d, place.x, place.dw, bias_grad=place.db))
        if fused and _faster("weight gradient", place, place.own_grad + place.weight_grad, fused):
            place.own_grad, place.weight_grad = [], fused


def _plain(place: Place, products: Any, *, bias_later: bool) -> None:
    """Products, with one kernel behind the forward one and one before the backward ones."""
    separate = CODES[place.kind] in SAVES_INPUT
    place.forward = [products.forward(place.x, place.w_factor, place.z)]
    if place.kind != "identity" or (place.b is not None and not bias_later):
        saved = place.z if separate else None
        place.forward.append(dense_kernels.bias_activate(place.z, place.b, place.y, saved, place.kind))
    if place.kind != "identity" or place.db is not None:
        place.own_grad = [dense_kernels.activation_grad_bias_grad(place.d, place.z, place.d, place.db, place.kind)]
    if place.d_factor.dtype != place.d.dtype:
        place.own_grad.append(cast_kernels.cast(place.d, place.d_factor))
    place.weight_grad = [products.weight_grad(place.d_factor, place.x, place.dw)]
    if place.dx is not None:
        place.input_grad = [products.input_grad(place.d_factor, place.w_factor, place.dx)]


def _both_ways(place: Place, above: Place, products: Any, xp: Any) -> bool:
    """Let our product take the activation along, and the one above its gradient; return whether they do now."""
    aux = xp.empty(cublaslt.aux_layout(place.kind, *place.y.shape)[1], "uint8")
    ours = _prepared(lambda: products.forward(place.x, place.w, place.y, bias=place.b, kind=place.kind, aux=aux))
    options = {"kind": place.kind, "aux": aux, "bias_grad": place.db}
    theirs = _prepared(lambda: products.input_grad(above.d, above.w, above.dx, **options))
    plain = [*place.forward, *above.input_grad, *place.own_grad]
    if not (ours and theirs and _faster("both ways", place, plain, ours + theirs)):
        return False
    place.forward, above.input_grad, place.own_grad = ours, theirs, []
    return True


def _prepared(make: Any) -> list[Any]:
    """Return a launch in a list, or an empty one where cuBLASLt has no way."""
    try:
        return [make()]
    except Unsupported:
        return []


def _faster(what: str, place: Place, plain: list[Any], fused: list[Any]) -> bool:
    ways = {"plain": plain, "epilogue": fused}
    return bool(autotune.faster(f"dense {what} {place.size}", ways) == "epilogue")
