"""What a trtexec command line does about INT8: one of six things, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..calibration.cache import CacheIgnored, ignored_by_trtexec, old_header, read_cache
from ..errors import CacheError, ModelError
from ..files import load_table, read_bytes, shell_command
from ..model.graph import SYMMETRIC, OnnxModel, describe
from ..model.read import load_proto
from ..record import Record, html_text, plural
from .command import parse_trtexec
from .decision import Case, sentences
from .sources import Source, cite

__all__ = ["Explanation", "Step", "explain"]

LOOKED_AT = 1 << 16  # bytes of a cache that are enough to tell whether TensorRT uses it


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
        """What to know and to do, and what happens to the data: (heading, sentence) pairs."""
        facts = [("accuracy", self.accuracy)]
        facts += [("warning", text) for text in self.warnings]
        facts += [("what to do", text) for text in self.advice]
        facts += [("otherwise", text) for text in self.alternatives]
        names = ("weights", "activations", "inputs", "outputs")
        return facts + [(name, getattr(self, name)) for name in names]

    def __str__(self) -> str:
        width = max(len(heading) for heading, _ in self.details())
        facts = [f"{heading:<{width}}  {text}" for heading, text in self.details()]
        lines = [self.summary(), "", *facts, ""]
        for number, step in enumerate(self.steps, 1):
            lines += [f"{number}. {step.text}", f"   because {step.condition}"]
            lines += [f"   {step.source.summary()}"] if step.source else []
        return "\n".join(lines)

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
        return f"{head}<table><tbody>{facts}</tbody></table><ol>{steps}</ol>"


def explain(
    command: str,
    trt: str | None = None,
    model: Any = None,
    cache_exists: bool | None = None,
    has_qdq: bool | None = None,
) -> Explanation:
    """What trtexec of version ``trt`` does with ``command``, step by step, with its source lines.

    Without ``trt`` the version is that of the log which the command stands in, otherwise 8.6.
    ``model`` is an ONNX file's path or an ``OnnxModel``, where it is not the file that --onnx
    names. ``cache_exists`` and ``has_qdq`` say what cannot be seen from here: without them the
    files are looked for, relative to the current folder, and ``warnings`` and ``alternatives`` name
    every assumption. A cache that is there is read: ``cache_set_aside`` says why trtexec's
    calibrator makes TensorRT ignore it. A command that trtexec refuses gives mode "rejected";
    CommandError is raised only for text that is no trtexec command, or an unknown version.

    >>> answer = explain("trtexec --onnx=m.onnx --int8")
    >>> answer.mode
    'placeholder-ranges'
    >>> print(next(step.source for step in answer.steps if "±2" in step.text).summary())
    v8.6.1:samples/common/sampleEngines.cpp:459-505 (setTensorDynamicRange)
    >>> explain("trtexec --onnx=m.onnx --int8 --calib=c", trt="10.16", cache_exists=True).mode
    'cached-scales'
    >>> explain("trtexec --onnx=m.onnx --int8", trt="11.1").steps[1].text
    'prints "Unknown option: --int8" and ends'

    Source: samples/common/sampleOptions.cpp, sampleEngines.cpp and samples/trtexec/trtexec.cpp at
    each tag.
    """
    case = Case(parse_trtexec(command, trt))
    release = case.release
    if not case.stops_early:
        case = _look_at_model(case, model, has_qdq)
        case = _look_at_cache(case, cache_exists)
    answer = list(sentences(case))
    steps = [
        Step(item["text"], item["because"], cite(release.tag, item["step"]))
        for item in answer
        if "step" in item
    ]

    def texts(kind: str, *first: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*first, *(item[kind] for item in answer if kind in item)]))

    outcome = case.outcome
    if case.refused:
        outcome |= {"accuracy": "none: TensorRT's parser refuses the model, so no engine is built"}
    builds = not case.stops_early and case.mode != "rejected"
    return Explanation(
        command=command,
        version=release.version,
        tag=release.tag,
        mode=case.mode,
        kind=outcome["kind"],
        steps=tuple(steps),
        sources=tuple(dict.fromkeys(step.source for step in steps if step.source)),
        weights=outcome["weights"],
        activations=outcome["activations"],
        inputs=outcome.get("inputs") or _ends(case, "input"),
        outputs=outcome.get("outputs") or _ends(case, "output"),
        accuracy=outcome["accuracy"],
        advice=texts(
            "advice",
            *(node.fix for node in case.refused),
            *case.parsed.hints,
            *([case.cache_doubt.fix] if case.cache_doubt else []),
            *_replacements(case, command),
        ),
        warnings=texts(
            "warning",
            *_will_not_build(case),
            *(case.onnx.quantization_notes if case.onnx else ()),
            *([case.cache_doubt.why] if case.cache_doubt else []),
            *_cache_notes(case),
            *case.parsed.notes,
            *([release.note] if release.note else []),
        ),
        alternatives=texts("alternative"),
        int8=case.int8 and builds,
        fp16=case.fp16 and builds,
        has_qdq=case.has_qdq,
        cache=case.cache,
        cache_exists=case.cache_exists,
        cache_set_aside=case.cache_problem and case.cache_problem.why,
        options=dict(case.parsed.values),
    )


def _look_at_model(case: Case, model: Any, has_qdq: bool | None) -> Case:
    """Whether the network has Q/DQ layers: as the caller says, read from the file, or unknown."""
    facts = model if isinstance(model, OnnxModel) else None
    is_asked = isinstance(model, (str, os.PathLike))
    path = model if is_asked else case.value("--onnx")
    problem = None
    if has_qdq is None and facts is None and path and (is_asked or os.path.isfile(path)):
        try:
            facts = describe(load_proto(path, weights=False))
        except (ModelError, ImportError) as error:
            if is_asked:
                raise
            problem = str(error)
    refused = facts.refused if facts else ()
    if case.takes_asymmetric:
        refused = tuple(node for node in refused if node.fix != SYMMETRIC)
    return replace(
        case,
        model=path or "MODEL",
        has_qdq=facts.has_qdq if facts and has_qdq is None else has_qdq,
        model_problem=problem,
        refused=refused,
        onnx=facts,
    )


def _will_not_build(case: Case) -> list[str]:
    """What TensorRT's parser refuses in the model: the first nodes, and how many there are."""
    lines = [f"the model will not build: {node.summary()}" for node in case.refused[:3]]
    if len(case.refused) > 3:
        lines.append(f"TensorRT's parser refuses {plural(len(case.refused), 'node')} in all")
    return lines


