"""Each demo ends with the fact that shows its problem solved; the facts can fail."""

import array_api_strict
import numpy as np
import pytest
from strict import STRICT

import mlpx
from mlpx import demos
from mlpx.demos import digits, gradient, stable

SMALL = {"gradient": {"rows": 50, "n_in": 60, "n_out": 4, "repetitions": 2}, "stable": {"iterations": 1000}}


@pytest.mark.parametrize("name", ["from_scratch", "softmax", "masked", "sequence", "stable"])
def test_demo_is_solved(name, capsys) -> None:
    assert demos.run(name)
    assert capsys.readouterr().out.splitlines()[-1] == "Solved."


def test_gradient_at_small_size(capsys) -> None:
    assert gradient.main(**SMALL["gradient"])
    printed = capsys.readouterr().out
    assert "fused" in printed
    assert "per instance" in printed


def test_digits_learns_and_leaves_its_files(tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib (extra: plot)")
    assert digits.main(output=tmp_path / "new", epochs=30)
    assert "Solved." in capsys.readouterr().out
    net = mlpx.load(tmp_path / "new" / "digits.safetensors")
    assert net.predict(np.zeros((1, 64))).shape == (1, 10)
    assert (tmp_path / "new" / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_digits_says_so_when_it_has_not_learnt(tmp_path, capsys) -> None:
    assert not digits.main(output=tmp_path, epochs=1, seed=2**40, layers=(2,), progress=False)
    assert "NOT solved." in capsys.readouterr().out


def test_digits_without_matplotlib_names_the_extra(tmp_path, capsys, monkeypatch) -> None:
    def missing(*args: object) -> None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(digits, "draw", missing)
    digits.main(output=tmp_path, epochs=1, progress=False)
    assert "pip install 'mlpx[plot]'" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"digits.safetensors"}


def test_stable_says_so_when_it_has_not_learnt(capsys) -> None:
    assert not stable.main(iterations=1)
    assert "NOT solved." in capsys.readouterr().out


# --- the same code elsewhere: a device that refuses what a GPU would refuse -------------------------------------------


@pytest.fixture
def _elsewhere():
    newest = array_api_strict.get_array_api_strict_flags()["api_version"]
    with (
        array_api_strict.ArrayAPIStrictFlags(api_version=newest),
        mlpx.using_backend(STRICT),
        np.errstate(all="ignore"),  # NumPy below the fake device warns; a GPU would not
    ):
        yield


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("name", ["gradient", "softmax", "masked", "stable", "sequence"])
def test_demo_is_solved_on_another_device(name) -> None:
    assert demos.run(name, **SMALL.get(name, {}))


@pytest.mark.usefixtures("_elsewhere")
def test_digits_on_another_device_gives_the_model_of_this_one(tmp_path) -> None:
    digits.main(output=tmp_path / "there", epochs=2, layers=(16,), progress=False)
    with mlpx.using_backend("numpy"):
        digits.main(output=tmp_path / "here", epochs=2, layers=(16,), progress=False)
        there, here = (mlpx.load(tmp_path / place / "digits.safetensors") for place in ("there", "here"))
    np.testing.assert_allclose(there.parameters, here.parameters, atol=1e-4)
