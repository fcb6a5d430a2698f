"""The command line and the doctor."""

import os
import subprocess
import sys

import pytest

import mlpx
from mlpx import demos, ops
from mlpx.backend import selection
from mlpx.cli import doctor, main, warmup
from mlpx.ops.dispatch import Op, using_fused
from mlpx_kernels.cpu.plan import layer_pieces, norm_pieces, step_pieces


def test_version(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == f"mlpx {mlpx.__version__}"


def test_no_command_prints_help_and_fails(capsys) -> None:
    assert main.main([]) == 2
    assert "demo" in capsys.readouterr().out


def test_list_names_every_demo(capsys) -> None:
    assert main.main(["demo", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(demos.NAMES)
    assert all(len(line.split()) > 5 for line in lines)


def test_unknown_demo_names_the_nearest(capsys) -> None:
    assert main.main(["demo", "digit"]) == 2
    error = capsys.readouterr().err
    assert "Did you mean 'digits'?" in error
    assert "gradient" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "digits", "--epochs", "-1"], "epochs"),
        (["demo", "digits", "--seed", "-1"], "seed: expected a whole number of at least 0, got -1"),
        (["demo", "digits", "--layers", "0"], "sizes[1]"),
        (["demo", "digits", "--layers", "1000000000,1000000000"], "Take smaller layers"),
        (["demo", "softmax", "--epochs", "3"], "--epochs is for digits alone"),
    ],
)
def test_bad_options(arguments, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_bad_layers_are_refused_by_the_parser(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["demo", "digits", "--layers", "a,b"])
    assert stopped.value.code == 2
    assert "128,64" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["doctor", "--json"], ["bench", "--output"]])
