"""trtexec's decision about INT8: the facts of a command, the branch it takes, every step in order.

The rule, the same from 8.4 to 10.16 (v8.6.1:samples/common/sampleEngines.cpp:1009-1082): without
Q/DQ nodes, and with --int8 or an INT8 input or output, and no --calib value: placeholder ranges.
Otherwise with --int8 a calibrator is set; it hands over the cache where the file opens and noise
where not; TensorRT ignores a cache of another kind than its own, entropy 2. From 11.0 on --int8 is
an unknown option.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ..calibration.cache import CacheIgnored
from ..files import load_table
from ..model.graph import OnnxModel, RefusedNode
from ..record import plural
from .command import TrtexecCommand, int8_count
from .sources import Release, best_skips_sm103, cite, option_kinds, wildcard_anywhere

__all__ = ["Case", "sentences", "takes_asymmetric"]


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
    def float_flags(self) -> list[str]:
        """The flags of types that no calibrator and no placeholder range serves."""
        return [flag for flag in ("--fp8", "--int4") if self.has(flag)]

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
        return {name: text.format(**self.words) for name, text in outcome.items()}

    @property
    def removed(self) -> tuple[str, ...]:
        """The options of 10.16 that this version does not know."""
        old = () if self.before_11 else option_kinds("v10.16")
        return tuple(name for name in self.parsed.unknown if name in old)

    @property
    def error_key(self) -> str:
        return self.parsed.error_key or "invalid"

    @property
    def constraints(self) -> str:
        return self.value("--precisionConstraints")

    @property
    def formats_given(self) -> list[str]:
        """The values of I/O formats, also in a command that the parser refuses."""
        arguments = [argument.partition("=") for argument in self.parsed.arguments]
        return [value for name, _, value in arguments if name.endswith("IOFormats")]

    @cached_property
    def words(self) -> dict[str, object]:
        """What stands between braces in the sentences of tables/."""
        place = cite(self.release.tag, "no_model")
        wants = ["int8 is set"] if self.int8 else []
        wants += ["an input or output is INT8"] if self.int8_ends else []
        kernels = "FP32" if self.has("--noTF32") else "FP32 (TF32 kernels allowed)"
        known = option_kinds(self.release.tag)
        seen = {
            None: "no Q/DQ nodes, as far as is known",
            True: "Q/DQ nodes",
            False: "no Q/DQ nodes",
        }
        return {
            "arguments": len(self.parsed.arguments),
            "cache": self.cache,
            "constraints": self.constraints,
            "dla_core": self.dla_core,
            "dead_patterns": ", ".join(self.dead_patterns),
            "second_stars": ", ".join(self.second_stars),
            "rivals": " and ".join(self.rivals),
            "float_flags": " and ".join(self.float_flags),
            "error": self.parsed.error,
            "error_key": self.error_key,
            "int8_formats": plural(self.int8_ends, "INT8 format"),
            "int8_value": self.value("--int8"),
            "kernels": kernels + (" and FP16" if self.fp16 else ""),
            "model": self.model,
            "model_problem": self.model_problem,
            "or_strongly_typed": " or --stronglyTyped" if "--stronglyTyped" in known else "",
            "place_of_no_model": f" ({place.summary()})" if place else "",
            "problem": self.cache_problem,
            "qdq_nodes": seen[self.has_qdq],
            "removed": ", ".join(self.removed),
            "unread": ": nothing reads --calib" if self.cache else "",
            "version": self.release.version,
            "wants": " and ".join(wants),
        }


def _outcome(branch: str) -> dict[str, str]:
    outcome: dict[str, str] = load_table("outcomes")[branch]
    return {**_outcome(outcome["like"]), **outcome} if "like" in outcome else dict(outcome)


Condition = Callable[[Case], object]


def on(*branches: str) -> Condition:
    """True on these branches."""
    return lambda case: case.branch in branches


def always(case: Case) -> bool:
    return True


def layers_without_constraints(case: Case) -> bool:
    layers = case.has("--layerPrecisions", "--layerOutputTypes")
    return layers and case.constraints in ("", "none")


def constraints_without_layers(case: Case) -> bool:
    layers = case.has("--layerPrecisions", "--layerOutputTypes")
    return not layers and case.constraints in ("obey", "prefer") and case.cites("constraints")


def on_dla(case: Case) -> bool:
    return case.dla_core >= 0


def takes_asymmetric(case: Case) -> bool:
    """Zero points other than 0 are DLA's, by an option of its own."""
    return on_dla(case) and case.has("--uint8AsymmetricQuantizationDLA")


