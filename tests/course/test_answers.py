"""Answers that learners give: each wrong one gets its own diagnosis, each right one passes.

The table holds expressions, so that an answer is made only for its own test. The names in them are
those of the notebook's cells above the exercise.
"""

import functools
import struct
from typing import Any

import numpy as np
import pytest

import trtlearn as tl
from trtlearn.calibration.entropy import divergence, reference_and_candidate
from trtlearn.course import exercise
from trtlearn.int8.placeholder import placeholder_amax

LONGEST = 280  # characters of a diagnosis: one or two lines

NOTEBOOK = {  # chapter -> what its cells have defined
    "01": "images = tl.network('resnet').images()[:64]; digit = images[0]",
    "02": "mobile = tl.network('mobile', mode='recorded'); images = mobile.images();"
    "values = mobile.activations(images[:64])",
    "03": "images = tl.network('resnet').images()",
    "04": "import struct; resnet = tl.network('resnet', mode='recorded');"
    "build = resnet.build('int8-entropy2'); cache = build.cache; text = build.calibration.cache;"
    "old = 'image: ' + cache.entry('image').hex; bits = struct.pack('>f', 2.83 / 127).hex()",
    "05": "light = np.zeros((7, 7), int); light[3, 3] = 1",
    "11": """
def gap_of(ours, theirs, least=1e-6):
    gap = {name: abs(ours[name] / theirs[name] - 1) for name in ours if name in theirs}
    return {name: far for name, far in gap.items() if far > least}
""",
}

