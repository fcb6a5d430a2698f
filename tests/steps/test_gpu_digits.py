"""The digits, learnt on the stand-in by the CUDA kernels themselves: the loss curve is the CPU's."""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import mlpx
from mlpx import optimizers


def test_the_digits_follow_the_curve_of_the_cpu(cupy_standin: Any) -> None:
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype(np.float32)
    found = []
    for backend in ("numpy", "cupy"):
        with mlpx.using_backend(backend):
            net = mlpx.MLP([64, 32, 10], activation="relu", output="softmax", dropout=0.1, seed=0)
            adam = optimizers.Adam(lr=0.01, schedule="cosine", clip_norm=1.0)
            fitted = net.fit(x, y, epochs=3, batch_size=64, optimizer=adam, validation=0.2, progress=False)
        assert not net.plan_declined
        assert type(net.parameters).__module__ == backend
        found.append((fitted, net))
    (cpu, cpu_net), (gpu, gpu_net) = found
    np.testing.assert_allclose(gpu.loss, cpu.loss, rtol=1e-4)
    np.testing.assert_allclose(gpu.validation_loss, cpu.validation_loss, rtol=1e-4)
    assert gpu.validation_accuracy == cpu.validation_accuracy
    assert gpu.validation_accuracy[-1] > 0.85
    probabilities = gpu_net.predict(cupy_array(x[:200]))
    np.testing.assert_allclose(mlpx.to_numpy(probabilities), cpu_net.predict(x[:200]), atol=1e-3)
    assert cupy_standin.counters.graphs > 0


def cupy_array(x: np.ndarray) -> Any:
    with mlpx.using_backend("cupy"):
        return mlpx.asarray(x)
