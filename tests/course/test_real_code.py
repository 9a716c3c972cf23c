"""The code that a reader copies runs: each piece stands once in a notebook, and is tried here.

Where torch, Pillow or ModelOpt are not installed, a stand-in of a few lines takes their place.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import re
import sys
import types
from pathlib import Path
from typing import Any

import fake_trt
import nbformat
import numpy as np
import onnx
import pytest
from onnx import helper

import trtlearn as tl
from trtlearn.cli import main

ROOT = Path(__file__).resolve().parents[2]
IMAGES = np.arange(20 * 12, dtype=np.float32).reshape(20, 3, 2, 2)


@functools.cache
def pages() -> dict[str, str]:
    """Notebook number -> the text of its Markdown cells."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        found[path.name[:2]] = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
    return found


def code_with(words: str) -> str:
    """The one piece of code in all notebooks' texts that holds ``words``."""
    fenced = [re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) for text in pages().values()]
    found = [code for codes in fenced for code in codes if words in code]
    assert len(found) == 1, f"{words!r} stands in {len(found)} pieces"
    return found[0]


def run(code: str, **names: Any) -> dict[str, Any]:
    """What the code leaves behind, when these names are known."""
    exec(compile(code, "notebook", "exec"), names)
    return names


class Torch(np.ndarray):
    """An array with the few methods of a tensor that the pages use."""

    def float(self) -> Any:
        return self.astype(np.float32)

    def contiguous(self) -> Any:
        return np.ascontiguousarray(self).view(Torch)

    def cuda(self) -> Any:
        return self

    def numpy(self) -> Any:
        return np.asarray(self)

    def data_ptr(self) -> int:
        return self.ctypes.data


def torch_module() -> types.ModuleType:
    """torch.split and torch.cat, in numpy."""
    torch: Any = types.ModuleType("torch")
    torch.split = lambda x, size: [x[at : at + size] for at in range(0, len(x), size)]
    torch.cat = lambda parts: np.concatenate(parts).view(Torch)
    torch.from_numpy = lambda array: array.view(Torch)
    return torch


def test_the_loop_that_sets_ranges(fake: dict[str, Any]) -> None:
    def calibrate(model: str, data: str, rule: str) -> dict[str, float]:
        assert (model, data, rule) == ("model.onnx", "inputs.npy", "minmax")
        return {"image": 2.83 / 127, "conv": 7.01 / 127}

    code = code_with("tensor.set_dynamic_range(-amax, amax)")
    network, ours, config = fake["make_network"](), fake["make_network"](), fake_trt.Config()
    face = types.SimpleNamespace(calibrate=calibrate)
    run(code, network=network, config=config, tl=face, trt=fake["module"])
    assert "INT8" in config.flags
    tl.set_ranges(ours, {"image": 2.83, "conv": 7.01})
    tensors = [(layer.get_output(0), other.get_output(0)) for layer, other in layers(network, ours)]
    assert network.get_input(0).dynamic_range == pytest.approx((-2.83, 2.83))
    assert [one.dynamic_range for one, _ in tensors] == [one.dynamic_range for _, one in tensors]


def layers(*networks: Any) -> list[Any]:
    counts = range(networks[0].num_layers)
    return [tuple(network.get_layer(index) for network in networks) for index in counts]


