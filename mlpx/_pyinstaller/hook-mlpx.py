"""What a frozen program needs beyond the imports that PyInstaller sees: kernels, which ops import by name."""

from pathlib import Path

import mlpx_kernels
from mlpx_kernels.source import modules_below

_FOLDER = Path(mlpx_kernels.__file__).parent

hiddenimports = [name for device in ("cpu", "cuda") for name in modules_below(f"mlpx_kernels.{device}")]
datas = [
    (str(file), str(Path("mlpx_kernels") / file.parent.relative_to(_FOLDER)))
    for pattern in ("*.cu", "*.cuh")
    for file in _FOLDER.rglob(pattern)
]
