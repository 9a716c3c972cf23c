"""Draw docs/tradeoff.png, the README's picture, from the recordings, and put its words beside it.
Needs Chromium.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from trtlearn.builds import Build
from trtlearn.engine.records import LABELS
from trtlearn.recorded.tradeoffs import Tradeoff, tradeoff
from trtlearn.show import builds

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1100, 480
SHOWN = (
    "fp32",
    "fp16",
    "int8-placeholder",
    "int8-random",
    "int8-entropy2",
    "int8-minmax",
    "int8-legacy",
)


def screenshot(page: Path, picture: Path) -> None:
    """Let Chromium, without a screen, draw ``page`` into ``picture``."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--disable-sync",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
                "--force-device-scale-factor=2",
                "--virtual-time-budget=5000",
                f"--user-data-dir={profile}",
                f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={picture}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def shown(measured: Tradeoff) -> list[Build]:
    """The engines of the picture: those SHOWN that were recorded at batch 8."""
    found = {point.variant: point for point in measured.select("mobile", 8)}
    return [found[name] for name in SHOWN if name in found]


def words(points: list[Build]) -> str:
    """What the picture shows, for readers who cannot see it."""
    facts = []
    for point in points:
        right = "unknown" if point.accuracy is None else f"{100 * point.accuracy:.1f} %"
        time = "unknown" if point.graph_timing is None else f"{point.graph_timing.median_ms:.3g} ms"
        facts.append(f"{LABELS[point.variant]} {right}, {time}")
    return (
        "Bars of accuracy, latency, plan size and activations of the mobile network: "
        + "; ".join(facts)
    )


def main() -> int:
    """Write the picture; 2 where the recordings are missing."""
    measured = tradeoff("points-mobile")
    points = shown(measured)
    question = "One small network, built seven ways: what does each cost?"
    source = f"{measured.provenance.label()}; latency by graph replay, batch 8"
    figure = builds(points, LABELS, title=question, source=source)
    figure.update_layout(width=WIDTH, height=HEIGHT, paper_bgcolor="white", plot_bgcolor="white")
    picture = ROOT / "docs" / "tradeoff.png"
    picture.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "figure.html"
        figure.write_html(
            page, include_plotlyjs=True, full_html=True, config={"displayModeBar": False}
        )
        page.write_text(
            page.read_text(encoding="utf-8").replace(
                "<body>", '<body style="margin:0;background:white">'
            ),
            encoding="utf-8",
        )
        screenshot(page, picture)
    readme = ROOT / "README.md"
    marks = re.compile(r"(<!-- picture -->\n).*?(<!-- end of picture -->)", re.S)
    line = f"![{words(points)}](docs/tradeoff.png)"
    readme.write_text(
        marks.sub(
            lambda found: f"{found[1]}{line}\n{found[2]}", readme.read_text(encoding="utf-8")
        ),
        encoding="utf-8",
    )
    print(f"wrote {picture.relative_to(ROOT)} ({picture.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
