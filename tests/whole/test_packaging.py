"""The wheel, the source package and the set-up scripts: what a reader gets on a fresh machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import trtlearn
from trtlearn.cli import lab
from trtlearn.errors import TrtlearnError
from trtlearn.files import notebooks_dir

ROOT = Path(__file__).parent.parent.parent
BIN = "/usr/bin:/bin"


def call(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, text=True, **options
    )  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source package and the wheel made from it."""
    folder = tmp_path_factory.mktemp("dist")
    answer = call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder


@pytest.fixture(scope="module")
def installed(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python in which ``import trtlearn`` is the wheel's, not the
    checkout's.
    """
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(next(packages.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    return {**os.environ, "PYTHONPATH": str(target), "JUPYTER_PREFER_ENV_PATH": "1"}


def members(path: Path) -> set[str]:
    if path.suffix == ".whl":
        return set(zipfile.ZipFile(path).namelist())
    with tarfile.open(path) as archive:
        return {name.split("/", 1)[-1] for name in archive.getnames()}


def tracked(*folders: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and not {"__pycache__", ".ipynb_checkpoints", "calib-results"} & set(path.parts)
    }


def test_wheel_holds_code_course_and_licence(packages: Path) -> None:
    names = members(next(packages.glob("*.whl")))
    assert tracked("trtlearn") <= names
    assert {f"trtlearn/_course/{name}" for name in tracked("notebooks", "data")} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {
        "trtlearn",
        f"trtlearn-{trtlearn.__version__}.dist-info",
    }


def test_data_and_wheel_are_small(packages: Path) -> None:
    data = sum((ROOT / name).stat().st_size for name in tracked("data"))
    assert data < 60e6
    assert next(packages.glob("*.whl")).stat().st_size < 40e6


def test_source_package_can_be_tested_and_built(packages: Path) -> None:
    names = members(next(packages.glob("*.tar.gz")))
    assert (
        tracked("trtlearn", "notebooks", "data", "tests", "recording", "tools")
        | {"Makefile", "README.md", "LICENSE"}
        <= names
    )
    assert not [name for name in names if name.startswith((".git/", ".venv", ".gpu"))]


def test_numpy_is_all_that_is_required(packages: Path) -> None:
    with zipfile.ZipFile(next(packages.glob("*.whl"))) as wheel:
        text = wheel.read(f"trtlearn-{trtlearn.__version__}.dist-info/METADATA").decode()
    required = re.findall(r"^Requires-Dist: (.+)$", text, re.M)
    assert [line for line in required if "extra ==" not in line] == ["numpy>=1.24"]
    assert {"gpu", "lab", "test", "cli"} <= set(re.findall(r"^Provides-Extra: (.+)$", text, re.M))
    assert any(line.startswith("tensorrt<11") for line in required)


def test_installed_wheel_finds_its_data(installed: dict[str, str], tmp_path: Path) -> None:
    code = "from trtlearn.files import *; print(data_dir()); print(notebooks_dir())"
    answer = call(sys.executable, "-c", code, env=installed, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert all(
        Path(line).is_relative_to(installed["PYTHONPATH"]) for line in answer.stdout.splitlines()
    )
    answer = call(sys.executable, "-m", "trtlearn", "doctor", "--json", env=installed, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr


def test_installed_course_is_copied_once_and_kept(
    installed: dict[str, str], tmp_path: Path
) -> None:
    code = "from trtlearn.cli.lab import course_folder; print(course_folder())"
    answer = call(sys.executable, "-c", code, env=installed, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    copy = tmp_path / "trtlearn-course"
    assert answer.stdout.strip() == str(copy)
    assert {path.name for path in copy.glob("*.ipynb")} == {
        path.name for path in notebooks_dir().glob("*.ipynb")
    }
    first = next(iter(sorted(copy.glob("*.ipynb"))))
    first.write_text("my own answers")
    call(sys.executable, "-c", code, env=installed, cwd=tmp_path)
    assert first.read_text() == "my own answers"


@pytest.mark.skipif(
    notebooks_dir() != ROOT / "notebooks", reason="trtlearn is installed from a wheel"
)
def test_checkout_is_opened_in_place(tmp_path: Path) -> None:
    assert lab.course_folder() == notebooks_dir()
    assert lab.course_folder(tmp_path / "mine") == tmp_path / "mine"
    assert list((tmp_path / "mine").glob("00*.ipynb"))


def test_lab_passes_its_options_on() -> None:
    command = lab.lab_command(notebooks_dir(), browser=False, port=8899)
    assert {"--no-browser", "--port=8899", f"--ServerApp.root_dir={notebooks_dir()}"} <= set(
        command
    )
    assert [part for part in command if part.startswith("--LabApp.default_url=/lab/tree/00")]
    assert not {"--no-browser", "--port=8899"} & set(lab.lab_command(notebooks_dir()))


def test_lab_without_jupyterlab_or_a_writable_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrtlearnError, match="cannot write"):
        lab.course_folder(tmp_path / "file" / "course")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrtlearnError, match=r"pip install 'trtlearn\[lab\]'"):
        lab.lab()


@pytest.fixture
def server(installed: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address that ``trtlearn lab --no-browser`` prints when run from the wheel."""
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "trtlearn", "lab", "--no-browser"],
            stdout=output,
            stderr=output,
            cwd=tmp_path,
            env={**installed, **places},
        )
    try:
        deadline = time.monotonic() + 60
        while not (
            found := re.search(
                r"http://(?:localhost|127\.0\.0\.1):\d+/lab/tree/\S+token=\w+", log.read_text()
            )
        ):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield found[0]
    finally:
        process.terminate()
        process.wait(20)