WRONG = {
    "00-mode": {
        "'not-int8'": "--best sets int8 too",
        "'random-calibration'": "needs --calib with a file that is missing",
        "'Cached scales'": "no --calib is given",
        "2": "Expected one word in quotes, got a number",
        "'int8'": "the table above has six modes",
        "['not-int8', 'rejected']": "Expected one word in quotes, got a list",
    },
    "00-command": {
        "'--int8'": "the model is mobile.onnx",
        "'trtexec --onnx=net.onnx --int8 --fp16 --calib=minmax.cache'": "the model is mobile.onnx",
        "'trtexec --onnx=mobile.onnx --best'": "trtexec invents the ranges",
        "'trtexec --onnx=mobile.onnx --fp16 --calib=minmax.cache'": "there is no --int8 in it",
        "'trtexec --onnx=mobile.onnx --best --calib=min-max.cache'": "calibrates on noise",
        "'trtexec --onnx=mobile.onnx --best --calib=entropy2.cache'": "take another file",
        "'trtexec --onnx=mobile.onnx --int8 --calib=legacy.cache'": "Allow FP16 too",
        "'make me an engine'": "Try:",
        "8": "Expected the command in quotes, got a number",
        "tl.explain": "Expected the command in quotes, got a function",
    },
    "01-scale": {
        "abs(digit).max()": "that is amax",
        "abs(digit).max() / 128": "the divisor is 127",
        "2 * abs(digit).max() / 255": "code 127, not code 255",
        "127 / abs(digit).max()": "that is codes per unit",
        "np.ptp(digit) / 255": "zero must stay code 0",
        "1": "times the reference",
        "abs(images).mean() / 127": "times the reference",
        "'2.8 / 127'": "leave out the quotes",
        "digit / 127": "Expected one number, got an array of shape [1, 28, 28]",
        "abs(digit).max": "got a function",
    },
    "01-quantize": {
        "lambda x, s: (x / s).round()": "must be clipped",
        "lambda x, s: (x / s).round().clip(-127, 127)": "activation is -128",
        "lambda x, s: (x / s).round().clip(0, 255)": "INT8 is signed",
        "lambda x, s: (x * s).round().clip(-128, 127)": "divide by the scale",
        "lambda x, s: (x / s).clip(-128, 127)": "round to a whole code",
        "lambda x, s: (x / s).clip(-128, 127).astype('int8')": "cut off the fraction",
        "lambda x, s: (x / s).round().astype(int).astype('int8')": "int8 wraps around",
        "lambda x, s: ((x / s + 0.5) // 1).clip(-128, 127)": "the EVEN neighbour",
        "lambda x, s: round(x / s)": "Your code raised TypeError",
        "lambda x: x": "Your code raised TypeError",
        "lambda x, s: 3": "expected [240]",
        "[1, 2, 3]": "Expected a function, got a list",
    },
    "01-channels": {
        "lambda w: abs(w).max() / 127": "one scale for the whole tensor",
        "lambda w: w.max(axis=(1, 2, 3)) / 127": "take the absolute value first",
        "lambda w: abs(w).max(axis=(0, 2, 3)) / 127": "one scale per INPUT channel",
        "lambda w: abs(w).max(axis=(1, 2, 3))": "that is amax; divide by 127",
        "lambda w: abs(w).max(axis=(1, 2, 3)) / 128": "the largest code",
        "lambda w: abs(w).max(axis=0) / 127": "your result has the shape [2, 3, 3]",
        "lambda w: w.channels": "AttributeError",
        "abs(np.ones((2, 2))).max(axis=1) / 127": "Expected a function, got an array",
    },
    "02-ranges": {
        "{}": "No tensor has a range of yours yet",
        "{name: abs(x).max() / 127 for name, x in values.items()}": "These are scales",
        "{name: abs(x).mean() for name, x in values.items()}": "its values reach",
        "{name: abs(x) for name, x in values.items()}": "image: Expected one number, got an array",
        "{name: x.min() for name, x in values.items()}": "take abs() first",
        "{name: 1000 for name in values}": "but its values reach only",
        "{'image': 2.83}": "33 tensors kept trtexec's ±2 or ±4",
        "{'Image': 2.83}": "mobile has no tensor 'Image'",
        "list(values)": "Expected a dict, tensor name to amax, got a list",
        "8": "Expected a dict, tensor name to amax, got a number",
        "'all'": "got the text 'all'",
    },
    "02-rule": {
        "lambda nodes, largest: {n for n, v in largest.items() if v > 4}": "±2 and ±4 both occur",
        "lambda nodes, largest: {n for n, v in largest.items() if v > 2}": "most tensors are",
        "lambda nodes, largest: {n: a for n, a in placeholder(nodes).items() if largest[n] >= a}": (
            "a value equal to amax still has a code"
        ),
        "lambda nodes, largest: len(largest)": "expected a set of names",
        "lambda nodes, largest: 'image'": "the text 'image', expected a set of names",
        "lambda nodes, largest: {n for n in nodes if n.amax > 2}": "AttributeError",
        "{'image'}": "Expected a function, got a set",
    },
    "02-clipped": {
        "(abs(images) > 2).mean()": "give percent",
        "100 * (abs(images) <= 2).mean()": "not inside",
        "100 * (abs(images) > 4).mean()": "the reference",
        "(abs(images) > 2).sum()": "the reference",
        "'3 %'": "leave out the quotes",
        "100 * (abs(images) > 2)": "Expected one number, got an array",
    },
    "03-spike": {
        "images": "81% of your pixels are background",
        "abs(images)": "One value still comes too often",
        "images != images.min()": "is a mask",
        "images[images == images.min()]": "100% of your pixels are background",
        "images[images > 3]": "No pixel is left",
        "images[images > 2]": "You kept only",
        "np.unique(images[images != images.min()])": "You kept only",
        "images - images.min()": "the images' is 2.82",
        "images[images != images.min()] / 127": "the images' is 2.82",
        "'image'": "got the text 'image'",
        "images.min": "got a function",
    },
    "03-minmax": {
        "lambda batches: max(b.max() for b in batches)": "take the absolute value",
        "lambda batches: abs(batches[0]).max()": "the first batch only",
        "lambda batches: abs(batches[-1]).max()": "the last batch only",
        "lambda batches: np.mean([abs(b).max() for b in batches])": "the mean of the batches'",
        "lambda batches: max(abs(b).max() for b in batches) / 127": "that is the scale",
        "lambda batches: [abs(b).max() for b in batches]": "expected one number",
        "lambda batches: abs(batches).max()": "Your code raised TypeError",
        "lambda batches: '5.4'": "expected numbers",
        "5.4": "Expected a function, got a number",
    },
    "03-entropy": {
        "lambda batches: max(abs(b).max() for b in batches)": "that is min-max",
        "wrong(0)": "differ",
        "wrong(1)": "zeros are left out",
        "lambda batches: float('nan')": "off by nan",
        "lambda batches: batches.mean()": "Your code raised AttributeError",
        "127": "Expected a function, got a number",
    },
    "04-line": {
        "text": "image has ±0.425, and you want",
        "text.replace(old, 'image: ' + struct.pack('>f', 2.83).hex())": "The line holds the scale",
        "text.replace(old, 'image: ' + struct.pack('<f', 2.83 / 127).hex())": "the other way round",
        "text.replace(old, 'image: 0.0222835')": "expected up to 8 hexadecimal digits",
        "text.replace(old, 'image: 0x' + bits)": "no 0x",
        "text.replace(old, 'image: ' + struct.pack('>d', 2.83 / 127).hex())": "up to 8",
        "text.replace(old, 'Image: ' + bits)": "0 lines for image",
        "'image: ' + bits": "the first line must stay",
        "text.replace(old, 'image: ' + bits).replace('stem: ', 'stem_old: ')": "changed or gone",
        "bits": "0 lines for image",
        "2.83 / 127": "Expected the whole text of the cache, got a number",
    },
    "04-read": {
        "lambda text: {n: 127 * s for n, s in cache.items()}": "differ, first",
        "reader('partition')": "Your code raised ValueError",
        "reader(factor=1)": "that is the scale",
        "reader(factor=128)": "not 128",
        "reader(order='<')": "the bytes are big-endian",
        "reader(pad=1)": "Your code raised",
        "lambda text: text.splitlines()": "a list, expected a dict",
        "lambda text: {}": "differ, first",
        "{'image': 2.83}": "Expected a function",
    },
    "05-light": {
        "0 * light": "every sum is 0",
        "light + 1": "49 pixels are lit",
        "np.roll(light, 3, axis=0)": "at the edge",
        "300 * light": "a whole number from -127 to 127",
        "light / 127": "a whole number",
        "light[:5]": "Expected 7 rows of 7 numbers, got the shape [5, 7]",
        "127": "got the shape []",
        "'3, 3'": "got the text '3, 3'",
        "lambda: light": "got a function",
    },
    "05-conv": {
        "wrong(0)": "the bias is missing",
        "wrong(1)": "each output channel has its own",
        "wrong(2)": "codes differ from the engine's",
        "lambda x, w, bias, s_x, s_y: x": "the engine gives the shape",
        "lambda x, w, bias, s_x, s_y: x @ w": "Your code raised ValueError",
        "lambda x, w: x": "Your code raised TypeError",
        "3": "Expected a function",
    },
    "11-odd": {
        "('down1b_relu', 'near tie')": "only the entropy search has a KL",
        "'down1b_relu, last bits'": "by a millionth",
        "('down1b_relu', 'memory')": "the causes are last bits, near tie, Concat's memory",
        "('r_conv_relu', \"Concat's memory\")": "differs by 9.1 %",
        "('t0_update', 'last bits')": "and another by more",
        "('stem', 'near tie')": "No scale of stem differs",
        "'down1b_relu'": "Expected two words, got 1 word",
        "3": "Expected two words, got a number",
    },
    "11-rows": {
        "lambda a, b: sorted(n for n in a if n in b and a[n] != b[n])": "differ",
        "lambda a, b: sorted(gap_of(a, b), key=gap_of(a, b).get)": "worst first",
        "lambda a, b: sorted(gap_of(a, b, 0), key=gap_of(a, b, 0).get, reverse=True)": "up to 1e-6",
        "lambda a, b: sorted(gap_of(a, b), key=lambda n: -abs(a[n] - b[n]))": "divide the difference",
        "lambda a, b: [n for n in a if a[n] != b[n]]": "KeyError",
        "['conv1']": "Expected a function, got a list",
    },
}

