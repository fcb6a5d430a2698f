"""How many threads the CPU kernels use: what is asked for, what the system allows, what threadpoolctl limits."""

import os
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

import mlpx
from mlpx import layers

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels.cpu.threading import parallel_rows, thread_count
from mlpx_kernels.cpu.threading.thread_count import cores, n_threads, quota, usable_cores, using_threads

VARIABLES = "MLPX_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"


@pytest.fixture(autouse=True)
def _machine(monkeypatch) -> None:
    """Have eight cores, no quota and no variables."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(thread_count, "cores", lambda: 8)
    monkeypatch.setattr(thread_count, "quota", lambda: None)
    monkeypatch.setattr(thread_count._Quota, "until", 0.0)


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mlpx_says", "omp", "numba", "threads"),
    [
        (None, None, None, 8),
        ("3", None, None, 3),
        ("", "", "", 8),
        ("8", "1", "1", 8),  # mlpx's own goes before the others
        (None, "4", None, 4),
        (None, None, "5", 5),
        (None, "6", "5", 5),
        (None, "4,2", None, 4),  # of nested regions, the outer one
        (None, " 4 ", None, 4),
        (None, "all", "0", 8),  # not ours to complain of
        (None, "64", None, 8),  # never more than there are cores
        ("64", None, None, 8),
        ("9" * 900, None, None, 8),
    ],
)
def test_the_first_that_says_anything_counts(monkeypatch, mlpx_says, omp, numba, threads) -> None:
    for name, value in zip(VARIABLES, (mlpx_says, omp, numba), strict=True):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert n_threads() == threads


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5", "²", "٣", " 2", "1_0", "9" * 5000])
def test_what_is_no_number_of_threads_is_refused(monkeypatch, value) -> None:
    monkeypatch.setenv("MLPX_NUM_THREADS", value)
    with pytest.raises(ValueError, match=r"MLPX_NUM_THREADS: expected a whole number of at least 1, got '") as error:
        n_threads()
    assert len(str(error.value)) < 200
    with threadpool_limits(2):  # what others ask is answered
        assert n_threads(2) == 2


def test_an_argument_goes_before_every_variable(monkeypatch) -> None:
    monkeypatch.setenv("MLPX_NUM_THREADS", "2")
    assert [n_threads(n) for n in (1, 5, 8, 9, 10**22)] == [1, 5, 8, 8, 8]


def test_inside_a_block_of_using_threads_that_number_counts() -> None:
    with using_threads(3):
        assert n_threads() == n_threads(7) == 3
        assert n_threads(2) == 2
        with using_threads(None):
            assert n_threads() == 3
        with using_threads(20):
            assert n_threads() == 20
    assert n_threads() == 8


def test_in_a_dask_task_the_workers_threads_count(monkeypatch) -> None:
    distributed = types.ModuleType("distributed")
    distributed.get_worker = lambda: types.SimpleNamespace(state=types.SimpleNamespace(nthreads=3))
    monkeypatch.setitem(sys.modules, "distributed", distributed)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which Dask sets for its workers
    assert n_threads() == 3
    monkeypatch.setenv("MLPX_NUM_THREADS", "4")
    assert n_threads() == 4

    def no_worker():
        raise ValueError("No worker found")

    distributed.get_worker = no_worker
    monkeypatch.delenv("MLPX_NUM_THREADS")
    assert n_threads() == 1


# --- the system -------------------------------------------------------------------------------------------------------


def test_affinity_is_looked_up_each_time(monkeypatch) -> None:
    monkeypatch.setattr(thread_count, "cores", cores)
    allowed = {0, 1, 2, 3}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed, raising=False)
    assert n_threads() == n_threads(9) == 4
    allowed = {2}
    assert n_threads() == n_threads(9) == 1
    allowed = {2, 3, 4}
    assert n_threads() == 3


@pytest.mark.parametrize(
    ("quota", "threads"), [(None, 8), (0.5, 1), (1.0, 1), (1.99, 1), (2.0, 2), (2.5, 2), (64.0, 8)]
)
def test_whole_cores_of_a_quota_count_unless_more_threads_are_asked_for(monkeypatch, quota, threads) -> None:
    monkeypatch.setattr(thread_count, "quota", lambda: quota)
    assert n_threads() == usable_cores() == threads
    assert n_threads(3) == 3


def test_ops_ask_again_after_a_hundredth_of_a_second(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(thread_count.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(thread_count._local, "until", -1.0)
    recent = thread_count.recent_n_threads
    assert recent() == 8
    monkeypatch.setenv("MLPX_NUM_THREADS", "3")
    assert recent() == 8
    now[0] += thread_count.RECENT
    assert recent() == 3
    with threadpool_limits(2):  # at once
        assert recent() == 2
        with using_threads(5):
            assert recent() == 5
    assert recent() == 3


def test_a_quota_is_read_again_after_some_seconds(monkeypatch) -> None:
    quotas = [2.0, 1.0]
    monkeypatch.setattr(thread_count, "quota", lambda: quotas.pop(0))
    now = [100.0]
    monkeypatch.setattr(thread_count.time, "monotonic", lambda: now[0])
    assert [n_threads(), n_threads()] == [2, 2]
    now[0] += thread_count.QUOTA_KEPT
    assert [n_threads(), n_threads()] == [1, 1]


def system(place: Path, group: str, mounts: str, **files: str) -> Path:
    """Return a folder like /proc/self, of a process in a group, and write files below the mounts."""
    (place / "proc").mkdir()
    (place / "proc/cgroup").write_text(group)
    (place / "proc/mountinfo").write_text(
        f"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n{mounts.format(place)}"
    )
    for name, text in files.items():
        file = place / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_name(file.name.replace("cpu_", "cpu.", 1)).write_text(text)
    return place / "proc"


V2 = "30 21 0:26 / {0}/fs rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 21 0:27 {{0}} {0}/fs/cpu rw - cgroup cgroup rw,cpu,cpuacct\n32 21 0:28 / {0}/m rw - cgroup cgroup rw,memory\n"


@pytest.mark.parametrize(
    ("group", "mounts", "files", "expected"),
    [
        ("0::/\n", V2, {}, None),
        ("0::/\n", V2, {"fs__cpu_max": "max 100000\n"}, None),
        ("0::/\n", V2, {"fs__cpu_max": "250000 100000\n"}, 2.5),
        ("0::/a/b\n", V2, {"fs__a__b__cpu_max": "50000 100000\n"}, 0.5),
        ("0::/a/b\n", V2, {"fs__a__cpu_max": "150000 100000", "fs__a__b__cpu_max": "max 100000"}, 1.5),
        ("0::/a/b\n", V2, {"fs__a__cpu_max": "150000 100000", "fs__a__b__cpu_max": "300000 100000"}, 1.5),
        ("0::/a\n", V2, {"fs__b__cpu_max": "50000 100000\n"}, None),  # another one's
        ("0::/a b\n", V2.replace("/fs", r"/f\040s"), {"f s__a b__cpu_max": "50000 100000\n"}, 0.5),
        ("0::/../x\n", V2, {"fs__cpu_max": "50000 100000\n"}, 0.5),  # moved out of its name space
        (
            "5:memory:/m\n4:cpu,cpuacct:/a\n0::/\n",
            V1.replace("{{0}}", "/"),
            {"fs__cpu__a__cpu_cfs_quota_us": "30000\n", "fs__cpu__a__cpu_cfs_period_us": "20000\n"},
            1.5,
        ),
        (
            "4:cpu,cpuacct:/docker/1\n",
            V1.replace("{{0}}", "/docker/1"),  # without a name space the mount shows a part of the tree
            {"fs__cpu__cpu_cfs_quota_us": "50000\n", "fs__cpu__cpu_cfs_period_us": "100000\n"},
            0.5,
        ),
        (
            "4:cpu,cpuacct:/\n",
            V1.replace("{{0}}", "/"),
            {"fs__cpu__cpu_cfs_quota_us": "-1\n", "fs__cpu__cpu_cfs_period_us": "100000\n"},
            None,
        ),
        ("0::/\n", V2, {"fs__cpu_max": "nonsense\n"}, None),
        ("nonsense\n", V2, {}, None),
    ],
)
def test_the_quota_is_the_least_of_the_own_groups_and_those_above(tmp_path, group, mounts, files, expected) -> None:
    assert quota(system(tmp_path, group, mounts, **files)) == expected


def test_without_control_groups_there_is_no_quota(tmp_path) -> None:
    assert quota(tmp_path) is None


# --- threadpoolctl ----------------------------------------------------------------------------------------------------


def pool() -> dict:
    """Return what threadpoolctl says of the kernels' threads."""
    [found] = [found for found in threadpool_info() if found["user_api"] == "mlpx"]
    return found


