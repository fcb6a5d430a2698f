"""README and docs keep their word: their code runs, their commands exist, their tables and links are true."""

import re
import subprocess
from pathlib import Path

import pytest

from mlpx import (
    estimators,  # noqa: F401  (its layers are known before an example's are taken away)
    ops,
)
from mlpx.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    file.name: file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [(page, number, *block) for page, text in PAGES.items() for number, block in enumerate(FENCE.findall(text))]
PYTHON = [(page, number, code) for page, number, language, code in BLOCKS if language == "python"]
SHELL = [code for page, _, language, code in BLOCKS if (page, language) == ("README.md", "sh")]
ARCHITECTURE = PAGES["architecture.md"]


def ops_table() -> str:
    """Return the table of ops, as it must stand between the title and the next heading."""
    lines = ["| op | NumPy | CuPy |", "|---|---|---|"]
    for name, op in ops.ALL.items():
        state = ["kernel" if backend in op.kernels else "reference" for backend in ("numpy", "cupy")]
        lines.append(f"| `{name}` | {state[0]} | {state[1]} |")
    return "\n".join(lines)


def test_every_block_is_python_or_a_command() -> None:
    assert {language for _, _, language, _ in BLOCKS} <= {"python", "sh", "text"}
    assert len(SHELL) == 2


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_first_example_prints_what_the_readme_says(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[0][2], "README.md", "exec"), {"__name__": "readme"})
    said = next(code for page, _, language, code in BLOCKS if (page, language) == ("README.md", "text"))
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[page]):
        assert target.startswith("https://") or (folder / target).is_file(), target


@pytest.mark.parametrize(("page", "number", "code"), PYTHON, ids=[f"{page}-{number}" for page, number, _ in PYTHON])
def test_python_blocks_run(page, number, code, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before, layers = dict(ops.ALL), dict(__import__("mlpx").layers.Layer.kinds)
    try:
        exec(compile(code, page, "exec"), {"__name__": "readme"})
    finally:  # an op or a layer that an example defines is not the library's
        ops.ALL.clear()
        ops.ALL.update(before)
        kinds = __import__("mlpx").layers.Layer.kinds
        kinds.clear()
        kinds.update(layers)


def test_table_of_ops_is_true() -> None:
    assert ops_table() in ARCHITECTURE, f"The table of ops in docs/architecture.md should be:\n{ops_table()}"


def test_commands_set_up_their_own_environments() -> None:
    for command in SHELL:
        assert re.match(r"python3 -m venv (\S+) && \1/bin/pip install ", command)
    assert SHELL[0].strip().endswith("mlpx demo digits")
    assert SHELL[1].strip().endswith("python -m pytest -n 2")


def test_ci_runs_the_test_command_from_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text()
    awk = re.search(r"awk '(.*?)' README.md", script)
    assert awk is not None
    found = subprocess.run(["awk", awk[1], "README.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == SHELL[1]


def test_subcommands_named_exist() -> None:
    parser = main._parser()
    for command in {c for text in PAGES.values() for c in re.findall(r"`mlpx (\w+)[^`]*`", text)} | {"demo"}:
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args([command, "--help"])
        assert stopped.value.code == 0


def test_files_named_in_the_tree_exist() -> None:
    tree = ARCHITECTURE.partition("## The tree")[2].partition("Imports go one way")[0]
    for name in re.findall(r"[\w/]+\.py\b", tree):
        assert any(found.is_file() for root in ("mlpx", "kernels") for found in (ROOT / root).rglob(name)), name


def test_every_module_has_its_place_in_the_tree() -> None:
    tree = ARCHITECTURE.partition("## The tree")[2].partition("Imports go one way")[0]
    named = set(re.findall(r"[\w/]+\.py\b", tree)) | set(re.findall(r"(\w+)/ ", tree))
    there = {file.name for file in (ROOT / "mlpx").iterdir()}
    assert not there - named - {"__init__.py", "__pycache__", "py.typed"}
