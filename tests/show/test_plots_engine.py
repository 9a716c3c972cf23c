"""Figures of engines: every layer is in the picture, in the colour of its type, named; big engines
draw in time.
"""

import time
from pathlib import Path

import pytest

from trtlearn import show
from trtlearn.engine.diff import diff_engines
from trtlearn.engine.inspector import read_engine
from trtlearn.engine.layers import Binding, EngineInfo, EngineLayer, EngineTensor
from trtlearn.engine.records import Provenance
from trtlearn.errors import DataError
from trtlearn.files import data_dir
from trtlearn.networks import network
from trtlearn.show.draw import dtype_color
from trtlearn.show.engines import STATUS_LINES, layer_facts

FIXTURES = Path(__file__).parent.parent / "fixtures" / "inspector"
INT8 = read_engine(FIXTURES / "v8_6_int8.json")
HALF = read_engine(FIXTURES / "v10_fp16_myelin.json")
NODES = [*dict.fromkeys(node for layer in INT8.layers for node in layer.onnx_nodes), "dropout"]
TIMES = {layer.name: 0.1 * (1 + at) for at, layer in enumerate(INT8.layers)} | {"gone": 1.0}
MADE = Provenance(gpu="made-up GPU", tensorrt="8.6.0", time_utc="2026-11-23T00:00:00Z")
FIGURES = {
    "graph": lambda: show.engine(INT8, source=MADE),
    "graph with times": lambda: show.engine(INT8, TIMES, source=MADE),
    "latency": lambda: show.layer_times(INT8, TIMES, source=MADE),
    "diff": lambda: show.engine_diff(INT8, HALF, labels=("INT8", "FP16"), source=MADE),
    "fusion": lambda: show.fusion(INT8, NODES, source=MADE),
}


def texts(fig):
    return [text for trace in fig.data for text in (trace.text or ())]


def footer(fig):
    return next(note.text for note in fig.layout.annotations if note.name == "footer")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_asks_a_question_and_says_where_it_is_from(name):
    fig = FIGURES[name]()
    assert fig.layout.title.text.endswith("?")
    assert MADE.label() in footer(fig)
    assert fig.to_json()


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda path: path.stem)
def test_the_graph_shows_each_layer_once_in_the_colour_of_its_type(path):
    engine = read_engine(path)
    fig = show.engine(engine)
    marks = [trace for trace in fig.data if "markers" in trace.mode]
    assert sum(len(trace.x) for trace in marks) == len(engine.layers) + sum(
        b.mode != "unknown" for b in engine.bindings
    )
    for trace in marks:
        assert trace.marker.color == dtype_color(trace.name.split(",")[0])
        assert trace.marker.opacity == 1
    hovers = " ".join(text for trace in marks for text in trace.hovertext)
    assert "kernel: " in hovers or not engine.detailed


def test_time_grows_the_mark_and_names_that_do_not_join_are_counted():
    fig = show.engine(INT8, TIMES)
    sizes = {
        text: size
        for trace in fig.data
        if "markers" in trace.mode
        for text, size in zip(trace.text, trace.marker.size, strict=True)
    }
    assert sizes["softmax"] == max(sizes.values()) > sizes["gap"]
    assert "1 profiled name is no layer" in footer(fig)


def test_latency_bars_add_up_to_the_whole():
    fig = show.layer_times(INT8, TIMES, most=3)
    drawn = [value for trace in fig.data for value in trace.x]
    assert sum(drawn) == pytest.approx(sum(ms for name, ms in TIMES.items() if name != "gone"))
    assert fig.layout.yaxis.ticktext[-1] == "4 more layers"
    assert "1 time has no layer" in footer(fig)
    with pytest.raises(DataError, match="no time joins"):
        show.layer_times(INT8, {"gone": 1.0})


def test_diff_draws_both_engines_and_a_line_for_each_pair():
    fig = show.engine_diff(INT8, HALF, labels=("INT8", "FP16"))
    assert len([text for text in texts(fig) if text]) == len(INT8.layers) + len(HALF.layers)
    found = diff_engines(INT8, HALF)
    statuses = {words: status for status, (words, _, _) in STATUS_LINES.items()}
    for trace in fig.data:
        if trace.mode == "lines":
            words, count = trace.name.split(": ")
            assert found.counts[statuses[words]] == int(count)
    assert any("softmax (fp32)" in text for text in texts(fig))


def test_fusion_names_the_node_that_is_in_no_layer():
    named = texts(show.fusion(INT8, NODES))
    assert "dropout: in no layer (unknown)" in named
    assert "b0_add (int8)" in named


def test_empty_engines_draw_empty_figures():
    empty = EngineInfo(())
    for fig in (show.engine(empty), show.engine_diff(empty, empty), show.fusion(empty)):
        assert fig.to_json()


def test_five_thousand_layers_are_drawn_in_under_three_seconds():
    layers = []
    for i in range(5000):
        reads = tuple(EngineTensor(f"t{at}", (8, 64, 56, 56), "int8") for at in {i, max(0, i - 3)})
        writes = (EngineTensor(f"t{i + 1}", (8, 64, 56, 56), "int8"),)
        names = (f"conv{i}", f"relu{i}")
        layers.append(
            EngineLayer(
                " + ".join(names), "CaskConvolution", reads, writes, "int8", 9, 9, onnx_nodes=names
            )
        )
    engine = EngineInfo(tuple(layers), (Binding("t0", "input"), Binding("t5000", "output")))
    start = time.process_time()
    fig = show.engine(engine)
    fig.to_json()
    assert time.process_time() - start < 3
    assert all(trace.type == "scattergl" for trace in fig.data)
    assert (
        -min(y for trace in fig.data for y in trace.y if y is not None) <= 150
    )  # folded into columns


def test_weights_that_the_inspector_does_not_list_are_not_called_none():
    """Myelin's layers hold weights that the inspector is silent about."""
    silent = next(layer for layer in HALF.layers if not layer.weight_count)
    assert silent.weights_listed == "none listed"
    assert "weights none listed;" in layer_facts(silent)
    assert HALF.rows()[HALF.layers.index(silent)]["weights"] == "none listed"
    listed = next(layer for layer in INT8.layers if layer.weight_count)
    assert listed.weights_listed == listed.weight_dtype
    unknown = EngineLayer("x", "Gemm", (), (), None, 9)
    assert unknown.weights_listed is None
    assert "weights unknown;" in layer_facts(unknown)


def test_a_recorded_builds_file_is_drawn_as_the_build_is() -> None:
    path = data_dir() / "recordings" / "h200-8.6.0" / "resnet" / "int8-minmax.json.gz"
    build = network("resnet", "h200-8.6.0").build("int8-minmax")
    drawn = show.fusion(build.engine, source=build.provenance)
    assert show.fusion(path).to_dict() == drawn.to_dict()
