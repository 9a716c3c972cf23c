"""What may import what: one file for TensorRT, one for CUDA, everything else usable with numpy
alone.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "trtlearn"
HEAVY = (
    "tensorrt",
    "cuda",
    "onnx",
    "onnxruntime",
    "plotly",
    "ipywidgets",
    "pandas",
    "rich",
    "IPython",
    "jax",
)
# Each room may import the rooms named before it, never one named after it.
ROOMS = [
    "errors",
    "record",
    "dtypes",
    "files",
    "model",
    "engine",
    "int8",
    "calibration",
    "builds",
    "live",
    "recorded",
    "networks",
    "trtexec",
    "show",
    "course",
    "cli",
]
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py") and "_course" not in path.parts
)


def imported(source: str, module: str = "module") -> set[str]:
    """What a file imports at its top, in its functions and for types only; trtlearn's as
    ".room.file".
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                start = ".".join(["trtlearn", *above, *filter(None, [node.module])])
            own = start.split(".")[0] == "trtlearn"
            names |= {f"{start}.{alias.name}" for alias in node.names} if own else {start}
    return {re.sub(r"^trtlearn\.", ".", name) for name in names}


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names if not name.startswith(".")}


def own(module: str) -> set[str]:
    """The modules of trtlearn that ``module`` imports."""
    source = PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    names = {name[1:] for name in imported(source, module) if name.startswith(".")}
    return {name for name in MODULES if any(f"{used}.".startswith(f"{name}.") for used in names)}


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """All that ``start`` imports, itself or through others."""
    known: set[str] = set()
    pending = graph[start]
    while pending:
        known |= pending
        pending = set().union(*(graph[name] for name in pending)) - known
    return known


def circles(graph: dict[str, set[str]]) -> set[str]:
    """The modules that import themselves through others."""
    return {name for name in graph if name in reached(graph, name)}


GRAPH = {name: own(name) for name in MODULES}


def bare(code: str, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a Python that finds numpy and trtlearn and no other package of
    site-packages.
    """
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
        [sys.executable, "-c", hook + code],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def test_only_trt_imports_tensorrt_and_only_cuda_imports_cuda() -> None:
    for path in PACKAGE.rglob("*.py"):
        used = roots(imported(path.read_text()))
        assert "tensorrt" not in used or path.name == "trt.py", path
        assert "cuda" not in used or path.name == "cuda.py", path
    assert "tensorrt" in roots(
        imported((PACKAGE / "live" / "trt.py").read_text())
    )  # the check sees what it looks for


@pytest.mark.parametrize(
    "line",
    [
        "from .b import x",
        "from . import b",
        "import trtlearn.b",
        "from trtlearn import b",
        "from trtlearn.b import x",
    ],
)
def test_an_import_is_seen_wherever_it_stands(line: str) -> None:
    for source in (line, f"def late():\n    {line}", f"if TYPE_CHECKING:\n    {line}"):
        assert imported(source) <= {".b", ".b.x"}
        assert imported(source)


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == set()
    assert circles({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"e"}, "e": {"d"}}) == {
        "a",
        "b",
        "d",
        "e",
    }


def test_imports_point_one_way() -> None:
    """Also those in functions and for types only: none of them is there to hide a circle."""
    assert not circles(GRAPH), f"these import each other: {sorted(circles(GRAPH))}"


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_rooms_below_it(module: str) -> None:
    floor = ROOMS.index(module.split(".", maxsplit=1)[0])
    above = {name for name in GRAPH[module] if ROOMS.index(name.split(".")[0]) > floor}
    assert not above, f"{module} imports {sorted(above)}, which stand above it"


def test_drawing_never_imports_tensorrt() -> None:
    for name in [name for name in MODULES if name.startswith("show.")]:
        live = reached(GRAPH, name) & {"live.trt", "live.cuda"}
        assert not live, f"{name} reaches {live}"


def test_package_needs_numpy_only_and_little_time() -> None:
    code = (
        "import sys, time; t = time.perf_counter(); import trtlearn; print(time.perf_counter() - t)"
    )
    seconds = min(float(bare(code).stdout) for _ in range(3))
    assert seconds < 0.3


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, trtlearn; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
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
            [sys.executable, "-m", "trtlearn", "--version"],
            check=True,
            capture_output=True,
            cwd=PACKAGE.parent,
        )
        after = os.times()
        spent.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    assert min(spent) < 0.5


@pytest.mark.parametrize(
    "verb",
    [["--help"], ["cache", "show", "no.cache"], ["explain", "trtexec --int8 --onnx=no.onnx"]],
)
def test_command_line_loads_nothing_heavy(verb: list[str]) -> None:
    code = f"import sys; from trtlearn.cli.main import run; run({verb!r}); print([n for n in {HEAVY!r} if n in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert answer.stdout.splitlines()[-1] == "[]", answer.stderr


def test_command_line_without_its_packages_says_what_to_install() -> None:
    answer = bare("from trtlearn.__main__ import main; sys.exit(main(['doctor']))")
    assert answer.returncode == 2
    assert answer.stderr.strip().splitlines()[-1].endswith("pip install 'trtlearn[cli]'")
    assert "Traceback" not in answer.stderr
