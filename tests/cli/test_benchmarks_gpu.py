"""The GPU benchmarks, small and on the stand-in: what they call works, and the table has a row for every case."""

from typing import Any

import pytest

from benchmarks import gpu_peers, gpu_report, roofline, test_gpu
from benchmarks.gpu_cases import GpuCase, cases
from benchmarks.nets import Net
from mlpx.backend import resolve
from mlpx.cli import samples

OPS = ["softmax", "softmax_cross_entropy", "layer_norm", "dropout", "dense", "adam_inplace"]
NET = Net((6, 8, 3), 4, 3)


@pytest.fixture(autouse=True)
def _few(cupy_standin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_peers, "CALLS", 2)
    monkeypatch.setenv("MLPX_BENCH", "quick")
    monkeypatch.setenv("MLPX_BENCH_NO_PEERS", "1")


@pytest.mark.parametrize("op", OPS)
def test_ops(op: str) -> None:
    case = GpuCase(op, "op", [], lambda: (op, *samples.call(op, 6, 5)))
    calls = test_gpu._op(case, resolve("cupy"))
    assert set(calls) == {"mlpx", "cupy"}
    assert "torch" in calls.skipped
    for call in calls.values():
        call()


def test_predictions_and_steps() -> None:
    forward = test_gpu._forward(GpuCase("", "forward", [], lambda: (NET, 5)), resolve("cupy"))
    step, per = test_gpu._step(GpuCase("", "step", [], lambda: NET), resolve("cupy"))
    assert set(forward) == set(step) == set(per) == {"mlpx", "cupy"}
    for call in (*forward.values(), *step.values()):
        call()


def test_bounds_are_bytes_over_bandwidth_or_operations_over_rate() -> None:
    one = roofline.Device("one", 1e6, {"float32": 1e6})
    assert roofline.microseconds([roofline.Stage(10, 3), roofline.Stage(2, 50)], one) == 60.0
    named = {case.name: roofline.microseconds(case.stages, roofline.H100) for case in cases()}
    assert named["softmax 4096x1000"] == pytest.approx(9.78, abs=0.01)  # 32.8 MB at 3.35 TB/s
    assert named["adam 1,048,576 parameters"] == pytest.approx(8.76, abs=0.01)  # 28 bytes each
    assert all(bound > 0 for bound in named.values())


def test_the_table_has_measured_times_beside_the_bounds() -> None:
    case = next(cases())
    times = {"mlpx": {"median": 12.0}, "torch": {"median": 18.0}, "torch.compile": {"median": 15.0}}
    measured = {"benchmarks": {"benchmarks": [{"extra_info": {"case": case.name, "times": times}}]}}
    rows = gpu_report.rows(measured)
    assert len(rows) == len(list(cases()))
    assert rows[0] == [case.name, "9.78", "9.78", "12", "", "18", "15", "1.25"]
    assert rows[1][3:] == ["", "", "", "", ""]
