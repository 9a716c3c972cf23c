"""Calibration caches: any cache that we write is read back equal, and every broken one is one clear
error.
"""

import json
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtlearn.calibration import cache as c
from trtlearn.calibration import edit
from trtlearn.errors import CacheError, TrtlearnError

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=40
).filter(lambda name: bool(name.strip()))
SCALES = st.floats(0, 2.0**120, width=32).map(abs)
CACHES = st.builds(
    c.new_cache,
    st.dictionaries(NAMES, SCALES, max_size=12),
    st.sampled_from(list(c.ALGORITHMS)),
    st.sampled_from(["8.4.1", "8.6.0", "8.6.1", "10.3.0", "10.16.0"]),
)
DATA = Path(__file__).parent.parent / "data"
GOOD = """TRT-8600-EntropyCalibration2
image: 3d2c1f3a
stem: 3d90a39c
zeros: 0
(Unnamed Layer* 21) [Matrix Multiply]_output: 3d90a39c
model/block:0: 3c010203
"""


@given(CACHES)
def test_what_we_write_is_read_back_equal(cache):
    text = c.format_cache(cache)
    assert c.parse_cache(text) == cache
    assert c.parse_cache(text.encode()) == cache
    assert c.format_cache(c.parse_cache(text)) == text
    assert c.parse_cache(text.replace("\n", "\r\n")).scales == cache.scales
    assert type(cache).from_json(cache.to_json()) == cache


