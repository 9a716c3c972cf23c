"""The versions that trtlearn claims, tried: `make compat`.

    python -m tools.compat [--python 3.10 3.14 /path/to/python] [--set lowest newest] [--keep FOLDER] [TESTS ...]

For each Python and each set, uv makes a fresh environment with trtlearn and its ``lab`` extra.
``lowest`` takes the lowest version of each dependency that pyproject.toml allows and that has a wheel
for this Python, and the newest of what those need; ``newest`` takes the newest of all. Then the tests
run, without a browser and without a GPU, and a table says what passed. Without ``--python`` the oldest
Python that pyproject.toml names is tried, and the newest of them that is here or that uv can fetch.
The exit status is 1 where one set does not install or fails.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    *("tests/engine", "tests/model", "tests/int8", "tests/calibration", "tests/recorded"),
    *("tests/live", "tests/trtexec", "tests/show", "tests/cli", "tests/course", "tests/whole"),
)
SKIPPED = (  # what needs a browser, runs notebooks for many minutes, or tries the project's own tools
    *("course/test_browser.py", "course/test_end_to_end.py", "course/test_figures.py"),
    *("course/test_scenes.py", "course/test_notebooks.py", "course/test_live_notebooks.py"),
    *("course/test_reading.py", "whole/test_site.py", "whole/test_packaging.py"),
    *("whole/test_readme.py", "whole/test_machines.py", "whole/test_imports.py"),
)
TOOLS = (
    "pytest>=8",
    "pytest-rerunfailures>=14",
    "hypothesis>=6.100",
    "nbclient",
    "nbformat",
    "ruff>=0.6",
)


@dataclass(frozen=True)
class Outcome:
    """What one set of versions came to, as a row of the table."""

    python: str
    which: str
    versions: str
    result: str
    passed: bool

    def __str__(self) -> str:
        return f"| {self.python} | {self.which} | {self.versions} | {self.result} |"


def uv(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run uv and keep what it says."""
    program = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["?"])[-1].strip()


def find_python(wanted: str) -> str:
    """The program of this version among pyenv's; else ``wanted`` itself, which uv finds or fetches."""
    versions = Path.home() / ".pyenv" / "versions"
    found = sorted(versions.glob(f"{Path(wanted).name}.*/bin/python"))
    return str(found[-1]) if found else wanted


def make_environment(wanted: str, folder: Path) -> str:
    """An empty environment with this Python; "" or why there is none."""
    made = uv("venv", "--quiet", "--clear", "--no-project", "--python", find_python(wanted), folder)
    return "" if made.returncode == 0 else last_line(made.stderr)


def oldest_and_newest(folder: Path) -> list[str]:
    """Of the Pythons that pyproject.toml names the oldest, and the newest that is to be had."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    oldest, *others = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    for version in reversed(others):
        problem = make_environment(version, folder)
        if not problem:
            return [oldest, version]
        print(f"Python {version} is not to be had: {problem}", flush=True)
    return [oldest]


def direct_dependencies() -> list[str]:
    """The packages that trtlearn itself and the extras cli and lab name, without their bounds."""
    needs = metadata.requires("trtlearn") or []
    own = [need for need in needs if re.search(r"extra == .(cli|lab).|^[^;]*$", need)]
    names = {re.split(r"[^\w-]", need, maxsplit=1)[0] for need in own}
    return sorted(names - {"trtlearn"})


def try_set(wanted: str, which: str, folder: Path, tests: list[str]) -> Outcome:
    """Install one set and run the tests."""
    if problem := make_environment(wanted, folder):
        return Outcome(wanted, which, "", f"not tried: {problem}", False)
    program = folder / "bin" / "python"
    ask = [program, "-c", "import platform; print(platform.python_version())"]
    python = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    install = ["pip", "install", "--quiet", "--python", program]
    install += ["--only-binary", ":all:", "--no-binary", "trtlearn"]  # no compiling of old sources
    resolution = "lowest-direct" if which == "lowest" else "highest"
    for packages in (["--resolution", resolution, "-e", f"{ROOT}[lab]"], TOOLS):
        installed = uv(*install, *packages)
        if installed.returncode:
            reason = last_line(installed.stderr)
            return Outcome(python, which, "", f"does not install: {reason}", False)
    listed = uv("pip", "freeze", "--python", program).stdout
    frozen = dict(re.findall(r"^([\w-]+)==(\S+)$", listed, re.MULTILINE))
    versions = ", ".join(f"{name} {frozen.get(name)}" for name in direct_dependencies())
    print(f"\nPython {python}, {which}: {versions}", flush=True)
    flags = ["-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]
    flags += [f"--ignore=tests/{name}" for name in SKIPPED]
    run = [program, "-m", "pytest", *flags, *tests]
    last = ""
    with subprocess.Popen(run, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last = line.strip() or last
    return Outcome(python, which, versions, last, process.returncode == 0)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", nargs="+", help="versions or programs to try")
    parser.add_argument("--set", nargs="+", default=["lowest", "newest"], dest="sets")
    parser.add_argument("--keep", type=Path, help="leave the environments in this folder")
    parser.add_argument("tests", nargs="*", default=list(TESTS))
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="trtlearn-compat-") as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        for number, wanted in enumerate(options.python or oldest_and_newest(folder / "look")):
            for which in options.sets:
                environment = folder / f"{number}-{which}"
                outcomes.append(try_set(wanted, which, environment, options.tests))
    print("\n| Python | set | versions | tests |\n|---|---|---|---|")
    print(*outcomes, sep="\n")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
