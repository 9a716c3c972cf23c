"""Draw docs/tradeoff.png, the README's picture, from the recordings, and put its words beside it. Needs Chromium."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from trtlearn import plots
from trtlearn.records import Experiment
from trtlearn.replay import open_bench
from trtlearn.variants import LABELS

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT = 1100, 480
SHOWN = ("fp32", "fp16", "int8-placeholder", "int8-random", "int8-entropy2", "int8-minmax", "int8-legacy")


def screenshot(page: Path, picture: Path) -> None:
    """Let Chromium, without a screen, draw ``page`` into ``picture``."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--no-first-run",
             "--force-device-scale-factor=2", "--virtual-time-budget=5000", f"--user-data-dir={profile}",
             f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", page.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


def words(experiments: list[Experiment]) -> str:
    """What the picture shows, for readers who cannot see it."""
    found = [
        f"{LABELS[e.variant]} {100 * e.predictions.accuracy:.1f} %" for e in experiments if e.predictions is not None
    ]
    return "Bars of accuracy, latency and plan size of the mobile network; accuracy: " + ", ".join(found)


def main() -> int:
    """Write the picture; 2 where the recordings are missing."""
    bench = open_bench("mobile")
    experiments = [bench.run(name) for name in SHOWN if name in bench.variants]
    question = "One small MobileNet, built seven ways: what does each cost, and what does it win?"
    figure = plots.tradeoff(experiments, labels=LABELS, question=question)
    figure.update_layout(width=WIDTH, height=HEIGHT, paper_bgcolor="white", plot_bgcolor="white", margin_t=60)
    picture = ROOT / "docs" / "tradeoff.png"
    picture.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "figure.html"
        figure.write_html(page, include_plotlyjs=True, full_html=True, config={"displayModeBar": False})
        page.write_text(page.read_text().replace("<body>", '<body style="margin:0;background:white">'))
        screenshot(page, picture)
    readme = ROOT / "README.md"
    marks = re.compile(r"(<!-- picture -->\n).*?(<!-- end of picture -->)", re.S)
    line = f"![{words(experiments)}](docs/tradeoff.png)"
    readme.write_text(marks.sub(lambda found: f"{found[1]}{line}\n{found[2]}", readme.read_text()))
    print(f"wrote {picture.relative_to(ROOT)} ({picture.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
