"""Screenshots of notebooks as their readers see them: JupyterLab, run from the recordings, light
and dark.

    python -m tools.screenshots notebooks/01*.ipynb --out /tmp/shots [--theme dark] [--width 1280]

Writes OUT/NN-THEME-CELL.png for each cell with an output, OUT/NN-THEME-page.png for the whole
notebook, and OUT/NN-THEME-faults.txt where something failed on the page; its exit code is 1 then.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import nbformat

from tools.browser import THEMES, cells, chromium, faults, jupyter, open_notebook, run_all

TALLEST = 15_000  # pixels: higher pages are cut


def shoot(notebook: Path, theme: str, out: Path, width: int) -> list[str]:
    """Run the notebook in the theme, save its pictures, and return what failed on the page."""
    names = [cell.id for cell in nbformat.read(notebook, as_version=4).cells]
    stem = f"{notebook.name[:2]}-{theme}"
    with jupyter(notebook.parent, theme) as lab, chromium(width, 1000) as browser:
        open_notebook(browser, lab, notebook.name)
        run_all(browser)
        found = faults(browser)
        tall = browser.execute_script(
            "return [...document.querySelectorAll('.jp-Cell')].reduce((sum, cell) => sum + cell.offsetHeight + 12, 200)"
        )
        browser.set_window_size(width, min(int(tall), TALLEST))
        time.sleep(2)
        browser.execute_script(
            "for (const box of document.querySelectorAll('.jp-WindowedPanel-outer')) box.scrollTop = 0"
        )
        browser.save_screenshot(str(out / f"{stem}-page.png"))
        for name, cell in zip(names, cells(browser), strict=True):
            if cell.find_elements("css selector", ".jp-OutputArea-output"):
                cell.screenshot(str(out / f"{stem}-{name}.png"))
    if found:
        (out / f"{stem}-faults.txt").write_text("\n".join(found), encoding="utf-8")
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("shots"))
    parser.add_argument("--theme", choices=(*THEMES, "both"), default="both")
    parser.add_argument("--width", type=int, default=1280)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    bad = 0
    for notebook in given.notebooks:
        for theme in THEMES if given.theme == "both" else [given.theme]:
            found = shoot(notebook, theme, given.out, given.width)
            bad += len(found)
            print(
                f"{notebook.name}, {theme}: {len(found)} faults"
                + "".join(f"\n  {line}" for line in found)
            )
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
