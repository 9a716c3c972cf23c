"""Write README.md's lists anew: the notebooks, and every module of trtlearn in its group, linked to its file."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatch
from pathlib import Path

from trtlearn.course.notebook import NOTEBOOKS

ROOT = Path(__file__).parent.parent
GROUPS = (
    ("Base: errors that say what to do, frozen records, files", "errors paths record records recordings commandline"),
    ("A number in eight bits, calibrators from scratch, TensorRT's scales to float32",
     "quant histogram entropy legacy* observers activations parts ties agree explanations agree_* thresholds noise"),
    ("Calibration caches and ONNX files", "cache* onnx* models batches anatomy"),
    ("Integer arithmetic of INT8 layers in numpy", "intcodes interrors intgroups intlayer intmath intnodes intrun"),
    ("What a trtexec command does, with the lines of its source", "explain* trtexec_* message* samples"),
    ("What a built engine is: layers, types, fusions, reasons",
     "formats inspector* fused fusion* precision* engine_* layers* layer_times optimizer_log"),
    ("Explicit quantization: Q/DQ, TensorRT 11", "qdq* placement migrate* newcommand pairs prepare"),
    ("The TensorRT side, over the only files that import it (`trt`) and CUDA (`cuda`)",
     "trt cuda network ranges calibrator build plansize timingcache runner experiment variants "
     "builderconfig calibrator_*"),
    ("The course: recorded or live, figures, widgets, exercises",
     "replay course colors plots* tradeoff* pareto* sensitivity* panels widget* exercises* verdicts progress* study* "
     "calibration_* layer_recordings* questions interrupts *_recordings"),
    ("Your own model, walked through with or without a GPU", "bring* report"),
    ("The command line", "cli* doctor lab"),
)  # fmt: skip
REST = "Further"


def table() -> str:
    """The map as a Markdown table; a module that no group names stands under "Further"."""
    rows: dict[str, list[str]] = {}
    for module in sorted(path.stem for path in (ROOT / "trtlearn").glob("[!_]*.py")):
        of = (
            title
            for title, patterns in GROUPS
            if any(fnmatch(module, pattern) for pattern in patterns.split())
        )
        rows.setdefault(next(of, REST), []).append(f"[`{module}`](trtlearn/{module}.py)")
    titles = [*(title for title, _ in GROUPS), REST]
    lines = [
        f"| {title.replace('`', '')} | {' '.join(rows[title])} |"
        for title in titles
        if title in rows
    ]
    return "\n".join(["| what | modules |", "|---|---|", *lines])


def notebooks() -> str:
    """The notebooks that are there, with their titles."""
    there = [
        (file, title) for file, title in NOTEBOOKS.values() if (ROOT / "notebooks" / file).is_file()
    ]
    return "\n".join(f"- [{file[:2]} {title}](notebooks/{file})" for file, title in there)


def main() -> int:
    """Put each list between its two marks in README.md."""
    path = ROOT / "README.md"
    text = path.read_text()
    for name, content in (("map", table()), ("notebooks", notebooks())):
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.S)
        if not marks.search(text):
            print(
                f"README.md has no marks <!-- {name} --> and <!-- end of {name} -->",
                file=sys.stderr,
            )
            return 1
        text = marks.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
