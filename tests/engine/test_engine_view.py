"""Fusion maps, reformats, times, diffs and graphs of engines: nothing lost, nothing joined by
position.
"""

import dataclasses
import itertools
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtlearn.engine.diff import diff_engines
from trtlearn.engine.inspector import layer_times, read_engine
from trtlearn.engine.layers import (
    Binding,
    EngineInfo,
    EngineLayer,
    EngineTensor,
    layers_by_node,
    reformat_target,
)
from trtlearn.engine.layout import EngineGraph, graph
from trtlearn.engine.records import Timing
from trtlearn.errors import InspectorError

FIXTURES = Path(__file__).parent.parent / "fixtures" / "inspector"
ENGINE = read_engine(FIXTURES / "v8_6_int8.json")
NAMES = [layer.name for layer in ENGINE.layers]
COPY = NAMES[0]


def t(name, dtype="fp32", dims=(1, 8), vector=None):
    return EngineTensor(name, dims, dtype, vector=vector)


def layer(name, reads="", writes="", nodes=None, dtype="fp32", **more):
    nodes = tuple(name.split(" + ")) if nodes is None else nodes
    inputs = tuple(t(tensor, dtype) for tensor in reads.split())
    outputs = tuple(t(tensor, dtype) for tensor in writes.split())
    return EngineLayer(
        name, more.pop("kind", "CaskConvolution"), inputs, outputs, onnx_nodes=nodes, **more
    )


def engine(*layers, inputs="x", outputs="y"):
    bound = [Binding(name, "input") for name in inputs.split()] + [
        Binding(name, "output") for name in outputs.split()
    ]
    return EngineInfo(tuple(layers), tuple(bound))


def test_the_layers_of_each_node_of_a_file():
    nodes = ["stem", "stem_relu", "b0_conv2", "b0_add", "b0_relu", "dropout", "gap", "head"]
    held = layers_by_node(ENGINE, nodes)
    (layer,) = held["b0_add"]
    assert layer.name == "b0_conv2 + b0_add + b0_relu"
    assert layer.onnx_nodes == ("b0_conv2", "b0_add", "b0_relu")
    assert not layer.onnx_nodes_inferred
    assert [node for node, layers in held.items() if not layers] == ["dropout"]
    assert [layer.name for layer in ENGINE.layers if not layer.onnx_nodes] == [COPY]


def test_the_layers_of_a_node_are_read_off_names_where_metadata_is_silent():
    silent = read_engine(FIXTURES / "names_only.json")
    assert layers_by_node(silent) == {}
    (layer,) = layers_by_node(silent, ["stem", "stem_relu"])["stem"]
    assert layer.onnx_nodes == ("stem", "stem_relu")
    assert layer.onnx_nodes_inferred


def test_reformats_and_their_times():
    (copy,) = ENGINE.reformats
    assert copy.name == COPY
    assert reformat_target(copy.name) == "stem + stem_relu"
    timed = layer_times(ENGINE, {COPY: 0.25, "head": 0.75})
    assert (dict(zip(NAMES, timed.ms, strict=True))[COPY], timed.total_ms) == (0.25, 1.0)
    assert EngineInfo(()).reformats == ()


PROFILE = [
    {"count": 100},
    {"name": "head", "timeMs": 30, "averageMs": 0.3, "medianMs": 0.2, "percentage": 50},
    {"name": COPY, "timeMs": 10, "averageMs": 0.1, "percentage": 20},
    {"name": "gone", "timeMs": 1, "averageMs": 0.01, "medianMs": 0.01, "percentage": 2},
]


def test_times_join_by_name_and_list_the_rest(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(PROFILE))
    joined = layer_times(ENGINE, path)
    assert joined == layer_times(ENGINE, json.dumps(PROFILE))
    by_name = dict(zip(NAMES, joined.ms, strict=True))
    assert (by_name["head"], by_name[COPY], by_name["gap"]) == (0.2, 0.1, None)
    assert joined.without_layer == {"gone": 0.01}
    assert joined.total_ms == pytest.approx(0.3)
    timing = Timing(1.0, 0.9, 1.1, 10, 2, 8, layers_ms={"head": 0.2, COPY: 0.1, "gap": 0.0})
    assert layer_times(ENGINE, timing).total_ms == pytest.approx(0.3)


