"""Inspector files of three generations, read without loss and refused in one line when they are
something else.
"""

import dataclasses
import json
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trtlearn.dtypes import DTYPES
from trtlearn.engine import inspector
from trtlearn.engine.inspector import dtype_bits, parse_dtype, parse_format, read_engine
from trtlearn.engine.layers import (
    EngineInfo,
    foreign_ends,
    infer_nodes,
    nodes_in_metadata,
    nodes_in_name,
    plain_name,
    reformat_target,
    without_profile,
)
from trtlearn.errors import InspectorError

FIXTURES = Path(__file__).parent.parent / "fixtures" / "inspector"
FILES = sorted(FIXTURES.glob("*.json"))


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_fixture_reads_the_same_from_path_text_and_bytes_and_survives_json(path):
    engine = read_engine(path)
    assert (
        engine
        == read_engine(path.read_text())
        == read_engine(path.read_bytes())
        == read_engine(str(path))
    )
    assert EngineInfo.from_json(engine.to_json()) == engine
    assert engine.raw == path.read_text()
    assert len(engine.layers) == len(json.loads(engine.raw, strict=False)["Layers"])
    for layer in engine.layers:
        for dtype in (
            *layer.input_dtypes,
            *layer.output_dtypes,
            layer.weight_dtype,
            layer.bias_dtype,
        ):
            assert dtype is None or dtype in DTYPES
    assert "layer" in str(engine)
    assert "<table>" in engine._repr_html_()


def test_8_6_int8():
    engine = read_engine(FIXTURES / "v8_6_int8.json")
    assert "\x1e" in engine.raw  # raw, as TensorRT 8.6 writes it
    assert (engine.schema, engine.detailed) == ("8.6", True)
    reformat, stem, residual, pool, shuffle, head, softmax = engine.layers
    assert [layer.is_reformat for layer in engine.layers] == [True] + 6 * [False]
    assert (reformat.input_dtypes, reformat.output_dtypes) == (("fp32",), ("int8",))
    assert reformat.outputs[0].vector == 4
    assert stem.onnx_nodes == ("stem", "stem_relu")
    assert (stem.weight_dtype, stem.weight_count, stem.weight_bytes) == ("int8", 288, 288)
    assert (stem.bias_dtype, stem.bias_count) == ("fp32", 32)
    assert residual.input_dtypes == ("int8", "int8")
    assert residual.inputs[0].vector == 32
    assert pool.weight_dtype is pool.weight_bytes is None
    assert shuffle.onnx_nodes == ("(Unnamed Layer* 21) [Shuffle]",)
    assert (head.input_dtypes, head.output_dtypes) == (("int8",), ("fp32",))
    assert head.kernel == "sm80_xmma_fprop_implicit_gemm_i8f32_i8i32_f32"
    assert softmax.kernel is None
    assert [(b.name, b.mode, b.dtype) for b in engine.bindings] == [
        ("image", "input", "fp32"),
        ("probabilities", "output", "fp32"),
    ]


def test_10_with_myelin_layers():
    engine = read_engine(FIXTURES / "v10_fp16_myelin.json")
    assert engine.schema == "10"
    _, stem, shape, head, softmax = engine.layers
    assert stem.weight_dtype == "fp16"
    assert stem.weight_bytes == 2 * 288
    assert (shape.inputs, shape.kernel) == ((), None)
    assert head.onnx_nodes == ("head", "head_bias")  # parted by 0x1f inside a fused group
    assert (head.weight_dtype, head.weight_count) == ("fp16", 250880)
    assert (softmax.input_dtypes, softmax.output_dtypes) == (("fp16",), ("fp32",))


