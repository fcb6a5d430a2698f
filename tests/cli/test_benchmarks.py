"""The benchmarks run, with peers and without, and what they say is right; their times are nobody's business here."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mlpx.cli import bench

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed (extra test)")
from benchmarks import op_peers, report, targets
from benchmarks.measure import Effort, interleave, once, same, summary
from benchmarks.op_cases import OpCase
from benchmarks.peers import Absent, Calls, load

ROOT = Path(__file__).parents[2]
PEERS = ("torch", "jax", "onnxruntime")


@pytest.fixture(scope="module", autouse=True)
def no_worker() -> Iterator[None]:
    """Hide from a benchmark's pytest that this one may share its tests with others: it would time nothing then."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, no_worker: None) -> Path:
    """Return the file of one quick run of everything, without peers."""
    file = tmp_path_factory.mktemp("bench") / "result.json"
    run_quick(str(ROOT / "benchmarks"), f"--benchmark-json={file}", MLPX_BENCH_NO_PEERS="1")
    return file


def run_quick(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env=os.environ | {"MLPX_BENCH": "quick"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


def test_everything_runs_without_peers_and_says_why_they_are_missing(result: Path) -> None:
    cases, environment = report.read(result)
    assert set(report.by_suite(cases)) == set(bench.SUITES)
    assert environment["mode"] == "quick"
    assert {"machine", "cores", "versions", "threads", "blas", "device", "commit"} <= set(environment)
    assert not any(peer in case["times"] for case in cases for peer in PEERS)
    reasons = {name: reason for case in cases for name, reason in case["skipped"].items()}
    assert "peers are left out (MLPX_BENCH_NO_PEERS)" in reasons["torch"]


def test_every_suite_has_a_file_and_every_file_a_suite() -> None:
    files = {file.stem.removeprefix("test_") for file in (ROOT / "benchmarks").glob("test_*.py")}
    assert files == {*bench.SUITES, "gpu"} == set(report.SUITES)  # the last one is run by mlpx bench --gpu


def test_every_op_is_measured() -> None:
    from benchmarks.op_cases import everything
    from mlpx import ops

    assert {case.op for case in everything()} == set(ops.ALL)


def test_every_target_is_about_a_case_that_exists(result: Path) -> None:
    cases, _ = report.read(result)
    lost = [target for target in targets.TARGETS if not any(target.covers(case) for case in cases)]
    assert lost == []


@pytest.mark.skipif(
    not all(importlib.util.find_spec(peer) for peer in PEERS), reason="peers are not installed (extra bench)"
)
def test_peers_agree() -> None:
    """One suite with every kind of peer; the checks before the clock compare their results."""
    said = run_quick(str(ROOT / "benchmarks" / "test_latency.py"))
    assert "left out" not in said


def test_the_plain_test_command_leaves_benchmarks_alone() -> None:
    said = run_quick("--collect-only")
    assert "tests/cli/test_cli.py" in said
    assert "benchmarks/test_" not in said


# --- measuring ----------------------------------------------------------------------------------------------------


def test_interleaving_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPX_BENCH", "quick")
    order: list[str] = []
    samples = interleave({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3)
    assert {name: len(times) for name, times in samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(order[6:]) == "abcbcacab"  # after two calls of each that are not counted


@pytest.mark.parametrize(("seconds", "touched"), [(2e-3, [4096] * 4), (1e-5, [0] * 4)])
def test_free_memory_is_touched_before_each_sample_of_long_calls(monkeypatch, seconds, touched) -> None:
    sizes: list[int] = []

    def empty(size: int, dtype: type) -> np.ndarray:
        sizes.append(size)
        return np.zeros(size, dtype)

    monkeypatch.setattr("benchmarks.measure.effort", lambda: Effort(2, 0.0, 0.0, 0.0, 4096))
    monkeypatch.setattr("benchmarks.measure.timed", lambda call, times: seconds)
    monkeypatch.setattr("benchmarks.measure.np.empty", empty)
    interleave({"a": lambda: None, "b": lambda: None}, rounds=2)
    assert sizes == touched


def test_calls_that_are_not_long_are_all_warmed_up(monkeypatch) -> None:
    """Whether one of them or several make a sample, or it is a little more."""
    made: list[str] = []
    calls = {name: lambda name=name: made.append(name) for name in ("several", "one", "more", "long")}
    lengths = dict(zip(calls.values(), (1e-3, 9e-3, 2e-2, 0.2), strict=True))
    monkeypatch.setattr("benchmarks.measure.effort", lambda: Effort(2, 0.0, 1e-2, 0.0, 0))
    monkeypatch.setattr("benchmarks.measure.timed", lambda call, times: lengths[call])
    interleave(calls, rounds=2)
    assert {name: made.count(name) for name in calls} == {"several": 3, "one": 3, "more": 3, "long": 1}


def test_a_bound_is_a_new_array_where_the_result_is_one() -> None:
    x = np.ones((4, 8), np.float32)
    name, copy = op_peers.bound(OpCase("", "softmax", (x,)))
    assert name == "copy"
    assert copy().nbytes == x.nbytes
    assert copy() is not copy()
    w, g = np.ones(8, np.float32), np.ones(8, np.float32)
    assert op_peers.bound(OpCase("", "sgd_inplace", (w, g)))[1]() is None


def test_a_first_call_that_compiles_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([10.0, 1e-4])
    now = 0.0

    def call() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: now)
    assert once(call) == pytest.approx(1e-4)


def test_summary_is_in_microseconds_per_unit() -> None:
    assert summary([0.002, 0.004, 0.006], per=2.0) == pytest.approx({"median": 2000.0, "p20": 1400.0, "p80": 2600.0})


@pytest.mark.parametrize("wrong", [[1.0, 2.1], [1.0, float("nan")], [1.0]])
def test_a_wrong_result_stops_a_benchmark(wrong: list[float]) -> None:
    same("peer", [1.0, 2.00001], [1.0, 2.0])
    with pytest.raises(AssertionError, match="peer"):
        same("peer", wrong, [1.0, 2.0])


def test_a_peer_that_is_absent_is_kept_as_a_reason() -> None:
    calls = Calls()
    calls.add("nobody", lambda: load("a_module_that_is_not_there"))
    assert list(calls) == []
    assert "pip install 'mlpx[bench]'" in calls.skipped["nobody"]
    with pytest.raises(Absent):
        load("a_module_that_is_not_there")


# --- the report ---------------------------------------------------------------------------------------------------

CASE = {
    "suite": "training",
    "case": "step 4-16-3",
    "times": {
        name: {"median": time, "p20": time, "p80": time} for name, time in (("mlpx", 2.0), ("torch", 9.0), ("jax", 7.0))
    },
    "ratios": {"torch": 4.5, "jax": 3.5},
    "values": {},
    "skipped": {"sklearn": "not here"},
}
ENVIRONMENT = {
    "mode": "full", "machine": "some", "cores": 2, "system": "any", "python": "3", "versions": {"numpy": "2"},
    "blas": [], "device": "CPU", "commit": "abc",
}  # fmt: skip


def test_targets_are_judged_by_the_best_peer() -> None:
    rows = report.judged([CASE], full=True)
    assert [row[-2:] for row in rows] == [["3.5", "reached"], ["-", "not measured"]]
    slower = CASE | {"times": CASE["times"] | {"mlpx": {"median": 3.0}}}
    assert report.judged([slower], full=True)[0][-2:] == ["2.33", "MISSED"]
    assert report.judged([slower], full=False)[0][-1] == "quick run"


def test_a_limit_is_judged_by_its_value() -> None:
    info = {"suite": "memory", "case": "mapped x", "times": {"mlpx": {"median": 1.0}}, "values": {"peak MB": 650.0}}
    limit = next(target for target in targets.of(info) if target.value)
    assert limit.reached(info) == (650.0, "peak MB <= 600", False)


def test_report_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, png = tmp_path / "r.json", tmp_path / "r.png"
    file.write_text(json.dumps({"benchmarks": [{"extra_info": CASE}], "machine_info": {"mlpx": ENVIRONMENT}}))
    assert report.main([str(file), "--markdown", "--png", str(png)]) == 0
    said = capsys.readouterr().out
    assert "| step 4-16-3 | 2 | 9 | 7 | 3.50 (jax) |" in said
    assert png.read_bytes().startswith(b"\x89PNG")
    assert report.main([str(file)]) == 0
    said = capsys.readouterr().out
    assert "targets reached: 1 of 1" in said
    assert "left out: sklearn: not here" in said


@pytest.mark.parametrize("content", ["", "{}", '{"benchmarks": [], "machine_info": {}}'])
def test_another_file_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    assert report.main([str(file)]) == 2
    assert "pytest benchmarks --benchmark-json" in capsys.readouterr().err


# --- the command --------------------------------------------------------------------------------------------------


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(arguments)


def test_without_a_source_tree_it_says_what_to_do(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(bench.mlpx, "__file__", str(tmp_path / "site-packages" / "mlpx" / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    assert bench.run(options()) == 2
    assert "pip install -e '.[bench]'" in capsys.readouterr().err


def test_without_pytest_benchmark_it_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench, "find_spec", lambda name: None if name == "pytest_benchmark" else object())
    assert bench.run(options()) == 2
    assert "pytest_benchmark missing. Run: pip install 'mlpx[bench]'" in capsys.readouterr().err


def test_the_command_measures_one_suite_and_draws(tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.setenv("MLPX_BENCH_NO_PEERS", "1")
    file = tmp_path / "found.json"
    assert bench.run(options("--quick", "--suite", "latency", "--output", str(file))) == 0
    assert "one row 64-128-10" in capfd.readouterr().out
    assert file.with_suffix(".png").exists()
