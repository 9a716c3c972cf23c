"""What notebook 03, "What a calibrator does", states: one test a fact, from the same recordings.

A docstring names the question of tools/questions.json that the fact answers, if one.
"""

from __future__ import annotations

import sys
import types
from functools import cache
from typing import Any

import nbformat
import numpy as np
import pytest
from numpy.typing import NDArray

import trtlearn as tl
from recording.orders import MARKS, orders_apart, scales_after
from trtlearn.calibration.entropy import divergence, reference_and_candidate
from trtlearn.calibration.fitting import POOR_DB
from trtlearn.calibration.observers import Threshold, threshold_of
from trtlearn.files import notebooks_dir
from trtlearn.live.calibrator import trtexec_noise
from trtlearn.networks import Network

pytestmark = pytest.mark.xdist_group("facts-03")

Values = dict[str, NDArray[np.float32]]
KINDS = {"min-max": "minmax", "entropy 2": "entropy2"}


@cache
def network(name: str) -> Network:
    return tl.network(name, mode="recorded")


@cache
def values(name: str) -> Values:
    return network(name).activations()


@cache
def observed(tensor: str, algorithm: str = "entropy2") -> Threshold:
    return network("resnet").observe(tensor, algorithm)


def equal(ours: float, theirs: float, tolerance: float = 1e-6) -> bool:
    return abs(ours / theirs - 1) < tolerance


def percent(model: str, kind: str) -> float:
    share = network(model).build(f"int8-{kind}").accuracy
    assert share is not None
    return 100 * share


@cache
def cells() -> dict[str, str]:
    book = nbformat.read(notebooks_dir() / "03_what_a_calibrator_does.ipynb", as_version=4)
    return {str(cell.id): str(cell.source) for cell in book.cells}


# --- The class that TensorRT wants, and the conversation


class Tensors:
    """As much of torch as the page's class uses."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, part: slice) -> Tensors:
        return Tensors(self.array[part])

    def float(self) -> Tensors:
        return Tensors(self.array.astype(np.float32))

    def contiguous(self) -> Tensors:
        return Tensors(np.ascontiguousarray(self.array))

    def cuda(self) -> Tensors:
        return self

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)


def split(tensors: Tensors, size: int) -> list[Tensors]:
    return [tensors[start : start + size] for start in range(0, len(tensors), size)]


def test_the_pages_class_holds_the_conversation_that_tensorrt_wants(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = cells()["run-class"].split("```python\n")[1].split("```")[0]
    base = type("IInt8EntropyCalibrator2", (), {})
    trt = types.SimpleNamespace(IInt8EntropyCalibrator2=base, BuilderFlag=types.SimpleNamespace())
    trt.BuilderFlag.INT8 = "INT8"
    monkeypatch.setitem(sys.modules, "tensorrt", trt)  # type: ignore[arg-type]
    torch: Any = types.SimpleNamespace(split=split, from_numpy=Tensors)
    monkeypatch.setitem(sys.modules, "torch", torch)
    flags: list[str] = []
    config = types.SimpleNamespace(set_flag=flags.append)
    monkeypatch.chdir(tmp_path)
    np.save("inputs.npy", np.zeros((20, 1, 4, 4), np.float64))
    exec(code, {"config": config})
    calibrator: Any = config.int8_calibrator
    assert flags == ["INT8"]
    assert calibrator.get_batch_size() == 8
    assert calibrator.read_calibration_cache() is None
    for _ in range(2):  # 20 images: two full batches of 8
        assert len(calibrator.get_batch(["image"])) == 1
        assert calibrator.batch.array.shape == (8, 1, 4, 4)
        assert calibrator.batch.array.dtype == np.float32
    assert calibrator.get_batch(["image"]) is None
    calibrator.write_calibration_cache(b"TRT-8600-EntropyCalibration2\n")
    assert (tmp_path / "my.cache").read_bytes() == b"TRT-8600-EntropyCalibration2\n"


def test_tensorrt_asks_for_the_networks_input_no_weights_no_labels() -> None:
    """thread-1"""
    calls = network("resnet").build("int8-entropy2").calibration.calls  # type: ignore[union-attr]
    assert {call.argument for call in calls if call.method == "get_batch"} == {"image"}


def test_it_asks_once_a_batch_and_once_more_to_hear_no_more() -> None:
    """thread-1"""
    talk = network("resnet").build("int8-entropy2").calibration
    assert talk is not None
    batches = [call for call in talk.calls if call.method == "get_batch"]
    assert len(batches) == talk.batches + 1
    assert batches[-1].answer == "no more"


def test_at_the_end_it_hands_over_the_cache() -> None:
    """thread-1"""
    talk = network("resnet").build("int8-entropy2").calibration
    assert talk is not None
    assert len(talk.calls) == 69
    assert talk.calls[-1].method == "write_calibration_cache"


def test_the_cache_has_no_line_for_a_convolutions_weights() -> None:
    """thread-1, T#2887"""
    cache = network("resnet").build("int8-entropy2").cache
    assert cache is not None
    assert "stem.weight" in network("resnet").weights()
    assert "stem.weight" not in cache


