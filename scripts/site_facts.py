"""The page of measured facts: what was recorded, on what, when, from which files; and what the notebooks claim."""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat
import site_notebook
from site_md import Page, table

from trtlearn import calibration_recordings
from trtlearn.interrupts import interruptions
from trtlearn.paths import data_dir, sha256
from trtlearn.record import Record, show
from trtlearn.recordings import load_experiment, load_provenance, load_study
from trtlearn.records import Experiment
from trtlearn.tradeoff_recordings import open_tradeoff
from trtlearn.variants import LABELS, VARIANTS

MOST_ROWS = 100  # a longer record is only summed up
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
        path = FILES[short] if short else next(path for path in FILES.values() if path.endswith(long))
        end = f"-L{last}" if last else ""
        return f'<a href="{BASE}/blob/{tag}/{path}#L{first}{end}">{match[0]}</a>'

    text = LINES.sub(lines, html.escape(source))
    return ISSUE.sub(lambda match: f'<a href="{BASE}/issues/{match[1]}">TensorRT issue {match[1]}</a>', text)


def experiment_row(one: Experiment, path: Path) -> list[str]:
    """One build: accuracy, latency, size, layers, and the file that says so."""
    int8 = sum(layer.weight_dtype == "int8" for layer in one.engine.layers)
    facts = [
        LABELS.get(one.variant, one.variant),
        one.predictions and f"{100 * one.predictions.accuracy:.1f} % of {one.predictions.count:,}",
        one.timing and f"{one.timing.median_ms:.4f} ms, batch {one.timing.batch}",
        None if one.build.plan_bytes is None else f"{one.build.plan_bytes:,} bytes",
        f"{len(one.engine.layers)}, {int8} with INT8 weights",
    ]
    hashed = sha256(path)
    file = f'<code title="SHA-256 {hashed}">{path.parent.name}/{path.name}</code> <small>{hashed[:12]}</small>'
    return [*(html.escape(show(fact)) for fact in facts), file]


def folder(path: Path) -> str:
    """All that one folder of recordings holds."""
    origin = load_provenance(path)
    facts = {
        "GPU": origin.gpu,
        "driver": origin.driver,
        "TensorRT": origin.tensorrt,
        "CUDA": origin.cuda,
        "Python": origin.python,
        "kernels from": "TensorRT's own only" if origin.tactic_sources == () else origin.tactic_sources,
        "command": origin.command,
        "time": origin.time_utc,
        **{f"SHA-256 of data/{name}": value for name, value in origin.sha256.items()},
        "notes": "; ".join(origin.notes),
    }
    made = [f"<h2>{html.escape(path.name)}: {html.escape(origin.label())}</h2>"]
    made.append(
        table(["of every recording here", ""], [[html.escape(key), html.escape(show(facts[key]))] for key in facts])
    )
    head = ["build", "accuracy", "latency, median", "plan", "engine layers", "recording"]
    for model in sorted(one for one in path.iterdir() if (one / "fp32.json.gz").is_file()):
        files = {file.name.removesuffix(".json.gz"): file for file in model.glob("*.json.gz")}
        order = [name for name in VARIANTS if name in files] + sorted(set(files) - set(VARIANTS))
        rows = [experiment_row(load_experiment(files[name]), files[name]) for name in order]
        made.append(f"<h3>{model.name}</h3>" + table(head, rows))
    placed = sorted(path.glob("tradeoff/placements/*/*.json.gz"))
    if placed:
        rows = [experiment_row(load_experiment(file), file) for file in placed]
        made.append("<h3>Q/DQ placements</h3>" + table(head, rows))
    rows = []
    for file in sorted(path.glob("studies/*.json")):
        study = load_study(file)
        answer = study.error or "; ".join(f"{row['fact']}: {show(row['value'])}" for row in study.rows())
        rows.append(
            [
                study.model,
                html.escape(study.question),
                html.escape(answer),
                f"<code>{file.relative_to(data_dir())}</code>",
            ]
        )
    if rows:
        made.append(
            "<h3>Questions asked of the builder</h3>" + table(["network", "question", "answer", "recording"], rows)
        )
    return "\n".join(made)


def record_table(record: Record) -> str:
    """A record's own rows, under its summary."""
    rows = record.rows()
    body = [[html.escape(show(row.get(name))) for name in rows[0]] for row in rows]
    return f"<p>{html.escape(record.summary())}</p>" + table(list(rows[0]), body)


def studies() -> str:
    """What was measured beside the builds: trade-off, calibrators, caches, interruptions."""
    recorded = open_tradeoff()
    parts: dict[str, Record] = {
        f"Trade-off: {name}": recorded.tradeoff(name)
        for name in recorded.names
        if name.startswith("points-") or name in ("big", "mixed")
    }
    parts["Dynamic shapes"] = recorded.dynamic()
    parts["TensorRT's scales and ours"] = calibration_recordings.agreement()
    parts["Legacy calibrator, settings"] = calibration_recordings.legacy_grid()
    parts["Caches changed by hand"] = calibration_recordings.odd_caches()
    parts["Feeding a calibrator"] = calibration_recordings.feeding()
    parts["Interrupted calibrations"] = interruptions()
    made = [
        f"<h3>{html.escape(title)}</h3>"
        + (record_table(one) if len(one.rows()) <= MOST_ROWS else f"<p>{html.escape(one.summary())}</p>")
        for title, one in parts.items()
    ]
    return "<h2>Further measurements</h2>" + "\n".join(made)


def page(books: dict[Path, nbformat.NotebookNode], intro: str) -> Page:
    """The whole page."""
    made = [intro]
    made += [
        folder(path) for path in sorted((data_dir() / "recordings").iterdir()) if (path / "PROVENANCE.json").is_file()
    ]
    made.append(studies())
    made.append("<h2>What the notebooks claim, and check each time they run</h2>")
    for path, book in books.items():
        rows = [
            [f'<a href="notebooks/{path.stem}.html#cell-{cell}">{html.escape(fact)}</a>', tag, cited(source)]
            for cell, fact, tag, source in site_notebook.claims(book)
        ]
        if rows:
            title = html.escape(site_notebook.page_title(path))
            made.append(f"<h3>{title}</h3>" + table(["claim", "known how", "source"], rows))
    return Page("facts.html", "Measured facts", "\n".join(made), "Reference")