def parsed(content):
    """The cache that the content is; None where it is a CacheError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return c.parse_cache(content)
        except CacheError:
            return None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_cache_or_a_cache_error(content):
    cache = parsed(content)
    assert cache is None or c.parse_cache(c.format_cache(cache)).scales == cache.scales


@given(CACHES, st.data())
def test_a_cache_cut_anywhere_never_gives_a_wrong_scale(cache, data):
    text = c.format_cache(cache)
    found = parsed(text[: data.draw(st.integers(0, len(text)))])
    assert found is None or found.scales == cache.scales[: len(found.scales)]


@given(CACHES)
def test_conversions_come_back(cache):
    assert edit.from_ranges_json(edit.to_ranges_json(cache)) == cache
    ranges = json.loads(edit.to_ranges_json(cache))["ranges"]
    back = edit.from_ranges_json(json.dumps(ranges))
    for item in back.scales:
        assert item.scale == pytest.approx(cache[item.name], rel=2e-7, abs=1e-44)
    if all(" " not in name and "\t" not in name for name in cache.names):
        table = edit.from_ort_table(edit.to_ort_table(cache))
        assert sorted(table.names) == sorted(cache.names)
    assert set(edit.to_qdq_scales(cache)) == {item.name for item in cache.scales if item.scale > 0}


def test_the_bits_are_those_of_the_scale():
    cache = c.parse_cache(GOOD)
    assert cache.algorithm == "EntropyCalibration2"
    assert cache.kind == "entropy2"
    assert cache.tensorrt_version == "8.6.0"
    assert cache["stem"] == np.frombuffer(bytes.fromhex("3d90a39c"), ">f4")[0]
    assert cache.entry("stem").amax == np.float32(np.float32(cache["stem"]) * np.float32(127))
    assert cache["zeros"] == 0
    assert cache.names[3:] == ("(Unnamed Layer* 21) [Matrix Multiply]_output", "model/block:0")
    assert c.format_cache(cache) == GOOD


def test_the_legacy_header_is_numbers():
    cache = c.parse_cache("0 3ff0000000000000 3feff7ced916872b\nx: 3f800000\n")
    assert (cache.algorithm, cache.kind, cache.tensorrt_version) == (
        "LegacyCalibration",
        "legacy",
        None,
    )
    assert (cache.cutoff, cache.quantile) == (1.0, 0.999)
    assert c.make_header("legacy", cutoff=0.0, quantile=1.0) == "0 0 3ff0000000000000"
    assert c.parse_cache("0 0 3ff0000000000000\nx: 1\n").cutoff == 0.0


BROKEN = {
    "": "empty",
    "\n\n": "empty",
    "hello\nx: 3f800000\n": "line 1 .*expected a header",
    "x: 3f800000\n": "line 1 .*expected a header",
    "\ufeff" + GOOD: "line 1 .*expected a header",
    "TRT-8600-EntropyCalib": "ends inside its first line",
    "TRT--EntropyCalibration2\nx: 1\n": "line 1",
    "0 3ff0000000000000 7ff8000000000000\nx: 1\n": "line 1",
    GOOD + "no colon here\n": "line 7.*no colon",
    GOOD + ": 3f800000\n": "line 7.*empty tensor name",
    GOOD + "bad: zzzz\n": "line 7.*'zzzz'.*hex",
    GOOD + "bad:3f800000\n": "line 7.*no space after the colon",
    GOOD + "bad: 0x3f800000\n": "line 7.*hex",
    GOOD + "bad: 0.0706\n": "line 7.*hex",
    GOOD + "bad: 3f8000001\n": "line 7.*hex",
    GOOD + "bad: \n": "line 7.*hex",
    GOOD + "bad: -1\n": "line 7.*hex",
    GOOD + "bad: bf800000\n": "line 7.*negative",
    GOOD + "stem: 3f800000\n": "line 7.*already given in line 3",
    GOOD + GOOD: "line 7.*header again.*two caches",
    GOOD[:-4]: "line 6.*ends inside",
    GOOD[:-12]: "line 6",
}


@pytest.mark.parametrize(
    "text", BROKEN, ids=[f"{i}-{v[:18]}" for i, v in enumerate(BROKEN.values())]
)
def test_each_broken_cache_is_one_clear_line(text, tmp_path):
    path = tmp_path / "broken.cache"
    path.write_bytes(text.encode())
    with pytest.raises(CacheError, match=BROKEN[text]) as caught:
        c.read_cache(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_text_that_is_not_utf8_names_its_line():
    with pytest.raises(CacheError, match="line 3 holds the byte 0xff"):
        c.parse_cache(b"TRT-8600-EntropyCalibration2\na: 3f800000\nb\xff: 3f800000\n")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CacheError, match="no such file"):
        c.read_cache(tmp_path / "missing")
    with pytest.raises(CacheError, match="folder"):
        c.read_cache(tmp_path)


def test_an_unknown_algorithm_warns_and_is_unknown():
    with pytest.warns(UserWarning, match="FutureCalibration"):
        cache = c.parse_cache("TRT-9900-FutureCalibration\nx: 3f800000\n")
    assert cache.algorithm is None
    assert "unknown" in cache.summary()


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1.0, 1e39, 1e-50])
def test_impossible_scales_are_not_written(scale):
    with pytest.raises(CacheError, match="from 0 that float32 holds"):
        c.new_cache({"x": scale})


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\rb", "a\0b", "\ud800"])
def test_impossible_names_are_not_written(name):
    with pytest.raises(CacheError):
        c.new_cache({name: 1.0})


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "x.cache"
    c.parse_cache(GOOD).save(path)
    assert path.read_text() == GOOD
    with pytest.raises(TrtlearnError):
        c.parse_cache(GOOD).save(path / "below_a_file")
    assert [p.name for p in path.parent.iterdir()] == ["x.cache"]


def test_editing():
    cache = c.parse_cache(GOOD)
    renamed = edit.rename(cache, {"stem": "stem_new"})
    assert "stem" not in renamed
    assert renamed.entry("stem_new").hex == "3d90a39c"
    assert edit.drop(cache, ["stem", "zeros"]).names == (cache.names[0], *cache.names[3:])
    assert edit.drop(cache, "stem") == edit.drop(cache, ["stem"])
    assert cache.with_scale("stem", 1.0).entry("stem").hex == "3f800000"
    assert cache.with_scale("new", 1.0).names == (*cache.names, "new")
    assert edit.with_header(cache, "minmax", "7.6.0").header == "TRT-7600-MinMaxCalibration"
    assert edit.with_header(cache, "minmax").scales == cache.scales
    with pytest.raises(CacheError, match="no tensor 'nobody'"):
        edit.rename(cache, {"nobody": "x"})
    with pytest.raises(CacheError, match="already given"):
        edit.rename(cache, {"stem": "image"})
    with pytest.raises(CacheError, match=r"line break.*choose another name"):
        edit.rename(cache, {"stem": "a\nb"})
    with pytest.raises(CacheError, match="no tensor 'nobody'"):
        edit.drop(cache, ["nobody"])


@given(CACHES, CACHES)
def test_diff_tells_every_tensor_once_and_merge_prefers_as_asked(a, b):
    rows = {row.name: row for row in a.diff(b).tensors}
    assert set(rows) == set(a.names) | set(b.names)
    for name, row in rows.items():
        both = name in a.names and name in b.names
        assert (row.relative_difference is None) == (not both)
        if both:
            assert (row.state == "same") == (a[name] == b[name])
    assert a.diff(a).identical
    b = edit.with_header(b, header=a.header)
    merged = {how: dict(edit.merge(a, b, prefer=how)) for how in ("first", "last", "largest")}
    assert merged["first"] == dict(b) | dict(a)
    assert merged["last"] == dict(a) | dict(b)
    assert all(
        merged["largest"][n] == max(merged["first"][n], merged["last"][n])
        for n in merged["largest"]
    )


def test_merging_different_algorithms_is_refused():
    with pytest.raises(CacheError, match="different algorithms"):
        edit.merge(c.new_cache({"x": 1.0}), c.new_cache({"y": 1.0}, "minmax"))
    with pytest.raises(CacheError, match="prefer"):
        edit.merge(c.new_cache({"x": 1.0}), prefer="best")


@pytest.mark.parametrize(
    "text", ["[1]", "nonsense", '{"x": "wide"}', '{"x": true}', '{"x": -1}', '{"x": NaN}']
)
def test_bad_ranges_json(text):
    with pytest.raises(CacheError):
        edit.from_ranges_json(text)


def test_a_range_edited_by_hand_wins_over_the_hex():
    data = json.loads(edit.to_ranges_json(c.parse_cache(GOOD)))
    data["ranges"]["stem"] = 127.0
    cache = edit.from_ranges_json(json.dumps(data))
    assert cache["stem"] == 1.0
    assert cache.entry("image").hex == "3d2c1f3a"
    assert cache.header == "TRT-8600-EntropyCalibration2"


def test_onnxruntimes_own_reader_takes_our_flatbuffers():
    table = pytest.importorskip("onnxruntime.quantization.CalTableFlatBuffers.TrtTable").TrtTable
    cache = c.parse_cache(GOOD)
    read = table.GetRootAsTrtTable(edit.to_ort_flatbuffers(cache), 0)
    pairs = {
        read.Dict(i).Key().decode(): float(read.Dict(i).Value()) for i in range(read.DictLength())
    }
    assert pairs == {item.name: item.amax for item in cache.scales}


def test_bad_ort_tables():
    for text in ("x\n", "x one\n", "x 1.0\nx 2.0\n", "x -1\n"):
        with pytest.raises(CacheError):
            edit.from_ort_table(text)


def test_stale_names_against_the_courses_model():
    from trtlearn.model.course_data import model_path
    from trtlearn.model.read import read_model

    model = read_model(model_path("resnet"))
    cache = c.new_cache(
        dict.fromkeys([*model.tensors[1:], "old_name", "(Unnamed Layer* 3) [Constant]_output"], 1.0)
    )
    report = cache.check(model)
    assert report.matched == model.tensors[1:]
    assert report.stale == ("old_name",)
    assert report.internal == ("(Unnamed Layer* 3) [Constant]_output",)
    assert report.missing == model.tensors[:1]
    assert cache.check(model_path("resnet")) == report


def test_what_nodes_make_of_constants_is_no_other_models_tensor():
    """TensorRT calibrates it: its own cache of an OCR network has 18 such lines."""
    from onnx import TensorProto, helper

    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Constant", [], ["c"], "constant", value=one),
        helper.make_node("Neg", ["c"], ["turned"], "negative"),
        helper.make_node("Add", ["x", "turned"], ["y"], "add"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:])
    model = helper.make_model(graph).SerializeToString()
    report = c.new_cache(dict.fromkeys(["x", "turned", "y", "other"], 1.0)).check(model)
    assert (report.matched, report.stale) == (("x", "turned", "y"), ("other",))


def test_a_cache_answers_for_itself(tmp_path):
    from trtlearn.calibration.cache_reading import ignored_by_trtexec

    cache = c.parse_cache(GOOD)
    moved = cache.with_scale("stem", cache["stem"] * (1 + 1e-5))
    assert cache.equals(cache)
    assert cache.equals(dict(cache))
    assert not cache.equals(moved)
    assert cache.equals(moved, tolerance=1e-4)
    assert cache.largest_difference(moved) == pytest.approx(1e-5, rel=0.1)
    assert cache.largest_difference({"other": 1.0}) is None
    assert cache.largest_difference(cache.save(tmp_path / "same.cache")) == 0
    internal = "(Unnamed Layer* 21) [Matrix Multiply]_output"
    assert cache.equals(edit.drop(cache, internal))  # TensorRT's own lines do not count
    assert not cache.equals(edit.drop(cache, "zeros"))
    assert c.read_cache(cache.save(tmp_path / "a.cache")) == cache
    legacy = "0 3ff0000000000000 3feff7ced916872b"
    for header in ("TRT-8601-MinMaxCalibration", legacy, "TRT-101600-EntropyCalibration2"):
        other = edit.with_header(cache, header=header)
        assert ignored_by_trtexec(c.format_cache(other).encode())
        path = other.save(tmp_path / "b.cache", for_trtexec=True)
        assert ignored_by_trtexec(path.read_bytes()) is None
        assert c.read_cache(path).scales == cache.scales
    assert c.read_cache(path).header == "TRT-8600-EntropyCalibration2"
    path = cache.save(tmp_path / "c.cache", for_trtexec="10.3")
    assert c.read_cache(path).header == "TRT-100300-EntropyCalibration2"


UTF_16 = GOOD.encode("utf-16")
# a file that is no cache, and what is said of it: no edit of its header would help
NO_CACHES = {
    b"\xff\xd8\xff\xe0": "no calibration cache",
    b"/data/a.jpg\n/data/b.jpg\n": "no calibration cache",
    UTF_16: "no calibration cache",
    b'{"x": {"scale": 0.5}}': "JSON text",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"version https://git-lfs.github.com/spec/v1\n": "Git LFS",
}


@pytest.mark.parametrize("content", NO_CACHES)
def test_no_header_is_advised_for_a_file_that_is_no_cache(content):
    from trtlearn.calibration.cache_reading import ignored_by_trtexec

    ignored = ignored_by_trtexec(content)
    assert ignored is not None
    assert NO_CACHES[content] in ignored.why
    assert "cache edit" not in ignored.fix


def test_the_headers_of_tensorrt_10():
    from trtlearn.calibration.cache_reading import ignored_by_trtexec, old_header

    old = b"TRT-8600-EntropyCalibration2\nx: 3f000000\n"
    assert old_header(old, "a.cache", "8.6.1") is None
    doubt = old_header(old, "a.cache", "10.3.0")
    assert doubt is not None
    assert "--header TRT-100300-EntropyCalibration2" in doubt.fix
    assert old_header(old.replace(b"8600", b"101400"), "a.cache", "10.3.0") is None
    ignored = ignored_by_trtexec(b"x: 3f000000\n", "a.cache", "10.3.0")
    assert ignored is not None
    assert "--header TRT-100300-EntropyCalibration2" in ignored.fix


def test_utf_16_says_so():
    with pytest.raises(CacheError, match="save it as UTF-8"):
        c.read_cache(UTF_16)


def test_a_long_cache_takes_linear_time():
    import time

    names = [f"/model/layer.{i}/Conv_output_0" for i in range(100_000)]
    text = "\n".join(["TRT-8600-EntropyCalibration2", *(f"{n}: 3d2c1f3a" for n in names), ""])
    cache = c.parse_cache(text)
    start = time.process_time()
    assert list(cache) == names
    assert all(name in cache for name in names)
    assert cache.diff(cache).identical
    from trtlearn.model.course_data import model_path

    assert len(cache.check(model_path("resnet")).stale) == len(names)
    assert len(cache.with_scale(names[-1], 1.0)) == len(names)
    assert time.process_time() - start < 2
    with pytest.raises(CacheError, match="no tensor 'x'"):
        edit.rename(cache, {**{name: name + "_" for name in names}, "x": "y"})


MARKED = {"7f800000": "infinite", "ff800000": "infinite", "7fc00000": "NaN", "ffc00000": "NaN"}
MARKED["7f7fffff"] = "its range overflows float32"


@pytest.mark.parametrize("bits", MARKED)
def test_a_line_with_an_infinite_or_nan_scale_is_read_and_marked(bits, tmp_path):
    text = GOOD + f"mask: {bits}\n"
    cache = c.parse_cache(text)
    assert c.format_cache(cache) == text
    assert c.parse_cache(text) == cache
    assert cache.unusable == {"mask": MARKED[bits]}
    assert cache.entry("mask").hex == bits
    assert dict(cache) == dict(c.parse_cache(GOOD))
    assert "1 line of no use" in cache.summary()
    assert cache.rows()[-1]["note"] == f"of no use: {MARKED[bits]}"
    assert type(cache).from_json(cache.to_json()).names == cache.names
    whole = c.parse_cache(GOOD)
    assert edit.drop(cache, "mask") == whole
    assert edit.rename(cache, {"mask": "m"}).unusable == {"m": MARKED[bits]}
    assert edit.with_header(cache, "minmax").unusable == cache.unusable
    assert cache.with_scale("mask", 1.0)["mask"] == 1.0
    assert cache.diff(cache).identical
    assert cache.diff(cache.with_scale("mask", 1.0)).tensors[-1].state == "changed"
    assert cache.equals(whole)
    assert edit.from_ranges_json(edit.to_ranges_json(cache)) == whole
    assert edit.to_ort_table(cache) == edit.to_ort_table(whole)
    assert "mask" not in edit.to_qdq_scales(cache)
    for prefer in ("first", "last", "largest"):
        for pair in (
            (cache, cache.with_scale("mask", 0.5)),
            (cache.with_scale("mask", 0.5), cache),
        ):
            assert edit.merge(*pair, prefer=prefer)["mask"] == 0.5
    assert c.read_cache(cache.save(tmp_path / "a.cache", for_trtexec=True)).scales == cache.scales


def test_tensorrts_own_names_are_known_from_the_models_nodes():
    report = c.read_cache(DATA / "trt10.cache").check(DATA / "trt10-model.onnx")
    assert report.stale == report.missing == ()
    assert report.internal == (
        "/m/Softmax_output",
        "/m/Constant_1_output_0_output",
        "ONNXTRT_Broadcast_output",
        "fc.weight_output",
        "fc.bias_output",
        "/fc/Gemm_output",
        "ONNXTRT_Broadcast_283_output",
    )
    made_up = ["ONNXTRT_flattenTensor_12_output", "(Unnamed ITensor* 3)", "/fc/Gemm_7_output_2"]
    other = ["/fc/Gemm_output_0", "/gone/Conv_output", "fc.weight", "output"]
    report = c.new_cache(dict.fromkeys([*made_up, *other], 1.0)).check(DATA / "trt10-model.onnx")
    assert report.internal == tuple(made_up)
    assert report.stale == tuple(other)


def test_agree_says_what_is_tensorrts_own_and_leaves_infinite_lines_out():
    from trtlearn.calibration.agreement import agree
    from trtlearn.model.read import read_model

    shape = (2, *(read_model(DATA / "trt10-model.onnx").inputs[0].shape or ())[1:])
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    text = (DATA / "trt10.cache").read_text() + "mask: 7f800000\n"
    report = agree(DATA / "trt10-model.onnx", images, c.parse_cache(text))
    rows = {row.name: row for row in report.tensors}
    assert "mask" not in rows
    assert any("mask (infinite)" in note for note in report.notes)
    assert "made by TensorRT" in (rows["ONNXTRT_Broadcast_output"].explanation or "")
    assert not any("stale" in (row.explanation or "") for row in rows.values())


def test_a_long_cache_takes_time_by_its_length():
    """Ten times as many lines, some of no use: about ten times the time, not a hundred times."""
    scales = ("3d90a3a9", "7f800000", "7fc00000")

    def seconds(count):
        lines = "".join(f"t{line}: {scales[line % 3]}\n" for line in range(count))
        start = time.process_time()
        cache = c.parse_cache(f"TRT-8600-EntropyCalibration2\n{lines}")
        edited = edit.drop(edit.rename(cache, {"t5": "five"}), ["t7"]).with_scale("t9", 0.5)
        assert str(edited).count("\n") == len(edited.scales) + 1 == count
        assert c.format_cache(edited).count("\n") == count
        return time.process_time() - start

    assert seconds(10_000) < 40 * max(seconds(1_000), 0.01)


def test_one_long_cell_makes_no_wide_table():
    """A name of a megabyte is printed once; no other line is padded to it."""
    cache = c.new_cache({"x" * 1_000_000: 1.0} | {f"t{line}": 1.0 for line in range(1_000)})
    assert len(str(cache)) < 1_400_000