def test_a_name_that_several_layers_share_gets_no_time():
    twice = engine(layer("a", "x", "m"), layer("a", "m", "y"))
    joined = layer_times(twice, {"a": 1.0})
    assert joined.ms == (None, None)
    assert joined.total_ms == 0
    again = [{"name": "a", "medianMs": 1.0}, {"name": "a", "medianMs": 0.5}]
    assert layer_times(engine(layer("a", "x", "y")), json.dumps(again)).total_ms == 1.5


@pytest.mark.parametrize(
    "times", [{"a": -1.0}, {"a": float("nan")}, {"a": True}, '[{"name": "a"}]', "3", ""]
)
def test_times_that_are_none_are_refused(times):
    with pytest.raises(InspectorError):
        layer_times(ENGINE, times)


def test_the_same_engine_differs_in_nothing_even_shuffled():
    same = diff_engines(ENGINE, ENGINE)
    assert {row.status for row in same.groups} == {"same"}
    assert same.counts["same"] == len(ENGINE.layers)
    shuffled = dataclasses.replace(ENGINE, layers=tuple(reversed(ENGINE.layers)))
    assert {row.status for row in diff_engines(ENGINE, shuffled).groups} == {"same"}


def test_diff_names_what_changed_and_what_was_fused_differently():
    first = engine(
        layer("a", "x", "m", weight_dtype="fp32"), layer("b + c", "m", "n"), layer("d", "n", "y")
    )
    second = engine(
        layer(
            "Reformatting CopyNode for Input Tensor 0 to a",
            "x",
            "i",
            (),
            kind="Reformat",
            is_reformat=True,
        ),
        layer("a", "i", "m", dtype="int8", weight_dtype="int8", kernel="i8816"),
        layer("b", "m", "k"),
        layer("c + d", "k", "y"),
    )
    found = diff_engines(first, second)
    rows = {row.nodes: row for row in found.groups}
    assert rows[("a",)].status == "changed"
    assert {"in fp32 -> int8", "weights fp32 -> int8", "kernel unknown -> i8816"} <= set(
        rows[("a",)].changes
    )
    assert rows[("b", "c", "d")].status == "fused differently"
    assert rows[()].status == "only in second"


def test_diff_aligns_reformats_by_the_layer_they_serve():
    name = "Reformatting CopyNode for Input Tensor 0 to {}"
    first = engine(
        layer(name.format("a + b"), "x", "i", (), is_reformat=True), layer("a + b", "i", "y")
    )
    second = engine(
        layer(name.format("a"), "x", "i", (), is_reformat=True),
        layer("a", "i", "m"),
        layer("b", "m", "y"),
    )
    assert [row.status for row in diff_engines(first, second).groups] == [
        "same",
        "fused differently",
    ]


def test_diff_by_name_where_neither_engine_names_its_nodes():
    silent = read_engine(FIXTURES / "names_only.json")
    assert {row.status for row in diff_engines(silent, silent).groups} == {"same"}


def by_name(drawn: EngineGraph):
    return {node.name: node for node in drawn.nodes}


def test_graph_ranks_and_edges():
    residual = engine(layer("a", "x", "m"), layer("b", "m", "n"), layer("add", "m n", "y"))
    drawn = graph(residual)
    nodes = by_name(drawn)
    assert [nodes[name].y for name in ("x", "a", "b", "add", "y")] == [0, -1, -2, -3, -4]
    named = {
        (drawn.nodes[e.source].name, drawn.nodes[e.target].name, e.tensor) for e in drawn.edges
    }
    assert named == {
        ("x", "a", "x"),
        ("a", "b", "m"),
        ("a", "add", "m"),
        ("b", "add", "n"),
        ("add", "y", "y"),
    }
    assert nodes["x"].role == "input"