def test_10_with_types_alone():
    engine = read_engine(FIXTURES / "v10_types.json")
    assert engine.schema == "10"
    quantize, conv, mlp, foreign = engine.layers
    assert quantize.is_reformat
    assert (quantize.input_dtypes, quantize.output_dtypes) == (("fp32",), ("int8",))
    assert conv.weight_dtype == "int8"
    assert (mlp.weight_dtype, mlp.weight_bytes) == ("int4", (25088 * 3 + 1) // 2)  # two to a byte
    assert (foreign.input_dtypes, foreign.output_dtypes) == (("bf16",), ("fp8",))


def test_11_splits_format_and_datatype():
    engine = read_engine(FIXTURES / "v11_qdq.json")
    assert engine.schema == "11"
    quantize, stem, head, shape = engine.layers
    assert (quantize.input_dtypes, quantize.output_dtypes) == (("fp32",), ("int8",))
    assert stem.outputs[0].vector == 32
    assert stem.outputs[0].format == "Thirty-two wide channel vectorized format"
    assert (head.weight_dtype, head.weight_bytes) == ("fp8", 250880)
    assert head.onnx_nodes == ("head", "softmax")
    assert shape.output_dtypes == (None,)  # FP4: known, but no data type of trtlearn's
    assert shape.inputs[0].dims == (-1, 10)
    assert [(b.name, b.mode, b.dtype) for b in engine.bindings] == [
        ("image", "input", "fp32"),
        ("scores", "output", "fp32"),
    ]
    assert engine.bindings[0].format == "Row major linear FP32 format (kLINEAR)"


def test_names_only_says_so_and_invents_nothing():
    engine = read_engine(FIXTURES / "names_only.json")
    assert (engine.schema, engine.detailed) == (None, False)
    assert all(
        layer.kind is None and layer.weight_dtype is None and not layer.onnx_nodes
        for layer in engine.layers
    )
    assert [layer.is_reformat for layer in engine.layers] == [True] + 6 * [False]
    assert read_engine('{"Layers": [], "Bindings": []}').detailed is False


def test_one_layer_and_a_bare_list_are_understood():
    layers = json.loads((FIXTURES / "v11_qdq.json").read_text())["Layers"]
    assert read_engine(json.dumps(layers)).layers == read_engine(FIXTURES / "v11_qdq.json").layers
    assert read_engine(json.dumps(layers[1])).layers[0].onnx_nodes == ("stem", "stem_relu")
    assert read_engine('"stem + stem_relu"').layers[0].name == "stem + stem_relu"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        (b"ptrt\x00\x01\x02", "plan"),
        (b"ftrt\x00\x01\x02", "plan"),
        (b"\x00\x01", "binary"),
        (b"\x08\x08\x12\x04onnx", "ONNX"),
        (b"\x1f\x8b\x08", "compressed"),
        (b'{"Layers": ["\xff"]}', "UTF-8"),
        ('{"Layers": [{"Name": "a", "Lay', "cut short"),
        ('{"Layers": [', "cut short"),
        ('{"Layers": 3}', "Layers"),
        ("{}", "Layers"),
        ("{'Layers': [{'Name': 'a'}]}", "Python's form"),
        ("[I] Loading bytes from m.engine", "starts with '\\[I\\] Loading"),
        ("[V] [TRT] Layer: conv1 (CaskConvolution)", "starts with"),
        ("[1]", "layer 0"),
        ('{"Layers": [{"a": 1}]}', "layer 0"),
        ('{"Layers": [{"Name": "a", "Inputs": 3}]}', "Inputs"),
        ('{"Layers": [{"Name": "a", "Inputs": [3]}]}', "tensor"),
        ("[" * 100_000, "nested"),
        ('{"Layers": [' + "9" * 5000 + "]}", "JSON"),
        ('[{"count": 3}, {"name": "a", "timeMs": 1, "averageMs": 1}]', "times"),
        ("Layers:\nName: a, LayerType: Reformat, Inputs: []", "one-line"),
        ("[11/23/2026] [I] Layers:\nName: a, LayerType: Reformat", "one-line"),
        ("TRT-8600-EntropyCalibration2\nx: 3c010a14\n", "TRT-8600"),
        ("/no/such/file.json", "no such file"),
        ("a\0b", "path"),
    ],
)
def test_what_is_no_inspector_file_gets_one_clear_line(content, word):
    with pytest.raises(InspectorError, match=word) as problem:
        read_engine(content)
    assert "\n" not in str(problem.value)
    assert len(str(problem.value)) < 400
    assert problem.value.fix


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark_are_read(encoding):
    text = (FIXTURES / "v11_qdq.json").read_text()
    assert read_engine(text.encode(encoding)).layers == read_engine(text).layers


