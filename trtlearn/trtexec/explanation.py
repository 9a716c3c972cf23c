"""What a trtexec command line does about INT8: one of six things, every step in order, and why.

The rule, the same from 8.4 to 10.16 (v8.6.1:samples/common/sampleEngines.cpp:1009-1082): without
Q/DQ nodes, and with --int8 or an INT8 input or output, and no --calib value: placeholder ranges.
Otherwise with --int8 a calibrator is set; it hands over the cache where the file opens and noise
where not; TensorRT ignores a cache of another kind than its own, entropy 2. From 11.0 on --int8 is
an unknown option.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..calibration.cache import read_cache
from ..calibration.cache_reading import CacheIgnored, ignored_by_trtexec, old_header
from ..errors import CacheError, ModelError
from ..files import HEAD_BYTES, load_table, read_bytes, shell_command
from ..model.graph import SYMMETRIC, OnnxModel, RefusedNode, describe
from ..model.read import load_proto
from ..record import Record, html_text, plural
from .command import TrtexecCommand, holds, int8_count, parse_trtexec
from .sources import Release, Source, cite, facts_at, option_kinds, wildcard_anywhere

__all__ = ["Explanation", "Step", "explain"]


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
    answer: list[dict[str, str]] = []
    for part in load_table("sentences")["steps"]:  # in the order of trtexec's source
        answer += _said(part["rows"], case) if case.holds(part) else []
    steps = [
        Step(item["text"], item["because"], cite(release.tag, item["step"]))
        for item in answer
        if "step" in item
    ]

    def texts(kind: str, *first: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*first, *(item[kind] for item in answer if kind in item)]))

    outcome = case.outcome
    for end in {"inputs", "outputs"} - outcome.keys():
        outcome[end] = "".join(row["text"] for row in _said(load_table("sentences")[end], case))
    if case.refused:
        outcome |= {"accuracy": "none: TensorRT's parser refuses the model, so no engine is built"}
    builds = not case.stops_early and outcome["mode"] != "rejected"
    return Explanation(
        command=command,
        version=release.version,
        tag=release.tag,
        mode=outcome["mode"],
        kind=outcome["kind"],
        steps=tuple(steps),
        sources=tuple(dict.fromkeys(step.source for step in steps if step.source)),
        weights=outcome["weights"],
        activations=outcome["activations"],
        inputs=outcome["inputs"],
        outputs=outcome["outputs"],
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


@dataclass(frozen=True)
class Case:
    """All that decides what trtexec does with a command: options, version, the files named."""

    parsed: TrtexecCommand
    model: str = "MODEL"
    has_qdq: bool | None = None  # None: not known, and taken as no
    model_problem: str | None = None  # why the model could not be read
    refused: tuple[RefusedNode, ...] = ()  # quantized nodes that TensorRT's parser refuses
    onnx: OnnxModel | None = None  # the model's nodes and tensors, where its file is here
    cache_exists: bool | None = None
    cache_problem: CacheIgnored | None = None  # why TensorRT ignores the cache
    cache_doubt: CacheIgnored | None = None  # why it may ignore the cache

    @property
    def release(self) -> Release:
        return self.parsed.release

    @property
    def before_11(self) -> bool:
        """Up to 10.16 flags choose the types; from 11.0 on the model does, and flags cannot."""
        return self.release.number < (11, 0)

    @property
    def strongly_typed(self) -> bool:
        return self.has("--stronglyTyped") or not self.before_11

    @property
    def int8(self) -> bool:
        return self.has("--int8", "--best") and not self.strongly_typed

    @property
    def fp16(self) -> bool:
        """FP16 is set by its flag, and for DLA where INT8 is not set."""
        by_dla = self.dla_core >= 0 and not self.int8
        return (self.has("--fp16", "--best") or by_dla) and not self.strongly_typed

    @property
    def dla_core(self) -> int:
        """The core of --useDLACore; -1, the default, is none."""
        match = re.match(r"\s*([+-]?\d{1,9})", self.value("--useDLACore"), re.A)
        return int(match[1]) if match else -1

    @property
    def cache(self) -> str | None:
        return self.value("--calib") or None

    @property
    def int8_ends(self) -> int:
        """How many of the formats at inputs and outputs are INT8."""
        values = (self.value(f"--{way}IOFormats") for way in ("input", "output"))
        return sum(map(int8_count, values))

    def has(self, *options: str) -> bool:
        return any(option in self.parsed.values for option in options)

    def value(self, option: str) -> str:
        """The option's value; empty where it has none or is not given."""
        return self.parsed.values.get(option, "")

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of a table is to be said here."""
        return holds(row.get("when", ""), self.parsed.values, self.release, self.facts)

    @property
    def stops_early(self) -> bool:
        """No network is made: trtexec prints help, refuses the command or loads an engine."""
        return self.branch in ("help", "refused", "removed", "load")

    @cached_property
    def branch(self) -> str:
        """The way through trtexec's source: a key of tables/outcomes.json."""
        qdq, int8 = bool(self.has_qdq), self.int8
        if self.parsed.helps:
            return "help"
        if self.parsed.error:
            return "removed" if self.removed else "refused"
        if self.has("--loadEngine"):
            return "load"
        if not self.before_11:
            return "typed-qdq" if qdq else "typed"
        if not qdq and (int8 or self.int8_ends) and not self.cache:
            return "placeholder" if int8 else "placeholder-io"
        if not int8:
            return "float-qdq" if qdq else "float"
        if qdq:
            return "qdq"
        if not self.cache_exists:
            return "no-io-scales" if self.int8_ends else "noise"
        return "ignored-cache" if self.cache_problem else "cache"

    @cached_property
    def outcome(self) -> dict[str, str]:
        """What the branch means for weights, activations, inputs, outputs and accuracy."""
        outcome = _outcome(self.branch)
        ends = ("weights", "activations", "inputs", "outputs", "accuracy")
        outcome |= dict.fromkeys(ends, outcome["all"]) if "all" in outcome else {}
        return {name: text.format(**self.facts) for name, text in outcome.items()}

    @property
    def removed(self) -> tuple[str, ...]:
        """The options of 10.16 that this version does not know."""
        old = () if self.before_11 else option_kinds("v10.16")
        return tuple(name for name in self.parsed.unknown if name in old)

    def _patterns(self) -> tuple[list[str], list[str]]:
        """Entries with a ``*`` that match no layer at this version, and those with ``*`` in an
        option that has several of them.
        """
        lost: list[str] = []
        rivals: list[str] = []
        most = 1 if wildcard_anywhere(self.release.tag) else 0  # * in a name that is not * alone
        for option in ("--layerPrecisions", "--layerOutputTypes", "--layerDeviceTypes"):
            entries = [(one, one.rpartition(":")[0]) for one in self.value(option).split(",")]
            starred = {one: name for one, name in entries if "*" in name}
            lost += [one for one, name in starred.items() if name != "*" and name.count("*") > most]
            rivals += starred if len(starred) > 1 else []
        return lost, rivals

    @cached_property
    def facts(self) -> dict[str, object]:
        """What the conditions of tables/ ask for, and what stands between braces in the texts."""
        parsed, tag = self.parsed, self.release.tag
        place = cite(tag, "no_model")
        error_key = parsed.error_key or "invalid"
        arguments = [argument.partition("=") for argument in parsed.arguments]
        formats = [value for name, _, value in arguments if name.endswith("IOFormats")]
        wants = ["int8 is set"] if self.int8 else []
        wants += ["an input or output is INT8"] if self.int8_ends else []
        kernels = "FP32" if self.has("--noTF32") else "FP32 (TF32 kernels allowed)"
        strongly_typed = " or --stronglyTyped" if "--stronglyTyped" in option_kinds(tag) else ""
        qdq = {None: "no Q/DQ nodes, as far as is known", True: "Q/DQ nodes"}
        int8_value = self.value("--int8")
        lost, rivals = self._patterns()
        return {
            "arguments": plural(len(parsed.arguments), "argument"),
            f":{self.branch}": True,
            "cache": self.cache,
            "caught": error_key not in ("unknown", "invalid"),
            "constraints": self.value("--precisionConstraints"),
            "dead_patterns": "" if wildcard_anywhere(tag) else ", ".join(lost),
            "dla": self.dla_core >= 0,
            "dla_core": self.dla_core,
            "error": parsed.error,
            "error_key": error_key,
            "float_flags": " and ".join(flag for flag in ("--fp8", "--int4") if self.has(flag)),
            "fp16": self.fp16,
            "has_qdq": self.has_qdq,
            "input_formats": self.value("--inputIOFormats"),
            "int8": self.int8,
            "int8_ends": self.int8_ends,
            "int8_formats": plural(self.int8_ends, "INT8 format"),
            "int8_inputs": "int8" in self.value("--inputIOFormats"),
            "int8_names_cache": re.search(r"cache|calib|\.table$", int8_value, re.I),
            "int8_outputs": "int8" in self.value("--outputIOFormats"),
            "int8_value": int8_value,
            "kernels": kernels + (" and FP16" if self.fp16 else ""),
            "model": self.model,
            "model_problem": self.model_problem,
            "names_no_model": parsed.names_no_model,
            "names_types": any(":" in value for value in formats),
            "on_jetpack": "JetPack" in self.release.note,
            "or_strongly_typed": strongly_typed,
            "output_formats": self.value("--outputIOFormats"),
            "place_of_no_model": f" ({place.summary()})" if place else "",
            "problem": self.cache_problem,
            "qdq_is_unknown": self.has_qdq is None,
            "qdq_nodes": qdq.get(self.has_qdq, "no Q/DQ nodes"),
            "removed": ", ".join(self.removed),
            "rivals": " and ".join(rivals),
            "second_stars": ", ".join(lost) if wildcard_anywhere(tag) else "",
            "shapes_differ": self.value("--minShapes") != self.value("--maxShapes"),
            "skips_sm103": facts_at(tag)["best_skips_sm103"],
            "stops_early": self.stops_early,
            "unknown": parsed.unknown,
            "unread": ": nothing reads --calib" if self.cache else "",
            "version": self.release.version,
            "wants": " and ".join(wants),
        }


