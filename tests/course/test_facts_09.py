"""What notebook 09 states, fact by fact, on the files that it takes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import trtlearn as tl
from tools import notebooks
from trtlearn.course.own_model.records import Answer, Walk
from trtlearn.errors import TrtlearnError
from trtlearn.recorded.files import parts

pytest.importorskip("onnxruntime")

BOOK = Path(__file__).resolve().parents[2] / "notebooks" / "09_bring_your_own_model.ipynb"
MOBILE = tl.network("mobile", mode="recorded")
DATA = MOBILE.images()[:128]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    out = tmp_path_factory.mktemp("walk")
    labels = MOBILE.labels("calibration")[:128]
    return tl.try_int8(MOBILE, DATA, labels=labels, algorithm="best", out=out, live=False)


@pytest.fixture(scope="module")
def agreement(walk: Walk) -> dict[str, float | None]:
    return {answer.way: answer.agreement for answer in walk.answers}


def fit(algorithm: str) -> Any:
    cache = tl.calibrate(MOBILE, DATA, algorithm, progress=False)
    return tl.fit(cache, MOBILE, DATA, progress=False)


# --- The first look


def test_the_first_look_finds_seven_ranges_of_entropy_2_too_small_the_input_s_among_them() -> None:
    poor = fit("entropy2").poor
    assert len(poor) == 7
    assert {tensor.verdict for tensor in poor} == {"too small"}
    assert "image" in [tensor.name for tensor in poor]


# --- The answers


def test_fp32_is_the_reference(agreement: dict[str, float]) -> None:
    assert agreement["fp32"] == 1


def test_the_best_of_three_is_legacy_and_keeps_far_more_answers_than_bare_int8(
    walk: Walk, agreement: dict[str, float]
) -> None:
    assert walk.algorithm == "legacy"
    ways = [way for way in agreement if way != "fp32"]
    assert max(ways, key=lambda way: agreement[way]) == "int8-legacy"
    assert agreement["int8-legacy"] > agreement["int8-placeholder"] + 0.5


def test_entropy_2_keeps_19_5_percent(agreement: dict[str, float]) -> None:
    assert round(100 * agreement["int8-entropy2"], 1) == 19.5


def test_the_best_ranges_leave_an_error_of_25_percent_and_127_of_128_answers(walk: Walk) -> None:
    assert walk.answer.agreement == 127 / 128
    assert walk.answer.error is not None
    assert round(100 * walk.answer.error) == 25


@pytest.mark.parametrize(
    ("sqnr_db", "percent"), [(40, 1), (30, 3), (20, 10), (10, 32), (6, 50), (0, 100)]
)
def test_the_table_of_sqnr_says_the_error(sqnr_db: float, percent: int) -> None:
    error = Answer("int8", sqnr_db, None, None).error
    assert error is not None
    assert round(100 * error) == percent


def test_what_is_skipped_is_named(walk: Walk) -> None:
    assert not walk.live
    skipped = "as you asked" if walk.doctor.mode == "live" else "no GPU here"
    assert walk.doctor.gpus or f"nothing was built with TensorRT here: {skipped}" in walk.notes
    assert any("nothing was built with TensorRT here" in note for note in walk.notes)


def test_min_max_has_91_4_percent_of_the_labels_here(walk: Walk) -> None:
    shares = {one.way: one.accuracy for one in walk.answers}
    assert round(100 * (shares["int8-minmax"] or 0), 1) == 91.4


def test_the_page_shows_no_path_of_the_machine_that_made_it(walk: Walk) -> None:
    script = walk.read("script")
    shown = script[script.index("if __name__") :]
    assert walk.files["script"].rpartition("/")[0] not in shown
    assert str(MOBILE.path) not in shown


# --- The ranges


def test_legacy_clips_about_one_value_in_a_thousand_and_min_max_fits_better() -> None:
    legacy, minmax = fit("legacy"), fit("minmax")
    assert legacy.all_fit
    assert all(round(1000 * tensor.clipped) == 1 for tensor in legacy.tensors[:4])
    assert minmax.tensors[0].sqnr_db > legacy.tensors[0].sqnr_db
    assert all(tensor.clipped == 0 for tensor in minmax.tensors)


# --- Data that do not fit

SPOILED = DATA[:16].copy()
SPOILED[3, 0, 5, 5] = np.nan
BAD = {
    "float64": DATA[:16].astype(float),
    "turned": DATA[:16].transpose(0, 2, 3, 1),
    "NaN": SPOILED,
    "no input": {},
    "none": None,
}


@pytest.mark.parametrize("name", BAD)
def test_every_mistake_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(TrtlearnError) as caught:
        tl.try_int8(MOBILE.path, BAD[name], out=tmp_path / "never")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "never").exists()


# --- The files


def test_the_cache_under_the_other_header_has_the_same_scales(walk: Walk, tmp_path: Path) -> None:
    cache = tl.read_cache(walk.files["cache"])
    saved = cache.save(tmp_path / "for_trtexec.cache", for_trtexec=True)
    assert saved.read_text(encoding="utf-8").startswith("TRT-8600-EntropyCalibration2\n")
    assert dict(tl.read_cache(saved)) == dict(cache)


def test_the_script_builds_with_the_calibrator_that_won(walk: Walk) -> None:
    assert "algorithm='legacy'" in walk.read("script")


def test_the_report_loads_nothing_from_the_network_and_holds_its_figures(walk: Walk) -> None:
    page = walk.read("report")
    assert not re.search(r'<\w+\s[^<>]*\bsrc="?http', page)  # plotly.js has one for maps
    assert "Plotly.newPlot" in page
    assert walk.name in page


def test_the_report_begins_with_the_verdict(walk: Walk) -> None:
    page = walk.read("report")
    assert page.index("<h2>The verdict</h2>") == page.index("<h2>")


# --- The two recipes for inputs.npy


def recipe(word: str) -> str:
    """The block of Python in the notebook that holds ``word``."""
    cells = {cell.id: cell.source for cell in notebooks.read(BOOK).cells}
    blocks = re.findall(r"```python\n(.+?)```", cells["run-loader"], re.DOTALL)
    return next(block for block in blocks if word in block)


def test_the_recipe_for_a_loader_writes_16_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cat(batches: list[Any]) -> Any:
        return SimpleNamespace(numpy=lambda: np.concatenate(batches))

    torch = ModuleType("torch")
    monkeypatch.setattr(torch, "cat", cat, raising=False)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.chdir(tmp_path)
    loader = [(np.ones((4, 3, 8, 8)), np.zeros(4)) for _ in range(20)]
    exec(recipe("islice"), {"loader": loader})
    inputs = np.load("inputs.npy")
    assert inputs.shape == (64, 3, 8, 8)
    assert inputs.dtype == np.float32


class Picture:
    """As much of PIL's Image as the recipe needs."""

    size = (40, 30)

    def convert(self, mode: str) -> Picture:
        assert mode == "RGB"
        return self

    def resize(self, size: tuple[int, int]) -> Picture:
        self.size = size
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.full((self.size[1], self.size[0], 3), 255, dtype)


