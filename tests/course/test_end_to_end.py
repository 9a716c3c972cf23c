"""The course as a newcomer meets it: a fresh environment, the wheel, ``trtlearn lab``, notebook 00,
the first figure.

It needs the package index and a few minutes, so it runs where ``CI`` or ``TRTLEARN_END_TO_END`` is
set: ``make test`` in CI, or ``TRTLEARN_END_TO_END=1 .venv/bin/pytest -s
tests/course/test_end_to_end.py``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

if importlib.util.find_spec("selenium") is None:
    pytest.skip("needs selenium: pip install 'trtlearn[test]'", allow_module_level=True)
if not Path("/usr/bin/chromium").exists() or not Path("/usr/bin/chromedriver").exists():
    pytest.skip(
        "needs a browser: apt-get install chromium chromium-driver", allow_module_level=True
    )

from selenium.webdriver.common.by import By

from tools import browser as lab

ROOT = Path(__file__).resolve().parent.parent.parent
ASKED = bool(os.environ.get("CI") or os.environ.get("TRTLEARN_END_TO_END"))

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.flaky(reruns=1),  # it needs the package index and a browser
    pytest.mark.skipif(
        not ASKED, reason="takes minutes and the package index: set TRTLEARN_END_TO_END=1"
    ),
]


def call(*command: object, **options: object) -> None:
    answer = subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, text=True, **options
    )  # type: ignore[call-overload]
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]


def test_from_nothing_to_the_first_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheels, reader = tmp_path / "wheels", tmp_path / "reader"
    reader.mkdir()
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, ROOT)
    start = time.monotonic()
    call(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    call(
        python,
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        f"{next(wheels.glob('*.whl'))}[lab]",
    )
    installed = time.monotonic() - start
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "JUPYTER", "VIRTUAL"))
    }
    env |= {
        "HOME": str(reader),
        "TRTLEARN_HOME": str(reader / "home"),
        "JUPYTER_CONFIG_DIR": str(reader / "config"),
    }
    port, log = lab.free_port(), tmp_path / "log"
    with log.open("w") as output:
        command = [python.with_name("trtlearn"), "lab", "--no-browser", "--port", str(port)]
        process = subprocess.Popen(command, cwd=reader, env=env, stdout=output, stderr=output)
    try:
        address = lab.wait_for(
            lambda: re.search(
                r"http://(?:localhost|127\.0\.0\.1):\d+/lab/tree/\S+token=\w+", log.read_text()
            ),
            90,
            "trtlearn lab did not say its address",
        )[0].replace("localhost", "127.0.0.1")
        assert (reader / "trtlearn-course" / "00_what_int8_does.ipynb").is_file()
        with lab.chromium() as page:
            page.get(address)
            opened = "return document.querySelectorAll('.jp-Notebook .jp-CodeCell').length > 3"
            lab.wait_for(lambda: page.execute_script(opened), 90, "notebook 00 did not open")
            run_menu(page)
            drawn = ".jp-OutputArea .js-plotly-plot .main-svg"
            lab.wait_for(
                lambda: page.find_elements(By.CSS_SELECTOR, drawn), 120, "no figure was drawn"
            )
            seen = time.monotonic() - start
            figure = page.find_element(By.CSS_SELECTOR, drawn)
            page.execute_script("arguments[0].scrollIntoView()", figure)
            assert figure.size["height"] > 200
            assert [line for line in lab.faults(page) if "were not run" not in line] == []
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(tmp_path / "venv", ignore_errors=True)
    with capsys.disabled():
        print(
            f"\nfrom nothing to the first figure: {seen:.0f} s, of which {installed:.0f} s installing"
        )
    assert seen < 900


def run_menu(page: object) -> None:
    """Run, Run All Cells: as a reader does, by the menu."""
    find = page.find_elements  # type: ignore[attr-defined]

    def click(selector: str, words: str) -> bool:
        for one in find(By.CSS_SELECTOR, selector):
            if one.text.strip() == words and one.is_displayed():
                one.click()
                return True
        return False

    lab.wait_for(lambda: click(".lm-MenuBar-item", "Run"), 30, "no menu Run")
    lab.wait_for(lambda: click(".lm-Menu-itemLabel", "Run All Cells"), 30, "no entry Run All Cells")
