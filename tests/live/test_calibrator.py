"""The calibrator's side of the conversation, its data checks, and that nothing is left on the
GPU.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_trt
import numpy as np
import pytest

from trtlearn.errors import CacheError, DataError, LiveUnavailable
from trtlearn.live.calibrator import (
    BASES,
    Calibrator,
    batches_from,
    make_calibrator,
    random_calibrator,
    trtexec_noise,
)


def calibrated(calibrator: Calibrator) -> None:
    """What build_engine does around a calibration."""
    with calibrator:
        fake_trt.calibrate(calibrator.handle, ["image"])
        calibrator.finish()


X = np.arange(20 * 4, dtype=np.float32).reshape(20, 1, 2, 2)


@pytest.mark.parametrize("algorithm", list(BASES))
def test_the_conversation_is_kept(fake: dict[str, Any], algorithm: str) -> None:
    seen: list[tuple[int, int | None]] = []
    calibrator = make_calibrator(
        algorithm, X, 8, progress=lambda done, total: seen.append((done, total))
    )
    assert isinstance(calibrator.handle, getattr(fake["module"], BASES[algorithm]))
    calibrator.bind({"image": ((8, 1, 2, 2), "fp32")})
    fake_trt.calibrate(calibrator.handle, ["image"])
    calibrator.finish()
    trace = calibrator.trace()
    asked = [call.method for call in trace.calls]
    assert (
        asked.count("get_batch") == 3
    )  # two full batches of the 20 images, and the call that gets None
    assert [c.answer for c in trace.calls if c.method == "get_batch"] == [
        "batch 0",
        "batch 1",
        "no more",
    ]
    assert ("get_quantile" in asked) == (algorithm == "legacy")
    assert trace.batches == 2
    assert trace.inputs == ("image",)
    assert trace.cache is not None
    assert trace.cache.startswith("TRT-8600")
    assert not trace.cache_was_read
    assert "4 images do not fill" in trace.calls[0].answer
    assert seen == [(1, 2), (2, 2)]
    calibrator.close()
    calibrator.close()
    assert not fake["cuda"].memory


def test_one_buffer_an_input_and_the_right_bytes(fake: dict[str, Any]) -> None:
    ids = np.arange(40, dtype=np.int32).reshape(20, 2)
    with make_calibrator("minmax", {"image": X, "ids": ids}, 4) as calibrator:
        first = calibrator.handle.get_batch(["ids", "image"])  # TensorRT chooses the order
        second = calibrator.handle.get_batch(["ids", "image"])
        assert first == second
        memory = fake["cuda"].memory
        assert bytes(memory[second[0]]) == ids[4:8].tobytes()
        assert bytes(memory[second[1]]) == X[4:8].tobytes()
        assert fake["cuda"].largest == X[:4].nbytes + ids[:4].nbytes
    assert not memory


def test_an_iterator_of_dicts_with_a_short_last_batch(fake: dict[str, Any]) -> None:
    data = ({"image": X[at : at + 8]} for at in range(0, 20, 8))
    with make_calibrator("entropy", data, 8) as calibrator:
        fake_trt.calibrate(calibrator.handle, ["image"])
        calibrator.finish()
        assert calibrator.trace().batches == 2


def test_a_failing_generator_is_raised_again_and_nothing_is_written(
    fake: dict[str, Any], tmp_path: Path
) -> None:
    closed = []

    def broken() -> Iterator[np.ndarray]:
        try:
            yield X[:8]
            raise ValueError("the disk is gone")
        finally:
            closed.append(True)

    calibrator = make_calibrator("entropy2", broken(), 8, write_cache_path=tmp_path / "x.cache")
    with pytest.raises(ValueError, match="the disk is gone"):
        calibrated(calibrator)
    assert not fake["cuda"].memory
    assert closed
    assert not list(tmp_path.iterdir())


def test_keyboard_interrupt_in_a_batch_comes_through_after_the_memory_is_free(
    fake: dict[str, Any],
) -> None:
    def interrupted() -> Iterator[np.ndarray]:
        yield X[:8]
        raise KeyboardInterrupt

    calibrator = make_calibrator("entropy2", interrupted(), 8)
    with pytest.raises(KeyboardInterrupt):
        calibrated(calibrator)
    assert not fake["cuda"].memory


def test_stopping_ends_the_batches(fake: dict[str, Any]) -> None:
    with make_calibrator("entropy2", X, 4) as calibrator:
        calibrator.handle.get_batch(["image"])
        calibrator.stopped = lambda: True
        assert calibrator.handle.get_batch(["image"]) is None


def test_a_generator_used_twice_says_that_it_is_empty(fake: dict[str, Any]) -> None:
    with make_calibrator("entropy2", iter([]), 8) as calibrator:
        fake_trt.calibrate(calibrator.handle, ["image"])
        with pytest.raises(DataError, match="no full batch"):
            calibrator.finish()


def test_a_cache_stands_in_for_the_data(fake: dict[str, Any], tmp_path: Path) -> None:
    content = b"TRT-8600-EntropyCalibration2\nimage: 3c010a14\n"
    (tmp_path / "a.cache").write_bytes(content)
    with make_calibrator("entropy2", X, 8, cache=tmp_path / "a.cache") as calibrator:
        assert fake_trt.calibrate(calibrator.handle, ["image"]) == content
        trace = calibrator.trace()
    assert trace.cache_was_read
    assert trace.batches == 0
    with pytest.raises(CacheError, match="no such file"):
        make_calibrator("entropy2", X, 8, cache=tmp_path / "none.cache")
    with pytest.raises(CacheError, match="empty"):
        make_calibrator("entropy2", X, 8, cache=b"")


def test_the_cache_is_written_whole_and_only_when_asked(
    fake: dict[str, Any], tmp_path: Path
) -> None:
    target = tmp_path / "deep" / "new.cache"
    with make_calibrator("entropy2", X, 8, write_cache_path=target) as calibrator:
        fake_trt.calibrate(calibrator.handle, ["image"])
        assert not target.exists()  # not before the build is done
        calibrator.finish()
    assert target.read_text() == calibrator.trace().cache


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (X.astype(np.float64), "float64"),
        (np.full_like(X, np.nan), r"holds NaN or infinity: .* \(nan\) at"),
        (np.where(X == 7, np.inf, X).astype(np.float32), r"\(inf\) at \[1, 0, 1, 1\]"),
        (X[:3], r"batch size is 8, expected 1 to 3 \(all rows\)"),
        ({"a": X, "b": X[:9]}, "expected one length for all"),
        ({}, "empty dict"),
        ([1, 2], None),
        ("images", "of type str"),
        (7, "of type int"),
        (np.array(["a", "b"]), "expected numbers"),
    ],
)
def test_bad_data_is_refused_in_one_line(
    fake: dict[str, Any], data: Any, words: str | None
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        calibrated(make_calibrator("entropy2", data, 8))
    assert "\n" not in str(caught.value)
    assert not fake["cuda"].memory


def test_large_numbers_are_no_infinity() -> None:
    batches_from(np.full((8, 4), 3e38, np.float32), 8)  # their sum overflows


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"image": ((8, 3, 2, 2), "fp32")}, r"shape \[8,1,2,2\], expected \[8,3,2,2\]"),
        ({"image": ((8, 1, 2, 2), "int32")}, "is float32, expected int32"),
        (
            {"a": ((8, 1, 2, 2), "fp32"), "b": ((8,), "fp32")},
            "is one array, but the network has inputs",
        ),
    ],
)
def test_data_that_do_not_fit_the_network_are_refused_before_the_build(
    fake: dict[str, Any], inputs: Any, words: str
) -> None:
    calibrator = make_calibrator("entropy2", X, 8)
    with pytest.raises(DataError, match=words):
        calibrator.bind(inputs)


def test_a_missing_input_is_named(fake: dict[str, Any]) -> None:
    calibrator = make_calibrator("entropy2", {"image": X}, 8)
    with pytest.raises(DataError, match=r"has inputs \['image'\], expected \['image', 'mask'\]"):
        calibrator.bind({"image": ((8, 1, 2, 2), "fp32"), "mask": ((8,), "fp32")})


def test_names_and_numbers_are_checked(fake: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no calibrator 'kl'"):
        make_calibrator("kl", X)
    with pytest.raises(DataError, match="quantile is 99"):
        make_calibrator("legacy", X, quantile=99)
    with pytest.raises(DataError, match="batch size is 0"):
        make_calibrator("legacy", X, 0)


def test_without_tensorrt_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    with pytest.raises(LiveUnavailable, match="no_such_tensorrt is not installed"):
        make_calibrator("entropy2", X, 8)


@pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++ as the oracle: libstdc++'s own generator"
)
def test_the_noise_is_trtexecs_number_for_number(tmp_path: Path) -> None:
    source = tmp_path / "noise.cpp"
    source.write_text(
        "#include <cstdio>\n#include <random>\nint main() { std::default_random_engine e;"
        " std::uniform_real_distribution<float> d(-1.0F, 1.0F);"
        " for (int i = 0; i < 5000; ++i) { float f = d(e); std::fwrite(&f, 4, 1, stdout); } }\n"
    )
    subprocess.run(["g++", "-o", tmp_path / "noise", source], check=True)
    theirs = np.frombuffer(
        subprocess.run([tmp_path / "noise"], check=True, capture_output=True).stdout, np.float32
    )
    assert np.array_equal(theirs, trtexec_noise(5000))


def test_the_random_calibrator_gives_one_batch_for_all_inputs(
    fake: dict[str, Any], tmp_path: Path
) -> None:
    inputs = {"image": ((2, 1, 2, 2), "fp32"), "ids": ((3,), "int32")}
    with random_calibrator(inputs, tmp_path / "missing.cache") as calibrator:
        assert calibrator.handle.get_batch_size() == 1
        addresses = calibrator.handle.get_batch(["image", "ids"])
        noise = trtexec_noise(11)
        assert bytes(fake["cuda"].memory[addresses[0]]) == noise[:8].tobytes()
        assert (
            bytes(fake["cuda"].memory[addresses[1]]) == noise[8:].tobytes()
        )  # float32 also for the int32 input
        assert calibrator.handle.get_batch(["image", "ids"]) is None
    assert not fake["cuda"].memory
    assert not list(tmp_path.iterdir())  # trtexec never writes the cache


def test_the_random_calibrator_hands_over_a_file_that_exists(
    fake: dict[str, Any], tmp_path: Path
) -> None:
    cache = tmp_path / "have.cache"
    cache.write_bytes(b"TRT-8600-EntropyCalibration2\n")
    with random_calibrator({"image": ((2, 4), "fp32")}, cache) as calibrator:
        assert calibrator.handle.read_calibration_cache() == cache.read_bytes()
    cache.write_bytes(b"")
    with pytest.raises(CacheError, match="is empty"):
        random_calibrator({"image": ((2, 4), "fp32")}, cache)
