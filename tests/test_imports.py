"""What may import what: one file for TensorRT, one for CUDA, everything else usable with numpy alone."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "trtlearn"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))
HEAVY = ("tensorrt", "cuda", "onnx", "onnxruntime", "plotly", "ipywidgets", "pandas", "rich", "IPython", "jax")
# What shows (drawing, notebooks, the terminal) stands on what knows, never the other way round.
SHOWING = ("plots", "widget", "cli", "lab", "doctor", "exercises", "bring", "report")
BASE = {"errors": set(), "paths": {"errors"}, "record": {"errors"}, "records": {"record"}}


def imported(path: Path, *, anywhere: bool) -> set[str]:
    """Top-level names of packages that a file imports: wherever it does, or only when it is itself imported."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            found |= {f".{alias.name}" for alias in node.names} if prefix == "." else {prefix}
        if not anywhere and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if not anywhere and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names if not name.startswith(".")}


def own(names: set[str]) -> set[str]:
    return {name[1:].split(".")[0] for name in names if name.startswith(".")} & set(MODULES)


def bare(code: str, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a Python that finds numpy and trtlearn and no other package of site-packages."""
    hook = f"""
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
allowed = set(sys.stdlib_module_names) | {{"numpy", "trtlearn"}}
sys.path.insert(0, {str(PACKAGE.parent)!r})
sys.meta_path.insert(0, Bare())
"""
    return subprocess.run(
        [sys.executable, "-c", hook + code], check=False, capture_output=True, text=True, timeout=seconds
    )


def test_only_trt_imports_tensorrt_and_only_cuda_imports_cuda() -> None:
    for path in PACKAGE.rglob("*.py"):
        used = roots(imported(path, anywhere=True))
        assert "tensorrt" not in used or path.name == "trt.py", path
        assert "cuda" not in used or path.name == "cuda.py", path
    assert "tensorrt" in roots(imported(PACKAGE / "trt.py", anywhere=True))  # the check sees what it looks for


def test_imports_point_one_way() -> None:
    graph = {name: own(imported(PACKAGE / f"{name}.py", anywhere=False)) for name in MODULES}
    for name, allowed in BASE.items():
        assert graph[name] <= allowed, f"{name} imports {graph[name] - allowed}"
    done: set[str] = set()
    while waiting := set(graph) - done:
        ready = {name for name in waiting if graph[name] <= done}
        assert ready, f"these import each other in a circle: {sorted(waiting)}"
        done |= ready
    for name, used in graph.items():
        if not name.startswith(SHOWING):
            showing = {other for other in used if other.startswith(SHOWING)}
            assert not showing, f"{name} imports {showing}"


def test_drawing_never_imports_tensorrt() -> None:
    graph = {name: own(imported(PACKAGE / f"{name}.py", anywhere=False)) for name in MODULES}
    for name in [name for name in MODULES if name.startswith(("plots", "widgets"))]:
        reached, pending = set(), {name}
        while pending:
            reached |= pending
            pending = set().union(*(graph[item] for item in pending)) - reached
        assert not reached & {"trt", "cuda"}, f"{name} reaches {reached & {'trt', 'cuda'}}"


def test_package_needs_numpy_only_and_little_time() -> None:
    code = "import sys, time; t = time.perf_counter(); import trtlearn; print(time.perf_counter() - t)"
    seconds = min(float(bare(code).stdout) for _ in range(3))
    assert seconds < 0.3


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, trtlearn; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert answer.stdout.strip() == "[]", answer.stderr


def test_every_module_imports_bare_or_names_its_extra() -> None:
    code = f"""
import importlib
for name in {MODULES!r}:
    try:
        importlib.import_module("trtlearn." + name)
    except ImportError as problem:
        if "pip install 'trtlearn[" not in str(problem):
            print(name, repr(problem))
"""
    answer = bare(code)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == ""


def test_command_line_starts_quickly() -> None:
    """Startup stays under half a second of CPU time: what a verb needs is imported by the verb."""
    spent = []
    for _ in range(5):
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "trtlearn", "--version"], check=True, capture_output=True, cwd=PACKAGE.parent
        )
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(spent) < 0.5


@pytest.mark.parametrize(
    "verb", [["--help"], ["cache", "show", "no.cache"], ["explain", "trtexec --int8 --onnx=no.onnx"]]
)
def test_command_line_loads_nothing_heavy(verb: list[str]) -> None:
    code = f"import sys; from trtlearn.cli import run; run({verb!r}); print([n for n in {HEAVY!r} if n in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert answer.stdout.splitlines()[-1] == "[]", answer.stderr


def test_command_line_without_its_packages_says_what_to_install() -> None:
    answer = bare("from trtlearn.__main__ import main; sys.exit(main(['doctor']))")
    assert answer.returncode == 2
    assert answer.stderr.strip().splitlines()[-1].endswith("pip install 'trtlearn[cli]'")
    assert "Traceback" not in answer.stderr