def test_the_calibrator_class(
    fake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("inputs.npy", IMAGES)
    config = fake_trt.Config()
    with stand_ins(tensorrt=fake["module"], torch=torch_module()):
        run(code_with("class MyCalibrator"), config=config)
    handle = config.int8_calibrator
    seen = []
    for_real = handle.get_batch

    def watched(names: list[str]) -> Any:
        pointers = for_real(names)
        if pointers:
            seen.append(handle.batch.copy())
        return pointers

    handle.get_batch = watched
    fake_trt.calibrate(handle, ["image"])
    np.testing.assert_array_equal(np.concatenate(seen), IMAGES[:16])  # full batches of 8 only
    assert tl.read_cache(tmp_path / "my.cache")["image"] > 0


def test_the_same_class_suits_the_real_bindings() -> None:
    """Every method that TensorRT calls is there, and the constructor calls the base class's."""
    (body,) = [
        node
        for node in ast.parse(code_with("class MyCalibrator")).body
        if isinstance(node, ast.ClassDef)
    ]
    methods = {node.name: ast.unparse(node) for node in body.body if hasattr(node, "name")}
    assert set(methods) == {
        "__init__",
        "get_batch_size",
        "get_batch",
        "read_calibration_cache",
        "write_calibration_cache",
    }
    assert "super().__init__()" in methods["__init__"]


def test_the_file_of_exportLayerInfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = tl.network("mobile", mode="recorded").build("int8-minmax").engine
    text = engine.raw if isinstance(engine.raw, str) else engine.raw.decode()
    Path("layers.json").write_text(text, encoding="utf-8")
    assert "\x1e" in text
    assert len(run(code_with("strict=False"))["layers"]) == len(engine.layers)
    assert len(tl.read_engine("layers.json").layers) == len(engine.layers)


def test_inputs_from_a_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loader = ((IMAGES[at : at + 4].view(Torch), None) for at in range(0, 20, 4))
    with stand_ins(torch=torch_module()):
        run(code_with("islice(loader"), loader=loader)
    saved = np.load("inputs.npy")
    assert saved.dtype == np.float32
    np.testing.assert_array_equal(saved, IMAGES)


def test_inputs_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pixel of the mean becomes 0; channels come first; files are taken in order."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name in ("b.jpg", "a.jpg", "notes.txt"):
        Path("images", name).write_bytes(b"")
    opened = []

    class Image:
        def __init__(self, path: Path) -> None:
            opened.append(Path(path).name)

        def convert(self, mode: str) -> Image:
            assert mode == "RGB"
            return self

        def resize(self, size: tuple[int, int]) -> Any:
            pixels = np.zeros((*size, 3), np.uint8)
            pixels[..., :] = np.rint(255 * np.array([0.485, 0.456, 0.406]))
            pixels[0, 0] = 255
            return pixels

    image: Any = types.ModuleType("PIL.Image")
    image.open = Image
    pillow: Any = types.ModuleType("PIL")
    pillow.Image = image
    with stand_ins(PIL=pillow, **{"PIL.Image": image}):
        run(code_with("Image.open(path)"))
    saved = np.load("inputs.npy")
    assert opened == ["a.jpg", "b.jpg"]
    assert (saved.shape, saved.dtype) == ((2, 3, 224, 224), np.float32)
    assert abs(saved[0, :, 5, 5]).max() < 0.01
    np.testing.assert_allclose(saved[0, :, 0, 0], [2.2489, 2.4286, 2.64], atol=1e-3)


def test_modelopts_call_is_the_one_that_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recording import pairs

    monkeypatch.chdir(tmp_path)
    np.save("inputs.npy", IMAGES)
    given: dict[str, Any] = {}
    module: Any = types.ModuleType("modelopt.onnx.quantization")
    module.quantize = lambda model, **options: given.update(options)
    names = {"modelopt": types.ModuleType("modelopt"), "modelopt.onnx": types.ModuleType("x")}
    with stand_ins(**names, **{"modelopt.onnx.quantization": module}):
        run(code_with("from modelopt.onnx.quantization import quantize"))
    np.testing.assert_array_equal(given.pop("calibration_data")["image"], IMAGES)
    assert given.pop("output_path").endswith(".onnx")
    recorded = inspect.getsource(pairs.modelopt_quantized)
    assert given
    for option, value in given.items():
        assert f"{option}={value!r}".replace("'", '"') in recorded


def test_the_command_that_calibrates_and_builds(
    fake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    shape = ["n", 1, 2, 2]
    ends = [helper.make_tensor_value_info(name, 1, shape) for name in ("image", "logits")]
    nodes = [helper.make_node("Relu", ["image"], ["logits"])]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph), "model.onnx")
    np.save("inputs.npy", np.ones((8, 1, 2, 2), np.float32))
    asked: list[Any] = []
    real = fake_trt.calibrate
    monkeypatch.setattr(fake_trt, "calibrate", lambda *all_: asked.append(all_) or real(*all_))
    words = code_with("trtlearn build").split()
    status = main.run(words[1:])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert isinstance(asked[0][0], fake["module"].IInt8MinMaxCalibrator)
    assert Path("model.plan").stat().st_size > 0


@pytest.mark.parametrize("words", ["tl.set_ranges(network", "/usr/src/tensorrt/bin"])
def test_it_is_told(words: str) -> None:
    assert any(words in text for text in pages().values())


@contextlib.contextmanager
def stand_ins(**modules: Any) -> Any:
    """Modules in place of those that may be missing."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