def test_the_text_that_json_dump_wrote_again_is_read():
    text = (FIXTURES / "v11_qdq.json").read_text()
    assert read_engine(json.dumps(text)).layers == read_engine(text).layers


def test_an_engine_between_the_lines_of_a_log_is_read():
    text = (FIXTURES / "v8_6_int8.json").read_text()
    found = read_engine(
        f"[11/23/2026-10:00:00] [TRT] [I] Loaded engine size: 1 MiB\n{text}\n&&&& PASSED\n"
    )
    assert (found.layers, found.bindings) == (read_engine(text).layers, read_engine(text).bindings)
    assert read_engine(text + "&&&& PASSED").layers == found.layers


def test_layers_printed_one_after_the_other_are_read():
    layers = json.loads((FIXTURES / "v10_types.json").read_text())["Layers"]
    text = "".join(
        f"--- Layer {at} ---\n{json.dumps(item, indent=2)}\n" for at, item in enumerate(layers)
    )
    assert [layer.name for layer in read_engine(text).layers] == [item["Name"] for item in layers]


def test_two_engines_in_one_text_and_a_cut_one_in_a_log_are_refused():
    text = (FIXTURES / "v11_qdq.json").read_text()
    with pytest.raises(InspectorError, match="2 engines"):
        read_engine(text + text)
    with pytest.raises(InspectorError, match="broken JSON"):
        read_engine("[I] engine\n" + text[: len(text) // 2])


def test_any_cut_of_a_file_is_an_inspector_error():
    content = (FIXTURES / "v8_6_int8.json").read_bytes().rstrip()
    for length in range(0, len(content), 97):
        with pytest.raises(InspectorError):
            read_engine(content[:length])


@pytest.mark.parametrize(
    ("phrase", "dtype", "vector"),
    [
        ("Row major linear FP32", "fp32", 1),
        ("Row major linear FP16 format", "fp16", 1),
        ("Row major Int8 format", "int8", 1),
        ("Row major linear Int32", "int32", 1),
        ("Row major linear BOOL", "bool", 1),
        ("Row major linear BFloat16 format", "bf16", 1),
        ("Two wide channel vectorized row major FP16 format", "fp16", 2),
        ("Four wide channel vectorized row major FP32 format", "fp32", 4),
        ("Sixteen wide channel vectorized row major FP16 format", "fp16", 16),
        (
            "Thirty-two wide channel vectorized row major Int8 format with 3 spatial dimensions",
            "int8",
            32,
        ),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8", 32),
        ("Channel major FP32 format where channel % 4 == 0 with 3 spatial dimensions", "fp32", 4),
        ("Channel major FP32 format with 3 spatial dimensions where channel % 4 == 0", "fp32", 4),
        ("Channel major INT8 format where channel == 4 and column stride % 32 == 0", "int8", 4),
        ("Channel major INT8 format where column stride % 32 == 0", "int8", 1),
        ("Row major INT8 format where column stride % 64 == 0", "int8", 1),
        ("Eight channel BF16 format (kHWC8) where C is padded to a multiple of 8", "bf16", 8),
        (
            "Thirty-two wide channel vectorized row major INT8 format (kCDHW32) with 3 spatial dimensions",
            "int8",
            32,
        ),
        ("Non-vectorized channel-last UINT8 format", "uint8", 1),
        ("Row major linear INT4 format (kLINEAR)", "int4", 1),
        ("Half", "fp16", None),
        ("Int64", "int64", None),
        ("FP8", "fp8", None),
        ("Int8 NC/32HW32", "int8", 32),
        ("N/A due to dynamic shapes", None, None),
        ("Unknown format", None, None),
        ("FP4E2M1", None, None),
    ],
)
def test_formats(phrase, dtype, vector):
    found = parse_format(phrase)
    assert (found.dtype, found.vector, found.known) == (dtype, vector, True)


@pytest.mark.parametrize(
    ("phrase", "layout"),
    [
        ("(Linear) Row major linear format", "NCHW"),
        ("(Transposed) Transposed format", "transposed"),
        ("(Arbitrary) Format with stride order = [0, 3, 1, 2]", "strided"),
        ("Thirty-two wide channel vectorized format with 3 spatial dimensions", "NC/32DHW32"),
        ("Channel major format where channel % 8 == 0", "NHWC8"),
        ("kCHW32", "NC/32HW32"),
    ],
)
def test_formats_of_11_take_the_type_from_their_own_field(phrase, layout):
    assert parse_format(phrase, "Int8")[:2] == ("int8", layout)
    assert parse_format(phrase).dtype is None


def test_an_unseen_phrase_warns_once_and_stays_unknown(monkeypatch):
    monkeypatch.setattr(inspector, "_warned", set())
    with pytest.warns(UserWarning, match="Seventeen wide"):
        assert parse_format("Seventeen wide Int8 layout").dtype is None
    assert (
        parse_format("Seventeen wide Int8 layout").known is False
    )  # an error here, if it warned again
    with pytest.warns(UserWarning, match="Int3"):
        assert parse_dtype("Int3") is None


KNOWN = ["conv12", "sigmoid13", "mul14", "norm", "dense", "probs", "a + b"]
PLACES = {name: place for place, name in enumerate(KNOWN)}


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("conv12", ["conv12"]),
        ("conv12 + PWN(PWN(sigmoid13), mul14)", ["conv12", "sigmoid13", "mul14"]),
        ("conv12 || dense [profile 1]", ["conv12", "dense"]),
        ("dense_myl3_4", ["dense"]),
        ("{ForeignNode[norm...probs]}", ["norm", "dense", "probs"]),
        ("a + b", ["a + b"]),
        ("conv1", []),
        ("Reformatting CopyNode for Input Tensor 0 to conv12", []),
    ],
)
def test_nodes_in_a_fused_name(name, nodes):
    assert nodes_in_name(name, PLACES) == nodes