def is_deprecated(case: Case) -> bool:
    modes = ("placeholder-ranges", "random-calibration", "cached-scales")
    return case.release.number >= (10, 1) and case.int8 and case.mode in modes


def has_no_dla(case: Case) -> bool:
    return on_dla(case) and (11, 0) <= case.release.number < (11, 4)


def may_hit_check_links(case: Case) -> bool:
    calibrates = case.branch in ("noise", "cache", "ignored-cache")
    return calibrates and case.release.number == (10, 3) and "JetPack" in case.release.note


def is_timed(case: Case) -> bool:
    """The new way of timing is this version's, and something is timed."""
    return (
        case.cites("timing") and not case.has("--skipInference", "--safe") and not has_no_dla(case)
    )


OLD_TIMING = ("--useCudaGraph", "--useSpinWait", "--noDataTransfers")

# (key of tables/sentences.json, when it is said), in the order of trtexec's source.
Table = tuple[tuple[str, Condition], ...]
REFUSAL: Table = (
    ("unknown_option", lambda c: c.parsed.unknown),
    ("refused_value", lambda c: not c.parsed.unknown),
    ("caught", lambda c: c.error_key not in ("unknown", "invalid")),
    ("up_to_10_16", on("removed")),
    ("formats_name_no_type", lambda c: not c.before_11 and any(":" in f for f in c.formats_given)),
)
OPTIONS: Table = (
    ("no_model", lambda c: c.parsed.names_no_model),
    ("best", lambda c: c.has("--best") and c.release.number < (10, 0)),
    ("best_and_bf16", lambda c: c.has("--best") and c.release.number >= (10, 0)),
    ("best_skips_sm103", lambda c: c.has("--best") and best_skips_sm103(c.release.tag)),
    ("int8", lambda c: c.has("--int8")),
    ("int8_has_value", lambda c: c.value("--int8")),
    ("int8_names_cache", lambda c: re.search(r"cache|calib|\.table$", c.value("--int8"), re.I)),
    ("fp16", lambda c: c.has("--fp16")),
    ("strongly_typed", lambda c: c.flags_are_off and c.has("--int8", "--best", "--fp16")),
    ("typed_always", lambda c: not c.before_11),
    ("weakly_typed", lambda c: c.int8 and c.cites("weakly_typed")),
    ("calib_without_value", lambda c: c.has("--calib") and not c.cache),
    ("constraints", layers_without_constraints),
    ("constraints_alone", constraints_without_layers),
    ("star_matches_nothing", lambda c: c.dead_patterns),
    ("second_star", lambda c: c.second_stars),
    ("rival_patterns", lambda c: c.rivals and not c.dead_patterns),
)
MODEL: Table = (
    ("unreadable_model", lambda c: c.model_problem),
    ("unknown_qdq", lambda c: c.has_qdq is None),
)
TYPES_BY_MODEL: Table = (("parse_model", always),)
TYPES_BY_FLAGS: Table = (  # v8.6.1:samples/common/sampleEngines.cpp:765-1082
    ("inputs_are_fp32", lambda c: c.cites("inputs_are_fp32") and not c.value("--inputIOFormats")),
    ("int8_flag", lambda c: c.int8),
    ("fp16_hint", lambda c: c.int8 and not c.fp16),
    ("int8_io", lambda c: c.int8_ends),
    ("has_qdq", always),
    ("placeholder", on("placeholder", "placeholder-io")),
    ("printed", on("placeholder")),
    ("float", on("float")),
    ("float-qdq", on("float-qdq")),
    ("calibrate_qdq", on("qdq")),
    ("calibrate", on("no-io-scales", "noise", "cache", "ignored-cache")),
    ("no-io-scales", on("no-io-scales")),
    ("io_scales", lambda c: c.int8_ends and c.branch in ("cache", "ignored-cache")),
    ("set_calibrator", on("qdq", "noise", "cache", "ignored-cache")),
    ("noise", on("noise")),
    ("cache", on("cache")),
    ("ignored-cache", on("ignored-cache")),
)
AFTERWARDS: Table = (
    ("layers", lambda c: c.has("--layerPrecisions") and c.constraints in ("obey", "prefer")),
    ("dla", lambda c: on_dla(c) and c.before_11),
    ("dla_typed", lambda c: on_dla(c) and c.release.number >= (11, 4)),
    ("no_dla", has_no_dla),
    ("dla_int8", lambda c: on_dla(c) and c.int8 and not c.has_qdq),
    ("dla_shapes", lambda c: on_dla(c) and c.value("--minShapes") != c.value("--maxShapes")),
    ("dla_asymmetric", takes_asymmetric),
    ("dla_off", lambda c: c.has("--useDLACore") and c.dla_core < 0),
    ("dla_qdq", lambda c: on_dla(c) and c.has_qdq and c.before_11),
    ("sparsity", lambda c: c.value("--sparsity") == "force"),
    ("safe", lambda c: c.has("--safe") and c.cites("safe_is_strongly_typed")),
    ("calib_without_int8", lambda c: c.before_11 and c.cache and not c.int8),
    ("no_range", lambda c: c.int8_ends and not c.int8 and c.cache and not c.has_qdq),
    ("takes_no_range", lambda c: c.int8_ends and c.flags_are_off and not c.has_qdq),
    ("qdq", on("qdq")),
    ("float_flags", lambda c: c.before_11 and c.float_flags and not c.has_qdq),
    ("qdq_without_int8", lambda c: c.branch == "float-qdq" and not c.strongly_typed),
    ("for_answers", on("placeholder", "placeholder-io", "noise")),
    ("look_into_cache", on("cache")),
    ("check_links", may_hit_check_links),
    ("deprecated", is_deprecated),
)
TIMING: Table = (
    ("timing", is_timed),
    ("timing_options", lambda c: is_timed(c) and c.has(*OLD_TIMING)),
)
ADVICE: Table = (
    ("for_int8_by_model", lambda c: c.mode == "not-int8" and c.strongly_typed),
    ("for_int8_by_flags", lambda c: c.mode == "not-int8" and not c.strongly_typed),
)


def sentences(case: Case) -> Iterator[dict[str, str]]:
    """What trtexec does with ``case`` in its own order, and what to know about it.

    Each is {"step": where in the source, "text": ..., "because": ...} or one of {"warning": ...},
    {"alternative": ...} and {"advice": ...}.
    """
    early: dict[str, Table] = {
        "help": (("help", always),),
        "refused": REFUSAL,
        "removed": REFUSAL,
        "load": (*OPTIONS, ("load", always), *TIMING),
    }
    by = TYPES_BY_FLAGS if case.before_11 else TYPES_BY_MODEL
    table = early.get(case.branch) or (*OPTIONS, *MODEL, *by, *AFTERWARDS, *TIMING, *ADVICE)
    texts = load_table("sentences")
    for key, condition in (("split", always), *table):
        if condition(case):
            for sentence in texts[key]:
                yield {name: text.format(**case.words) for name, text in sentence.items()}
