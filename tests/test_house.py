"""The rules of the house, read from the source: which module may import which, what nobody may call, what is written
down."""

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import mlpx
import mlpx_kernels
from mlpx import ops

TESTS = Path(__file__).parent
ROOT = Path(mlpx.__file__).parents[1]
SOURCES = {"mlpx": Path(mlpx.__file__).parent, "mlpx_kernels": Path(mlpx_kernels.__file__).parent}
FLOORS = [
    ["mlpx_kernels"],
    [
        "mlpx._version",
        "mlpx.typing",
        "mlpx.errors",
        "mlpx.overrides",
        "mlpx.registry",
        "mlpx.representation",
        "mlpx.tunable",
    ],
    ["mlpx.backend"],
    ["mlpx.ops"],
    ["mlpx.initializers", "mlpx.schedules"],
    ["mlpx.layers"],
    ["mlpx.losses", "mlpx.plan"],
    ["mlpx.network"],
    ["mlpx.optimizers", "mlpx.callbacks", "mlpx.gradcheck"],
    ["mlpx.steps"],
    ["mlpx.training", "mlpx.files"],
    ["mlpx.models"],
    ["mlpx.estimators"],
    ["mlpx", "mlpx.loading"],
    ["mlpx.demos"],
    ["mlpx.cli", "mlpx.__main__", "mlpx._pyinstaller"],
]
"""The floors of the house, lowest first: imports go down or along a floor, never up."""
MOST_LINES = 350
LONGER: dict[str, str] = {}
"""Files that may be longer, such as ``"kernels/cpu/dense.py"``, each with its reason."""


def modules() -> Iterator[tuple[str, Path]]:
    """Yield (name, file) of every module of the library and of the kernels."""
    for package, folder in SOURCES.items():
        for file in sorted(folder.rglob("*.py")):
            inside = file.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(inside[:-1] if inside[-1] == "__init__" else inside))), file


MODULES = dict(modules())
PUBLIC = [name for name in MODULES if name.split(".")[0] == "mlpx"]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def floor(name: str) -> int:
    """Return the floor that a module lives on: that of its longest prefix in `FLOORS`."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        for number, row in enumerate(FLOORS):
            # "mlpx" is the package itself, not a home for whatever else is in it.
            if prefix in row and not (prefix == "mlpx" and length < len(parts)):
                return number
    raise AssertionError(f"{name}: lives on no floor; put it into FLOORS of test_house.py.")


def imported(name: str) -> Iterator[str]:
    """Yield every module that a module imports, wherever in the file."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def arrows_up(name: str) -> list[str]:
    return [
        f"{name} -> {other}"
        for other in imported(name)
        if other.split(".")[0] in SOURCES and floor(other) > floor(name)
    ]


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name: str) -> None:
    assert not arrows_up(name)


def test_layers_and_initializers_know_nothing_of_each_other_but_draws() -> None:
    assert "mlpx.layers" not in {other.rpartition(".")[0] or other for other in imported("mlpx.initializers")}


def test_an_arrow_up_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = ast.parse(
        "def f():\n    from mlpx.network import Network\n    import mlpx.training\n    from mlpx import cli\n"
    )
    monkeypatch.setitem(MODULES, "mlpx.cli", MODULES["mlpx.ops.dispatch"])
    monkeypatch.setitem(globals(), "tree", lambda name: planted)
    assert arrows_up("mlpx.ops._dense") == [
        "mlpx.ops._dense -> mlpx.network",
        "mlpx.ops._dense -> mlpx.training",
        "mlpx.ops._dense -> mlpx.cli",
    ]


def test_only_backend_and_gpu_kernels_name_cupy() -> None:
    users = {name for name in MODULES if any(o.split(".")[0] in ("cupy", "cupyx") for o in imported(name))}
    assert users <= {"mlpx.backend.selection"} | {name for name in MODULES if name.startswith("mlpx_kernels.cuda")}


def test_ops_and_layers_name_no_array_module() -> None:
    """But for two: the buffers of layers are drawn by NumPy's generator, dispatch types its scalars."""
    users = {
        name
        for name in MODULES
        if name.startswith(("mlpx.ops", "mlpx.layers")) and any(o.split(".")[0] == "numpy" for o in imported(name))
    }
    assert users <= {"mlpx.layers.buffers", "mlpx.ops.dispatch"}


