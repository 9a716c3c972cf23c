"""photo's and the detector's INT8 engines in numpy, without a GPU, held against what they answered.

The images are chosen: on them the engine's answers and FP32's differ, so that a model that computes
FP32, or other ranges, does not pass. Measured over more: photo 288 of 288 answers of six engines,
the detector 16 scenes, every box.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import trtlearn as tl
from trtlearn.calibration.qdq import insert_qdq
from trtlearn.model.detections import decode, share_matched

SCENES = 4  # of these the engine's whole output is recorded


def test_photos_engine_in_numpy_gives_its_answers_where_fp32_gives_others() -> None:
    photo = tl.network("photo", mode="recorded")
    engine, exact = photo.build("int8-random"), photo.build("fp32").answers
    assert engine.answers is not None
    assert exact is not None
    rows = np.flatnonzero(engine.answers != exact)[:6]
    rows = np.concatenate([rows, np.flatnonzero(engine.answers == exact)[:2]])
    run = engine.simulate(photo.images("test")[rows])
    assert repr(run) == f"<Int8Run: {len(run.tensors)} tensors, {len(run.layers)} INT8 layers>"
    ours = run["logits"].values.argmax(1)
    np.testing.assert_array_equal(ours, engine.answers[rows])


@pytest.mark.filterwarnings("error:overflow")
def test_the_detectors_engine_in_numpy_finds_its_boxes() -> None:
    detector = tl.network("detector", mode="recorded")
    engine = detector.build("int8-minmax")
    folder = detector.folder
    assert folder is not None
    with np.load(folder / "detector" / "int8-minmax.detections.npz") as file:
        theirs = file["outputs"]
    ours = engine.simulate(detector.images("test")[:SCENES])["output0"].values
    recorded = tl.recorded.detections("detector", "int8-minmax")[:SCENES]
    assert share_matched(recorded, decode(ours)) == 1
    assert share_matched(decode(ours), recorded) == 1
    assert np.abs(ours[:, :4] - theirs[:, :4]).max() < 1  # pixels; 0.83 was measured
    assert np.abs(ours[:, 4:] - theirs[:, 4:]).max() < 0.1  # of a score; 0.064
    assert np.abs(ours - theirs).mean() < 0.05


def test_vits_qdq_engine_answers_as_onnx_runtime_does() -> None:
    """TensorRT's one block rounds elsewhere than ONNX Runtime: 5 of 1000 answers differ."""
    onnxruntime = pytest.importorskip("onnxruntime")
    vit = tl.network("vit", mode="recorded")
    cache, engine = vit.build("int8-minmax").cache, vit.build("qdq")
    assert cache is not None
    assert engine.answers is not None
    scales = {tensor: scale for tensor, scale in cache.items() if scale > 0}
    model, _ = insert_qdq(onnx.load(str(vit.path)), scales)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed, images = session.get_inputs()[0].name, vit.images("test")
    batches = [session.run(["logits"], {feed: part})[0] for part in np.array_split(images, 20)]
    answers = np.concatenate(batches).reshape(len(images), -1).argmax(1)
    assert abs(int((answers == engine.answers).sum()) - 995) <= 1  # ONNX Runtime's versions differ
    exact = vit.build("fp32").answers
    assert exact is not None
    assert (exact == engine.answers).sum() < 992  # FP32 would not pass