def test_threadpoolctl_sees_the_threads_and_limits_them() -> None:
    assert pool()["num_threads"] == 8
    with threadpool_limits(2):
        assert n_threads() == n_threads(5) == pool()["num_threads"] == 2
        with threadpool_limits(limits=1, user_api="mlpx"):
            assert n_threads() == 1
        assert n_threads() == 2
        with threadpool_limits({"mlpx": 4}):
            assert n_threads() == 4
    with threadpool_limits(limits=1, user_api="blas"):
        assert n_threads() == 8
    assert thread_count._local.limit is None


def test_after_a_limit_the_cores_are_looked_up_again(monkeypatch) -> None:
    with ThreadpoolController().limit(limits=1):
        pass
    monkeypatch.setattr(thread_count, "cores", lambda: 16)
    assert n_threads() == 16


def test_a_limit_holds_for_the_thread_that_sets_it() -> None:
    seen = []
    with threadpool_limits(1):
        other = threading.Thread(target=lambda: seen.append(n_threads()))
        other.start()
        other.join()
    assert seen == [8]


def in_a_process(code: str, **variables: str) -> str:
    """Return what Python code prints in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment | variables,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout.strip()


@pytest.mark.skipif(cores() < 2, reason="there is one core")
def test_a_limit_from_before_the_first_kernel_counts_while_it_lasts() -> None:
    code = """
    import numpy, threadpoolctl
    with threadpoolctl.threadpool_limits(1):
        from mlpx_kernels.cpu.threading.thread_count import n_threads
        print(n_threads() == 1, end=" ")
    print(n_threads() == 1)
    """
    assert in_a_process(code) == "True False"
    assert in_a_process(code, OPENBLAS_NUM_THREADS="1") == "False False"


# --- what uses them ---------------------------------------------------------------------------------------------------


def test_a_fit_with_any_number_of_threads_ends() -> None:
    x, y = np.zeros((600, 64), np.float32), np.arange(600) % 10
    before = threading.active_count()
    nets = [mlpx.MLP([64, 512, 10], seed=0) for _ in range(2)]
    with using_threads(2):
        for net, n in zip(nets, (2, 10**22), strict=True):
            net.fit(x, y, epochs=1, batch_size=300, n_threads=n, progress=False)
    assert threading.active_count() <= before + 1
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


class Whole(layers.Layer):
    """A layer that no plan knows, so that networks run layer by layer."""

    def __init__(self) -> None:
        self.declare({})

    def forward(self, x, context=layers.INFERENCE):
        """Return x."""
        return x, lambda dy: dy


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return rows so many that threads share every op, and classes."""
    return np.ones((2000, 300), np.float32), np.arange(2000) % 10


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_fit_layer_by_layer_takes_no_more_threads_than_it_may(monkeypatch, optimizer) -> None:
    seen: list[int] = []
    worth = parallel_rows._worth
    monkeypatch.setattr(parallel_rows, "_worth", lambda *args: seen.append(worth(*args)) or seen[-1])
    x, y = data()
    net = mlpx.Sequential(layers.Dense(300, 600, "relu"), Whole(), layers.Dense(600, 10), layers.Softmax(), seed=0)
    options = {"batch_size": 1000, "validation": (x, y), "optimizer": optimizer, "progress": False}
    for n in (1, 2):
        seen.clear()
        net.fit(x, y, epochs=2, n_threads=n, **options)
        assert net.plan_declined or optimizer == "lbfgs"
        assert max(seen) == n
    assert n_threads() == 8


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_takes_no_more_threads_than_it_may_and_hears_of_limits(monkeypatch) -> None:
    seen = []
    worth = parallel_rows._worth
    monkeypatch.setattr(parallel_rows, "_worth", lambda *args: seen.append(worth(*args)) or seen[-1])
    x, y = data()
    for n, limit in ((1, None), (2, None), (None, 1), (None, 2)):
        seen.clear()
        with threadpool_limits({"mlpx": limit} if limit else {}):
            mlpx.MLPClassifier((300,), max_iter=1, n_threads=n, early_stopping=True, batch_size=1000).fit(x, y)
        assert max(seen) == (n or limit)


def test_a_limit_between_two_calls_of_partial_fit_is_heard() -> None:
    x, y = data()
    model = mlpx.MLPClassifier((300,), batch_size=1000)
    found = []
    for limit in (2, 1, 2):
        with threadpool_limits({"mlpx": limit}):
            model.partial_fit(x[:1000], y[:1000], classes=np.arange(10))
        found.append(model._training.kept.steps.taker.threads)
    assert found == [2, 1, 2]