def test_kernels_know_nothing_of_mlpx() -> None:
    assert not [n for n in MODULES if n.startswith("mlpx_kernels") and "mlpx" in {o.split(".")[0] for o in imported(n)}]


# --- what nobody may call ---------------------------------------------------------------------------------------------

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "builtins.eval", "builtins.exec"}


def dotted(node: ast.expr) -> str:
    """Return the name of what is called: ``os.system``; empty where it has none."""
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def dangers(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.Call):
            if dotted(node.func) in FORBIDDEN_CALLS:
                found.append(dotted(node.func))
            for keyword in node.keywords:
                shell = keyword.arg == "shell" and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                )
                if shell or (keyword.arg == "allow_pickle" and getattr(keyword.value, "value", True)):
                    found.append(f"{keyword.arg}=True")
    return found


@pytest.mark.parametrize("name", MODULES)
def test_no_module_runs_what_it_reads(name: str) -> None:
    assert not dangers(tree(name))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "eval('1')", "exec(x)", "import os; os.system('ls')",
        "subprocess.run('ls', shell=True)", "np.load(f, allow_pickle=True)", "import joblib.numpy_pickle",
    ],
)  # fmt: skip
def test_a_danger_would_be_seen(code: str) -> None:
    assert dangers(ast.parse(code))


# --- what is written down ---------------------------------------------------------------------------------------------


def undocumented(name: str) -> list[str]:
    """Return what is public in a module and has no docstring, the module itself included."""

    def visit(node: ast.AST, path: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if child.name.startswith("_"):
                continue
            if not ast.get_docstring(child):
                yield f"{path}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from visit(child, f"{path}.{child.name}")

    module = tree(name)
    return ([] if ast.get_docstring(module) or not module.body else [name]) + list(visit(module, name))


@pytest.mark.parametrize("name", MODULES)
def test_all_that_is_public_is_documented(name: str) -> None:
    assert not undocumented(name)


@pytest.mark.parametrize("name", mlpx.__all__)
def test_all_that_is_exported_is_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(mlpx, name))


@pytest.mark.parametrize("name", list(ops.ALL))
def test_op_names_its_kernels_after_itself(name: str) -> None:
    op = ops.ALL[name]
    family = op.reference.__module__.rpartition(".")[2].removeprefix("_")
    for backend, folder in (("numpy", "cpu"), ("cupy", "cuda")):
        if backend in op.kernels:
            assert op.kernels[backend] == f"mlpx_kernels.{folder}.{family}:{name}"


@pytest.mark.parametrize("name", list(ops.ALL))
def test_op_has_its_gradient_beside_it(name: str) -> None:
    if name.endswith("_grad"):
        forward = ops.ALL[name.removesuffix("_grad")]
        assert forward.reference.__module__ == ops.ALL[name].reference.__module__


OLD_WORDS = re.compile(
    r"\b(crew|bell|LINGER|turned weights|surprise|alloc_room|summed_apart|alike_from)\b", re.IGNORECASE
)
"""Words that were replaced by the field's terms: worker pool, wake-up, transposed, nll, …; see the glossary
in kernels/mlpx_kernels/README.md."""


@pytest.mark.parametrize("name", MODULES)
def test_the_field_s_terms_are_used(name: str) -> None:
    assert not OLD_WORDS.findall(MODULES[name].read_text(encoding="utf-8"))


def test_an_old_word_would_be_seen() -> None:
    assert OLD_WORDS.findall("def crew(): ...  # surprise") == ["crew", "surprise"]


FILES = sorted([*MODULES.values(), *TESTS.rglob("*.py")])


def label(file: Path) -> str:
    return "/".join((*file.parts[-3:],)) if not file.is_relative_to(ROOT) else file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", FILES, ids=label)
def test_a_file_fits_in_the_head(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES or LONGER.get(label(file)), f"{len(lines)} lines"


def test_every_folder_of_sources_goes_into_the_wheel() -> None:
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    data = project["tool"]["setuptools"]["package-data"]
    for name, file in MODULES.items():
        assert (file.parent / "__init__.py").exists(), f"{name}: its folder is no package"
    for file in SOURCES["mlpx_kernels"].rglob("*.cu*"):
        package = ".".join(("mlpx_kernels", *file.relative_to(SOURCES["mlpx_kernels"]).parent.parts))
        assert f"*{file.suffix}" in data[package], f"{file.name}: not in the package data of {package}"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_module_can_be_imported(name: str) -> None:
    import_module(name)