RIGHT = {
    "00-mode": ["'placeholder-ranges'", "['placeholder-ranges']", "' Placeholder ranges '"],
    "00-command": [
        "'trtexec --onnx=mobile.onnx --int8 --fp16 --calib=minmax.cache'",
        "'/usr/src/tensorrt/bin/trtexec --best --calib=./legacy.cache --onnx=models/mobile.onnx'",
        "['trtexec', '--onnx=mobile.onnx', '--best', '--calib=legacy.cache']",
    ],
    "01-scale": ["abs(digit).max() / 127", "float(abs(digit).max()) / 127", "[digit.max() / 127]"],
    "01-quantize": [
        "lambda x, s: np.clip(np.rint(x / s), -128, 127)",
        "lambda x, s: [max(-128, min(127, round(float(v) / s))) for v in x]",
        "lambda x, s: (max(-128, min(127, round(float(v) / s))) for v in x)",
    ],
    "01-channels": [
        "lambda w: abs(w).max(axis=(1, 2, 3)) / 127",
        "lambda w: [float(abs(one).max()) / 127 for one in w]",
        "lambda w: tuple(np.float32(abs(one).max() / 127) for one in w)",
    ],
    "02-ranges": [
        "{name: abs(x).max() for name, x in values.items()}",
        "[(name, float(abs(x).max())) for name, x in values.items()]",
        "((name, np.float64(np.quantile(abs(x), 0.9999))) for name, x in values.items())",
    ],
    "02-rule": [
        "lambda nodes, largest: {n for n, a in placeholder(nodes).items() if largest[n] > a}",
        "lambda nodes, largest: [n for n, a in placeholder(nodes).items() if largest[n] > a]",
        "lambda nodes, largest: (n for n, a in placeholder(nodes).items() if largest[n] > a)",
    ],
    "02-clipped": [
        "100 * (abs(images) > 2).mean()",
        "100 * np.float32((abs(images) > 2).sum()) / images.size",
    ],
    "11-odd": [
        "('down1b_relu', \"Concat's memory\")",
        '"down1b_relu, Concat\'s memory"',
        '[max(tl.recorded.agreement().others, key=lambda o: o.relative_difference).tensor, "Concat\'s memory"]',
    ],
    "11-rows": [
        "lambda a, b: sorted(gap_of(a, b), key=gap_of(a, b).get, reverse=True)",
        "lambda a, b: iter(sorted(gap_of(a, b), key=lambda n: -abs(a[n] / b[n] - 1)))",
    ],
}
RIGHT |= {
    "03-spike": [
        "images[images != images.min()]",
        "images[images > -0.4].tolist()",
        "np.where(images == images.min(), 0, images)",  # zeros are left out of the histogram
        "(float(x) for x in images[images > -0.4])",
    ],
    "03-minmax": [
        "lambda batches: max(abs(b).max() for b in batches)",
        "lambda batches: float(abs(np.concatenate(batches)).max())",
        "lambda batches: [np.float64(max(abs(b).max() for b in batches))][0]",
    ],
    "03-entropy": ["solution()", "lambda batches: np.float32(solution()(batches))"],
    "04-line": [
        "text.replace(old, 'image: ' + bits)",
        "text.replace(old, 'image: ' + bits.upper()).encode()",
        "text.replace(old, 'image: ' + bits).splitlines()",
    ],
    "04-read": ["reader()", "lambda text: list(reader()(text).items())"],
    "05-light": ["light", "(-5 * light).tolist()", "(row for row in 127 * light[None, None])"],
    "05-conv": ["solution()", "lambda *all: solution()(*all).astype(float).tolist()"],
}
TASKS = [one for one in exercise.ids() if isinstance(exercise.get(one), exercise.Exercise)]
DRAWN = {name for name in TASKS if exercise.get(name).draw}