def _outcome(branch: str) -> dict[str, str]:
    outcome: dict[str, str] = load_table("outcomes")[branch]
    return {**_outcome(outcome["like"]), **outcome} if "like" in outcome else dict(outcome)


def _said(rows: list[dict[str, str]], case: Case) -> Iterator[dict[str, str]]:
    """What these rows of tables/sentences.json say of ``case``.

    Each is {"step": where in the source, "text": ..., "because": ...} or one of {"warning": ...},
    {"alternative": ...} and {"advice": ...}; of inputs and outputs {"text": ...}.
    """
    for row in filter(case.holds, rows):
        texts = {name: text for name, text in row.items() if name != "when"}
        yield {name: text.format(**case.facts) for name, text in texts.items()}


def _look_at_model(case: Case, model: Any, has_qdq: bool | None) -> Case:
    """Whether the network has Q/DQ layers: as the caller says, read from the file, or unknown."""
    facts = model if isinstance(model, OnnxModel) else None
    is_asked = isinstance(model, (str, os.PathLike))
    path = model if is_asked else case.value("--onnx")
    problem = None
    if has_qdq is None and not path and case.has("--deploy", "--uff"):
        has_qdq = False  # neither Caffe nor UFF has such nodes
    if has_qdq is None and facts is None and path and (is_asked or os.path.isfile(path)):
        try:
            facts = describe(load_proto(path, weights=False))
        except (ModelError, ImportError) as error:
            if is_asked:
                raise
            problem = str(error)
    refused = facts.refused if facts else ()
    if case.dla_core >= 0 and case.has("--uint8AsymmetricQuantizationDLA"):  # zero points are taken
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
        content = read_bytes(case.cache, count=HEAD_BYTES)  # enough to tell
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