def test_the_recipe_for_a_folder_normalises_each_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ModuleType("PIL.Image")
    monkeypatch.setattr(image, "open", lambda path: Picture(), raising=False)
    pil = ModuleType("PIL")
    monkeypatch.setattr(pil, "Image", image, raising=False)
    monkeypatch.setitem(sys.modules, "PIL", pil)
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Path("images", name).touch()
    exec(recipe("PIL"), {})
    inputs = np.load("inputs.npy")
    assert inputs.shape == (2, 3, 224, 224)
    assert inputs.dtype == np.float32
    white = (1 - np.array([0.485, 0.456, 0.406])) / (0.229, 0.224, 0.225)
    assert inputs[0, :, 0, 0] == pytest.approx(white, rel=1e-5)


def test_an_ocr_network_on_the_cpu_and_by_tensorrt() -> None:
    said = (parts("own-model")[0] / "output.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in said.splitlines() if line.startswith("int8-")]
    assert [row[3] for row in rows if row[0] == "int8-entropy2" and len(row) == 5] == ["93.8"]
    engines = {row[0]: row for row in rows if len(row) > 8}
    assert engines["int8-entropy2"][-2] == "100.0"
    assert engines["int8-entropy2"][-5:-2] == ["87", "46", "1"]
    assert engines["int8-qdq"][-2] == "92.2"
