"""What frozen programs are told to take along."""

import tomllib
from importlib import import_module
from pathlib import Path

import mlpx
from mlpx import _pyinstaller, ops

ROOT = Path(mlpx.__file__).parents[1]


def test_pyinstaller_is_told_of_every_kernel_and_its_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["entry-points"]["pyinstaller40"]["hook-dirs"].partition(":")
    (folder,) = getattr(import_module(module), function)()
    assert folder == str(Path(_pyinstaller.__file__).parent)
    assert (Path(folder) / "hook-mlpx.py").is_file()
    hook = import_module("mlpx._pyinstaller.hook-mlpx")
    declared = {where.partition(":")[0] for op in ops.ALL.values() for where in op.kernels.values()}
    assert declared <= set(hook.hiddenimports)
    assert any(source.endswith(".cu") and place == "mlpx_kernels/cuda" for source, place in hook.datas)
    assert all(Path(source).is_file() for source, _ in hook.datas)
