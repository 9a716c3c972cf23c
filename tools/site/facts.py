"""The page of measured facts: what was recorded, on what, when, from which files; and what the
notebooks claim.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat

from recording.probes import feeding
from tools.site import notebook
from tools.site.markdown import Page, slug, table
from trtlearn.builds import Build
from trtlearn.engine.records import LABELS, VARIANTS, Provenance
from trtlearn.files import data_dir, sha256
from trtlearn.record import Record, show
from trtlearn.recorded import calibration
from trtlearn.recorded.caches import odd_caches
from trtlearn.recorded.files import load_build, load_provenance, place
from trtlearn.recorded.logs import interruptions
from trtlearn.recorded.tradeoffs import dynamic, tradeoff

OPEN_ROWS, MOST_ROWS = 12, 100  # a longer table is folded, a longer one yet only summed up
ISSUE = re.compile(r"T#(\d+)")
LINES = re.compile(
    r"(v[\d.]+)[: ](?:(SE|SO|H)|(?:samples/common/|include/)?(sampleEngines\.cpp|sampleOptions\.cpp|NvInfer\.h))"
    r":(\d+)(?:-(\d+))?"
)
FILES = {
    "SE": "samples/common/sampleEngines.cpp",
    "SO": "samples/common/sampleOptions.cpp",
    "H": "include/NvInfer.h",
}
BASE = "https://github.com/NVIDIA/TensorRT"


def cited(source: str) -> str:
    """The source of a claim with its issue numbers and source lines as links."""

    def lines(match: re.Match[str]) -> str:
        tag, short, long, first, last = match.groups()
        path = (
            FILES[short] if short else next(path for path in FILES.values() if path.endswith(long))
        )
        end = f"-L{last}" if last else ""
        return f'<a href="{BASE}/blob/{tag}/{path}#L{first}{end}">{match[0]}</a>'

    text = LINES.sub(lines, html.escape(source))
    return ISSUE.sub(
        lambda match: f'<a href="{BASE}/issues/{match[1]}">TensorRT issue {match[1]}</a>', text
    )


def named(path: Path) -> str:
    """A recording's name, with the first digits of its hash."""
    hashed = sha256(path)
    return f'<code title="SHA-256 {hashed}">{path.parent.name}/{path.name}</code> <small>{hashed[:12]}</small>'


def heading(level: int, text: str) -> str:
    """A heading that can be linked to and searched for."""
    return f'<h{level} id="{slug(text)}">{html.escape(text)}</h{level}>'


def experiment_row(one: Build, path: Path) -> list[str]:
    """One build: accuracy, latency, size, layers, and the file that says so."""
    int8 = len(one.engine.int8)
    facts = [
        LABELS.get(one.variant, one.variant),
        one.predictions and f"{100 * one.predictions.accuracy:.1f} % of {one.predictions.count:,}",
        one.timing and f"{one.timing.median_ms:.4f} ms, batch {one.timing.batch}",
        None if one.build.plan_bytes is None else f"{one.build.plan_bytes:,} bytes",
        f"{len(one.engine.layers)}, {int8} with INT8 weights",
    ]
    return [*(html.escape(show(fact)) for fact in facts), named(path)]


def folder(path: Path) -> str:
    """All that one folder of recordings holds."""
    origin = load_provenance(path)
    facts = {
        "GPU": origin.gpu,
        "driver": origin.driver,
        "TensorRT": origin.tensorrt,
        "CUDA": origin.cuda,
        "Python": origin.python,
        "kernels from": "TensorRT's own only"
        if origin.tactic_sources == ()
        else origin.tactic_sources,
        "command": origin.command,
        "time": origin.time_utc,
        **{f"SHA-256 of data/{name}": value for name, value in origin.sha256.items()},
        "notes": "; ".join(origin.notes),
    }
    made = [heading(2, f"{path.name}: {origin.label()}")]
    made.append(
        table(
            ["of every recording here", ""],
            [[html.escape(key), html.escape(show(facts[key]))] for key in facts],
        )
    )
    head = ["build", "accuracy", "latency, median", "plan", "engine layers", "recording"]
    for model in sorted(one for one in path.iterdir() if (one / "fp32.json.gz").is_file()):
        files = {file.name.removesuffix(".json.gz"): file for file in model.glob("*.json.gz")}
        order = [name for name in VARIANTS if name in files] + sorted(set(files) - set(VARIANTS))
        rows = [experiment_row(load_build(files[name]), files[name]) for name in order]
        made.append(heading(3, f"{model.name}, {path.name}") + table(head, rows))
    placed = sorted(path.glob("tradeoff/placements/*/*.json.gz"))
    if placed:
        rows = [experiment_row(load_build(file), file) for file in placed]
        made.append(heading(3, f"Q/DQ placements, {path.name}") + table(head, rows))
    asked = {file: load_build(file) for file in sorted(path.glob("studies/*.json"))}
    built = [
        [one.model, html.escape(one.question), *experiment_row(one, file)[1:]]
        for file, one in asked.items()
        if one.error is None
    ]
    failed = [
        [one.model, html.escape(one.question), html.escape(show(one.error)), named(file)]
        for file, one in asked.items()
        if one.error is not None
    ]
    if built:
        made.append(heading(3, f"Questions asked of the builder, {path.name}"))
        made.append(table(["network", "question", *head[1:]], built))
    if failed:
        made.append(heading(3, f"Builds that failed, {path.name}"))
        made.append(table(["network", "question", "answer", "recording"], failed))
    return "\n".join(made)


