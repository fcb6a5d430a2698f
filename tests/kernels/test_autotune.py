"""What was faster is measured once, remembered on disk, and never trusted beyond what it says."""

import json

import pytest

from mlpx_kernels.cuda.gemm import autotune


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MLPX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(autotune, "_known", None)
    monkeypatch.setattr(autotune, "_device", lambda: "a GPU")


def never(launches: object) -> float:
    raise AssertionError("measured again")


def choose(times: dict[str, float], key: str = "k") -> str:
    ways = {name: [name] for name in times}
    return autotune.faster(key, ways, lambda launches: times[launches[0]])


def test_the_faster_way_is_chosen_and_remembered(tmp_path, monkeypatch) -> None:
    assert choose({"plain": 10.0, "epilogue": 8.0}) == "epilogue"
    ways = {"plain": ["plain"], "epilogue": ["epilogue"]}
    assert autotune.faster("k", ways, never) == "epilogue"
    monkeypatch.setattr(autotune, "_known", None)  # as in another process
    assert autotune.faster("k", ways, never) == "epilogue"
    assert json.loads((tmp_path / "autotune/choices.json").read_text()) == {"a GPU": {"k": "epilogue"}}


def test_a_tie_goes_to_the_first() -> None:
    assert choose({"plain": 10.0, "epilogue": 9.8}) == "plain"
    assert choose({"plain": 10.0, "epilogue": 9.6}, "other") == "epilogue"


def test_another_device_measures_for_itself(monkeypatch) -> None:
    assert choose({"plain": 10.0, "epilogue": 8.0}) == "epilogue"
    monkeypatch.setattr(autotune, "_device", lambda: "another GPU")
    assert choose({"plain": 10.0, "epilogue": 12.0}) == "plain"


def test_a_choice_that_no_longer_exists_is_measured_anew() -> None:
    assert choose({"plain": 10.0, "gone": 8.0}) == "gone"
    assert choose({"plain": 10.0, "epilogue": 11.0}) == "plain"


@pytest.mark.parametrize("text", ["", "[]", '{"a GPU": 3}', '{"a GPU": {"k": ["epilogue"]}}', "\x00"])
def test_a_file_that_says_something_else_counts_for_nothing(text, tmp_path) -> None:
    (tmp_path / "autotune").mkdir()
    (tmp_path / "autotune/choices.json").write_text(text)
    assert choose({"plain": 10.0, "epilogue": 20.0}) == "plain"


def test_a_disk_that_cannot_be_written_costs_only_the_memory(monkeypatch) -> None:
    monkeypatch.setenv("MLPX_CACHE_DIR", "/proc/no/such/place")
    assert choose({"plain": 10.0, "epilogue": 8.0}) == "epilogue"
    assert choose({"plain": 10.0, "epilogue": 8.0}) == "epilogue"
