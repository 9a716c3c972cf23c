"""A real JupyterLab and a real, headless Chromium, for screenshots and for tests of what the reader
sees.

Nothing outside this machine is asked: the page, plotly's JavaScript and the fonts come from
installed packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

ROOT = Path(__file__).resolve().parents[1]
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
CHROMIUM = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Lab:
    """A running JupyterLab: open a notebook with ``url(name)``."""

    port: int
    token: str
    folder: Path
    home: Path
    log: Path

    def url(self, name: str, app: str = "lab") -> str:
        """The address of the notebook alone, without file browser, in JupyterLab ("lab") or
        Notebook 7 ("notebook").
        """
        place = "doc/tree" if app == "lab" else "notebooks"
        return f"http://127.0.0.1:{self.port}/{place}/{name}?token={self.token}&reset"


@contextlib.contextmanager
def jupyter(notebooks: Path, theme: str = "light") -> Iterator[Lab]:
    """JupyterLab on a copy of the notebooks: what is run in it never changes the project's
    files.
    """
    with tempfile.TemporaryDirectory(prefix="trtlearn-lab-") as scratch:
        base = Path(scratch)
        folder, home = base / "notebooks", base / "home"
        shutil.copytree(notebooks, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        for name, value in {
            **SETTINGS,
            "apputils-extension/themes": {"theme": THEMES[theme]},
        }.items():
            file = base / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(value), encoding="utf-8")
        lab = Lab(free_port(), secrets.token_hex(16), folder, home, base / "log")
        env = {**os.environ, "TRTLEARN_MODE": "recorded", "TRTLEARN_HOME": str(home)}
        env |= {
            "JUPYTERLAB_SETTINGS_DIR": str(base / "settings"),
            "JUPYTER_RUNTIME_DIR": str(base / "runtime"),
        }
        env |= {
            "JUPYTERLAB_WORKSPACES_DIR": str(base / "workspaces"),
            "JUPYTER_CONFIG_DIR": str(base / "config"),
        }
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={lab.port}",
        ]
        command += [
            f"--IdentityProvider.token={lab.token}",
            f"--ServerApp.root_dir={folder}",
            "--allow-root",
        ]
        command += [
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
        ]
        command += ["--ServerApp.port_retries=0"]
        with lab.log.open("wb") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(lambda: answers(lab, process), 60, "JupyterLab did not start", lab)
            yield lab
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(lab: Lab, process: subprocess.Popen[bytes]) -> bool:
    """Whether the server answers; RuntimeError with its log where it has ended."""
    if process.poll() is not None:
        raise RuntimeError(
            f"JupyterLab ended with code {process.returncode}:\n{lab.log.read_text(encoding='utf-8')[-2000:]}"
        )
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{lab.port}/api?token={lab.token}", timeout=2
        ) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(
    condition: Callable[[], Any], seconds: float, what: str, lab: Lab | None = None
) -> Any:
    """The first true value of ``condition()``; TimeoutError that says what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError(
        f"{what} within {seconds:.0f} s"
        + (f":\n{lab.log.read_text(encoding='utf-8')[-2000:]}" if lab else "")
    )


@contextlib.contextmanager
def chromium(width: int = 1280, height: int = 1000) -> Iterator[webdriver.Chrome]:
    """Debian's Chromium, headless, with a profile of its own."""
    for name in ("/usr/bin/chromium", "/usr/bin/chromedriver"):
        if not Path(name).exists():
            raise FileNotFoundError(f"{name} is missing: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(
        prefix="trtlearn-chromium-", ignore_cleanup_errors=True
    ) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in (*CHROMIUM, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(
            options=options, service=webdriver.ChromeService("/usr/bin/chromedriver")
        )
        try:
            yield browser
        finally:
            browser.quit()


def open_notebook(
    browser: webdriver.Chrome, lab: Lab, name: str, app: str = "lab", timeout: float = 90
) -> None:
    """Open the notebook and wait until its kernel is idle."""
    browser.get(lab.url(name, app))
    ready = "return !!(window.jupyterapp && document.querySelector('.jp-Notebook .jp-Cell'))"
    wait_for(lambda: browser.execute_script(ready), timeout, f"{name} did not open", lab)
    idle = """const panel = [...window.jupyterapp.shell.widgets('main')][0];
        return panel && panel.context.sessionContext.session?.kernel?.status"""
    wait_for(
        lambda: browser.execute_script(idle) == "idle",
        timeout,
        f"the kernel of {name} did not start",
        lab,
    )


def run_all(browser: webdriver.Chrome, timeout: float = 180) -> None:
    """Run every cell and wait until none is running and all that they gave is drawn."""
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    busy = """const cells = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
        const kernel = [...window.jupyterapp.shell.widgets('main')][0].context.sessionContext.session?.kernel;
        return cells.some(cell => cell.textContent.includes('*')) || kernel?.status !== 'idle'"""
    time.sleep(1)
    wait_for(
        lambda: not browser.execute_script(busy), timeout, "the notebook did not run to its end"
    )
    time.sleep(2)


def cells(browser: webdriver.Chrome) -> list[WebElement]:
    """The notebook's cells on the page, in order."""
    return browser.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-Cell")


def faults(browser: webdriver.Chrome) -> list[str]:
    """Error outputs on the page, widgets that did not load, and requests that left this machine."""
    left = [
        one.text
        for one in browser.find_elements(By.CSS_SELECTOR, ".jp-CodeCell .jp-InputPrompt")
        if "[ ]" in one.text
    ]
    errors = [f"{len(left)} cells were not run"] if left else []
    errors += [
        one.text
        for one in browser.find_elements(
            By.CSS_SELECTOR, "[data-mime-type$='stderr'], [data-mime-type$='error']"
        )
    ]
    page = browser.find_element(By.TAG_NAME, "body").text
    errors += [
        line
        for line in page.splitlines()
        if "Error displaying widget" in line or "model not found" in line
    ]
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message.get("method") == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith(
                ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "chrome")
            ):
                errors.append(f"asked the network for {url}")
    return errors
