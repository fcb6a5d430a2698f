"""Every op has a sample call that its check and its reference accept."""

import numpy as np
import pytest

from mlpx import ops
from mlpx.cli import samples


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ops.ALL)
def test_every_op_has_a_sample(name: str, dtype: str) -> None:
    args, params = samples.call(name, 7, 5, dtype)
    again, _ = samples.call(name, 7, 5, dtype)
    assert all(np.array_equal(a, b) for a, b in zip(args, again, strict=True))
    assert {str(a.dtype) for a in args if a.dtype.kind == "f"} == {dtype}
    result = ops.ALL[name](*args, **params)
    for part in args[:1] if result is None else result if isinstance(result, tuple) else (result,):
        assert part is None or np.isfinite(part).all()


def test_an_op_without_a_sample_is_named() -> None:
    with pytest.raises(KeyError, match="no sample for the op 'swish'"):
        samples.call("swish", 1, 1)
