"""Prediction with 64-128-10 and softmax: the latency of one row, and the throughput of many."""

import time

import numpy as np
import pytest

from benchmarks import trainers
from benchmarks.measure import quick, same
from benchmarks.nets import Net
from benchmarks.peers import Calls, load, torch

NET = Net((64, 128, 10), 32, 4)
ROWS = 100_000


def _plain(x):
    (w1, b1), (w2, b2) = NET.weights()
    v1, v2 = w1.T.copy(), w2.T.copy()

    def call() -> np.ndarray:
        z = np.maximum(x @ v1 + b1, 0) @ v2 + b2
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    return call


def _scikit_learn(x):
    neural_network = load("sklearn.neural_network", "scikit-learn")
    model = neural_network.MLPClassifier(NET.sizes[1:-1])
    model.partial_fit(*NET.data, classes=np.arange(10))
    model.coefs_ = [w.T.copy() for w, _ in NET.weights()]
    model.intercepts_ = [b for _, b in NET.weights()]
    return lambda: model.predict_proba(x)


def _pytorch(x, script: bool):
    t = torch()
    model = t.nn.Sequential(trainers.torch_model(NET), t.nn.Softmax(-1)).eval()
    given = t.from_numpy(x)
    if script:
        model = t.jit.freeze(t.jit.trace(model, given))

    def call() -> np.ndarray:
        with t.inference_mode():
            return model(given).numpy()

    return call


def _onnx_runtime(x):
    onnx, runtime = load("onnx"), load("onnxruntime")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    arrays = {f"{kind}{i}": a for i, pair in enumerate(NET.weights()) for kind, a in zip("wb", pair, strict=True)}
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["z0"], transB=1),
        helper.make_node("Relu", ["z0"], ["y0"]),
        helper.make_node("Gemm", ["y0", "w1", "b1"], ["z1"], transB=1),
        helper.make_node("Softmax", ["z1"], ["p"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", float32, ["n", NET.sizes[0]])],
        [helper.make_tensor_value_info("p", float32, ["n", NET.sizes[-1]])],
        [onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"x": x}
    return lambda: session.run(None, feed)[0]


def _calls(x) -> Calls:
    net = NET.build()
    calls = Calls(mlpx=lambda: net.predict(x), numpy=_plain(x))
    calls.add("sklearn", lambda: _scikit_learn(x))
    calls.add("torch", lambda: _pytorch(x, script=False))
    calls.add("torchscript", lambda: _pytorch(x, script=True))
    calls.add("onnxruntime", lambda: _onnx_runtime(x))
    wanted = calls["numpy"]()
    for name, call in calls.items():
        same(name, call(), wanted)
    return calls


def _latencies(call, count: int) -> list[float]:
    """Return the seconds of single calls."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken


@pytest.fixture
def rows():
    """Return a function that makes rows of the network's input."""
    return lambda n: np.random.default_rng(1).standard_normal((n, NET.sizes[0]), dtype=np.float32)


def test_one_row(compare, rows) -> None:
    """One row: each call timed by itself, blocks of calls in turn; p99 beside the median."""
    calls = _calls(rows(1))
    blocks, count = (2, 5) if quick() else (20, 500)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(blocks):
        for name, call in calls.items():
            _latencies(call, count // 5)  # caches and branches are this implementation's own by now
            samples[name] += _latencies(call, count)
    tails = {f"p99 {name}": float(np.quantile(taken, 0.99)) * 1e6 for name, taken in samples.items()}
    compare("one row 64-128-10", {}, samples=samples, values=tails)


def test_many_rows(compare, rows) -> None:
    """Many rows at once."""
    compare(f"{ROWS} rows 64-128-10", _calls(rows(200 if quick() else ROWS)))
