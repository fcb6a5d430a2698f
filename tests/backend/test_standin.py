"""The stand-in for CuPy is as strict as CuPy, and counts what is asked of the device."""

import importlib.util
from typing import Any

import numpy as np
import pytest
import standin
from standin import Failures, StandInError, functions, installed

H = np.ones((2, 3))


@pytest.fixture
def cupy(cupy_standin: Any) -> Any:
    import cupy

    return cupy


# --- nothing mixes


MIXES = {
    "a + h": lambda cp, a: a + H,
    "h + a": lambda cp, a: H + a,
    "a += h": lambda cp, a: a.__iadd__(H),
    "a @ h": lambda cp, a: a @ H.T,
    "np.add(h, a)": lambda cp, a: np.add(H, a),
    "np.add(a, a, out=h)": lambda cp, a: np.add(a, a, out=H),
    "cp.exp(h)": lambda cp, a: cp.exp(H),
    "cp.where(h, a, a)": lambda cp, a: cp.where(H > 0, a, a),
    "np.where(h, a, a)": lambda cp, a: np.where(H > 0, a, a),
    "cp.stack([a, h])": lambda cp, a: cp.stack([a, H]),
    "a[h]": lambda cp, a: a[H > 0],
    "a[[0, 1]]": lambda cp, a: a[[0, 1]],
    "a[:] = h": lambda cp, a: a.__setitem__(slice(None), H),
    "np.asarray(a)": lambda cp, a: np.asarray(a),
    "np.array([a, a])": lambda cp, a: np.array([a, a]),
    "a.set(list)": lambda cp, a: a.set([1.0]),
    "range(a)": lambda cp, a: range(cp.asarray(3)),
}


@pytest.mark.parametrize("name", list(MIXES))
def test_mixing_raises(cupy: Any, name: str) -> None:
    with pytest.raises(TypeError):
        MIXES[name](cupy, cupy.asarray(H))


def test_what_numbers_do(cupy: Any) -> None:
    a = cupy.asarray(H.astype(np.float32))
    for result in (a + 1, 2.0 * a, np.float32(3) * a, a > 0, -a, abs(a), a.sum(), a.max(axis=0), a[0, 0], a @ a.T):
        assert type(result) is cupy.ndarray
    assert (a * 2.0).dtype == (a * np.float32(2)).dtype == np.float32  # Python's numbers are weak, NumPy's are not
    assert (a * np.float64(2)).dtype == np.float64
    assert a.sum().shape == ()
    assert float(a.sum()) == 6.0
    assert not hasattr(a, "__array_namespace__")
    assert not hasattr(a.flags, "writeable")
    with pytest.raises(AttributeError):
        _ = cupy.errstate
    with pytest.raises(AttributeError):
        cupy.random.rand(3)


def test_views_share_and_results_do_not(cupy: Any) -> None:
    a = cupy.asarray(np.arange(6.0))
    v = cupy.reshape(a, (2, 3)).T[1:]
    v[...] = 7.0
    assert a.get().tolist() == [0.0, 7.0, 7.0, 3.0, 7.0, 7.0]
    assert cupy.shares_memory(a, v)
    assert not cupy.shares_memory(a, a + 0.0)
    assert cupy.asarray(a) is a


def test_copies_launches_and_waits_are_counted(cupy: Any, cupy_standin: Any) -> None:
    count = cupy_standin.counters
    a = cupy.asarray(H)
    assert (count.to_device, count.launches, count.to_host) == (1, 0, 0)
    b = (a * 2.0 + 1.0).sum(axis=0)
    assert (count.others, count.products) == (3, 0)
    cupy.matmul(a, a.T, out=cupy.empty((2, 2)))
    assert (count.others, count.products, count.synchronisations) == (3, 1, 0)
    b.get()
    float(b[0])
    assert (count.to_host, count.synchronisations) == (2, 2)
    cupy.cuda.get_current_stream().synchronize()
    assert count.synchronisations == 3


def test_fresh_memory_holds_no_zeros(cupy: Any) -> None:
    assert np.isnan(cupy.empty((4, 4)).get()).all()
    assert cupy.empty(3).data.ptr % 512 == 0


def test_what_numpy_has_and_the_list_lacks_is_no_attribute(cupy: Any) -> None:
    with pytest.raises(AttributeError):
        _ = cupy.vecdot


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_every_name_is_one_of_cupys() -> None:
    import cupy

    assert [n for n in functions.NAMESPACE if not hasattr(cupy, n)] == []
    own = {n for n in dir(functions.ndarray) if not n.startswith("_")}
    assert [n for n in own if not hasattr(cupy.ndarray, n)] == []


# --- kernels

SOURCE = """
template <typename T> __global__ void scale(const T* x, T* y, T by, long long n) {
    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = by * x[i];
}
__global__ void beyond(float* y, int n) { y[n] = 0.0f; }
"""


def _kernel(cupy: Any, name: str) -> Any:
    return cupy.RawModule(code=SOURCE, options=("-std=c++17",), name_expressions=(name,)).get_function(name)


def test_a_kernel_runs(cupy: Any, cupy_standin: Any) -> None:
    x, y = cupy.arange(10, dtype="float32"), cupy.empty(10, "float32")
    _kernel(cupy, "scale<float>")((2,), (32,), (x, y, np.float32(2), np.int64(10)))
    assert y.get().tolist() == [2.0 * i for i in range(10)]
    assert cupy_standin.counters.kernels == 1


