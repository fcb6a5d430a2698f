"""The self-check of a GPU: it passes on the stand-in, and it sees kernels that are wrong."""

import json
import time
from typing import Any

import numpy as np
import pytest

from mlpx import ops
from mlpx.backend import resolve
from mlpx.cli import bench_gpu, doctor, gpu_check


@pytest.fixture(autouse=True)
def _small(cupy_standin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "SHAPES", ((9, 12), (5, 7)))
    monkeypatch.setattr(gpu_check, "STEPS", 2)
    monkeypatch.setattr(gpu_check, "COPIED", 1 << 10)


def test_everything_passes_and_is_timed(tmp_path: Any, capsys: Any) -> None:
    assert doctor.main(tmp_path / "doctor.json") == 0
    found = json.loads((tmp_path / "doctor.json").read_text())["gpu"]
    names = {finding["name"] for finding in found}
    assert {name for name, op in ops.ALL.items() if "cupy" in op.kernels} <= names
    assert len(names) == len(found)
    assert all(finding["passed"] for finding in found)
    kernels = [finding for finding in found if finding["name"] in ops.ALL]
    assert all(finding["microseconds"] > 0.0 and finding["rate"] > 0.0 for finding in kernels)
    said = capsys.readouterr().out
    assert "pass  softmax_cross_entropy" in said
    assert "pass  2 steps against the CPU" in said


@pytest.mark.parametrize("fault", ["value", "dtype", "nan", "raise"])
def test_a_wrong_kernel_is_a_finding(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ops.activation_grad.kernel("cupy")

    def wrong(*args: Any, **params: Any) -> Any:
        if fault == "raise":
            raise RuntimeError("an illegal memory access was encountered")
        y = right(*args, **params)
        if fault == "value":
            y[-1, -1] += 0.01
        if fault == "nan":
            y[0, 0] = np.nan
        return y.astype("float64") if fault == "dtype" else y

    monkeypatch.setitem(ops.activation_grad._loaded, "cupy", wrong)
    finding = gpu_check._guarded(
        "activation_grad", lambda: gpu_check.kernel_finding(ops.activation_grad, resolve("cupy"), 1e9)
    )
    assert not finding.passed
    expected = {"value": "off by", "dtype": "float64", "nan": "NaN", "raise": "illegal memory access"}[fault]
    assert expected in finding.line()
    assert finding.line().startswith("FAIL  activation_grad")


def test_the_whole_gpu_run_writes_one_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from mlpx.cli.bench import find

    monkeypatch.setattr(bench_gpu, "gpu_problem", lambda: "no GPU in this test")  # its children have no stand-in
    folder = find()
    assert folder is not None
    assert bench_gpu.run(folder, tmp_path / "gpu.json", markdown=True) == 0
    assert json.loads((tmp_path / "gpu.json").read_text())["problem"] == "no GPU in this test"
    said = capfd.readouterr().out
    assert "Nothing was measured: no GPU in this test" in said
    assert "| softmax 4096x1000 | 9.78 | 9.78 |" in said


def test_what_takes_too_long_is_stopped_and_the_rest_goes_on(tmp_path: Any, capsys: Any) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    began = time.monotonic()
    done = bench_gpu._call(tmp_path, began + 1.0, "slow", told=True)
    assert time.monotonic() - began < 30
    assert done.returncode == 124
    assert done.stdout == "begun\n"
    assert "slow was stopped after 1 s" in capsys.readouterr().err