# --- Our scales are TensorRT's


@pytest.mark.parametrize("kind", ["minmax", "entropy2"])
@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_each_activation_of_the_onnx_file_gets_tensorrts_own_scale(model: str, kind: str) -> None:
    """thread-2"""
    theirs = network(model).build(f"int8-{kind}").cache
    assert theirs is not None
    for name, x in values(model).items():
        parts = [x[start : start + 8] for start in range(0, len(x), 8)]
        assert equal(threshold_of(kind, *parts, keep_steps=False).scale, theirs[name]), name


@pytest.mark.parametrize(("model", "least"), [("resnet", 22), ("mobile", 30)])
def test_calibrate_gives_the_cache_that_tensorrt_wrote(model: str, least: int) -> None:
    """thread-2"""
    mine, theirs = network(model).calibrate(), network(model).build("int8-entropy2").cache
    assert theirs is not None
    rows = mine.diff(theirs).tensors
    gaps = [row.relative_difference for row in rows if row.relative_difference is not None]
    assert max(gaps) < 1e-6
    assert len(gaps) > least
    others = [row.name for row in rows if row.relative_difference is None]
    assert all(name.startswith("(Unnamed Layer* ") for name in others)
    assert model != "resnet" or len(others) == 4
    assert mine.equals(theirs)


def test_on_eleven_networks_and_four_calibrators_each_difference_is_explained() -> None:
    table = tl.recorded.agreement()
    assert len({row.network for row in table.networks}) == 11
    assert {row.algorithm for row in table.networks} == {"entropy2", "entropy", "minmax", "legacy"}
    others = [other for row in table.networks for other in row.others]
    assert all(not other.explanation.startswith("not ") for other in others)
    pairs = {(row.network, row.algorithm) for row in table.networks}
    assert len(pairs) == 44


def test_the_four_networks_kept_aside_agree_too() -> None:
    assert tl.recorded.agreement().share("bottleneck", "mobilev3", "vit", "unet") > 0.99


# --- A calibration on noise


def test_a_missing_calib_file_makes_one_batch_and_the_calibration_is_over() -> None:
    """thread-5"""
    talk = network("resnet").build("int8-random").calibration
    assert talk is not None
    assert talk.batches == 1


def test_trtexecs_noise_as_images_gives_all_its_scales() -> None:
    """thread-5"""
    noise = trtexec_noise(8 * 28 * 28).reshape(8, 1, 28, 28)
    tensors = network("resnet").activations(noise)
    theirs = network("resnet").build("int8-random").cache
    assert theirs is not None
    for name, x in tensors.items():
        assert equal(threshold_of("entropy2", x).scale, theirs[name]), name


def test_noise_beats_no_calib_and_a_calibration_beats_noise() -> None:
    """item-1, T#1703"""
    bare, random, best = (percent("mobile", kind) for kind in ("placeholder", "random", "minmax"))
    assert best > random > bare + 50


def test_all_three_run_the_same_layers_in_int8() -> None:
    """item-2, T#3135, T#2322"""
    builds = network("mobile").builds("int8-placeholder", "int8-random", "int8-minmax")
    first, *rest = [build.int8_nodes for build in builds.values()]
    assert first
    assert all(nodes == first for nodes in rest)


# --- The spike


def test_four_of_five_pixels_are_background() -> None:
    images = network("resnet").images()
    share = float((images == images.min()).mean())
    assert f"{100 * share:.0f} %" == "81 %"
    assert f"{images.min():.4f}" == "-0.4242"


def test_entropy_cuts_the_image_right_behind_the_background() -> None:
    """item-15, T#3922, T#2705"""
    amax = observed("image").amax
    theirs = network("resnet").build("int8-entropy2").cache
    assert theirs is not None
    assert f"{amax:.4f}" == f"{theirs.entry('image').amax:.4f}" == "0.4250"
    assert abs(amax + float(network("resnet").images().min())) < 1e-3