@pytest.mark.parametrize("bad", [2, 2.0, None, np.ones(3)])
def test_a_kernel_takes_arrays_and_typed_numbers_alone(cupy: Any, bad: Any) -> None:
    x = cupy.empty(10, "float32")
    with pytest.raises(TypeError, match="Unsupported type"):
        _kernel(cupy, "scale<float>")((2,), (32,), (x, x, bad, np.int64(10)))


def test_writing_past_the_end_is_seen_in_the_fast_build(cupy: Any) -> None:
    with pytest.raises(StandInError, match="past the end"):
        _kernel(cupy, "beyond")((1,), (1,), (cupy.empty(10, "float32"), np.int32(10)))


def test_too_much_shared_memory_is_refused(cupy: Any) -> None:
    kernel, y = _kernel(cupy, "beyond"), cupy.empty(10, "float32")
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel((1,), (1,), (y, np.int32(9)), shared_mem=50_000)
    kernel.max_dynamic_shared_size_bytes = 50_000
    kernel((1,), (1,), (y, np.int32(9)), shared_mem=50_000)


def test_a_source_that_does_not_compile(cupy: Any) -> None:
    with pytest.raises(cupy.cuda.compiler.CompileException, match="nonsense"):
        cupy.RawModule(code="__global__ void f() { nonsense; }", name_expressions=("f",)).get_function("f")(
            (1,), (1,), ()
        )


# --- graphs and streams


def test_a_captured_graph_replays_with_the_same_addresses(cupy: Any, cupy_standin: Any) -> None:
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        x, y = cupy.ones(4, "float32"), cupy.empty(4, "float32")
        scale = _kernel(cupy, "scale<float>")
        before = cupy_standin.counters.copy()
        stream.begin_capture()
        scale((1,), (32,), (x, y, np.float32(2), np.int64(4)))
        x += y
        z = x * 10.0
        graph = stream.end_capture()
        assert np.isnan(y.get()).all(), "what is captured is not done"
        assert x.get().tolist() == [1.0] * 4
        graph.launch()
        graph.launch()
        assert x.get().tolist() == [9.0] * 4
        assert z.get().tolist() == [90.0] * 4
        assert (cupy_standin.counters - before).graphs == 2


FORBIDDEN = {
    "get": lambda cp, a: a.get(),
    "float": lambda cp, a: float(a.sum()),
    "set": lambda cp, a: a.set(H),
    "asarray": lambda cp, a: cp.asarray(H),
    "mask": lambda cp, a: a[a > 0],
    "synchronize": lambda cp, a: cp.cuda.get_current_stream().synchronize(),
}


@pytest.mark.parametrize("name", list(FORBIDDEN))
def test_what_a_capture_forbids(cupy: Any, name: str) -> None:
    with cupy.cuda.Stream(non_blocking=True) as stream:
        a = cupy.asarray(H)
        stream.begin_capture()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
            FORBIDDEN[name](cupy, a)
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()


def test_cupy_refuses_cublas_in_a_capture(cupy: Any) -> None:
    with cupy.cuda.Stream(non_blocking=True) as stream:
        a = cupy.asarray(H)
        stream.begin_capture()
        with pytest.raises(NotImplementedError, match="cuBLAS"):
            _ = a @ a.T
        stream.end_capture()
    with pytest.raises(RuntimeError, match="default"):
        cupy.cuda.Stream.null.begin_capture()


def test_a_graph_keeps_no_array_alive(cupy: Any) -> None:
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x = cupy.ones(4)
        stream.begin_capture()
        x += 1.0
        graph = stream.end_capture()
        del x
        with pytest.raises(StandInError, match="keep its arrays alive"):
            graph.launch()


def test_streams_that_do_not_wait_for_each_other_race(cupy: Any) -> None:
    one, two = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    with one:
        x = cupy.ones(4)
    with two, pytest.raises(StandInError, match="race between streams"):
        _ = x + 1.0
    two.wait_event(one.record())
    with two:
        y = x + 1.0
    with one, pytest.raises(StandInError, match="race between streams"):
        x += 1.0  # the other stream may read it still
    two.synchronize()
    with one:
        x += 1.0
        assert (x.get() - y.get()).tolist() == [0.0] * 4


def test_pinned_memory_is_not_to_be_touched_while_it_is_copied(cupy: Any) -> None:
    stream = cupy.cuda.Stream(non_blocking=True)
    room = np.frombuffer(cupy.cuda.alloc_pinned_memory(32), np.float64, 4)
    room[:] = 1.0
    with stream:
        x = cupy.empty(4)
        x.set(room)
        event = stream.record()
        event.synchronize()
        room[:] = 2.0
        x.set(room)
        room[:] = 3.0
        with pytest.raises(StandInError, match="pinned memory"):
            x.set(room)
        room[:] = 2.0


# --- failures


def test_failures_are_cupys(cupy_standin: Any) -> None:
    with installed(Failures(driver=True)):
        import cupy

        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorInsufficientDriver"):
            cupy.zeros(1)
    with installed(Failures(allocation=2)):
        kept = cupy.zeros(1)
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="Out of memory allocating 512 bytes"):
            cupy.zeros(1)
        del kept
    with installed():
        cupy.get_default_memory_pool().set_limit(size=2048)
        kept = [cupy.empty(100), cupy.empty(100)]
        with pytest.raises(MemoryError):
            cupy.empty(100)
        kept.clear()
        cupy.empty(100)
    assert standin.device.used == 0