def test_names_are_used_only_where_metadata_is_silent_and_marked_as_inferred():
    names = ["stem", "stem_relu", "b0_conv2", "b0_add", "b0_relu", "gap"]
    layers = infer_nodes(read_engine(FIXTURES / "names_only.json").layers, names)
    assert layers[2].onnx_nodes == ("b0_conv2", "b0_add", "b0_relu")
    assert layers[2].onnx_nodes_inferred
    assert layers[0].onnx_nodes == ()
    documented = infer_nodes(read_engine(FIXTURES / "v8_6_int8.json").layers, ["stem"])
    assert documented[1].onnx_nodes == ("stem", "stem_relu")
    assert not documented[1].onnx_nodes_inferred


def test_what_tensorrt_appends_to_names():
    assert plain_name("conv1 + relu1 [profile 1]") == "conv1 + relu1"
    assert plain_name("fc_myl5_2") == "fc"
    assert without_profile("image [profile 1]") == without_profile("image") == "image"
    assert foreign_ends("{ForeignNode[norm1...softmax]}") == ("norm1", "softmax")
    order = {"conv12": 0, "sigmoid13": 1, "mul14": 2}
    assert nodes_in_name("conv12 + PWN(PWN(sigmoid13), mul14)", order) == [*order]


def test_words_for_types_and_formats():
    phrase = "Thirty-two wide channel vectorized row major Int8 format"
    assert parse_format(phrase) == ("int8", "NC/32HW32", 32, True)
    assert parse_format("(Linear) Row major linear format", "BFloat16").dtype == "bf16"
    assert parse_format("N/A due to dynamic shapes") == (None, None, None, True)
    words = ("Half", "Int4", "FP4", None)
    assert [parse_dtype(word) for word in words] == ["fp16", "int4", None, None]
    assert [dtype_bits(word) for word in ("Half", "int4", "Mystery")] == [16, 4, None]


