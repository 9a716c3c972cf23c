"""Pictures and controls: a record in, a figure or a widget out; ``tl.show.<tab>`` lists them.

Each is loaded when it is first used: pictures need plotly, controls also ipywidgets and anywidget
(``pip install 'trtlearn[lab]'``). The last keyword of every picture is ``source``: a Provenance, a
text, or None.
"""

from __future__ import annotations

import importlib
import importlib.util
import typing

from ..errors import TrtlearnError

PLACES = {
    "images": "boxes digits_grid operators photographs spike",
    "numbers": "clip_or_round float_bits histogram number_line weight_error",
    "tensor_ranges": "fit ranges scales",
    "calibration": "agreement images_needed kl legacy_line orders shared_scales thresholds toy_cut",
    "blocks": "place_pairs residual_block",
    "engines": "engine engine_diff fusion layer_times precision",
    "layers": "pixel plan_sizes read_back tensor_errors time_by_dtype",
    "tradeoffs": "against_trtexec batch_sizes builds launches mixed_search sensitivity tradeoff",
    "widgets": "amax_slider factor_slider filling_player follow_pixel kl_slider range_browser "
    "repair_switches spike_slider tradeoff_explorer",
    "caches": "cache_editor",
    "commands": "explainer",
}
"""Module of this room -> the pictures or controls that it offers."""

MODULES: dict[str, str] = {}
for _module, _names in PLACES.items():
    MODULES |= dict.fromkeys(_names.split(), _module)
MOVING = ("plotly", "ipywidgets", "anywidget")
NEEDED: dict[str, tuple[str, ...]] = dict.fromkeys(("cache_editor", "explainer"), ("ipywidgets",))
NEEDED |= dict.fromkeys((*PLACES["widgets"].split(), "place_pairs"), MOVING)

__all__ = sorted(MODULES)  # noqa: PLE0605


def __getattr__(name: str) -> typing.Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for package in NEEDED.get(name, ("plotly",)):
        if importlib.util.find_spec(package) is None:
            raise TrtlearnError(f"tl.show.{name} needs {package}", "pip install 'trtlearn[lab]'")
    picture = getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
    globals()[name] = picture
    return picture


def __dir__() -> list[str]:
    return list(__all__)