def _look_at_cache(case: Case, exists: bool | None) -> Case:
    """Whether the file of --calib is there, told or looked for, and whether TensorRT uses it."""
    if not case.cache:
        return case
    readable = os.path.exists(case.cache) and os.access(case.cache, os.R_OK)
    exists = readable if exists is None else exists
    problem = doubt = None
    version = ".".join(map(str, case.release.number))
    if exists and readable and not os.path.isfile(case.cache):
        what = "a folder" if os.path.isdir(case.cache) else "no file, but a device or a pipe"
        why = f"it is {what}: the stream opens and gives no byte"
        fix = "name the cache file itself: --calib=FILE"
        problem = CacheIgnored(why, fix)
    elif exists and readable:
        content = read_bytes(case.cache, count=LOOKED_AT)
        problem = ignored_by_trtexec(content, case.cache, version)
        doubt = None if problem else old_header(content, case.cache, version)
    return replace(case, cache_exists=exists, cache_problem=problem, cache_doubt=doubt)


def _cache_notes(case: Case) -> list[str]:
    """What is wrong inside a cache that TensorRT takes: its lines, and names of another model."""
    if case.branch != "cache" or not os.path.isfile(case.cache or ""):
        return []
    try:
        cache = read_cache(case.cache or "")
    except CacheError as problem:
        return [f"TensorRT may read other scales than you think: {problem}"]
    stale = cache.check(case.onnx).stale if case.onnx else ()
    if not stale:
        return []
    return [
        f"{plural(len(stale), 'name')} of {len(cache.scales)} in the cache are no tensors of this "
        f"model, {stale[0]!r:.80} first: TensorRT ignores them without a message"
    ]


def _replacements(case: Case, command: str) -> list[str]:
    """What to do instead of the options that 11.0 removed."""
    if not (removed := case.removed):
        return []
    table = load_table("removed")
    instead: dict[str, str] = table["instead"]
    advice = [f"instead of {option}: {instead[option]}" for option in removed if option in instead]
    if {"--int8", "--best", "--calib"} & set(removed):
        values = dict(argument.partition("=")[::2] for argument in case.parsed.arguments)
        model, cache = values.get("--onnx") or "MODEL.onnx", values.get("--calib") or "FILE"
        old = f"trtexec {command.strip()}" if command.lstrip().startswith("-") else command
        files = (Path(model), "--cache", Path(cache), "-o", Path(f"{Path(model).stem}.qdq.onnx"))
        advice.append(
            f"`{shell_command('trtlearn', 'migrate', old, *files)}` writes the Q/DQ model with the "
            "cache's scales, and prints the new trtexec command"
        )
        if cache == "FILE":
            advice.append(
                "FILE is a calibration cache; no --calib is given, so the old ranges were invented "
                "ones"
            )
    return [*advice, f"NVIDIA's own account of what went: {table['guide']}"]


def _ends(case: Case, way: str) -> str:
    """What stands at the engine's inputs or outputs (``way``: input or output)."""
    formats = case.value(f"--{way}IOFormats")
    if formats and case.before_11:
        if "int8" not in formats:
            return f"{formats}, as given by --{way}IOFormats"
        who = "the caller quantizes the data" if way == "input" else "the caller gets integers"
        return f"{formats}: {who}, with that tensor's scale"
    text = "the model's own type, FP32 in most exported models"
    if way == "input" and case.before_11 and case.cites("inputs_are_fp32"):
        text = (
            "FP32, linear layout (chw): no --inputIOFormats is given (FP16, integer and bool "
            "inputs keep their type)"
        )
    if not (case.int8 or case.mode == "explicit-qdq"):
        return text
    inside = {
        "input": "the engine quantizes it inside, where INT8 begins",
        "output": "an INT8 result is dequantized inside the engine",
    }
    return f"{text}; {inside[way]}"