def cell(column: str, value: object) -> str:
    """One value as its column's unit asks: four digits of a time, whole bytes, tenths of a percent."""
    words = column.replace(",", "").split()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return show(value)
    if "bytes" in words or words[-1].endswith("/s"):
        return f"{value:,.0f}"
    if "ms" in words or "s" in words:
        return f"{value:#.4g}".rstrip(".")
    return f"{value:.1f}" if "%" in words else show(value)


def record_table(title: str, record: Record, path: Path, label: str) -> str:
    """A record's own rows under its summary and its source; columns that are unknown in every row
    are left out.
    """
    rows, said = record.rows(), record.summary()
    told = "" if label in said else f"; {label}"
    made = heading(3, title) + f"<p>{html.escape(said + told)}; {named(path)}</p>"
    if len(rows) > MOST_ROWS:
        return made
    names = [name for name in rows[0] if any(row.get(name) not in (None, "") for row in rows)]
    body = table(
        names, [[html.escape(cell(name, row.get(name))) for name in names] for row in rows]
    )
    if len(rows) > OPEN_ROWS:
        body = f"<details><summary>All {len(rows)} rows</summary>{body}</details>"
    return made + body


def studies() -> str:
    """What was measured beside the builds: trade-off, calibrators, caches, interruptions."""
    folder = place("tradeoff")
    points = sorted(path.name.removesuffix(".json.gz") for path in folder.glob("points-*.json.gz"))
    parts: list[tuple[str, Record, Path, Provenance]] = []
    for name, title in (
        *((name, f"Trade-off: {name.removeprefix('points-')}, by graph replay") for name in points),
        ("big", "Trade-off: ResNet-50's size, random weights, by graph replay"),
        ("mixed", "Trade-off: mobile with two layers kept out of INT8, by graph replay"),
    ):
        one = tradeoff(name, build_times=name in points)
        parts.append((title, one, folder / f"{name}.json.gz", one.provenance))
    moving, cut = dynamic(), interruptions()
    parts.append(("Dynamic shapes", moving, folder / "dynamic.json.gz", moving.provenance))
    for title, name, kept in (
        ("TensorRT's scales and ours", "agreement", calibration.agreement()),
        ("Legacy calibrator, settings", "legacy-grid", calibration.legacy_grid()),
        ("Caches changed by hand", "odd-caches", odd_caches()),
        ("Feeding a calibrator", "feeding", feeding()),
    ):
        file = place(f"calibration/{name}.json")
        parts.append((title, kept, file, calibration.origin(name)))
    parts.append(
        (
            "Interrupted calibrations",
            cut,
            folder.parent / "interrupts.json",
            cut.provenance,
        )
    )
    made = [record_table(title, one, path, origin.label()) for title, one, path, origin in parts]
    return heading(2, "Further measurements") + "\n".join(made)


def page(books: dict[Path, nbformat.NotebookNode], intro: str) -> Page:
    """The whole page."""
    made = [intro]
    made += [
        folder(path)
        for path in sorted((data_dir() / "recordings").iterdir())
        if (path / "PROVENANCE.json").is_file()
    ]
    made.append(studies())
    made.append(heading(2, "What the notebooks claim, and check each time they run"))
    for path, book in books.items():
        rows = [
            [
                f'<a href="notebooks/{path.stem}.html#cell-{cell}">{html.escape(fact)}</a>',
                tag,
                cited(source),
            ]
            for cell, fact, tag, source in notebook.claims(book)
        ]
        if rows:
            made.append(
                heading(3, notebook.page_title(path))
                + table(["claim", "known how", "source"], rows)
            )
    return Page("facts.html", "Measured facts", "\n".join(made), "Reference")