@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_entropy_answers_far_worse_than_min_max_and_legacy(model: str) -> None:
    """item-15, T#3922, T#2705"""
    others = min(percent(model, "minmax"), percent(model, "legacy"))
    assert percent(model, "entropy2") + 60 < others


def test_no_other_cut_of_the_image_has_nearly_so_small_a_kl() -> None:
    search = observed("image").search
    assert search is not None
    least, second = np.sort(np.array(search.kl))[:2]
    assert f"{least:.4f}" == "0.0006"
    assert second > 500 * least


# --- P, Q and KL


@cache
def page() -> dict[str, Any]:
    """The two functions that the page defines."""
    names: dict[str, Any] = {"np": np}
    exec(cells()["look-p-and-q"], names)
    exec(cells()["look-divergence"], names)
    return names


TOY = np.array([12, 12, 6, 2, 4, 2, 1, 1])


def test_the_pencil_finds_p_and_q_of_the_toy() -> None:
    P, Q = page()["p_and_q"](TOY, 6, levels=4)
    assert P.tolist() == [12, 12, 6, 2, 4, 4]
    assert Q.tolist() == [12, 12, 6, 3, 3, 2]
    assert (P.sum(), Q.sum()) == (40, 38)


def test_six_bins_of_the_toy_lose_least() -> None:
    kl, p_and_q = page()["kl"], page()["p_and_q"]
    losses = {kept: kl(*p_and_q(TOY, kept, levels=4)) for kept in range(4, 9)}
    assert min(losses, key=losses.__getitem__) == 6


def test_the_pages_two_functions_are_the_librarys() -> None:
    kl, p_and_q = page()["kl"], page()["p_and_q"]
    counts = np.array(observed("image").counts)
    for kept in (128, 129, 308, 600, 995, 2048):
        for ours, theirs in zip(
            p_and_q(counts, kept), reference_and_candidate(counts, kept), strict=True
        ):
            assert np.allclose(ours, theirs, rtol=1e-12)
        assert np.isclose(kl(*p_and_q(counts, kept)), divergence(*p_and_q(counts, kept)))


def test_the_curve_is_this_divergence_for_every_cut() -> None:
    found = observed("b1_relu1")
    assert found.search is not None
    assert len(found.counts) == 2048
    assert (found.search.first, len(found.search.kl)) == (128, 1921)
    counts = np.array(found.counts)
    counts[0] = counts[1]
    loss = page()["kl"](*page()["p_and_q"](counts, 600))
    assert np.isclose(loss, found.search.kl[600 - 128])


@pytest.mark.parametrize("tensor", ["image", "b1_relu1"])
def test_the_ring_lies_on_the_least_kl(tensor: str) -> None:
    theirs = network("resnet").build("int8-entropy2").cache
    assert theirs is not None
    assert equal(observed(tensor).amax, theirs.entry(tensor).amax)


# --- The calibrators, the bins, the order, the number of images


def test_one_later_batch_makes_the_bins_of_stem_twice_as_wide() -> None:
    assert sum(step.merges for step in observed("stem").steps) == 1


def test_tensorrts_two_entropy_calibrators_give_the_same_scales() -> None:
    one, two = (network("resnet").build(f"int8-{kind}").cache for kind in ("entropy", "entropy2"))
    assert one is not None
    assert two is not None
    assert all(equal(two[name], scale) for name, scale in one.items())


def test_legacys_line_gives_tensorrts_choice_on_the_whole_grid() -> None:
    points = tl.recorded.legacy_grid().points
    assert points
    assert all(point.ours and equal(point.ours, point.tensorrt) for point in points)


def test_legacys_line_gives_real_scales_within_two_thousandths() -> None:
    told = tl.recorded.odd_caches()["legacy_other_cutoff"].scales  # 16 digits, cut-off 0.5
    shared = [name for name in told if name in values("resnet")]
    assert "b1_relu2" in shared
    for name in shared:
        x = values("resnet")[name][:16]
        ours = threshold_of("legacy", x[:8], x[8:], cutoff=0.5)
        assert equal(ours.scale, told[name], 2e-3), name


def test_the_orders_that_differ_from_ours_are_near_ties_of_kl() -> None:
    """item-16, T#1411"""
    apart = orders_apart(values("resnet"), tl.recorded.shuffles("resnet"))
    assert len(apart) < 10
    assert all(gap is not None and gap < 5e-3 for gap in apart.values())