@pytest.mark.parametrize("place", ["nowhere/result.json", "."])
def test_a_file_that_cannot_be_written_is_refused_at_once(command, place, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main.main([*command, place])
    assert stopped.value.code == 2
    assert f"expected a file in a folder that is there, got '{place}'" in capsys.readouterr().err


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlpx", "demo", "softmax"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Solved."


def test_doctor_reports_every_op() -> None:
    found = doctor.report()
    assert set(found["kernels"]) == set(ops.ALL)
    assert found["versions"]["numpy"] != "not installed"
    assert found["backend"]["GPU"]
    assert int(found["threads"]["usable cores"]) >= 1
    for name, states in found["kernels"].items():
        wanted = doctor.ACTIVE if "numpy" in ops.ALL[name].kernels else doctor.REFERENCE
        assert states["numpy"] == (wanted, "")


def test_doctor_prints_and_succeeds(capsys) -> None:
    assert main.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "softmax_cross_entropy" in printed
    assert "usable cores" in printed


def test_doctor_tells_of_the_compiler_and_of_what_is_kept(tmp_path, monkeypatch) -> None:
    """A kernel is tried, and what lies on disk is looked at: nothing yet, something damaged, a place refused."""
    store = pytest.importorskip("mlpx_kernels.cpu.lowlevel.store", reason="there is no compiler")
    monkeypatch.setenv("MLPX_CACHE_DIR", str(tmp_path))
    store._folder.cache_clear()
    place = store.folder().path
    found = doctor.report()["compiler"]
    assert found["kept in"] == str(place)
    assert found["on disk"] == "0 kernels"
    assert found["tried"].startswith("softmax, ")
    (place / "a.kernel").write_bytes(b"half of it")
    assert "1 kernels, 1 damaged" in doctor.report()["compiler"]["on disk"]
    monkeypatch.setenv("MLPX_CACHE_DIR", os.devnull)
    store._folder.cache_clear()
    assert doctor.report()["compiler"]["kept in"].startswith(f"{doctor.PROBLEM}: MLPX_CACHE_DIR: {os.devnull}")
    store._folder.cache_clear()


def test_doctor_tells_of_a_kernel_that_is_wrong(capsys, monkeypatch) -> None:
    softmax = pytest.importorskip("mlpx_kernels.cpu.softmax", reason="there is no compiler")
    monkeypatch.setattr(softmax, "softmax", lambda x: x)
    assert main.main(["doctor"]) == 1
    assert "PROBLEM: softmax gives wrong numbers" in capsys.readouterr().out


def test_doctor_fails_where_a_kernel_does_not_load(capsys, monkeypatch) -> None:
    def reference(xp, x):
        return x

    broken = Op(reference, {"numpy": "mlpx_kernels.cpu.no_such_file:reference"}, None, None)
    monkeypatch.setitem(ops.ALL, "broken_for_this_test", broken)
    assert main.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "do not load: broken_for_this_test" in printed


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MLPX_BACKEND", "cuda", "Known: auto, cupy, numpy"),
        ("MLPX_NUM_THREADS", "many", "at least 1, got 'many'"),
        ("MLPX_BLAS", "atlas", "auto, openblas or mkl"),
        ("MLPX_FUSED", "yes", "Known: auto, off, require"),
    ],
)
def test_doctor_names_a_setting_that_cannot_be(variable, value, said) -> None:
    """A doctor does not fall ill of what it looks for: the report is whole, and names the setting."""
    done = subprocess.run(
        [sys.executable, "-m", "mlpx", "doctor"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, variable: value, "COLUMNS": "1000"},
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("PROBLEM: ")
    assert said in done.stdout
    assert "softmax_cross_entropy" in done.stdout


def test_a_backend_that_cannot_be_had_is_an_error_of_one_line(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(selection, "_default", None)
    monkeypatch.setattr(selection, "gpu_problem", lambda: "no GPU in this test")
    selection._cupy.cache_clear()
    monkeypatch.setenv("MLPX_BACKEND", "cupy")
    assert main.main(["demo", "digits", "--output", str(tmp_path)]) == 2
    assert "no GPU in this test" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(capsys, monkeypatch) -> None:
    def pressed(name: str) -> bool:
        raise mlpx.TrainingInterrupted("interrupted after step 3")

    monkeypatch.setattr(demos, "run", pressed)
    assert main.main(["demo", "stable"]) == 130
    assert capsys.readouterr().err == "mlpx demo: interrupted after step 3\n"


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "mlpx", "demo", "softmax"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    demo.stdout.close()
    _, errors = demo.communicate(timeout=120)
    assert errors == ""
    assert demo.returncode == 1


def test_warmup_needs_every_piece_of_a_plan() -> None:
    """Those that several blocks need too; compiled ones are cached by dtype."""
    pieces = [
        piece
        for module in (layer_pieces, norm_pieces, step_pieces)
        for piece in vars(module).values()
        if hasattr(piece, "cache_info")
    ]
    before = [sum(piece.cache_info()[:2]) for piece in pieces]
    for job in warmup._networks("float32"):
        job("float32")
    for piece, calls in zip(pieces, before, strict=True):
        assert sum(piece.cache_info()[:2]) > calls, piece.__name__


def test_warmup_jobs_run() -> None:
    """Each on the references, which compile nothing."""
    with using_fused("off"):
        for job in (*warmup._networks("float64"), warmup._ops):
            job("float64")


def test_warmup_compiles_into_the_cache(tmp_path) -> None:
    """In a process of its own, with one network and one activation only: all of them take half a minute."""
    code = (
        "from mlpx.cli import warmup\n"
        "networks = warmup._networks\n"
        "warmup._networks = lambda dtype: networks(dtype)[:1]\n"
        "warmup._ops = lambda dtype: None\n"
        "raise SystemExit(warmup.main(('float32',)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={"MLPX_CACHE_DIR": str(tmp_path), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "compiled float32" in done.stdout
    compiled = [file.name for file in tmp_path.rglob("*.kernel")]
    assert len(compiled) > 5
    assert any(name.startswith("shuffle.") for name in compiled)  # which estimators alone use
