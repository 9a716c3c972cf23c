"""Fixtures that several tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fake_trt
import pytest
from hypothesis import HealthCheck, settings

from trtlearn.cli import main

settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("busy")  # other work on the machine slows an example: that is no fault

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main.run([str(part) for part in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(autouse=True)
def home_of_the_course(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What a test of the course solves is no progress of whoever runs it."""
    if request.path.parent.name == "course":
        monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture
def fake(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """TensorRT 8.6 and CUDA played by tests/fake_trt.py; the dict steers it and holds what it was
    given.
    """
    from trtlearn.live import cuda, trt

    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path_factory.mktemp("home")))
    scene: dict[str, Any] = {"cuda": fake_trt.FakeCuda()}

    def network() -> Any:
        kinds, dtypes = scene["module"].LayerType, scene["module"].DataType
        image = fake_trt.Tensor("image", (-1, 1, 2, 2), dtypes.FLOAT)
        names = ("weights", "conv", "pool", "cat", "logits")
        tensors = {name: fake_trt.Tensor(name, (-1, 4), dtypes.FLOAT) for name in names}
        w, c, p, k, out = (tensors[name] for name in names)
        float_ = dtypes.FLOAT
        layers = [
            fake_trt.Layer("weights_layer", kinds.CONSTANT, [], [w], float_),
            fake_trt.Layer("conv", kinds.CONVOLUTION, [image, None], [c], float_),
            fake_trt.Layer("pool", kinds.POOLING, [c], [p], float_),
            fake_trt.Layer("cat", kinds.CONCATENATION, [p, w], [k], float_),
            fake_trt.Layer("add", kinds.ELEMENTWISE, [k, w], [out], float_),
        ]
        out.is_network_output = True
        return fake_trt.Network([image], layers)

    scene["module"] = fake_trt.make_module(network, scene)
    scene["make_network"] = network
    monkeypatch.setattr(trt, "_load", lambda name: scene["module"])
    monkeypatch.setattr(cuda, "runtime", lambda: scene["cuda"])
    return scene