def test_graph_of_a_concat_in_place_and_of_a_name_used_again():
    concat = engine(layer("a", "x", "c"), layer("b", "x", "c"), layer("d", "c", "y"))
    assert sorted(e.source for e in graph(concat).edges if e.tensor == "c") == [0, 1]
    reused = engine(
        layer("a", "x", "s"), layer("b", "s", "m"), layer("c", "m", "s"), layer("d", "s", "y")
    )
    assert [(e.source, e.target) for e in graph(reused).edges if e.tensor == "s"] == [
        (0, 1),
        (2, 3),
    ]


def test_the_layers_of_each_profile_hang_on_the_same_inputs_and_outputs():
    def second(name, read, made):
        return EngineLayer(
            f"{name} [profile 1]", None, (t(f"{read} [profile 1]"),), (t(f"{made} [profile 1]"),)
        )

    drawn = graph(
        engine(
            layer("a", "x", "m"), layer("b", "m", "y"), second("a", "x", "m"), second("b", "m", "y")
        )
    )
    assert sorted((e.source, e.target) for e in drawn.edges) == [
        (0, 1),
        (1, 5),
        (2, 3),
        (3, 5),
        (4, 0),
        (4, 2),
    ]


def test_roles_and_types_in_the_graph():
    nodes = {node.name: (node.role, node.dtype) for node in graph(ENGINE).nodes}
    assert nodes[COPY] == ("reformat", "int8")
    assert nodes["stem + stem_relu"] == ("compute", "int8")
    assert nodes["(Unnamed Layer* 21) [Shuffle]"][0] == "no-op"
    assert nodes["image"] == ("input", "fp32")


names = st.sampled_from("abcdefg")
random_layers = st.builds(
    layer,
    st.lists(names, min_size=1, max_size=2).map(" + ".join),
    st.lists(names, max_size=3).map(" ".join),
    st.lists(names, max_size=2).map(" ".join),
    st.none() | st.just(()),
    kind=st.sampled_from(["CaskConvolution", "Reformat", "NoOp"]),
    is_reformat=st.booleans(),
)
engines = st.builds(
    lambda found: engine(*found, inputs="a", outputs="g"), st.lists(random_layers, max_size=8)
)


@settings(max_examples=300, deadline=None)
@given(engines, engines)
def test_any_two_engines(first, second):
    drawn = graph(first)
    places = {(node.x, node.y) for node in drawn.nodes}
    assert len(places) == len(drawn.nodes)  # none hides another
    ranks: dict[float, list[float]] = {}
    for node in drawn.nodes:
        ranks.setdefault(node.y, []).append(node.x)
    for row in ranks.values():
        row.sort()
        assert all(right - left > 0.999 for left, right in itertools.pairwise(row))
    for edge in drawn.edges:
        assert drawn.nodes[edge.source].y > drawn.nodes[edge.target].y  # all edges point down
    found = diff_engines(first, second)
    assert sorted(index for row in found.groups for index in row.first) == list(
        range(len(first.layers))
    )
    assert sorted(index for row in found.groups for index in row.second) == list(
        range(len(second.layers))
    )
    assert sum(found.counts.values()) == len(found.groups)
    mirrored = diff_engines(second, first)
    assert found.counts["changed"] == mirrored.counts["changed"]
    assert found.counts["only in first"] == mirrored.counts["only in second"]
    assert set(layers_by_node(first, "abcdefg")) == set("abcdefg")
    assert layer_times(first, {}).ms == (None,) * len(first.layers)


def test_five_thousand_layers_are_looked_at_in_seconds():
    chain = [
        layer(f"conv{i} + relu{i}", f"t{i} t{max(0, i - 3)}", f"t{i + 1}") for i in range(5000)
    ]
    long = engine(*chain, inputs="t0", outputs="t5000")
    start = time.process_time()
    assert (
        len(graph(long).edges) == 5000 * 2
    )  # t0 is both tensors of the first layer; the output's edge makes up for it
    assert len(layers_by_node(long)) == 10000
    assert diff_engines(long, long).counts["same"] == 5000
    assert time.process_time() - start < 3
