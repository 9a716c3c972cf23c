"""Where TensorRT already is, it is used: Jetsons and NVIDIA's containers, made up in folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = "/usr/bin:/bin"
RELEASES = {
    "JetPack 5": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64",
    "JetPack 6": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
    "JetPack 7": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64",
}


def machine(folder: Path, jetpack: str = "", cuda: str = "") -> dict[str, str]:
    """A root with what a Jetson, or a CUDA toolkit, has in it; the environment that names it."""
    (folder / "etc").mkdir(parents=True)
    if jetpack:
        (folder / "etc/nv_tegra_release").write_text(RELEASES[jetpack] + "\n")
    if cuda:
        (folder / "usr/local/cuda").mkdir(parents=True)
        text = (
            f'{{\n   "cuda" : {{\n      "name" : "CUDA SDK",\n      "version" : "{cuda}.11"\n   }},'
        )
        text += '\n   "cuda_cudart" : {\n      "version" : "99.0.0"\n   }\n}\n'
        (folder / "usr/local/cuda/version.json").write_text(text)
    return {"TRTLEARN_ROOT": str(folder), "PATH": f"{folder}/bin:{BIN}", "HOME": str(folder)}


def packages(folder: Path, tensorrt: str = "10.3.0", numpy: str = "1.26.4") -> Path:
    """A folder of system packages: a TensorRT, and a numpy's metadata."""
    (folder / "tensorrt").mkdir(parents=True)
    text = f"__version__ = {tensorrt!r}\nBuilder = object\n"
    (folder / "tensorrt/__init__.py").write_text(text)
    (folder / f"numpy-{numpy}.dist-info").mkdir()
    (folder / f"numpy-{numpy}.dist-info/METADATA").write_text(f"Name: numpy\nVersion: {numpy}\n")
    return folder


def call(script: str, *arguments: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / script), *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_sees_the_systems_tensorrt_and_keeps_its_numpy(tmp_path: Path) -> None:
    env = machine(tmp_path / "root", "JetPack 6") | {"PYTHON": sys.executable}
    env["PYTHONPATH"] = str(packages(tmp_path / "usr lib/python3/dist-packages"))
    venv = tmp_path / "my venv"
    (venv / "bin").mkdir(parents=True)  # one that was made before, and hides the system's packages
    (venv / "bin/python").symlink_to(sys.executable)
    (venv / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    first = call("venv.sh", venv, env=env)
    assert first.returncode == 0, first.stderr
    assert "with the system's TensorRT" in first.stdout
    assert "include-system-site-packages = true" in (venv / "pyvenv.cfg").read_text()
    assert (venv / "constraints.txt").read_text() == "numpy>=1,<2\n"
    command = [venv / "bin/python", "-m", "pip", "config", "list"]
    known = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert f"global.constraint='{(venv / 'constraints.txt').as_uri()}'" in known.stdout
    second = call("venv.sh", venv, env=env)
    assert (second.returncode, second.stdout) == (0, "")


def test_jetpack_5_gets_a_word(tmp_path: Path) -> None:
    env = machine(tmp_path / "root", "JetPack 5")
    probe = 'case "$2" in *platform*) echo 3.8.10 ;; *) exit 1 ;; esac'
    stub(tmp_path / "root/bin/python3", probe)
    answer = call("venv.sh", tmp_path / "v", env=env | {"PATH": f"{tmp_path}/root/bin"})
    assert "JetPack 4 and 5 have TensorRT for Python 3.6 and 3.8 only" in answer.stdout
    assert "needs Python 3.10 to 3.14, found 3.8.10" in answer.stderr


def stub(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


DRIVER = 'echo "GPU 0: NVIDIA GPU  CUDA Version: {}.2"'
# (JetPack, toolkit's CUDA, driver's CUDA, TensorRT that the environment sees, what pip is given)
INSTALLS = [
    ("JetPack 6", "12", None, "10.3.0", "cuda-python==12.*"),
    ("JetPack 7", "13", None, "10.13.3", "cuda-python==13.*"),
    ("", "12", "13", "10.11.0", "cuda-python==12.*"),  # an older container on a newer driver
    ("", "13", "13", "11.0.0", "cuda-python==13.*"),
    ("", "", "12", "8.6.1", "cuda-python==12.*"),  # pip's TensorRT, no toolkit
    ("", "", "12", "", "tensorrt-cu12<11 cuda-python>=12.6,<13"),
    ("", "13", "12", "", "tensorrt-cu12<11 cuda-python>=12.6,<13"),  # the driver decides
    ("", "", "13", "", "tensorrt-cu13<11 cuda-python>=13,<14"),
    ("", "", "11", "", "-e .[gpu]"),
    ("JetPack 5", "11", None, "", None),
    ("JetPack 6", "12", None, "", None),
]


@pytest.mark.parametrize(("jetpack", "toolkit", "driver", "tensorrt", "installs"), INSTALLS)
def test_what_is_installed(
    tmp_path: Path,
    jetpack: str,
    toolkit: str,
    driver: str | None,
    tensorrt: str,
    installs: str | None,
) -> None:
    env = machine(tmp_path / "root", jetpack, toolkit)
    if driver:
        stub(tmp_path / "root/bin/nvidia-smi", DRIVER.format(driver))
    there = f"echo TensorRT {tensorrt} of /usr/lib/python3.10/dist-packages/tensorrt"
    lines = ['case "$*" in', f"*'import tensorrt'*) {there if tensorrt else 'exit 1'} ;;"]
    lines += ["*platform*) echo 3.10.12 ;;", f'*) echo "$@" >"{tmp_path}/pip" ;;', "esac"]
    stub(tmp_path / "v/bin/python", "\n".join(lines))
    answer = call("gpu.sh", tmp_path / "v", env=env)
    assert answer.returncode == 0, answer.stderr
    file = tmp_path / "pip"
    given = (
        file.read_text().strip().partition("--disable-pip-version-check ")[2]
        if file.exists()
        else None
    )
    assert given == installs
    if tensorrt:
        assert f"TensorRT {tensorrt} of /usr/lib" in answer.stdout
    if installs is None:
        assert "the course shows what was recorded" in answer.stdout
        assert "python3-libnvinfer" in answer.stdout


def test_the_extra_allows_what_pip_gives_today() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'gpu = ["tensorrt<11", "cuda-python>=12.6,<14"]' in text
    assert os.access(ROOT / "tools/gpu.sh", os.R_OK)