def reader(cut: str = "rpartition", order: str = ">", factor: float = 127, pad: int = 8) -> Any:
    """A reader of caches, right or with one mistake."""

    def read(text: str) -> dict[str, float]:
        ranges = {}
        for line in text.splitlines()[1:]:
            name, _, digits = getattr(line, cut)(": ")
            bits = bytes.fromhex(digits.zfill(pad))
            ranges[name] = factor * struct.unpack(f"{order}f", bits)[0]
        return ranges

    return read


@functools.cache
def cells(chapter: str) -> dict[str, Any]:
    """What the notebook's cells have defined."""
    names: dict[str, Any] = {"np": np, "tl": tl, "placeholder": placeholder_amax}
    names |= {"reader": reader, "p_and_q": reference_and_candidate, "kl": divergence}
    exec(NOTEBOOK.get(chapter, ""), names)
    return names


def last_function(source: str, names: dict[str, Any]) -> Any:
    """The function that a cell's source defines."""
    here = dict(names)
    exec(source, here)
    return next(value for key, value in here.items() if key.startswith("my_"))


def answer_of(name: str, source: str) -> Any:
    entry, names = exercise.get(name), cells(name[:2])
    names["solution"] = lambda: last_function(entry.solution, names)
    names["wrong"] = lambda index: last_function(entry.wrong[index], names)
    return eval(source, names)


def rows(table: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(name, source, id=f"{name}: {source}"[:80])
        for name, sources in table.items()
        for source in sources
    ]


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path))


@pytest.mark.parametrize(("name", "source"), rows(WRONG))
def test_a_wrong_answer_hears_what_is_wrong_in_two_lines(name: str, source: str) -> None:
    verdict = exercise.check(name, answer_of(name, source))
    assert verdict.passed is False
    assert WRONG[name][source] in verdict.text
    assert len(verdict.text) <= LONGEST
    shown = [verdict.text]
    for row in verdict.comparisons:
        shown += [row.input, row.yours, row.reference, row.differs]
    assert not [words for words in shown if "\n" in words or "[{" in words or len(words) > LONGEST]
    assert (verdict.figure is not None) or name not in DRAWN


@pytest.mark.parametrize(("name", "source"), rows(RIGHT))
def test_a_right_answer_passes_however_it_is_written(name: str, source: str) -> None:
    verdict = exercise.check(name, answer_of(name, source))
    assert verdict.passed is True, str(verdict)
    assert not verdict.folds
    assert (verdict.figure is not None) == (name in DRAWN)


@pytest.mark.parametrize("name", TASKS)
def test_every_exercise_has_its_rows_and_its_start(name: str) -> None:
    """Three wrong answers at least, each with a diagnosis of its own; and help, folded."""
    assert len(set(WRONG[name].values())) >= 3
    assert len(RIGHT[name]) >= 2
    open_ = exercise.check(name, None)
    assert open_.passed is None
    assert "<details>" in open_._repr_html_()
    assert open_.folds[-1][1] == exercise.get(name).solution


@pytest.mark.parametrize("chapter", sorted({name[:2] for name in TASKS}))
def test_a_notebook_has_three_exercises_at_most_and_one_that_changes_a_picture(
    chapter: str,
) -> None:
    here = [name for name in TASKS if name.startswith(chapter)]
    assert len(here) <= 3
    assert DRAWN & set(here)
