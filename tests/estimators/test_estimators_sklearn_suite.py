"""scikit-learn's own tests of its multi-layer perceptrons, run with the estimators of this library in their place."""

import importlib.util
from types import ModuleType

import pytest
import sklearn.neural_network

import mlpx
from mlpx.estimators.minimise import PenalisedLoss
from mlpx.estimators.rows import Rows
from mlpx.optimizers import Optimizer

SUITE = pytest.importorskip("sklearn.neural_network.tests.test_mlp", reason="scikit-learn is installed without tests")
DEVIATIONS = {
    "test_mlp_partial_fit_after_fit": "partial_fit takes early_stopping=True, which scikit-learn refuses",
}
"""Tests that fail by design, each with the reason."""


class PrivateNames:
    """What scikit-learn's tests read of private attributes, under its names."""

    def __getattr__(self, name):
        if name == "_no_improvement_count":
            return self._watch.idle
        if name == "_optimizer" and "_training" in vars(self):
            return self._training.optimizer
        raise AttributeError(name)

    def _loss_grad_lbfgs(self, theta, X, y, *buffers):
        targets = y.astype(float) if self.n_outputs_ == 1 else y.argmax(axis=1)
        return PenalisedLoss(self._network(), Rows(X, y, targets), self.alpha, self.n_threads)(theta)


class MLPClassifier(PrivateNames, mlpx.MLPClassifier):
    pass


class MLPRegressor(PrivateNames, mlpx.MLPRegressor):
    pass


@pytest.fixture(autouse=True)
def learning_rate(monkeypatch) -> None:
    monkeypatch.setattr(Optimizer, "learning_rate", property(lambda self: self.lr), raising=False)


@pytest.fixture
def global_random_seed() -> int:
    return 42


def loaded() -> ModuleType:
    """Return another copy of scikit-learn's module of tests, made while its estimators are replaced."""
    spec = importlib.util.spec_from_file_location("sklearn_test_mlp", SUITE.__file__)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for kind in (MLPClassifier, MLPRegressor):
            patch.setattr(sklearn.neural_network, kind.__name__, kind)
        spec.loader.exec_module(module)
    return module


for name, test in vars(loaded()).items():
    if name in DEVIATIONS:
        test = pytest.mark.xfail(reason=DEVIATIONS[name])(test)
    if name.startswith("test_"):
        globals()[name] = test
