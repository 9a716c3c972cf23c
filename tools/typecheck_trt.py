"""Type-check the TensorRT side against the interface of TensorRT 10.13, which no CPU machine can
run.

The package tensorrt-stubs holds that interface, but mypy does not find it by itself (it has no
py.typed marker) and a few of its signatures are not valid Python. This copies it into build/stubs,
loosens those signatures, says how many, and runs mypy with it. Exit status: mypy's; 0 with a word
where the stubs are not installed.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "trtlearn" / "live").glob("*.py"))


def repaired(text: str) -> tuple[str, int]:
    """``text`` as valid Python, and how many signatures were loosened to (*args, **kwargs) ->
    Any.
    """
    lines, loosened = text.splitlines(), 0
    while True:
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as problem:
            number = (problem.lineno or 1) - 1
            found = re.match(r"(\s*)def (\w+)\(", lines[number])
            if found is None or loosened > 50:
                raise SystemExit(
                    f"typecheck_trt.py: line {number + 1} of the stubs cannot be repaired"
                ) from None
            ending = " ..." if lines[number].rstrip().endswith("...") else ""
            lines[number] = (
                f"{found[1]}def {found[2]}(self, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:{ending}"
            )
            loosened += 1
        else:
            return "\n".join(lines) + "\n", loosened


def main() -> int:
    """Prepare the stubs and run mypy."""
    packages = Path(sysconfig.get_path("purelib"))
    source = packages / "tensorrt_bindings" / "tensorrt.pyi"
    if not source.is_file():
        print("tensorrt-stubs is not installed: the TensorRT side was not checked against 10.13")
        return 0
    target = ROOT / "build" / "stubs"
    shutil.rmtree(target, ignore_errors=True)
    for name in ("tensorrt", "tensorrt_bindings"):
        (target / name).mkdir(parents=True)
        shutil.copy(packages / name / "__init__.pyi", target / name)
    text, loosened = repaired(source.read_text(encoding="utf-8"))
    (target / "tensorrt_bindings" / "tensorrt.pyi").write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--cache-dir",
        str(ROOT / "build" / "mypy-trt"),
        "--no-error-summary",
    ]
    command += [
        "--config-file",
        str(ROOT / "pyproject.toml"),
        *map(str, FILES),
    ]
    answer = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(target)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    ours = [line for line in answer.stdout.splitlines() if "build/stubs" not in line]
    print(
        "\n".join([*ours, answer.stderr]).strip()
        or f"checked against TensorRT 10.13 ({loosened} signatures loosened)"
    )
    return 1 if any(": error:" in line for line in ours) or answer.stderr else 0


if __name__ == "__main__":
    sys.exit(main())
