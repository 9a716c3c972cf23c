"""The placeholder rule is trtexec's, tensor for tensor; ranges set by hand are reported as they
are.
"""

from __future__ import annotations

from typing import Any

import fake_trt
import pytest

from trtlearn.calibration.cache import parse_cache
from trtlearn.engine.records import Message, TensorRange
from trtlearn.errors import BuildError, DataError
from trtlearn.live.network import calibrated_ranges, placeholder_ranges, set_ranges


def trtexec_rule(network: Any) -> dict[str, float]:
    """setTensorDynamicRange of v8.6.1 written a second time, as the oracle: first writer wins, in
    layer order.
    """
    known: dict[str, float] = {}
    for layer in network._layers:
        concat, pooling = layer.type.name == "CONCATENATION", layer.type.name == "POOLING"
        for tensor in layer._inputs:
            if tensor is not None:
                known.setdefault(tensor.name, 4.0 if concat else 2.0)
        for tensor in layer._outputs:
            if tensor is not None:
                known.setdefault(tensor.name, 2.0 if pooling else 4.0)
    return known


def test_placeholder_is_trtexecs_rule(fake: dict[str, Any]) -> None:
    network = fake["make_network"]()
    report = placeholder_ranges(network)
    assert {t.name: t.amax for t in report.tensors} == trtexec_rule(network)
    assert report["image"].amax == 2.0
    assert report["pool"].amax == 2.0  # the output of a pooling
    assert report["weights"].amax == 4.0  # constants are not excepted
    assert all(t.source == "placeholder" for t in report.tensors)
    assert report["image"].scale == pytest.approx(2 / 127, rel=1e-7)
    assert not report.without_range


def test_order_decides_who_is_first(fake: dict[str, Any]) -> None:
    kinds = fake["module"].LayerType
    a, b, c = (fake_trt.Tensor(name) for name in "abc")
    concat_first = fake_trt.Network(
        [a, b],
        [
            fake_trt.Layer("cat", kinds.CONCATENATION, [a, b], [c]),
            fake_trt.Layer("conv", kinds.CONVOLUTION, [a], []),
        ],
    )
    assert (
        placeholder_ranges(concat_first)["a"].amax == 4.0
    )  # a Concat's inputs take the outputs' range
    a, b, c = (fake_trt.Tensor(name) for name in "abc")
    conv_first = fake_trt.Network(
        [a, b],
        [
            fake_trt.Layer("conv", kinds.CONVOLUTION, [a], []),
            fake_trt.Layer("cat", kinds.CONCATENATION, [a, b], [c]),
        ],
    )
    report = placeholder_ranges(conv_first)
    assert (report["a"].amax, report["b"].amax) == (2.0, 4.0)


def test_placeholder_keeps_what_was_set(fake: dict[str, Any]) -> None:
    network = fake["make_network"]()
    set_ranges(network, {"conv": 7.5})
    report = placeholder_ranges(network)
    assert (report["conv"].amax, report["conv"].source) == (7.5, "user")
    assert report["image"].source == "placeholder"


def test_a_refused_range_is_an_error(fake: dict[str, Any]) -> None:
    network = fake["make_network"]()
    network.get_input(0).refuses = True
    with pytest.raises(BuildError, match="refused the range ±2 for tensor 'image'"):
        placeholder_ranges(network)


def test_set_ranges_from_a_dict_says_what_was_missed(fake: dict[str, Any]) -> None:
    network = fake["make_network"]()
    report = set_ranges(network, {"image": 3.0, "no such": 1.0})
    assert report["image"].amax == 3.0
    assert report.unmatched == ("no such",)
    assert report.without_range == ("weights", "conv", "pool", "cat", "logits")
    assert report["conv"].amax is None
    assert set_ranges(network, {})["image"].amax == 3.0


def test_set_ranges_from_a_cache(fake: dict[str, Any]) -> None:
    cache = parse_cache("TRT-8600-EntropyCalibration2\nimage: 3c010204\nstale: 3c010204\nconv: 0\n")
    network = fake["make_network"]()
    report = set_ranges(network, cache)
    assert (report["image"].amax, report["image"].source) == (pytest.approx(1.0, rel=1e-6), "cache")
    assert report.unmatched == ("stale",)
    assert "conv" in report.without_range  # a scale of 0 is no range


@pytest.mark.parametrize("amax", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_bad_range_changes_nothing(fake: dict[str, Any], amax: float) -> None:
    network = fake["make_network"]()
    with pytest.raises(DataError, match="expected a finite amax"):
        set_ranges(network, {"image": 1.0, "conv": amax})
    assert set_ranges(network, {})["image"].amax is None


def test_nan_read_back_is_unknown(fake: dict[str, Any]) -> None:
    network = fake["make_network"]()
    network.get_input(0).dynamic_range = (float("nan"), float("nan"))
    assert set_ranges(network, {})["image"].amax is None


def test_without_dynamic_ranges_it_says_so() -> None:
    class Bare:  # a tensor of TensorRT 11
        name, dynamic_range = "x", None

    network = fake_trt.Network(
        [], [fake_trt.Layer("l", fake_trt.named("T", "CONVOLUTION").CONVOLUTION, [Bare()], [])]
    )
    with pytest.raises(BuildError, match="removed them"):
        placeholder_ranges(network)


def test_calibrated_tied_and_lost() -> None:
    cache = parse_cache("TRT-8600-MinMaxCalibration\na: 3c010204\n")
    logged = [TensorRange("a", 1.0, 0.00787, "log"), TensorRange("b", 2.0, 0.0157, "log")]
    missing = Message("warning", "…", "missing-scale", names=("c",))
    report = calibrated_ranges(cache, logged, [missing])
    assert [(t.name, t.source) for t in report.tensors] == [
        ("a", "calibrated"),
        ("b", "tied"),
        ("c", "none"),
    ]
    assert report["a"].scale == cache["a"]  # exact, not the log's six digits
    assert report.without_range == ("c",)
