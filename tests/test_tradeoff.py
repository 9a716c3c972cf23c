"""The trade-off: the front, the units, the figures, and recordings that are refused where they do not belong here."""

from __future__ import annotations

import dataclasses
import gzip
import itertools

import numpy as np
import pytest

from trtlearn.errors import DataError, RecordingError
from trtlearn.models import model_path
from trtlearn.onnxfile import read_model
from trtlearn.recordings import data_hashes
from trtlearn.records import BuildOptions, Provenance, Timing
from trtlearn.tradeoff import (
    DynamicShapes,
    DynamicTrial,
    LayerTrial,
    MixedSearch,
    Sensitivity,
    Tradeoff,
    TradeoffPoint,
    pareto,
    units,
)
from trtlearn.tradeoff_recordings import open_tradeoff

rng = np.random.default_rng(0)
HASHES = data_hashes("resnet") | data_hashes("mobile")
ORIGIN = Provenance(gpu="synthetic", tensorrt="8.6.0", time_utc="2026-01-01T00:00:00", sha256=HASHES)


def point(name="fp32", batch=8, accuracy=0.9, ms=0.1, size=1000, model="resnet"):
    timing = None if ms is None else Timing(ms, ms * 0.9, ms * 1.1, 10, 1, batch)
    return TradeoffPoint(
        model, name, batch, BuildOptions(batch=batch), accuracy, timing, timing, size, 5, None, 3, 1, 1
    )


def test_the_front_is_what_nothing_beats():
    points = [point(str(i), accuracy=float(a), ms=float(m)) for i, (a, m) in enumerate(rng.uniform(size=(60, 2)))]
    points += [point("unknown", accuracy=None), point("untimed", ms=None)]
    front = pareto(points, lambda p: p.timing and p.timing.median_ms, lambda p: p.accuracy)
    assert all(
        a.timing.median_ms < b.timing.median_ms and a.accuracy < b.accuracy for a, b in itertools.pairwise(front)
    )
    known = [p for p in points if p.timing and p.accuracy is not None]
    for p in known:
        beaten = any(q.timing.median_ms <= p.timing.median_ms and q.accuracy >= p.accuracy and q != p for q in known)
        assert beaten == (p not in front)


def test_twins_are_both_on_the_front():
    twins = [point("a"), point("b")]
    assert len(pareto(twins, lambda p: p.timing.median_ms, lambda p: p.accuracy)) == 2


@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_units_hold_every_node_once(model):
    nodes = [(node.name, node.op) for node in read_model(model_path(model)).nodes]
    groups = units(nodes)
    assert sorted(name for members in groups.values() for name in members) == sorted(name for name, _ in nodes)
    assert all(members[0] == unit for unit, members in groups.items())


def test_throughput_counts_images():
    assert point(batch=64, ms=0.5).images_per_second == pytest.approx(128_000)
    assert point(ms=None).images_per_second is None


def study() -> Sensitivity:
    names = ["stem", "dw", "head"]
    alone = {name: LayerTrial((name,), 0.98 - 0.1 * i, 20.0 - i) for i, name in enumerate(names)}
    kept = {name: LayerTrial(tuple(n for n in names if n != name), 0.7 + 0.05 * i, 9.0) for i, name in enumerate(names)}
    whole = LayerTrial(tuple(names), 0.7, 8.0)
    greedy = MixedSearch(("head",), (whole, LayerTrial(("stem", "dw"), 0.976, 18.0)), True)
    drawn = MixedSearch(("stem", "head"), (whole, kept["stem"], LayerTrial(("dw",), 0.98, 21.0)), True)
    return Sensitivity("mobile", "minmax", 0.98, 0.7, 0.975, alone, kept, greedy, (drawn,), ORIGIN)


def test_figures_show_every_point_and_say_where_they_are_from():
    pytest.importorskip("plotly")
    from trtlearn import plots_tradeoff as plots

    points = tuple(
        point(name, batch, accuracy, ms)
        for name, accuracy, ms in (("fp32", 0.99, 0.2), ("int8", 0.98, 0.1), ("worse", 0.9, 0.3))
        for batch in (1, 8)
    )
    for cost in plots.COSTS:
        fig = plots.scatter(Tradeoff(points, ORIGIN), cost)
        marks = [trace for trace in fig.data if trace.mode == "markers"]
        assert sum(len(trace.x) for trace in marks) == len(points)
        assert sum(bool(trace.showlegend) for trace in marks) == 3
        assert fig.layout.annotations[-1].text == ORIGIN.label()
    many = [point(str(i), ms=0.1 + i / 100) for i in range(12)]
    looks = [(trace.marker.symbol, trace.marker.color) for trace in plots.scatter(many).data if trace.mode == "markers"]
    assert len(set(looks)) == 12, "each way of building looks different"
    fronts = [trace for trace in plots.scatter(Tradeoff(points, ORIGIN)).data if trace.name == "front"]
    assert [list(trace.y) for trace in fronts] == [[98.0, 99.0]] * 2
    bars = plots.sensitivity_bars(study())
    assert list(bars.data[0].x) == pytest.approx([0.0, 10.0, 20.0])
    assert len(plots.search_steps(study()).data) == 2
    with pytest.raises(DataError, match="no cost"):
        plots.scatter(points, "money")
    with pytest.raises(DataError, match="both an accuracy"):
        plots.scatter([point(accuracy=None)])
    cut = dataclasses.replace(study(), greedy=None, random=())
    with pytest.raises(DataError, match="no search"):
        plots.search_steps(cut)


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
    found = open_tradeoff(tmp_path)
    assert set(found.names) == set(records)
    assert found.tradeoff("points") == records["points"]
    assert found.sensitivity() == records["sensitivity-mobile-minmax"]
    assert found.dynamic() == records["dynamic"]
    assert found.dynamic().rows()[0]["accuracy % at batch 1"] == 90
    with pytest.raises(RecordingError, match="nothing called 'big'"):
        found.tradeoff("big")
    with pytest.raises(RecordingError, match="no Q/DQ placement"):
        found.placements()
    with pytest.raises(RecordingError, match="resnet at batch 8"):
        found.tradeoff("points").select("other")
    other = dataclasses.replace(ORIGIN, sha256=HASHES | {"models/resnet.onnx": "0" * 64})
    for bad, words in (
        (pack(Tradeoff((), other)), "was made from another"),
        (pack(Tradeoff((), dataclasses.replace(ORIGIN, sha256={}))), "does not say from which model"),
        (pack(Tradeoff((), ORIGIN))[:-9], "damaged|cut short"),
        (b"no gzip", "damaged"),
    ):
        (tmp_path / "mixed.json.gz").write_bytes(bad)
        with pytest.raises(RecordingError, match=words):
            open_tradeoff(tmp_path).tradeoff("mixed")


def test_no_folder_no_recordings(tmp_path):
    with pytest.raises(RecordingError, match="no trade-off is recorded"):
        open_tradeoff(tmp_path)
