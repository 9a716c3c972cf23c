"""trtexec's decision about INT8: the facts of a command, the branch it takes, every step in order.

The rule, the same from 8.4 to 10.16 (v8.6.1:samples/common/sampleEngines.cpp:1009-1082): without
Q/DQ nodes, and with --int8 or an INT8 input or output, and no --calib value: placeholder ranges.
Otherwise with --int8 a calibrator is set; it hands over the cache where the file opens and noise
where not; TensorRT ignores a cache of another kind than its own, entropy 2. From 11.0 on --int8 is
an unknown option.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ..calibration.cache import CacheIgnored
from ..files import load_table
from ..model.graph import OnnxModel, RefusedNode
from ..record import plural
from .command import TrtexecCommand, int8_count
from .sources import Release, best_skips_sm103, cite, option_kinds, wildcard_anywhere

__all__ = ["Case", "sentences"]

BY_FLAGS = ("options", "model", "types_by_flags", "afterwards", "timing", "advice")
BY_MODEL = ("options", "model", "types_by_model", "afterwards", "timing", "advice")
PARTS = {
    "help": ("help",),
    "refused": ("refused",),
    "removed": ("refused",),
    "load": ("options", "load", "timing"),
    "typed": BY_MODEL,
    "typed-qdq": BY_MODEL,
}
"""Branch -> the parts of tables/sentences.json that trtexec comes to, in its order; of the other
branches BY_FLAGS.
"""


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
    def flags_are_off(self) -> bool:
        """--stronglyTyped takes the precision flags back."""
        return self.has("--stronglyTyped") and self.before_11

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

    @property
    def takes_asymmetric(self) -> bool:
        """Zero points other than 0 are DLA's, by an option of its own."""
        return self.dla_core >= 0 and self.has("--uint8AsymmetricQuantizationDLA")

    def has(self, *options: str) -> bool:
        return any(option in self.parsed.values for option in options)

    def value(self, option: str) -> str:
        """The option's value; empty where it has none or is not given."""
        return self.parsed.values.get(option, "")

    def cites(self, key: str) -> bool:
        """Whether this version's source has the place ``key``."""
        return cite(self.release.tag, key) is not None

    @property
    def patterns(self) -> list[tuple[str, str]]:
        """(option, entry) of each layer's name with a ``*`` in it."""
        options = ("--layerPrecisions", "--layerOutputTypes", "--layerDeviceTypes")
        entries = [(option, entry) for option in options for entry in self.value(option).split(",")]
        return [(option, entry) for option, entry in entries if "*" in entry.rpartition(":")[0]]

    def _starred(self, least: int) -> tuple[str, ...]:
        """The entries with so many ``*`` or more, but for one alone."""
        names = [(entry, entry.rpartition(":")[0]) for _, entry in self.patterns]
        return tuple(entry for entry, name in names if name != "*" and name.count("*") >= least)

    @property
    def dead_patterns(self) -> tuple[str, ...]:
        """Entries with a ``*`` inside a name, where this version knows ``*`` only alone."""
        return () if wildcard_anywhere(self.release.tag) else self._starred(1)

    @property
    def second_stars(self) -> tuple[str, ...]:
        """Entries with several ``*``, where this version knows one."""
        return self._starred(2) if wildcard_anywhere(self.release.tag) else ()

    @property
    def rivals(self) -> tuple[str, ...]:
        """Entries with ``*`` in an option that has several of them."""
        options = [option for option, _ in self.patterns]
        return tuple(entry for option, entry in self.patterns if options.count(option) > 1)

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

    @property
    def mode(self) -> str:
        return self.outcome["mode"]

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

    def holds(self, condition: str) -> bool:
        """Whether a condition of tables/sentences.json holds: each of its words, a|b one of them.

        A word is an option (``--int8``), an option with this value or any (``--sparsity=force``,
        ``--calib=``), ``:`` and a branch, ``@`` and a place that this version's source has, a
        version (``<10.0``, ``>=11.4``), or one of ``facts``; ``!`` says no.
        """
        return all(any(map(self._holds, word.split("|"))) for word in condition.split())

    def _holds(self, word: str) -> bool:
        if word.startswith("!"):
            return not self._holds(word[1:])
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            given = self.value(option)
            return (given == value if value else bool(given)) if equals else self.has(option)
        if word.startswith((":", "@")):
            return self.branch == word[1:] if word[0] == ":" else self.cites(word[1:])
        if word.startswith(("<", ">=")):
            major, minor = word.strip("<>=").split(".")
            return (self.release.number < (int(major), int(minor))) == (word[0] == "<")
        return bool(self.facts[word])

    @cached_property
    def facts(self) -> dict[str, object]:
        """What the conditions of tables/ ask for, and what stands between braces in the texts."""
        parsed, tag, number = self.parsed, self.release.tag, self.release.number
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
        return {
            "arguments": len(parsed.arguments),
            "cache": self.cache,
            "caught": error_key not in ("unknown", "invalid"),
            "constraints": self.value("--precisionConstraints"),
            "dead_patterns": ", ".join(self.dead_patterns),
            "dla": self.dla_core >= 0,
            "dla_core": self.dla_core,
            "error": parsed.error,
            "error_key": error_key,
            "flags_are_off": self.flags_are_off,
            "float_flags": " and ".join(flag for flag in ("--fp8", "--int4") if self.has(flag)),
            "fp16": self.fp16,
            "has_qdq": self.has_qdq,
            "int8": self.int8,
            "int8_ends": self.int8_ends,
            "int8_formats": plural(self.int8_ends, "INT8 format"),
            "int8_names_cache": re.search(r"cache|calib|\.table$", int8_value, re.I),
            "int8_value": int8_value,
            "kernels": kernels + (" and FP16" if self.fp16 else ""),
            "model": self.model,
            "model_problem": self.model_problem,
            "names_no_model": parsed.names_no_model,
            "names_types": any(":" in value for value in formats),
            "no_dla": self.dla_core >= 0 and (11, 0) <= number < (11, 4),
            "on_jetpack": "JetPack" in self.release.note,
            "or_strongly_typed": strongly_typed,
            "place_of_no_model": f" ({place.summary()})" if place else "",
            "problem": self.cache_problem,
            "qdq_is_unknown": self.has_qdq is None,
            "qdq_nodes": qdq.get(self.has_qdq, "no Q/DQ nodes"),
            "removed": ", ".join(self.removed),
            "rivals": " and ".join(self.rivals),
            "second_stars": ", ".join(self.second_stars),
            "shapes_differ": self.value("--minShapes") != self.value("--maxShapes"),
            "skips_sm103": best_skips_sm103(tag),
            "strongly_typed": self.strongly_typed,
            "unknown": parsed.unknown,
            "unread": ": nothing reads --calib" if self.cache else "",
            "version": self.release.version,
            "wants": " and ".join(wants),
        }


def _outcome(branch: str) -> dict[str, str]:
    outcome: dict[str, str] = load_table("outcomes")[branch]
    return {**_outcome(outcome["like"]), **outcome} if "like" in outcome else dict(outcome)


def sentences(case: Case) -> Iterator[dict[str, str]]:
    """What trtexec does with ``case`` in its own order, and what to know about it.

    Each is {"step": where in the source, "text": ..., "because": ...} or one of {"warning": ...},
    {"alternative": ...} and {"advice": ...}.
    """
    for part in ("always", *PARTS.get(case.branch, BY_FLAGS)):
        for row in load_table("sentences")[part]:
            if case.holds(row.get("when", "")):
                texts = {name: text for name, text in row.items() if name != "when"}
                yield {name: text.format(**case.facts) for name, text in texts.items()}