def test_reformat_target_and_metadata():
    copy = "Reformatting CopyNode for Input Tensor 0 to stem + stem_relu"
    assert reformat_target(copy) == "stem + stem_relu"
    assert (
        reformat_target("Reformatting CopyNode for Output Tensor 1 to a + b [profile 2]") == "a + b"
    )
    assert reformat_target("Reformatting CopyNode for Network Input image") == "image"
    assert reformat_target("conv") is None
    assert nodes_in_metadata("[CONVOLUTION]-[aten_ops.convolution.default]") == ()
    assert nodes_in_metadata("[ONNX Layer: a][ONNX Layer: b]\x1f[ONNX Layer: a]") == ("a", "b")


def big(count: int) -> str:
    """An 8.6-like file of ``count`` convolutions in a chain."""
    layers = []
    for i in range(count):
        phrase = "Thirty-two wide channel vectorized row major Int8 format"
        tensors = [
            [
                {
                    "Name": f"t{at}",
                    "Location": "Device",
                    "Dimensions": [8, 64, 56, 56],
                    "Format/Datatype": phrase,
                }
            ]
            for at in (i, i + 1)
        ]
        more = dict.fromkeys(
            ("Groups", "OutMaps", "HasSparseWeights", "HasDynamicFilter", "HasResidual"), 1
        )
        layers.append(
            {
                **{
                    "Name": f"conv{i} + relu{i}",
                    "LayerType": "CaskConvolution",
                    "Inputs": tensors[0],
                },
                **{"Outputs": tensors[1], "Weights": {"Type": "Int8", "Count": 36864}, **more},
                **{"TacticName": "sm80_xmma_fprop", "StreamId": 0},
                "Metadata": f"[ONNX Layer: conv{i}]\x1e[ONNX Layer: relu{i}]",
            }
        )
    return json.dumps({"Layers": layers, "Bindings": ["t0", f"t{count}"]}, indent=1)


def test_five_thousand_layers_parse_in_under_a_second():
    text = big(5000)
    took = []
    for _ in range(3):
        start = time.process_time()  # other processes on a busy machine do not count
        engine = read_engine(text)
        took.append(time.process_time() - start)
    assert len(engine.layers) == 5000
    assert min(took) < 1.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
keys = st.sampled_from(
    [
        *(
            "Name",
            "LayerType",
            "Inputs",
            "Outputs",
            "Weights",
            "Bias",
            "Constants",
            "Metadata",
            "StreamId",
        ),
        *(
            "Dimensions",
            "Format/Datatype",
            "Format",
            "Datatype",
            "Type",
            "Count",
            "ProfileInfo",
            "IOMode",
        ),
    ]
)
things = st.dictionaries(
    keys, json_values | st.dictionaries(keys, json_values, max_size=4), max_size=6
)
layers = st.dictionaries(keys, json_values | st.lists(things, max_size=3) | things, max_size=8)
engines = st.fixed_dictionaries(
    {"Layers": st.lists(layers | st.text(max_size=8), max_size=4)},
    optional={
        "Bindings": json_values | st.lists(things, max_size=2),
        "I/O Tensors": json_values | st.lists(things),
    },
)


def one_line(problem: InspectorError) -> None:
    assert "\n" not in str(problem)
    assert problem.fix


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(engines, st.lists(st.text(max_size=5), max_size=3))
def test_fuzz_any_json_of_the_right_shape_reads_or_is_refused(value, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            engine = read_engine(json.dumps(value))
        except InspectorError as problem:
            one_line(problem)
            return
    engine = dataclasses.replace(engine, layers=infer_nodes(engine.layers, names))
    assert EngineInfo.from_json(engine.to_json()) == engine
    str(engine).encode()  # no half of a surrogate pair survives
    engine._repr_html_().encode()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200) | json_values.map(json.dumps))
def test_fuzz_any_file_reads_or_is_refused(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_engine(content)
        except InspectorError as problem:
            one_line(problem)
