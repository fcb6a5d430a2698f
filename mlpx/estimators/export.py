"""An estimator as one Python file that needs NumPy alone: text that a reader can check, its arrays as base64 below."""

import base64
import io
import os
from keyword import iskeyword
from pathlib import Path

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from mlpx._version import __version__
from mlpx.backend import to_numpy
from mlpx.estimators.prediction import Predicting
from mlpx.files.atomic_write import file_path, write
from mlpx.layers import Activation, BatchNorm, Dense, Layer, LayerNorm, MaskedSoftmax, Softmax
from mlpx.losses import Hinge
from mlpx.typing import Array

FORMULAS = {
    "identity": "z",
    "relu": "np.maximum(z, 0.0)",
    "leaky_relu": "np.where(z > 0, z, 0.01 * z)",
    "elu": "np.where(z > 0, z, np.expm1(np.minimum(z, 0.0)))",
    "selu": "1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0.0)))",
    "gelu": "0.5 * z * (1.0 + np.vectorize(math.erf, otypes=[z.dtype])(z * math.sqrt(0.5)))",
    "gelu_tanh": "z * sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3))",
    "silu": "z * sigmoid(z)",
    "mish": "z * np.tanh(np.logaddexp(z, 0.0))",
    "softplus": "np.logaddexp(z, 0.0)",
    "sigmoid": "np.exp(np.minimum(z, 0.0)) / (1.0 + np.exp(-np.abs(z)))",
    "tanh": "np.tanh(z)",
    "softsign": "z / (1.0 + np.abs(z))",
    "hard_sigmoid": "np.clip(z / 6.0 + 0.5, 0.0, 1.0)",
    "exp": "np.exp(z)",
}
"""Every activation as an expression of NumPy."""

SOFTMAX = '''
def softmax(z, mask=None):
    """Return probabilities of each row; exactly 0 where the mask is False."""
    z = z if mask is None else np.where(mask, z, -np.inf)
    top = z.max(axis=1, keepdims=True)
    e = np.exp(z - np.where(np.isfinite(top), top, 0.0))
    total = e.sum(axis=1, keepdims=True)
    return e / np.where(total > 0, total, 1.0)
'''
NORM = '''
def norm(z, mean, var, gamma, beta, eps):
    """Return each unit less its mean, by its standard deviation, with a gain and a shift."""
    return (z - mean) / np.sqrt(var + eps) * gamma + beta
'''
LITERAL = (
    '''

# The arrays: an .npz file.
NPZ = """
''',
    '''"""
with np.load(io.BytesIO(base64.b64decode(NPZ)), allow_pickle=False) as file:
    A = dict(file)
''',
)
"""What stands before and behind the arrays' text."""


