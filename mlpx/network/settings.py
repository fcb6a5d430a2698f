"""What may be set of a network, and to what."""

from typing import Any

from mlpx.errors import check_name

PRECISIONS = ("float32", "tf32", "bf16")
FIXED = {
    "dtype": "net.astype('float64') returns a copy in another dtype.",
    "backend": "net.to('cupy') returns a copy on another backend.",
    "layers": "Make a new network of other layers: mlpx.Sequential(*layers).",
    "n_in": "Make a new network, whose first layer takes so many features.",
    "n_out": "Make a new network, whose last layer has so many outputs.",
    "buffers": "Write into net.parameters, or into layer.value('w').",
}
"""Attributes that cannot be set, each with what to do instead."""


def check_precision(precision: str, dtype: str) -> None:
    """Raise ValueError for a precision that is unknown, or that rounds what is not float32."""
    check_name("precision", precision, PRECISIONS)
    if precision != "float32" and dtype != "float32":
        raise ValueError(f"precision: {precision!r} is for networks of dtype float32; this one is {dtype}.")


class Guarded:
    """Refuses to set what buffers and compiled code were made for, once it is there."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute.

        Raises
        ------
        AttributeError
            If it is `FIXED`; the message says what to do instead.
        """
        if name in FIXED and hasattr(self, name):
            raise AttributeError(f"{name}: cannot be set, since weights and buffers were made for it. {FIXED[name]}")
        super().__setattr__(name, value)
