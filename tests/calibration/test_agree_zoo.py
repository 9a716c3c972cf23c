"""Our scales held against TensorRT's caches of eleven networks, and of 2,460 tensors made on
purpose.
"""

from __future__ import annotations

import hashlib
import importlib.util

import numpy as np
import pytest

from recording.calibration import crafted as made
from recording.probes import crafted, feeding
from recording.zoo import networks
from trtlearn.calibration.agreement import agree
from trtlearn.calibration.observers import threshold_of
from trtlearn.calibration.tensors import TIES
from trtlearn.errors import RecordingError
from trtlearn.recorded.calibration import (
    agreement,
    cache_path,
    legacy_grid,
    origin,
    tied,
)
from trtlearn.recorded.files import place

RECORDED = {(row.network, row.algorithm): row for row in agreement().networks}
DENORMAL = ("tinier", "denormal")  # below 1.2e-38 TensorRT's GPU code takes values for 0


def network(name: str) -> tuple[bytes, dict[str, np.ndarray], int]:
    if name == "ocr" and importlib.util.find_spec("rapidocr_onnxruntime") is None:
        pytest.skip("pip install --no-deps rapidocr-onnxruntime")
    content, arrays, batch = networks.build(name)
    hashed = hashlib.sha256(b"".join(arrays[key].tobytes() for key in sorted(arrays))).hexdigest()
    if hashed != origin().sha256[f"zoo/{name}.npz"]:
        pytest.skip("other library versions make other data than those that were calibrated with")
    # where the network was trained anew since
    kept = place("calibration/networks") / f"{name}.onnx"
    if kept.exists():
        content = kept.read_bytes()
    if name != "ocr":
        assert hashlib.sha256(content).hexdigest() == origin().sha256[f"zoo/{name}.onnx"]
    return content, {key: value[: 64 // batch * batch] for key, value in arrays.items()}, batch


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        *(
            (name, "entropy2")
            for name in ("residual", "mobile", "inception", "transformer", "conv1d", "recurrent")
        ),
        *((name, "legacy") for name in ("mobile", "inception", "ocr")),
        ("ocr", "entropy2"),
        *(("inception", kind) for kind in ("minmax", "entropy")),
        *(
            (name, kind)
            for name in networks.HOLDOUT
            for kind in ("entropy2", "minmax", "entropy", "legacy")
        ),
    ],
)
def test_agreement_is_what_was_recorded(name, algorithm):
    content, data, batch = network(name)
    report = agree(content, data, cache_path(name, algorithm), batch=batch)
    row = RECORDED[name, algorithm]
    assert (len(report.tensors), report.batches) == (row.tensors, row.batches)
    assert (
        report.agreeing >= 0.97 * row.agreeing
    )  # another processor may round a near tie the other way
    for tensor in report.tensors:
        assert tensor.agrees() or tensor.explanation


def test_nearly_all_scales_agree_and_the_rest_is_explained():
    table = agreement()
    assert len({row.network for row in table.networks}) == 11
    assert len(table.networks) == 44
    without = [name for name in networks.NAMES if name != "recurrent"]
    assert table.share(*without) >= 0.99
    assert table.share(*networks.HOLDOUT) >= 0.99  # kept aside while the rules were found
    assert not [
        o for row in table.networks for o in row.others if o.explanation.startswith("not explained")
    ]
    for row in table.networks:
        assert row.agreeing + len(row.others) == row.tensors
        if row.network == "recurrent" or row.on_gpu is None:
            continue  # the engine that was read used kernels of its own
        later = row.network in networks.HOLDOUT or (row.network, row.algorithm) == (
            "ocr",
            "entropy2",
        )  # recorded after the rules stood
        assert row.on_gpu >= row.on_gpu_tensors - later


@pytest.mark.parametrize("algorithm", ["entropy2", "minmax", "entropy", "legacy"])
def test_tensors_made_on_purpose_get_tensorrts_scale(algorithm):
    groups = {name: made.group(name) for name in {t.group for t in crafted().tensors}}
    chosen = [
        t for t in crafted().tensors if t.algorithm == algorithm and not t.name.startswith("out::")
    ]
    checked = 0
    for scale in chosen[:: 4 if algorithm.startswith("entropy") else 1]:
        if scale.name in DENORMAL:
            continue
        ours = threshold_of(
            algorithm,
            *groups[scale.group][scale.name],
            keep_steps=False,
        )
        assert ours.scale == pytest.approx(scale.tensorrt, rel=1e-6), scale.name
        checked += 1
    assert checked > 50


def test_the_legacy_calibrators_choice_is_tensorrts_for_every_setting():
    points = legacy_grid().points
    assert len({(p.quantile, p.cutoff) for p in points}) == 24
    tensors = made.group("grid") | made.group("grid_several")
    fitted = 0
    for point in points:
        found = threshold_of(
            "legacy", *tensors[point.tensor], quantile=point.quantile, cutoff=point.cutoff
        )
        assert found.amax == pytest.approx(point.tensorrt, rel=1e-6), point
        assert point.ours == pytest.approx(point.tensorrt, rel=1e-6)
        fitted += found.bins_kept is None
    assert (len(points), fitted) == (1048, 405)


def test_pooling_shares_its_inputs_scale_and_nothing_else_with_other_values_does():
    shared = {o.operator for o in tied().operators if o.tied}
    assert set(TIES) <= shared
    same_values = {
        "Abs",
        "Neg",
        "Identity",
        "Flatten",
        "Reshape",
        "Reshape2",
        "Transpose",
        "Unsqueeze",
        "DepthToSpace",
    }
    assert shared - set(TIES) <= same_values | {
        "Pad",
        "Resize",
    }  # these two repeat values, or add zeros


def test_our_calibrator_feeds_at_least_as_fast_as_polygraphys():
    rates = feeding()
    assert {run.who for run in rates.runs} == {"trtlearn", "polygraphy"}
    assert all(run.batches == 64 for run in rates.runs)
    assert rates.ratio >= 1
    assert rates.rate("trtlearn") > rates.whole_rate("trtlearn")


def test_what_was_not_recorded_is_one_clear_error():
    with pytest.raises(RecordingError, match="ocr-percentile"):
        cache_path("ocr", "percentile")


def test_a_tie_that_only_rounding_breaks_is_broken_as_tensorrt_does():
    content, data, batch = network("mobilev3")
    report = agree(content, data, cache_path("mobilev3", "entropy2"), batch=batch)
    found = report.thresholds[
        "b0_squeeze_relu"
    ].search  # 256 values: 1271 and 1334 bins cost the same but for rounding
    assert (
        found.kl[1271 - 128]
        == pytest.approx(found.kl[1334 - 128], abs=1e-12)
        == pytest.approx(min(found.kl), abs=1e-12)
    )
    assert found.chosen == 1271
    (row,) = [tensor for tensor in report.tensors if tensor.name == "b0_squeeze_relu"]
    assert row.agrees()