class Exporting(Predicting):
    """The part of an estimator that writes it down."""

    def export_numpy(self, path: str | os.PathLike[str]) -> None:
        """Write a Python module that predicts with NumPy alone; it appears whole or not at all.

        Parameters
        ----------
        path : path
            Of the module, such as ``"model.py"``. It has ``predict(x)`` and, for a classifier, ``predict_proba(x)`` or
            ``decision_function(x)``, with a ``mask`` for several classes; ``x`` is an array (n, n_features). Results
            equal the estimator's within rounding. The arrays stand at the module's end in base64: four bytes for three.

        Raises
        ------
        TypeError, ValueError
            If the name is none that Python can import, or the classes are no plain numbers or strings.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        module = Path(file_path("path", path))
        if module.suffix != ".py" or not module.stem.isidentifier() or iskeyword(module.stem):
            raise ValueError(f"path: expected the name of a module, such as 'model.py', got {module.name!r}.")
        source, arrays = self._pinned()._written()
        npz = io.BytesIO()
        np.savez(npz, **arrays)
        text = base64.encodebytes(npz.getbuffer())
        write("path", module, [source.encode(), LITERAL[0].encode(), text, LITERAL[1].encode()])

    def _written(self) -> tuple[str, dict[str, Array]]:
        """Return the module's text and its arrays."""
        net = self._network()
        arrays: dict[str, Array] = {}
        lines, used = [], set()
        for number, layer in enumerate(net.layers):
            line, names = _line(layer, number, arrays)
            lines += [f"    z = {line}"] if line else []
            used |= names
        if used & {"silu", "gelu_tanh"}:
            used.add("sigmoid")
        functions = [f"\ndef {name}(z):\n    return {FORMULAS[name]}\n" for name in FORMULAS if name in used]
        functions += [SOFTMAX] if "softmax" in used else []
        functions += [NORM] if "norm" in used else []
        masked = ", mask=None" if "softmax" in used else ""
        kind, n = type(self).__name__, self.n_features_in_
        head = (
            f'"""An {kind} of {n} features, written by mlpx {__version__}; it needs NumPy alone."""\n\n'
            "import base64\nimport io\n"
            + ("import math\n" if used & {"gelu", "gelu_tanh"} else "")
            + "\nimport numpy as np\n"
        )
        binary = is_classifier(self) and self._binary()
        below = lines[:-1] if binary else lines
        body = (
            f"\ndef {'logits' if binary else 'output'}(x{masked}):\n"
            f'    """Return the network\'s output (n, {self.n_outputs_}) for rows x (n, {self.n_features_in_})."""\n'
            f"    z = np.asarray(x, {net.dtype!r})\n" + "\n".join(below) + "\n    return z\n"
        )
        return "\n".join([head, *functions, body, self._ending(masked, arrays)]), arrays

    def _ending(self, masked: str, arrays: dict[str, Array]) -> str:
        """Return the text of what turns outputs into predictions."""
        if not is_classifier(self):
            tail = "[:, 0]" if self.n_outputs_ == 1 else ""
            return f'\ndef predict(x):\n    """Return the prediction of each row."""\n    return output(x){tail}\n'
        classes = np.asarray(self.classes_.tolist() if self.classes_.dtype == object else self.classes_)
        if classes.dtype == object:
            raise ValueError(f"classes_: expected numbers or strings of one kind, got {self.classes_!r}.")
        arrays["classes"] = classes
        pass_on = ", mask" if masked else ""
        hinge = isinstance(self._trained_loss(), Hinge)
        what, function = ("margin", "decision_function") if hinge else ("probability", "predict_proba")
        value = "output(x" + pass_on + ")"
        two = self.n_outputs_ == 1
        if two and not hinge:
            value = "logits(x)"
        lines = [f"\ndef {function}(x{masked}):", f'    """Return the {what} of each class, or label."""']
        if two and hinge:
            lines += [f"    return {value}[:, 0]"]
        elif two:
            both = "np.concatenate([-z, z], axis=1)" if classes.size > 1 else "np.full_like(z, np.inf)"
            lines += [f"    z = {value}", f"    return sigmoid({both})"]
        else:
            lines += [f"    return {value}"]
        threshold = "0.0" if hinge else "0.5"
        if self._label_binarizer.y_type_.startswith("multilabel"):
            chosen = f"({value} > {threshold}).astype(int)"
        elif two:
            chosen = f'A["classes"].take({value}[:, 0] > 0.0, mode="clip")'
        else:
            chosen = f'A["classes"][{value}.argmax(axis=1)]'
        lines += ["", "", f"def predict(x{masked}):", '    """Return the class of each row, or its labels."""']
        return "\n".join([*lines, f"    return {chosen}", ""])


def _line(layer: Layer, number: int, arrays: dict[str, Array]) -> tuple[str, set[str]]:
    """Return a layer as an expression of z, and the functions it needs; its arrays are added to ``arrays``."""
    if isinstance(layer, Dense):
        arrays[f"w{number}"], arrays[f"b{number}"] = to_numpy(layer.value("w")).T, to_numpy(layer.value("b"))
        z, kind = f'z @ A["w{number}"] + A["b{number}"]', layer.activation
        return (z, set()) if kind == "identity" else (f"{kind}({z})", {kind})
    if isinstance(layer, BatchNorm | LayerNorm):
        given = layer.parameters | layer.statistics
        arrays |= {f"{name}{number}": to_numpy(p.value) for name, p in given.items()}
        mean, var = "z.mean(axis=1, keepdims=True)", "z.var(axis=1, keepdims=True)"
        if isinstance(layer, BatchNorm):
            mean, var = f'A["mean{number}"]', f'A["var{number}"]'
        return f'norm(z, {mean}, {var}, A["gamma{number}"], A["beta{number}"], {layer.eps})', {"norm"}
    if isinstance(layer, Softmax | MaskedSoftmax):
        return "softmax(z, mask)", {"softmax"}
    if isinstance(layer, Activation):
        return f"{layer.kind}(z)", {layer.kind}
    return "", set()  # dropout, which predictions leave out
