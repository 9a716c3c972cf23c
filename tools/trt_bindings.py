"""NVIDIA's own Python bindings of several TensorRT versions, importable without its libraries.

    python -m tools.trt_bindings          fetch the wheels that are missing, about 1 MB each

The wheels lie in build/bindings (TRTLEARN_BINDINGS names another folder). ``prepare`` unpacks one
beside stand-in libraries: gcc makes them from the functions that the bindings ask for, and each
returns a null pointer. So classes, enums and signatures are there, and nothing can be built.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("TRTLEARN_BINDINGS") or ROOT / "build" / "bindings")
PACKAGE = "tensorrt_cu12_bindings"
VERSIONS = {
    "10.0": "10.0.1",
    "10.3": "10.3.0",
    "10.7": "10.7.0",
    "10.13": "10.13.3.9",
    "10.16": "10.16.1.11",
    "11.4": "11.4.0.106",
}
"""TensorRT version -> the release of its bindings."""


def wheel(version: str) -> Path | None:
    """The wheel of ``version`` for this Python; None where it was not fetched."""
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    return next(FOLDER.glob(f"{PACKAGE}-{VERSIONS[version]}-{tag}-*.whl"), None)


def fetch() -> list[str]:
    """Fetch every wheel that is missing; the versions that cannot be had here."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "-d", str(FOLDER)]
    for version, release in VERSIONS.items():
        if wheel(version) is None:
            subprocess.run(
                [*command, f"{PACKAGE}=={release}"], check=False, stderr=subprocess.DEVNULL
            )
    return [version for version in VERSIONS if wheel(version) is None]


def why_not(version: str) -> str | None:
    """Why the bindings of ``version`` cannot be imported here; None where they can."""
    tools = [tool for tool in ("gcc", "nm", "readelf") if shutil.which(tool) is None]
    if tools:
        return f"no {', '.join(tools)} here to make the stand-in libraries"
    if wheel(version) is None:
        return f"the wheel of {PACKAGE} {VERSIONS[version]} is not here: make test fetches it"
    return None


def _asked(option: str, tool: str, file: Path, pattern: str) -> list[str]:
    command = [tool, *option.split(), str(file)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.findall(pattern, text, re.M)


def prepare(version: str, folder: Path) -> dict[str, str]:
    """Unpack the bindings into ``folder`` and make their libraries: the environment to run with."""
    source = wheel(version)
    assert source is not None, why_not(version)
    with zipfile.ZipFile(source) as archive:
        archive.extractall(folder)
    (bindings,) = folder.glob("tensorrt_bindings/tensorrt*.so")
    needed = _asked("-d", "readelf", bindings, r"\[(lib(?:nvinfer|nvonnxparser)\S*)\]")
    functions = _asked("-D --undefined-only", "nm", bindings, r" U ((?:create|get|init)\w+)$")
    lines = [f"void *{name}(void) {{ return 0; }}" for name in functions]
    numbers = [int(part) for part in VERSIONS[version].split(".")[:3]]
    number = numbers[0] * 10_000 + numbers[1] * 100 + numbers[2]
    lines.append(f"int getInferLibVersion(void) {{ return {number}; }}")
    code = folder / "stand_in.c"
    code.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for library in needed:
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", library, code.name]
        subprocess.run(command, check=True, cwd=folder)
    return {
        "TRTLEARN_TENSORRT": "tensorrt_bindings",
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(folder)]),
    }


if __name__ == "__main__":
    if missing := fetch():
        print(f"not to be had here, the tests that need them are skipped: {', '.join(missing)}")