def test_lab_serves_the_first_notebook(server: str) -> None:
    assert "/lab/tree/00" in server
    name = re.search(r"tree/([^?]+)\?token=(\w+)", server)
    assert name is not None
    base = server.split("/lab/", maxsplit=1)[0]
    with urllib.request.urlopen(
        f"{base}/api/contents/{name[1]}?content=0&token={name[2]}", timeout=20
    ) as reply:
        assert reply.status == 200


def python_stub(folder: Path, name: str, version: str, *, has_venv: bool) -> None:
    """A program that answers as a Python of ``version`` does to the questions of tools/venv.sh."""
    major, minor = version.split(".")[:2]
    stub = folder / name
    stub.write_text(f"""#!/bin/sh
case "$2" in
  *version_info*'<='*) [ {major} -eq 3 ] && [ {minor} -ge 10 ] && [ {minor} -le 14 ] ;;
  *ensurepip*) {"true" if has_venv else "false"} ;;
  *platform*) echo {version} ;;
  *) echo {major}.{minor} ;;
esac
""")
    stub.chmod(0o755)


@pytest.mark.parametrize(
    ("version", "has_venv", "expected"),
    [
        ("3.9.2", True, "needs Python 3.10 to 3.14, found 3.9.2. Try: sudo apt install python3"),
        ("3.15.0", True, "needs Python 3.10 to 3.14, found 3.15.0."),
        ("3.11.2", False, "its venv module is not. Try: sudo apt install python3.11-venv"),
        (None, False, "found none."),
    ],
)
def test_set_up_without_a_fitting_python_is_one_line(
    tmp_path: Path, version: str | None, has_venv: bool, expected: str
) -> None:
    if version:
        python_stub(tmp_path, "python3", version, has_venv=has_venv)
    answer = call(
        "/bin/sh",
        ROOT / "tools/venv.sh",
        tmp_path / "v",
        env={"PATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert answer.returncode == 1
    assert expected in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "v").exists()


def test_set_up_makes_an_environment_once(tmp_path: Path) -> None:
    environment = {"PATH": BIN, "PYTHON": sys.executable}
    script = ROOT / "tools/venv.sh"
    first = call("/bin/sh", script, tmp_path / "v", env=environment)
    assert (first.returncode, (tmp_path / "v/bin/python").exists()) == (0, True), first.stderr
    second = call("/bin/sh", script, tmp_path / "v", env=environment)
    assert (second.returncode, second.stdout) == (0, "")


def test_failed_gpu_installation_does_not_stop_the_course(tmp_path: Path) -> None:
    """A GPU is there, TensorRT cannot be fetched: say so, and go on."""
    (tmp_path / "bin").mkdir()
    for name, text in {
        "nvidia-smi": "echo 'GPU 0: NVIDIA H200'",
        "bin/python": "echo no network; exit 1",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = ROOT / "tools/gpu.sh"
    answer = call("/bin/sh", script, tmp_path, env={"PATH": f"{tmp_path}:{BIN}"}, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "goes on with what was recorded" in answer.stdout
    assert "no network" in (tmp_path / "gpu-install.log").read_text()


def test_versions_agree() -> None:
    assert f"version: {trtlearn.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {trtlearn.__version__}" in (ROOT / "CHANGELOG.md").read_text()
