"""The trade-off: the front, the units, the figures, and recordings that are refused where they do
not belong here.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
from functools import partial

import numpy as np
import pytest
from timings import slower

from recording.sensitivity import search_mixed, units
from trtlearn.builds import Build, LayerCounts
from trtlearn.engine.layers import EngineInfo
from trtlearn.engine.records import BuildOptions, BuildReport, Predictions, Provenance, Timing
from trtlearn.errors import DataError, RecordingError
from trtlearn.model.course_data import data_hashes, model_path
from trtlearn.model.read import read_model
from trtlearn.networks import network
from trtlearn.recorded.tradeoffs import (
    DynamicShapes,
    DynamicTrial,
    LayerTrial,
    MixedSearch,
    Sensitivity,
    Tradeoff,
    dynamic,
    pareto,
    placements,
    sensitivity,
    tradeoff,
    tradeoff_of,
)

rng = np.random.default_rng(0)
HASHES = data_hashes("resnet") | data_hashes("mobile")
ORIGIN = Provenance(
    gpu="synthetic", tensorrt="8.6.0", time_utc="2026-01-01T00:00:00", sha256=HASHES
)


def point(name="fp32", batch=8, accuracy=0.9, ms=0.1, size=1000, model="resnet"):
    timing = None if ms is None else Timing(ms, ms * 0.9, ms * 1.1, 10, 1, batch)
    right = None if accuracy is None else Predictions((), round(1000 * accuracy), 1000)
    return Build(
        model,
        name,
        ORIGIN,
        BuildReport(BuildOptions(batch=batch), None, size),
        EngineInfo(()),
        timing=timing,
        graph_timing=timing,
        predictions=right,
        device_memory_bytes=5,
        cold_build_seconds=2.0,
        counts=LayerCounts(3, 1, 1),
    )


def test_the_front_is_what_nothing_beats():
    points = [
        point(str(i), accuracy=float(a), ms=float(m))
        for i, (a, m) in enumerate(rng.uniform(size=(60, 2)))
    ]
    points += [point("unknown", accuracy=None), point("untimed", ms=None)]
    front = pareto(points, lambda p: p.timing and p.timing.median_ms, lambda p: p.accuracy)
    assert all(
        a.timing.median_ms < b.timing.median_ms and a.accuracy < b.accuracy
        for a, b in itertools.pairwise(front)
    )
    known = [p for p in points if p.timing and p.accuracy is not None]
    for p in known:
        beaten = any(
            q.timing.median_ms <= p.timing.median_ms and q.accuracy >= p.accuracy and q != p
            for q in known
        )
        assert beaten == (p not in front)


def test_twins_are_both_on_the_front():
    twins = [point("a"), point("b")]
    assert len(pareto(twins, lambda p: p.timing.median_ms, lambda p: p.accuracy)) == 2


@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_units_hold_every_node_once(model):
    nodes = [(node.name, node.op) for node in read_model(model_path(model)).nodes]
    groups = units(nodes)
    assert sorted(name for members in groups.values() for name in members) == sorted(
        name for name, _ in nodes
    )
    assert all(members[0] == unit for unit, members in groups.items())


def test_throughput_counts_images():
    assert point(batch=64, ms=0.5).images_per_second == pytest.approx(128_000)
    assert point(ms=None).images_per_second is None


def study() -> Sensitivity:
    names = ["stem", "dw", "head"]
    alone = {name: LayerTrial((name,), 0.98 - 0.1 * i, 20.0 - i) for i, name in enumerate(names)}
    kept = {
        name: LayerTrial(tuple(n for n in names if n != name), 0.7 + 0.05 * i, 9.0)
        for i, name in enumerate(names)
    }
    whole = LayerTrial(tuple(names), 0.7, 8.0)
    greedy = MixedSearch(("head",), (whole, LayerTrial(("stem", "dw"), 0.976, 18.0)), True)
    drawn = MixedSearch(
        ("stem", "head"), (whole, kept["stem"], LayerTrial(("dw",), 0.98, 21.0)), True
    )
    return Sensitivity("mobile", "minmax", 0.98, 0.7, 0.975, alone, kept, greedy, (drawn,), ORIGIN)


def test_figures_show_every_point_and_say_where_they_are_from():
    pytest.importorskip("plotly")
    from trtlearn import show
    from trtlearn.show.tradeoffs import COSTS

    points = tuple(
        point(name, batch, accuracy, ms)
        for name, accuracy, ms in (("fp32", 0.99, 0.2), ("int8", 0.98, 0.1), ("worse", 0.9, 0.3))
        for batch in (1, 8)
    )
    for cost in COSTS:
        fig = show.tradeoff(Tradeoff(points, ORIGIN), cost)
        marks = [trace for trace in fig.data if trace.mode == "markers"]
        assert sum(len(trace.x) for trace in marks) == len(points)
        assert sum(bool(trace.showlegend) for trace in marks) == 3
        assert fig.layout.annotations[-1].text == ORIGIN.label()
    many = [point(str(i), ms=0.1 + i / 100) for i in range(12)]
    looks = [
        (trace.marker.symbol, trace.marker.color)
        for trace in show.tradeoff(many).data
        if trace.mode == "markers"
    ]
    assert len(set(looks)) == 12, "each way of building looks different"
    fronts = [
        trace
        for trace in show.tradeoff(Tradeoff(points, ORIGIN)).data
        if trace.legendgroup == "front"
    ]
    assert [list(trace.y) for trace in fronts] == [[98.0, 99.0, 99.0]] * 2
    assert [list(trace.x) for trace in fronts] == [[0.1, 0.2, 0.3]] * 2
    with pytest.raises(DataError, match="no cost"):
        show.tradeoff(points, "money")
    with pytest.raises(DataError, match="both an accuracy"):
        show.tradeoff([point(accuracy=None)])


def test_figures_of_mixed_precision():
    pytest.importorskip("plotly")
    from trtlearn import show

    bars = show.sensitivity(study())
    assert list(bars.data[0].x) == pytest.approx([0.0, 10.0, 20.0])
    assert len(show.mixed_search(study()).data) == 2
    cut = dataclasses.replace(study(), greedy=None, random=())
    with pytest.raises(DataError, match="no search"):
        show.mixed_search(cut)


def test_a_line_for_each_way_over_the_batch_sizes():
    pytest.importorskip("plotly")
    from trtlearn import show

    points = [
        point("fp32", 8, ms=0.2),
        point("fp32", 1, ms=0.1),
        point("int8", 1, ms=0.05),
        point("int8", 8, ms=None),
    ]
    fig = show.batch_sizes(points, {"fp32": "FP32", "int8": "INT8"}, source="somewhere")
    assert [(line.name, list(line.x), list(line.y)) for line in fig.data] == [
        ("FP32", [1, 8], [10_000, 40_000]),
        ("INT8", [1], [20_000]),
    ]
    assert fig.layout.annotations[-1].text == "somewhere"
    with pytest.raises(DataError, match="no engine"):
        show.batch_sizes(points, {"fp16": "FP16"})


def test_an_engine_is_found_by_its_name():
    whole = Tradeoff((point("fp32", 8), point("int8", 8), point("int8", 1)), ORIGIN)
    model = whole.points[0].model
    assert whole.point(model, "int8", 1) is whole.points[2]
    with pytest.raises(
        RecordingError, match=r"no engine 'fp16' of .* at batch 8\. Try: one of fp32, int8"
    ):
        whole.point(model, "fp16")


def test_more_images_a_second_are_better():
    pytest.importorskip("plotly")
    from trtlearn import show

    fig = show.tradeoff(
        [point("slow", accuracy=0.9, ms=2.0), point("fast", accuracy=0.9, ms=1.0)], "throughput"
    )
    (front,) = [trace for trace in fig.data if trace.legendgroup == "front"]
    assert list(front.x) == [8000, 4000]  # the fast one alone, and the line on to the slow one


def test_latency_is_launch_after_launch_only_where_nothing_was_replayed():
    pytest.importorskip("plotly")
    from trtlearn import show

    live = dataclasses.replace(point(), graph_timing=None)
    assert "launch after launch" in show.tradeoff([live]).layout.xaxis.title.text
    both = show.tradeoff([live, point("int8")])
    assert "graph replay" in both.layout.xaxis.title.text
    assert [trace.name for trace in both.data if trace.mode == "markers"] == ["int8"]


def test_bars_write_unknown_and_leave_out_what_nobody_knows():
    pytest.importorskip("plotly")
    from trtlearn import show

    fig = show.builds(
        [point(accuracy=None, size=20_000_000), point("int8", accuracy=None, ms=None, size=None)]
    )
    assert [list(trace.text) for trace in fig.data] == [
        ["0.1 ms", "unknown"],
        ["20.0 MB", "unknown"],
        ["0.0 MB", "0.0 MB"],
    ]
    assert show.builds([point()], {"fp32": "plain"}).data[0].y == ("plain",)
    with pytest.raises(DataError, match="no engine"):
        show.builds([])


def test_timing_figures_show_both_ways_of_timing_and_trtexec_s():
    pytest.importorskip("plotly")
    from trtlearn import show

    known = dataclasses.replace(point(ms=0.1), trtexec_graph_ms=0.102, trtexec_ms=0.09)
    fig = show.launches({"resnet": [known, point("untimed", ms=None)]}, source="somewhere")
    assert [trace.name for trace in fig.data if trace.mode == "markers"] == [
        "graph replay",
        "launch after launch",
    ]
    assert all(list(trace.y) == ["fp32"] for trace in fig.data if trace.mode == "markers")
    assert fig.layout.annotations[-1].text == "somewhere"
    fig = show.against_trtexec({"resnet": [known, point()]})
    assert [trace.y[0] for trace in fig.data] == pytest.approx(
        [2.0, 2.0, -10.0, -10.0]
    )  # µs and %, replay and launch
    for draw in (show.launches, show.against_trtexec):
        with pytest.raises(DataError, match="no engine was timed"):
            draw({"resnet": [point(ms=None)]})


def test_slower_is_by_more_than_both_spreads():
    assert slower(point(ms=0.2), point(ms=0.1))
    assert not slower(point(ms=0.115), point(ms=0.1))
    assert not slower(point(ms=0.1), point(ms=0.2))
    assert not slower(point(ms=None), point(ms=0.1))


def test_the_explorer_redraws_for_each_choice_and_says_what_is_not_known():
    pytest.importorskip("anywidget")
    from trtlearn.show.widgets import tradeoff_explorer

    two = Tradeoff((point(), point("int8", accuracy=0.5), point("qdq", batch=1)), ORIGIN)
    box = tradeoff_explorer(
        {
            "one": two,
            "live": [dataclasses.replace(point(), cold_build_seconds=None)],
        }
    )
    engines, cost, hide, problem, fig = box.children[:5]

    def shown():
        return [
            trace.name for trace in fig.data if trace.mode == "markers"
        ], "xaxis2" in fig.layout.to_plotly_json()

    assert shown() == (["qdq", "fp32", "int8"], True)
    hide.value = True
    assert shown() == (["qdq", "fp32"], True)
    hide.value = False
    assert shown() == (["qdq", "fp32", "int8"], True)
    engines.value, cost.value = "live", "build time"
    assert 'role="alert"' in problem.value
    cost.value = "size"
    assert problem.value == ""
    assert shown() == (["fp32"], False), "no axes of a panel that is gone"
    with pytest.raises(DataError, match="no engines"):
        tradeoff_explorer({})


def test_a_search_ends_where_an_engine_is_not_built():
    built = {frozenset("ab"): LayerTrial(("a", "b"), 0.5, None)}
    cut = search_mixed(["a", "b"], built.get, 0.9)
    assert (cut.order, len(cut.trials), cut.reached) == ((), 1, False)
    assert search_mixed(["a"], {}.get, 0.9) == MixedSearch((), (), False)
    whole = search_mixed(["a"], lambda kept: LayerTrial(tuple(kept), 0.5, None), 0.9)
    assert (whole.order, whole.reached) == (("a",), False)


def test_the_gpu_s_study_and_the_cpu_s_are_kept_apart(tmp_path):
    name = "sensitivity-mobile-minmax"
    cpu = dataclasses.replace(study(), provenance=dataclasses.replace(ORIGIN, gpu="a CPU"))
    (tmp_path / f"{name}-cpu.json.gz").write_bytes(pack(cpu))
    with pytest.raises(RecordingError, match=f"nothing called '{name}'"):
        sensitivity(folder=tmp_path)
    (tmp_path / f"{name}.json.gz").write_bytes(pack(study()))
    assert sensitivity(cpu=True, folder=tmp_path).provenance.gpu == "a CPU"
    assert sensitivity(folder=tmp_path).provenance.gpu == "synthetic"
    with pytest.raises(RecordingError, match="nothing called 'sensitivity-resnet-minmax'"):
        sensitivity("resnet", folder=tmp_path)


def test_build_times_are_those_of_builds_begun_from_nothing():
    """The course's own recordings: known at batch 8 where the timing cache was empty, and nowhere
    else.
    """
    found = tradeoff("points-mobile", build_times=True)
    bench = network("mobile", mode="recorded")
    for one in found.points:
        own = (
            bench.build(one.variant).build
            if one.variant in bench.variants and one.batch == 8
            else None
        )
        cold = own is not None and own.options.timing_cache == "empty"
        assert one.build_seconds == (own.build_seconds if cold else None), one.variant
    warm = bench.build("fp32")
    options = dataclasses.replace(warm.build.options, timing_cache="warm")
    warm = dataclasses.replace(warm, build=dataclasses.replace(warm.build, options=options))
    assert tradeoff_of([warm]).points[0].build_seconds is None


def pack(record) -> bytes:
    return gzip.compress(record.to_json().encode())


def test_recordings_round_trip_and_refuse_other_models(tmp_path):
    trial = DynamicTrial(8, 64, "TRT-8600-MinMaxCalibration\n", {"1": 0.9}, (), "minmax", False)
    records = {
        "points": Tradeoff((point(),), ORIGIN),
        "sensitivity-mobile-minmax": dataclasses.replace(study(), greedy=None),
        "dynamic": DynamicShapes("resnet", (1, 8, 64), (trial,), ORIGIN),
    }
    for name, record in records.items():
        (tmp_path / f"{name}.json.gz").write_bytes(pack(record))
    points = tradeoff("points", folder=tmp_path)
    assert points == records["points"]
    assert sensitivity(folder=tmp_path) == records["sensitivity-mobile-minmax"]
    assert dynamic(tmp_path) == records["dynamic"]
    assert dynamic(tmp_path).rows()[0]["accuracy % at batch 1"] == 90
    with pytest.raises(RecordingError, match="nothing called 'big'"):
        tradeoff("big", folder=tmp_path)
    with pytest.raises(RecordingError, match="no Q/DQ placement"):
        placements(folder=tmp_path)
    with pytest.raises(RecordingError, match="resnet at batch 8"):
        points.select("other")
    other = dataclasses.replace(ORIGIN, sha256=HASHES | {"models/resnet.onnx": "0" * 64})
    for bad, words in (
        (pack(Tradeoff((), other)), "was made from another"),
        (
            pack(Tradeoff((), dataclasses.replace(ORIGIN, sha256={}))),
            "does not say from which model",
        ),
        (pack(Tradeoff((), ORIGIN))[:-9], "damaged|cut short"),
        (b"no gzip", "damaged"),
    ):
        (tmp_path / "mixed.json.gz").write_bytes(bad)
        with pytest.raises(RecordingError, match=words):
            tradeoff("mixed", folder=tmp_path)


def test_no_folder_no_recordings(tmp_path):
    for missing in (tradeoff, partial(tradeoff, build_times=True), sensitivity):
        with pytest.raises(RecordingError, match=r"nothing called .* is recorded in"):
            missing("mixed", folder=tmp_path)
    with pytest.raises(RecordingError, match="nothing called 'dynamic' is recorded in"):
        dynamic(tmp_path)
