"""The versions that trtlearn claims, tried: `make compat`.

    python -m tools.compat [--python 3.10 3.14] [--set lowest newest] [--keep FOLDER] [TESTS ...]

For each Python and each set a fresh environment in a temporary folder gets trtlearn with its
``lab`` extra: ``lowest`` holds each dependency at the lower bound in pyproject.toml, ``newest`` takes
what pip finds. Then the tests run. The exit status is 1 where one set does not install or fails.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("cli", "lab")
TESTS = (
    *("tests/cli/test_cli.py", "tests/model/test_onnxfile.py", "tests/model/test_pieces.py"),
    *("tests/calibration/test_calibrate.py", "tests/trtexec/test_explain.py", "tests/show"),
    *("tests/whole/test_face.py",),
)
"""A test of each room that uses a dependency: a few minutes for each set."""
TOOLS = ("pytest>=8", "pytest-rerunfailures>=14", "hypothesis>=6.100", "nbclient", "nbformat")


def lower_bounds(text: str) -> dict[str, str]:
    """Package -> its lower bound, for what ``EXTRAS`` and the package itself need.

    >>> lower_bounds('dependencies = ["numpy>=1.24"]\\ncli = ["rich>=13"]\\nx = ["y>=1"]')
    {'numpy': '1.24', 'rich': '13'}
    """
    bounds: dict[str, str] = {}
    for key, names in re.findall(r"^([\w-]+) = \[(.*)\]$", text, re.MULTILINE):
        if key == "dependencies" or key in EXTRAS:
            bounds |= dict(re.findall(r'"([\w-]+)>=([\w.]+)', names))
    return bounds


def find_python(version: str) -> str | None:
    """A Python of this version: on the path, or among pyenv's."""
    candidates = [f"python{version}"]
    candidates += sorted(
        str(path) for path in (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")
    )
    for program in candidates:
        ask = [program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            found = subprocess.run(ask, capture_output=True, text=True, check=False)
        except OSError:
            continue
        if found.stdout.strip() == version:
            return program
    return None


def try_set(python: str, which: str, folder: Path, tests: list[str]) -> str:
    """Install one set and run the tests; one line that says how it went."""
    environment = folder / f"{Path(python).name}-{which}"
    program = str(environment / "bin" / "python")
    subprocess.run([python, "-m", "venv", environment], check=True)
    command = [program, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["-e", f"{ROOT}[lab]", *TOOLS]
    if which == "lowest":
        bounds = lower_bounds((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        constraints = folder / "lowest.txt"
        lines = "".join(f"{name}=={version}\n" for name, version in bounds.items())
        constraints.write_text(lines, encoding="utf-8")
        command += ["-c", str(constraints)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        return f"does not install: {(installed.stderr.strip().splitlines() or ['?'])[-1]}"
    subprocess.run([program, "-m", "pip", "freeze", "--exclude-editable"], check=False)
    flags = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    ran = subprocess.run([program, "-m", "pytest", *flags, *tests], cwd=ROOT, check=False)
    return "passes" if ran.returncode == 0 else f"fails (pytest ended with {ran.returncode})"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", nargs="+", default=["3.10", "3.14"], help="versions to try")
    parser.add_argument("--set", nargs="+", default=["lowest", "newest"], dest="sets")
    parser.add_argument("--keep", type=Path, help="leave the environments in this folder")
    parser.add_argument("tests", nargs="*", default=list(TESTS))
    options = parser.parse_args()
    results: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="trtlearn-compat-") as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        for version in options.python:
            python = find_python(version)
            for which in options.sets:
                title = f"Python {version}, {which}"
                print(f"\n{title}", flush=True)
                results[title] = (
                    "not tried: there is no such Python here"
                    if python is None
                    else try_set(python, which, folder, options.tests)
                )
    print()
    for title, result in results.items():
        print(f"{title}: {result}")
    return 0 if all(result == "passes" for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
