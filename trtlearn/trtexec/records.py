"""What a trtexec command line does about INT8: the answer, its steps, and the source lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..record import Record, html_link, html_text

__all__ = [
    "Explanation",
    "Source",
    "Step",
]


@dataclass(frozen=True)
class Source(Record):
    """A place in trtexec's source code at one release tag."""

    file: str
    function: str
    lines: str  # "1009-1014", or "385"
    tag: str
    url: str = ""

    def summary(self) -> str:
        return f"{self.tag}:{self.file}:{self.lines} ({self.function})"

    def rows(self) -> list[dict[str, Any]]:
        return []

    def _repr_html_(self) -> str:
        return html_link(self.url, self.summary())


@dataclass(frozen=True)
class Step(Record):
    """One thing that trtexec does on its way to the engine, its condition, and its source."""

    text: str
    condition: str
    source: Source | None = None

    def summary(self) -> str:
        return f"{self.text}, because {self.condition}"

    def __str__(self) -> str:
        return self.summary() + (f" ({self.source.summary()})" if self.source else "")

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "does": self.text,
                "because": self.condition,
                "source": self.source and self.source.summary(),
            }
        ]


@dataclass(frozen=True)
class Explanation(Record):
    """What one trtexec command line does about INT8, why, and where its source says so.

    ``mode`` is one of not-int8, placeholder-ranges, random-calibration, cached-scales,
    explicit-qdq, rejected.
    """

    command: str
    version: str
    tag: str
    mode: str
    kind: str
    steps: tuple[Step, ...]
    sources: tuple[Source, ...]
    weights: str
    activations: str
    inputs: str
    outputs: str
    accuracy: str
    advice: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    int8: bool = False  # BuilderFlag INT8 is set
    fp16: bool = False
    has_qdq: bool | None = None
    cache: str | None = None  # the file that --calib names
    cache_exists: bool | None = None
    cache_set_aside: str | None = None  # why TensorRT ignores the file; None: it does not
    options: dict[str, str] = field(default_factory=dict)  # as trtexec's parser holds them

    def summary(self) -> str:
        return f"{self.mode} (trtexec {self.version}): {self.kind}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "step": number,
                "trtexec does": step.text,
                "because": step.condition,
                "source": step.source,
            }
            for number, step in enumerate(self.steps, 1)
        ]

    def details(self) -> list[tuple[str, str]]:
        """What happens to the data, and what to know: (heading, sentence) in reading order."""
        names = ("weights", "activations", "inputs", "outputs", "accuracy")
        facts = [(name, getattr(self, name)) for name in names]
        facts += [("warning", text) for text in self.warnings]
        facts += [("otherwise", text) for text in self.alternatives]
        return facts + [("what to do", text) for text in self.advice]

    def __str__(self) -> str:
        lines = [self.summary(), ""]
        for number, step in enumerate(self.steps, 1):
            lines += [f"{number}. {step.text}", f"   because {step.condition}"]
            lines += [f"   {step.source.summary()}"] if step.source else []
        width = max(len(heading) for heading, _ in self.details())
        return "\n".join(
            [*lines, "", *(f"{heading:<{width}}  {text}" for heading, text in self.details())]
        )

    def _repr_html_(self) -> str:
        cell, left = html_text, 'style="text-align:left;vertical-align:top"'
        steps = "".join(
            f"<li>{cell(step.text)}<br><i>because {cell(step.condition)}</i>"
            + (f"<br><small>{step.source._repr_html_()}</small>" if step.source else "")
            + "</li>"
            for step in self.steps
        )
        facts = "".join(
            f"<tr><th {left}>{cell(name)}</th><td {left}>{cell(text)}</td></tr>"
            for name, text in self.details()
        )
        head = f"<p><b>{cell(self.summary())}</b></p>"
        return f"{head}<ol>{steps}</ol><table><tbody>{facts}</tbody></table>"
