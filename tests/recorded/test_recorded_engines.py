"""What real engines of TensorRT 8.6 say, as recorded: no phrase is unknown, and every node is
accounted for.
"""

import warnings

import pytest

from trtlearn import show
from trtlearn.engine.diff import diff_engines
from trtlearn.engine.inspector import layer_times
from trtlearn.engine.layers import layers_by_node
from trtlearn.engine.layout import graph
from trtlearn.files import data_dir
from trtlearn.model.course_data import MODELS, model_path
from trtlearn.model.read import read_model
from trtlearn.recorded.files import load_build

FILES = sorted(
    path for model in MODELS for path in data_dir().glob(f"recordings/*-8.6.*/{model}/*.json.gz")
)
pytestmark = pytest.mark.skipif(
    not FILES, reason="no recordings of TensorRT 8.6 in data/recordings"
)


@pytest.fixture(
    params=FILES, ids=lambda path: f"{path.parent.name}-{path.name.removesuffix('.json.gz')}"
)
def experiment(request):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a format that the table lacks would warn
        return load_build(request.param)


def test_every_phrase_is_known_and_every_node_accounted_for(experiment):
    engine, model = experiment.engine, read_model(model_path(experiment.model))
    assert (engine.schema, engine.detailed) == ("8.6", True)
    for layer in engine.layers:
        assert None not in (*layer.input_dtypes, *layer.output_dtypes)
    assert [(b.mode, b.dtype) for b in engine.bindings] == [("input", "fp32"), ("output", "fp32")]
    held = layers_by_node(engine, model)
    assert list(held) == [node.name for node in model.nodes]
    assert {node for node, layers in held.items() if not layers} <= {
        node.name for node in model.nodes if node.op in ("Flatten", "Reshape")
    }
    drawn = graph(engine)
    assert {edge.target for edge in drawn.edges} >= set(
        range(len(engine.layers))
    )  # every layer reads something
    assert show.engine(engine, experiment.timing).to_json()


TIMED_AS_SLOWER = {
    ("H200", "resnet", "int8-random"): ["stem"],
    ("H100", "resnet", "int8-entropy"): ["stem"],
}
"""Convolutions that the builder left in FP32 although INT8 was allowed and every range known: it
timed both.
"""


def test_int8_runs_where_it_was_asked_for_and_nowhere_else(experiment):
    rows = experiment.precision()
    wanted = experiment.build.options.int8
    assert (rows.counts.get("int8", 0) > 0) == wanted
    assert {row.requested_dtype for row in rows.nodes if row.op == "Conv"} == {
        "int8" if wanted else "fp16" if experiment.build.options.fp16 else "fp32"
    }
    if wanted:
        kept_out = [row for row in rows.nodes if row.op == "Conv" and row.weight_dtype != "int8"]
        card = experiment.provenance.gpu.split()[1]
        assert [row.name for row in kept_out] == TIMED_AS_SLOWER.get(
            (card, experiment.model, experiment.variant), []
        )
        assert all("faster" in row.reason and row.evidence == "inferred" for row in kept_out)
        assert len(experiment.engine.reformats) >= 1  # the image arrives in FP32


def test_the_profile_joins_by_name(experiment):
    if experiment.timing is None or not experiment.timing.layers_ms:
        pytest.skip("no layer times recorded")
    joined = layer_times(experiment.engine, experiment.timing)
    assert not joined.without_layer
    assert None not in joined.ms
    assert joined.total_ms > 0


def test_fp32_and_int8_are_the_same_network():
    folders = {path.parent for path in FILES}
    for folder in folders:
        first, second = folder / "fp32.json.gz", folder / "int8-entropy2.json.gz"
        if not (first.exists() and second.exists()):
            continue
        found = diff_engines(load_build(first).engine, load_build(second).engine)
        changed = [row for row in found.groups if "weights fp32 -> int8" in row.changes]
        assert changed
        for row in found.groups:
            assert not row.nodes or row.status in ("same", "changed", "fused differently")
