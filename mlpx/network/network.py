"""A network: layers in a row, one flat buffer of parameters and one of gradients, a loss at the end."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from mlpx.backend import FLOATS, Backend, current_backend
from mlpx.errors import check_count, check_flag, check_name, shown
from mlpx.layers import INFERENCE, Backprop, Buffers, Context, Layer, bind, owners
from mlpx.layers.passes import sizes, through
from mlpx.losses import Loss, default_for, find
from mlpx.network.batch import BLOCK, GPU_BLOCK, Batch, blocks, lone
from mlpx.network.host_rows import HostRows
from mlpx.network.identity import Identity
from mlpx.network.inputs import Inputs
from mlpx.network.settings import Guarded, check_precision
from mlpx.network.summary import summary
from mlpx.ops.dispatch import fused_mode
from mlpx.plan.predictors import predictor_for
from mlpx.typing import Array, ArrayLike

if TYPE_CHECKING:
    from mlpx.plan.cpu_predictor import Predictor
    from mlpx.plan.gpu_predictor import GpuPredictor

BOUND = {"backend", "n_in", "n_out", "_inputs", "buffers", "plan_declined", "_precision", "_predictors"}
"""Attributes that no copy takes over; see `Network._bind`."""


class Network(Guarded):
    """Layers in a row that share one flat parameter buffer and one flat gradient buffer.

    Attributes
    ----------
    layers : tuple of Layer
    loss : Loss
    dtype : str
        "float32" or "float64"; inputs are converted to it.
    backend : Backend
        Where the weights live; inputs must be there too (plain sequences are moved).
    n_in, n_out : int or None
        Last axis of input and output; None where no layer fixes it.
    identity : Identity
        What an optimiser's state knows these weights by.
    parameters, gradient : array (k,)
        The flat buffers. Layers hold views into them; each parameter starts on 64 bytes and the gaps stay 0.
    """

    def __init__(
        self,
        *layers: Layer,
        loss: str | Loss | Callable[..., Any] | None = None,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        self._set_up(layers, loss, dtype, check_count("seed", seed, 0), draw=True)

    @classmethod
    def undrawn(cls, layers: Sequence[Layer], loss: Loss, *, dtype: str, seed: int) -> Self:
        """Return a network whose weights are all 0, for those who write them next: a draw may take long."""
        net = cls.__new__(cls)
        net._set_up(tuple(layers), loss, dtype, seed, draw=False)
        return net

    def _set_up(
        self,
        layers: tuple[Layer, ...],
        loss: str | Loss | Callable[..., Any] | None,
        dtype: str,
        seed: int,
        *,
        draw: bool,
    ) -> None:
        """Check what a network is made of and make it, with initial weights where ``draw`` says so."""
        if not layers or not all(isinstance(layer, Layer) for layer in layers):
            hint = (
                " Pass them one by one: Sequential(*layers)." if layers and isinstance(layers[0], list | tuple) else ""
            )
            raise TypeError(f"layers: expected one or more layers, got {shown(layers)}.{hint}")
        everything = [inner for layer in layers for inner in layer.walk()]
        if len({id(layer) for layer in everything}) != len(everything):
            raise ValueError("layers: the same layer object stands in two places; make one for each.")
        owned = [f"{place} {type(layer).__name__}" for place, layer in enumerate(everything) if id(layer) in owners]
        if owned:
            raise ValueError(
                f"layers: number {owned[0]} belongs to another network, whose weights would move here. Make new "
                "layers, or copy the network."
            )
        dtype = check_name("dtype", dtype, FLOATS)
        self.layers = layers
        self.dtype = dtype
        self.seed = seed
        self.identity = Identity()
        self._loss = default_for(layers[-1]) if loss is None else find(loss)
        self._bind(seed if draw else None)

    def _bind(self, seed: int | None) -> None:
        """Make what depends on the backend in force, and what no copy holds, and give the layers their weights."""
        self.backend: Backend = current_backend()
        self.n_in, self.n_out = sizes(self.layers)
        self._inputs = Inputs(self.layers, self.n_in, self.n_out, self.dtype, self.backend)
        self.buffers = bind(self.layers, seed=seed, dtype=self.dtype, backend=self.backend)
        self.plan_declined = ""
        self._precision = "float32"
        self._predictors: dict[int, Predictor | GpuPredictor | None] = {}  # by the number of layers they go through
        owners.update((id(layer), self) for layer in self.all_layers())

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles hold: attributes, and the layers with their weights, on the host."""
        return {name: value for name, value in vars(self).items() if name not in BOUND}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become the network of a state, on the backend in force, with buffers of its own."""
        vars(self).update(state)
        layers = self.all_layers()
        held = [(p, p.value) for layer in layers for p in (layer.parameters | layer.statistics).values()]
        self._bind(None)
        for p, value in held:
            p.value[...] = self.backend.asarray(value, self.dtype)

    @property
    def loss(self) -> Loss:
        """The loss; set it by name, object or function."""
        return self._loss

    @loss.setter
    def loss(self, loss: str | Loss | Callable[..., Any]) -> None:
        """Set the loss."""
        self._loss = find(loss)

    @property
    def precision(self) -> str:
        """What a GPU's tensor cores may round to, for dtype float32: "float32" (nothing), "tf32" or "bf16".

        For predictions of small networks, and for `fit` unless it is told otherwise. A CPU rounds nothing. It is a
        setting, not a part of the model: files and copies do not hold it.
        """
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        """Set the precision."""
        check_precision(precision, self.dtype)
        self._precision = precision
        self.forget_predictors()

    @property
    def parameters(self) -> Array:
        """The flat parameter buffer (k,)."""
        return self.buffers.parameters

    @property
    def gradient(self) -> Array:
        """The flat gradient buffer (k,); the next call overwrites it."""
        return self.buffers.gradient

    @property
    def n_parameters(self) -> int:
        """The number of trained parameters, without the gaps of the buffer."""
        return sum(p.size for layer in self.all_layers() for p in layer.parameters.values())

    def all_layers(self) -> list[Layer]:
        """Return every layer, those inside others included, in order."""
        return [inner for layer in self.layers for inner in layer.walk()]

    def named_parameters(self) -> dict[str, Array]:
        """Return views of all parameters and running statistics by name, such as ``"0.w"``."""
        return {
            f"{number}.{name}": p.value
            for number, layer in enumerate(self.all_layers())
            for name, p in (layer.parameters | layer.statistics).items()
        }

    def predictor(self, *, to_the_loss: bool = False) -> "Predictor | GpuPredictor | None":
        """Return the compiled prediction, or only what the loss is computed from; None where it is not allowed."""
        if fused_mode() == "off":
            return None
        layers = self.body() if to_the_loss else self.layers
        try:  # one look is a twentieth of a microsecond less for a single row
            return self._predictors[len(layers)]
        except KeyError:
            made = predictor_for(layers, self.n_in, self.buffers, self.dtype, self._precision)
            return self._predictors.setdefault(len(layers), made)

    def over(self, parameters: Array, statistics: Array) -> Self:
        """Return a network of the same layers and loss over flat buffers of its own, whose numbers are its weights.

        It takes a fraction of the time of making one: the layers and what predictions need are copied as they are.
        """
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        gradient = self.backend.zeros(tuple(parameters.shape), self.dtype)
        buffers = Buffers(parameters, gradient, statistics, self.buffers.groups)
        made.__dict__.update(buffers=buffers, layers=tuple(layer.over(buffers) for layer in self.layers))
        made._inputs = replace(self._inputs, layers=made.layers)
        ready = list(self._predictors.items())
        made._predictors = {n: None if p is None else p.over(parameters, statistics) for n, p in ready}
        owners.update((id(layer), made) for layer in made.all_layers())
        return made

    def forget_predictors(self) -> None:
        """Compile the prediction anew at the next call: a setting has changed."""
        self._predictors.clear()

    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return the output for ``x`` and the function that takes its gradient back through every layer."""
        return through(self.layers, x, context)

    def predict(self, x: ArrayLike, mask: ArrayLike | None = None, *, valid: ArrayLike | None = None) -> Array:
        """Return the network's output.

        Parameters
        ----------
        x : array (n_in,) or (n, ..., n_in)
            One instance, or rows of them with any further axes. Rows are taken in blocks.
        mask : array (..., n_out), bool, optional
            For a masked softmax: True where a class is allowed.
        valid : array (n, steps), bool, optional
            For sequences: True for real steps. Padded steps give zeros.

        Returns
        -------
        y : array (..., n_out), the network's dtype
            An empty ``x`` gives an empty result.

        Raises
        ------
        ValueError, TypeError
            If a shape or dtype does not fit; the message names the argument.
        """
        compiled = self.predictor()
        if compiled is not None and mask is None and valid is None:
            y = compiled.plain(x)
            if y is not None:
                return y
        x = self._inputs.rows(x)
        single = x.ndim == 1
        x, mask = (x[None, :], lone(mask)) if single else (x, mask)
        given = self._inputs.masks(x.shape, mask, valid)
        if compiled is not None and valid is None and not isinstance(x, HostRows):
            y = compiled.of_any_shape(x, given[0] if compiled.masked else None)
            if y is not None:
                return y[0] if single else y
        xp = self.backend.xp
        parts = []
        for rows in blocks(x.shape[0], self._block):
            part_mask, part_valid = (None if m is None else m[rows, ...] for m in given)
            parts.append(through(self.layers, x[rows, ...], Context(mask=part_mask, valid=part_valid))[0])
        y = parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)
        if given[1] is not None:  # zeros, whatever the layers behind a TimeDistributed made of them
            y = xp.where(given[1][..., None], y, xp.zeros_like(y))
        if y is x or getattr(xp, "may_share_memory", lambda *_: False)(y, x):
            y = xp.asarray(y, copy=True)  # layers that pass x on; what is returned is the caller's own
        return y[0, ...] if single else y

    def loss_and_grad(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        valid: ArrayLike | None = None,
        training: bool = False,
        seed: int = 0,
        step: int = 0,
    ) -> tuple[float, Array]:
        """Return the loss over all rows and the flat gradient.

        Parameters
        ----------
        x : array (n, ..., n_in)
        y : array
            Targets as the loss takes them: class numbers (n, ...) or an array of the output's shape.
        sample_weight : array (n, ...), optional
            At least 0.
        mask : array (n, ..., n_out), bool, optional
        valid : array (n, steps), bool, optional
            True for real steps; padded ones count for nothing.
        training : bool
            True draws dropout masks from ``seed`` and ``step`` and uses batch statistics.
        seed, step : int
            Of 64 bits, at least 0.

        Returns
        -------
        loss : float
        gradient : array (k,)
            The network's own buffer, laid out like `parameters`; the next call overwrites it. Copy it to keep it.
        """
        batch = self.batch(x, y, sample_weight=sample_weight, mask=mask, valid=valid)
        given = check_flag("training", training), check_count("seed", seed, 0), check_count("step", step, 0, 2**64 - 1)
        context = Context(*given, batch.mask, batch.valid, need_dx=False)
        return float(self.step(batch, context)), self.gradient

    def step(self, batch: Batch, context: Context) -> Array:
        """Run forward and backward over a checked batch; return the loss () and leave the gradient in `gradient`."""
        z, backprop = through(self.body(), batch.real_x(), context)
        loss, dz = self._loss_of(z, batch)
        backprop(dz)
        return loss

    @property
    def _block(self) -> int:
        return GPU_BLOCK if self.backend.name == "cupy" else BLOCK

    def evaluate_batch(self, batch: Batch) -> tuple[float, Array]:
        """Return the loss of a checked batch, and what it was computed from (logits where the loss is fused)."""
        compiled = self.predictor(to_the_loss=True)
        if compiled is not None and batch.valid is None and not isinstance(batch.x, HostRows):
            z = compiled.of_any_shape(batch.x, batch.mask if compiled.masked else None)
            if z is not None:
                return float(self._loss_of(z, batch)[0]), z
        parts = []
        for rows in blocks(batch.x.shape[0], self._block):
            part = batch.take(rows)
            parts.append(through(self.body(), part.real_x(), Context(mask=part.mask, valid=part.valid))[0])
        z = parts[0] if len(parts) == 1 else self.backend.xp.concat(parts, axis=0)
        return float(self._loss_of(z, batch)[0]), z

    def body(self) -> tuple[Layer, ...]:
        """Return the layers below the loss: all, or all but an output layer that the loss is fused with."""
        return self.layers[:-1] if self.loss.fuses(self.layers[-1]) else self.layers

    def _loss_of(self, z: Array, batch: Batch) -> tuple[Array, Array]:
        return self.loss(z, batch.target, batch.sample_weight, self.loss_mask(batch))

    def loss_mask(self, batch: Batch) -> Array | None:
        """Return the mask that the loss takes over from a masked output layer it is fused with."""
        return batch.mask if self.loss.fuses(self.layers[-1]) and self.layers[-1].uses_mask else None

    def batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        valid: ArrayLike | None = None,
    ) -> Batch:
        """Return inputs and targets checked and converted, or raise with the argument's name."""
        return self._inputs.batch(self.loss, x, y, sample_weight, mask, valid)

    def summary(self) -> str:
        """Return a table as text: each layer, its output's shape, its trained parameters and its activation."""
        return summary(self)

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        return f"{type(self).__name__}({inside}, loss={self.loss!r}, dtype={self.dtype!r})"