def test_the_order_alone_moves_stem() -> None:
    """item-16, T#1411"""
    ways = tl.recorded.shuffles("resnet").amax(["stem"])
    low, *_, high = sorted(ways["shuffled, batches of 8"]["stem"])
    assert len(ways["shuffled, batches of 8"]["stem"]) == 5
    assert high > 5 * low
    assert (f"{low:.2f}", f"{high:.2f}") == ("0.80", "5.51")


def test_the_order_gives_stem_10_or_66_percent_of_its_largest_value() -> None:
    """item-16, T#1411"""
    ranges = tl.recorded.shuffles("resnet").amax(["stem"])["shuffled, batches of 8"]["stem"]
    largest = abs(values("resnet")["stem"]).max()
    assert [round(100 * end / largest) for end in (min(ranges), max(ranges))] == [10, 66]


def test_the_batch_size_moves_b0_add_and_gap_and_not_stem() -> None:
    """item-16, T#1411"""
    names = ("stem", "b0_add", "gap")
    ways = tl.recorded.shuffles("resnet").amax(names)
    batches = [way for name, way in ways.items() if name.startswith("as they come")]
    assert len(batches) == 4
    spread = {name: {round(way[name][0], 2) for way in batches} for name in names}
    assert len(spread["stem"]) == 1
    assert len(spread["b0_add"]) == len(spread["gap"]) == 2


def test_the_batch_size_moves_b1_relu1() -> None:
    """item-16, T#1411"""
    ways = tl.recorded.shuffles("resnet").amax(["b1_relu1"])
    eight, many = (ways[f"as they come, batches of {n}"]["b1_relu1"][0] for n in (8, 64))
    assert eight > 1.2 * many


def test_our_scales_after_each_number_of_images_are_tensorrts() -> None:
    needed = tl.recorded.images_needed("resnet")
    ours = {kind: scales_after(values("resnet"), kind) for kind in KINDS.values()}
    single = [point for point in needed.points if point.batch == 1]
    right = total = 0
    for point in single:
        mine = ours[point.algorithm][point.images]
        right += sum(equal(mine[name], point.scales[name]) for name in values("resnet"))
        total += len(values("resnet"))
    assert max(point.images for point in single) == max(MARKS)
    assert right > 0.98 * total


def test_min_maxs_range_grows_with_more_images() -> None:
    amax = tl.recorded.images_needed("resnet").amax("stem", "minmax")
    assert amax[500] > amax[1]
    assert sorted(amax.values()) == [amax[count] for count in sorted(amax)]


def test_entropy_moves_stem_between_100_and_200_images() -> None:
    amax = tl.recorded.images_needed("resnet").amax("stem", "entropy2")
    assert max(amax[100] / amax[200], amax[200] / amax[100]) > 1.5


def test_more_images_do_not_cure_the_spike() -> None:
    right = tl.recorded.images_needed("resnet").percent_right("entropy2")
    assert max(right.values()) < 30
    assert 504 in right


def test_eight_images_are_enough_for_min_max() -> None:
    right = tl.recorded.images_needed("resnet").percent_right("minmax")
    assert min(right) == 8
    assert min(right.values()) > 98


def test_entropy_2_is_fine_on_photographs_and_fit_says_so() -> None:
    said = {}
    for name in ("photo", "mobile"):
        net = tl.network(name, mode="recorded")
        cache = net.build("int8-entropy2").cache
        assert cache is not None
        said[name] = tl.fit(cache, net, net.images()[:16], progress=False)
    assert said["photo"].all_fit
    assert max(tensor.clipped for tensor in said["photo"].tensors) < 0.01
    assert max(tensor.clipped for tensor in said["mobile"].tensors) > 0.1
    assert {tensor.verdict for tensor in said["mobile"].poor} == {"too small"}
    right = {
        way: round(1000 * (tl.network("photo", mode="recorded").build(way).accuracy or 0))
        for way in ("int8-entropy2", "int8-minmax", "fp32")
    }
    assert list(right.values()) == [956, 956, 957]


def test_fit_marks_a_range_whose_error_is_over_a_sixth_of_the_values() -> None:
    assert pytest.approx(1 / 6, abs=0.02) == 10 ** (-POOR_DB / 20)
    cache = network("resnet").build("int8-entropy2").cache
    assert cache is not None
    report = tl.fit(cache, network("resnet"), network("resnet").images()[:64], progress=False)
    for tensor in report.tensors:
        assert (tensor in report.poor) == (tensor.sqnr_db is not None and tensor.sqnr_db < POOR_DB)
    fits = [tensor for tensor in report.tensors if tensor.verdict == "fits"]
    assert max(tensor.clipped for tensor in fits) > 0.01  # what is clipped does not decide
