"""Requested against chosen: each reason is given where its evidence is there, and nowhere else."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtlearn.builds import Build
from trtlearn.dtypes import DTYPES
from trtlearn.engine.inspector import read_engine
from trtlearn.engine.layers import Binding, EngineInfo, EngineLayer, EngineTensor
from trtlearn.engine.precision import PrecisionReport, precision_report, sources_of
from trtlearn.engine.records import BuildOptions, BuildReport, Message, Provenance, TensorRange
from trtlearn.errors import ModelError
from trtlearn.model.course_data import model_path
from trtlearn.model.graph import OnnxModel, OnnxNode, OnnxValue
from trtlearn.model.read import read_model
from trtlearn.networks import network
from trtlearn.recorded.open import precision

FIXTURES = Path(__file__).parent.parent / "fixtures" / "inspector"
INT8 = BuildOptions(int8=True, ranges="entropy2")


def t(name: str, dtype: str | None) -> EngineTensor:
    return EngineTensor(name, (1, 8), dtype)


def layer(
    name, inputs, outputs, weights=None, nodes=None, kind="CaskConvolution", **more
) -> EngineLayer:
    count = None if weights is None else 9
    nodes = tuple(name.split(" + ")) if nodes is None else nodes
    return EngineLayer(
        name, kind, tuple(inputs), tuple(outputs), weights, count, count, onnx_nodes=nodes, **more
    )


def model(*nodes: tuple[str, str, str, str], qdq: bool = False) -> OnnxModel:
    listed = tuple(
        OnnxNode(name, op, tuple(read.split()), tuple(made.split()))
        for name, op, read, made in nodes
    )
    made = tuple(dict.fromkeys(["x", *(tensor for node in listed for tensor in node.outputs)]))
    value = (OnnxValue("x", (1, 8), "fp32"),)
    return OnnxModel(None, "0" * 64, 0, "", 8, 17, listed, value, (), made, 0, 0, qdq)


def report(layers, options=INT8, messages=(), scales=(), bindings=(), onnx=None) -> PrecisionReport:
    build = BuildReport(options, None, None, tuple(messages), tuple(scales)) if options else None
    engine = EngineInfo(tuple(layers), tuple(bindings), "8.6", True)
    return precision_report(engine, options=options, build=build, model=onnx)


CONV = layer("conv + relu", [t("x", "int8")], [t("y", "int8")], "int8")
SLOW = layer("conv2", [t("y", "fp32")], [t("z", "fp32")], "fp32")


def test_a_fused_layer_says_of_each_node_where_it_went():
    rows = report([CONV])
    for node in ("conv", "relu"):
        assert rows[node].code == "fused"
        assert rows[node].reason.startswith("fused into conv + relu")
        assert (rows[node].requested_dtype, rows[node].computed_in, rows[node].evidence) == (
            "int8",
            "int8",
            "measured",
        )
    assert rows["conv + relu"].is_layer
    assert rows.counts == {"int8": 2}


def test_another_model_than_the_engines_is_said() -> None:
    engine = network("vit").build("int8-minmax").engine
    assert precision(engine, model_path("vit")).notes == ()
    (note,) = precision(engine, model(("mine", "Conv", "x", "y"))).notes
    assert note.startswith("no engine layer names a node of this model")


def test_a_missing_scale_is_told_from_the_log_and_through_a_reformat():
    message = Message("warning", "Missing scale", code="missing-scale", names=("y",))
    copy = layer(
        "Reformatting CopyNode for Input Tensor 0 to conv2",
        [t("y", "int8")],
        [t("Reformatted Input Tensor 0 to conv2", "fp32")],
        nodes=(),
        kind="Reformat",
        is_reformat=True,
    )
    slow = layer(
        "conv2", [t("Reformatted Input Tensor 0 to conv2", "fp32")], [t("z", "fp32")], "fp32"
    )
    rows = report([CONV, copy, slow], messages=[message])
    assert (rows["conv2"].code, rows["conv2"].evidence) == ("no-scale", "measured")
    assert "tensor y" in rows["conv2"].reason
    assert rows[copy.name].code == "reformat"
    assert "int8 to fp32" in rows[copy.name].reason
    assert rows.reformats == 1
    assert (
        rows["conv"].code == "fused"
    )  # it reads no tensor that lacks a scale, and runs as requested


def test_a_tensor_that_the_log_gives_no_scale_is_an_inference():
    onnx = model(("conv", "Conv", "x w", "y"), ("conv2", "Conv", "y w2", "z"))
    scales = [TensorRange("x", 1.0, 1 / 127, "log")]
    row = report([SLOW], scales=scales, onnx=onnx)["conv2"]
    assert (row.code, row.evidence) == ("no-scale", "inferred")
    full = [*scales, *(TensorRange(name, 1.0, 1 / 127, "log") for name in "yz")]
    assert report([SLOW], scales=full, onnx=onnx)["conv2"].code == "faster-in-fp32"


def test_a_tensor_that_fusion_removed_is_no_reason_but_a_neighbour_may_be():
    onnx = model(
        ("c", "Conv", "x w", "m"),
        ("r", "Relu", "m", "f"),
        ("flat", "Flatten", "f", "g"),
        ("d", "Gemm", "g v", "y"),
    )
    found = [
        layer("c + r", [t("x", "fp32")], [t("f", "fp32")], "fp32"),
        layer("d", [t("f", "fp32")], [t("y", "fp32")]),
    ]
    inside = Message("warning", "", code="missing-scale", names=("m",))
    assert report(found, messages=[inside], onnx=onnx)["c"].code == "faster-in-fp32"
    near = Message("warning", "", code="missing-scale", names=("g",))
    rows = report(found, messages=[near], onnx=onnx)
    assert (rows["d"].code, rows["d"].evidence) == ("no-scale", "inferred")
    assert rows["c"].code == "faster-in-fp32"
    assert "shape only" in rows["flat"].reason


def test_a_network_output_is_known_behind_a_layer_that_only_renames_it():
    last = layer("fc", [t("y", "int8")], [t("fc_out_tensor", "fp32")], "int8")
    rename = layer(
        "reshape", [t("fc_out_tensor", "fp32")], [t("logits", "fp32")], nodes=("fc",), kind="NoOp"
    )
    row = report([last, rename], bindings=[Binding("logits", "output")])["fc"]
    assert "logits is a network output" in row.reason


def test_no_kernel_softmax_and_network_output():
    message = Message("error", "…", code="no-implementation", names=("conv2",))
    assert report([SLOW], messages=[message])["conv2"].code == "no-kernel"
    soft = layer("probs", [t("y", "fp32")], [t("p", "fp32")], kind="CudaSoftMaxV2")
    assert (report([soft])["probs"].code, report([soft])["probs"].evidence) == (
        "no-int8-kernel",
        "documented",
    )
    ends = [Binding("z", "output", (1, 8), "fp32")]
    row = report([layer("sum", [t("y", "fp32")], [t("z", "fp32")])], bindings=ends)["sum"]
    assert (row.code, row.evidence) == ("network-output", "inferred")
    assert report([SLOW], bindings=ends)["conv2"].code == "faster-in-fp32"  # it has weights


def test_an_int8_layer_that_writes_fp32_says_so():
    last = layer("fc", [t("y", "int8")], [t("logits", "fp32")], "int8")
    row = report([last], bindings=[Binding("logits", "output")])["fc"]
    assert row.code == "as-requested"
    assert "logits is a network output" in row.reason


def test_fp16_beside_int8_is_marked_as_inferred():
    half = layer("conv2", [t("y", "fp16")], [t("z", "fp16")], "fp16")
    row = report([half], BuildOptions(int8=True, fp16=True, ranges="entropy2"))["conv2"]
    assert (row.requested_dtype, row.computed_in, row.code, row.evidence) == (
        "int8",
        "fp16",
        "faster-in-fp16",
        "inferred",
    )


def test_layer_precisions_count_only_with_prefer_or_obey():
    wishes = {"layer_precisions": {"conv2": "fp32"}}
    ignored = report([SLOW], BuildOptions(int8=True, **wishes))
    assert ignored["conv2"].requested_dtype == "int8"
    assert "no effect" in ignored.notes[0]
    obeyed = report([SLOW], BuildOptions(int8=True, precision_constraints="obey", **wishes))
    assert (obeyed["conv2"].requested_dtype, obeyed["conv2"].code) == ("fp32", "as-requested")
    unmet = report(
        [SLOW], BuildOptions(precision_constraints="prefer", layer_precisions={"*": "fp16"})
    )
    assert (unmet["conv2"].requested_dtype, unmet["conv2"].code) == ("fp16", "wish-not-met")


def test_nodes_without_a_layer_are_listed_with_a_reason():
    onnx = model(
        ("conv", "Conv", "x w", "a"),
        ("relu", "Relu", "a", "y"),
        ("bn", "BatchNormalization", "a s b m v", "b"),
        ("", "Identity", "b", "c"),
    )
    rows = report([CONV], onnx=onnx)
    assert [row.name for row in rows.nodes] == ["conv", "relu", "bn", "(Identity -> c)"]
    assert rows["bn"].code == "removed"
    assert "weights" in rows["bn"].reason
    assert rows["(Identity -> c)"].code == "no-engine-name"
    assert rows.counts == {"int8": 2, "no kernel": 2}


def test_qdq_asks_node_by_node():
    onnx = model(
        ("q", "QuantizeLinear", "x s", "xq"),
        ("dq", "DequantizeLinear", "xq s", "xd"),
        ("dqw", "DequantizeLinear", "w s", "wd"),
        ("conv", "Conv", "xd wd", "y"),
        ("conv2", "Conv", "y w2", "z"),
        qdq=True,
    )
    rows = report(
        [layer("conv", [t("x", "int8")], [t("y", "fp32")], "int8"), SLOW],
        BuildOptions(int8=True),
        onnx=onnx,
    )
    assert (rows["conv"].requested_dtype, rows["conv"].code) == ("int8", "as-requested")
    assert (rows["conv2"].requested_dtype, rows["conv2"].code) == ("fp32", "as-requested")
    assert rows["dqw"].code == "quantization"


def test_the_engine_alone_leaves_the_request_unknown():
    rows = precision_report(EngineInfo((CONV, SLOW)))
    assert rows["conv"].requested_dtype is None
    assert "not known" in rows["conv"].reason
    assert rows["conv2"].code == "faster-in-fp32"  # other layers show that INT8 was allowed
    assert "unknown" in str(rows)
    mixed = precision_report(read_engine(FIXTURES / "v11_qdq.json"))
    assert mixed["head"].computed_in == "fp8"
    assert mixed["head"].code == "fused"  # never called narrower than a request that nobody knows
    assert "not known" in mixed["head"].reason


def test_names_only_engines_admit_that_they_say_nothing():
    rows = precision_report(read_engine(FIXTURES / "names_only.json"), options=INT8)
    assert any("verbosity" in note for note in rows.notes)
    assert all(row.computed_in is None for row in rows.layers)


def test_names_are_used_where_metadata_is_silent_and_lower_the_evidence():
    onnx = model(("conv", "Conv", "x w", "a"), ("relu", "Relu", "a", "y"))
    silent = layer("conv + relu", [t("x", "int8")], [t("y", "int8")], "int8", nodes=())
    row = report([silent], onnx=onnx)["relu"]
    assert (row.code, row.evidence) == ("fused", "inferred")


@pytest.mark.parametrize(
    ("inputs", "weights", "expected"),
    [
        (["int8"], "int8", "int8"),
        (["fp16"], "int8", "fp16"),  # weight-only quantization multiplies in FP16
        (["bf16"], "int4", "bf16"),
        (["fp16", "int32"], None, "fp16"),
        (["fp32", "int8"], None, None),
        ([None], None, None),
        ([None], "int8", "int8"),
        (["int32"], None, "int32"),
        (["fp8"], "fp8", "fp8"),
        ([], None, None),
    ],
)
def test_the_type_that_a_layer_works_in(inputs, weights, expected):
    tensors = [t(str(i), dtype) for i, dtype in enumerate(inputs)]
    assert layer("a", tensors, [], weights).computed_in == expected


@pytest.mark.parametrize(
    ("kind", "dtype", "expected"),
    [
        ("gemm", "int8", "int8"),
        ("kgen", "int8", None),  # scales and computes in a type that the inspector does not name
        ("kgen", "fp8", None),
        ("kgen", "fp16", "fp16"),
        ("Myelin", "fp16", None),  # a stretch of the network: what lies inside is not shown
        ("cjmp", "bool", None),
        ("DeviceToShapeHost", "int32", None),
    ],
)
def test_the_type_of_layers_that_myelin_made(kind, dtype, expected):
    assert layer("a", [t("x", dtype)], [t("y", dtype)], kind=kind).computed_in == expected


def test_myelin_kernels_around_an_int8_gemm():
    before = layer(
        "__myl_MulRounCast_myl0_0",
        [t("x", "fp32")],
        [t("q", "int8")],
        nodes=("quantize",),
        kind="kgen",
    )
    gemm = layer("fc_myl0_1", [t("q", "int8")], [t("m", "int8")], nodes=("fc",), kind="gemm")
    after = layer(
        "__myl_CastExp_myl0_2", [t("m", "int8")], [t("y", "fp32")], nodes=("exp",), kind="kgen"
    )
    found = report([before, gemm, after], options=None)
    assert [(row.computed_in, row.code) for row in found.layers] == [
        ("fp32", "quantizes"),
        ("int8", "request-unknown"),
        (None, "unknown"),
    ]
    asked = report([after])["exp"]
    assert (asked.code, asked.reason) == ("unknown", "reads int8; the type inside is not shown")


@pytest.mark.parametrize(
    ("dtypes", "words"),
    [
        (("fp32", "int8"), "converts fp32 to int8"),
        ((None, "int8"), "converts unknown to int8"),
        ((None, None), "the types are not shown"),  # dynamic shapes
        (("fp16", "fp16"), "same type"),
    ],
)
def test_a_reformat_says_only_what_is_shown(dtypes, words):
    def row(name):
        copy = layer(
            name, [t("x", dtypes[0])], [t("y", dtypes[1])], kind="Reformat", is_reformat=True
        )
        return report([copy]).layers[0]

    inserted = row("Reformatting CopyNode for Input Tensor 0 to conv")
    assert inserted.reason == f"a reformat inserted by TensorRT: {words}"
    assert row("image_QuantizeLinear").reason == f"done as a reformat: {words}"


def test_why_a_type_is_unknown():
    def reason(inputs):
        return report([layer("a", inputs, [t("y", "fp32")], kind="Einsum")]).layers[0].reason

    assert reason([t("x", None)]) == "the type of an input is not shown"
    assert reason([]) == "no inputs are listed"
    assert "differ" in reason([t("x", "fp32"), t("z", "int8")])


def test_each_profile_has_layers_and_outputs_of_its_own():
    profiles = ("", " [profile 1]")
    layers = [
        layer(f"a{p}", [t(f"x{p}", "fp32")], [t(f"y{p}", "fp32")], nodes=("a",)) for p in profiles
    ]
    found = report(layers, bindings=[Binding("y", "output")])
    assert [row.code for row in found.layers] == ["network-output", "network-output"]
    assert found["a"].reason.startswith("split over 2 engine layers (each profile has its own): ")


def test_a_ring_of_copies_ends():
    ring = [
        layer(a, [t(a, "int8")], [t(b, "int8")], nodes=(), kind="NoOp")
        for a, b in (("a", "b"), ("b", "c"), ("c", "a"))
    ]
    assert set(sources_of(EngineInfo(tuple(ring)))) == {"a", "b", "c"}


def test_a_model_may_be_a_path_and_an_experiment_brings_its_own():
    engine = read_engine(FIXTURES / "v8_6_int8.json")
    names = [node.name for node in read_model(model_path("resnet")).nodes]
    rows = precision_report(engine, options=INT8, model=str(model_path("resnet")))
    assert [row.name for row in rows.nodes][: len(names)] == names
    experiment = Build(
        "resnet", "int8-entropy2", Provenance(), BuildReport(INT8, None, None), engine
    )
    assert experiment.precision() == rows
    with pytest.raises(ModelError):
        precision_report(engine, model="/no/such/model.onnx")


names = st.sampled_from(["a", "b", "c"])
dtypes = st.sampled_from([*DTYPES, None])
tensors = st.lists(st.builds(EngineTensor, names, st.none(), dtypes), max_size=2).map(tuple)
layers = st.builds(
    EngineLayer,
    names,
    st.sampled_from(
        [None, "NoOp", "Reformat", "kgen", "CaskConvolution", "Constant", "CudaSoftMaxV2"]
    ),
    tensors,
    tensors,
    weight_dtype=dtypes,
    weight_count=st.sampled_from([None, 0, 9]),
    onnx_nodes=st.lists(names, max_size=2, unique=True).map(tuple),
    is_reformat=st.booleans(),
)
options = st.none() | st.builds(
    BuildOptions,
    int8=st.booleans(),
    fp16=st.booleans(),
    precision_constraints=st.sampled_from(["none", "prefer", "obey"]),
    layer_precisions=st.dictionaries(names | st.just("*"), st.sampled_from(DTYPES), max_size=2),
)
messages = st.builds(
    Message,
    st.just("warning"),
    st.just(""),
    st.sampled_from(["missing-scale", "no-implementation", ""]),
    names=st.lists(names, max_size=2).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(layers, max_size=5), options, st.lists(messages, max_size=2), st.booleans())
def test_any_engine_gets_a_row_for_each_node_and_layer(found, chosen, said, with_model):
    onnx = model(("a", "Conv", "x w", "b"), ("d", "Softmax", "b", "c")) if with_model else None
    rows = report(found, chosen, said, onnx=onnx)
    nodes = {node for one in found for node in one.onnx_nodes}
    assert {row.name for row in rows.nodes} >= nodes
    assert len(rows.layers) == len(found)
    assert sum(rows.counts.values()) == len(rows.nodes)
    for row in (*rows.nodes, *rows.layers):
        assert row.evidence in ("documented", "measured", "inferred")
        assert row.reason
        assert row.computed_in is None or row.computed_in in DTYPES
    assert PrecisionReport.from_json(rows.to_json()) == rows
    assert str(rows)
    assert rows._repr_html_()


def test_rows_are_found_by_their_fields() -> None:
    conv = layer("conv + relu", [t("x", "int8")], [t("y", "int8")], "int8", nodes=("conv", "relu"))
    soft = layer("softmax", [t("y", "fp32")], [t("z", "fp32")], nodes=("softmax",))
    report = precision_report(EngineInfo((conv, soft)), options=BuildOptions(int8=True))
    assert [row.name for row in report.where(computed_in="int8")] == ["conv", "relu"]
    assert [row.name for row in report.where(computed_in="fp32")] == ["softmax"]
    assert report.where(computed_in="fp32", code="fused") == ()
    assert [row.name for row in report.where(is_layer=True, weight_dtype="int8")] == ["conv + relu"]


def test_the_int8_layers_of_an_engine() -> None:
    conv = layer("conv + relu", [t("x", "int8")], [t("y", "int8")], "int8", nodes=("conv", "relu"))
    copy = layer("copy", [t("y", "int8")], [t("z", "fp32")], is_reformat=True)
    engine = EngineInfo((conv, copy))
    assert engine.int8 == (conv,)
    assert engine.int8_nodes == {"conv", "relu"}
    assert engine.reformats == (copy,)
    assert (conv.shown_dtype, copy.shown_dtype) == ("int8", "fp32")


def test_precision_takes_a_build_or_an_engine() -> None:
    build = network("resnet").build("int8-entropy2")
    path = model_path("resnet")
    assert precision(build) == build.precision(path)
    alone = precision(build.engine, path, options=build.options)
    assert {row.name for row in alone.nodes} == {row.name for row in build.precision().nodes}
    assert precision(build.engine).where(code="as-requested") == ()


def test_a_node_split_over_layers_has_the_type_of_the_layer_that_computes():
    shapes = {"nodes": ("product",), "kind": "NoOp"}
    before = layer("reshape_before_product", [t("x", "fp32")], [t("a", "fp32")], **shapes)
    product = layer("product", [t("b", "int8")], [t("c", "fp32")], "int8")
    after = layer("reshape_after_product", [t("c", "fp32")], [t("y", "fp32")], **shapes)
    rows = report([before, product, after])
    row = rows["product"]
    assert (row.code, row.computed_in, row.weight_dtype) == ("as-requested", "int8", "int8")
    assert (row.input_dtypes, row.output_dtypes) == (("int8",), ("fp32",))
    assert len(row.engine_layers) == 3
    assert rows.counts == {"int8": 1}


def test_a_block_named_by_tensorrt_holds_the_nodes_between_its_tensors():
    nodes = (
        ("stem", "Conv", "x w", "a"),
        ("add", "Add", "a bias", "b"),
        ("side", "Relu", "x", "c"),
    )
    onnx = model(*nodes, ("norm", "Softmax", "b", "y"))
    stem = layer("stem", [t("x", "fp32")], [t("a", "fp32")], "fp32")
    block = layer(
        "{ForeignNode[bias...(Unnamed Layer* 3) [Softmax]]}",
        [t("a", "fp32")],
        [t("made by the block", "fp32")],
        nodes=(),
        kind="Myelin",
    )
    copy = layer(
        "Reformatting CopyNode for Output Tensor 0 to the block",
        [t("made by the block", "fp32")],
        [t("y", "fp32")],
        nodes=(),
        kind="Reformat",
        is_reformat=True,
    )
    rows = report([stem, block, copy], BuildOptions(), onnx=onnx)
    for name in ("add", "norm"):
        assert rows[name].engine_layers == (block.name,)
        assert (rows[name].code, rows[name].computed_in) == ("unknown", None)
        assert "the type inside is not shown" in rows[name].reason
        assert rows[name].evidence == "inferred"
    assert rows["side"].code == "removed"  # no way leads from it to the block's output
    assert rows.counts == {"unknown": 2, "fp32": 1, "no kernel": 1}


def test_a_transformer_s_nodes_lie_in_its_block_and_its_products_count():
    """The block's name holds names of TensorRT's own: its nodes are not removed for that."""
    for variant in ("fp32", "fp16", "qdq"):
        rows = network("vit", mode="recorded").build(variant).precision()
        inside = [row for row in rows.nodes if "ForeignNode" in "".join(row.engine_layers)]
        assert len(inside) == 308
        assert {row.code for row in inside} == {"unknown"}
    assert rows["patches"].code == "request-unknown"  # the pairs ask; this file has none
    rows = network("vit", mode="recorded").build("int8-minmax").precision()
    assert rows.counts == {"fp32": 267, "no kernel": 36, "int8": 6}
    assert rows["l0_narrow_matmul"].code == "as-requested"
