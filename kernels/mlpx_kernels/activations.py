"""How the kernels of every backend number the activations, and which of them save their input."""

NAMES = (
    "identity",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "softplus",
    "sigmoid",
    "tanh",
    "softsign",
    "hard_sigmoid",
    "exp",
)
"""In the order of their codes; the same as in mlpx.ops.activation, which a test holds."""
CODES = {name: code for code, name in enumerate(NAMES)}
SAVES_INPUT = frozenset(CODES[name] for name in ("gelu", "gelu_tanh", "silu", "mish"))
"""Those whose gradient needs the pre-activation; for the others the output is enough."""
