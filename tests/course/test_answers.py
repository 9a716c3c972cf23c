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
from trtlearn.int8.groups import placeholder_amax

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
    "06": "resnet = tl.network('resnet', mode='recorded'); repairs = tl.recorded.repairs();"
    "found = tl.fit(resnet.build('int8-entropy2').cache, resnet.path, resnet.images('test')[:64]);"
    "layers = tl.network('mobile', mode='recorded').study('missing-one').layer_dicts;"
    "held = lambda layers: [one['Weights']['Type'] for one in layers if one.get('Weights')]",
    "07": "front = lambda c, v: [not any((c <= a) & (v >= b) & ((c < a) | (v > b)))"
    " for a, b in zip(c, v)]",
    "08": "convs = lambda nodes: {n.inputs[0] for n in nodes if n.op in ('Conv', 'Gemm')}",
    "09": "load = lambda p: ((p.astype(np.float32) / 255 - 0.1307) / 0.3081)[None];"
    "ratio = lambda a, b: (a**2).sum() / ((a - b) ** 2).sum();"
    "best = lambda a: a.argmax(axis=1)",
    "10": """
def eight(x):
    return np.rint(x / (abs(x).max() / 127)) * (abs(x).max() / 127)
def split(y, at=4, **how):
    return np.concatenate([eight(y[:, :at]), eight(y[:, at:])], **(how or {"axis": 1}))
def products(nodes):
    return [node for node in nodes if node.op in ("MatMul", "Gemm")]
def share(nodes):
    return sum(node.computed_in == "int8" for node in nodes) / len(nodes)
""",
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
    "06-repair": {
        "['image']": "26.5% right. One more range is still cut",
        "('pool', 'stem_relu')": "61.0% right",
        "repairs.tensors": "can keep its range: leave it out",
        "['Image']": "no switch for 'Image'",
        "[]": "0 tensors: 28",
        "3": "a number is no list of names",
    },
    "06-fell": {
        "held(layers).count('Int8')": "the layers with INT8 weights",
        "len(held(layers))": "all layers with weights",
        "len(layers)": "all layers of the engine",
        "18": "those are ONNX nodes",
        "9": "the last layer, logits, has FP32 weights too",
        "'m2_project'": "Expected a number, got the text",
        "layers": "Expected one number",
    },
    "06-share": {
        "lambda layers: held(layers).count('Int8') / len(held(layers))": "give percent",
        "lambda layers: 100 * held(layers).count('Int8') / len(layers)": "that have weights",
        "lambda layers: held(layers).count('Int8')": "that is the number of layers",
        "lambda layers: 100 * held(layers).count('Float') / len(held(layers))": "is not INT8",
        "lambda layers: [one['Weights']['Type'] for one in layers]": "Your code raised KeyError",
        "lambda layers: layers": "a list, expected numbers",
        "lambda layers: '50 %'": "the text '50 %', expected numbers",
        "50.0": "Expected a function",
    },
    "07-front": {
        "lambda c, v: (c == c.min()) | (v == v.max())": "only cheaper, or only better",
        "lambda c, v: v == v.max()": "only the best",
        "lambda c, v: ~np.array(front(c, v))": "return what is not",
        "lambda c, v: front(-c, v)": "a lower cost is better",
        "lambda c, v: np.flatnonzero(front(c, v))": "not the indices",
        "lambda c, v: [any((c < a) & (v > b)) for a, b in zip(c, v)]": "differ",
        "lambda points: points": "Your code raised TypeError",
        "[True, False]": "Expected a function, got a list",
    },
    "07-throughput": {
        "lambda batch, ms: 1000 / ms": "a batch holds several images",
        "lambda batch, ms: batch / ms": "a second has 1000 milliseconds",
        "lambda batch, ms: ms / batch": "the time of one image",
        "lambda batch, ms: batch * ms / 1000": "slower means fewer images",
        "lambda batch, ms: f'{1000 * batch / ms:.0f}'": "expected numbers",
        "lambda ms: 1000 / ms": "Your code raised TypeError",
        "1000 * 8 / 0.04": "Expected a function, got a number",
    },
    "08-scale": {
        "lambda bits: float(int(bits, 16))": "the number as an integer",
        "lambda bits: struct.unpack('<f', bytes.fromhex(bits.zfill(8)))[0]": "big-endian",
        "lambda bits: struct.unpack('>f', bits.zfill(8))[0]": "Your code raised TypeError",
        "lambda bits: 127 * struct.unpack('>f', bytes.fromhex(bits.zfill(8)))[0]": "that is amax",
        "lambda bits: bytes.fromhex(bits.zfill(8))": "expected numbers",
        "0.082": "Expected a function",
    },
    "08-sites": {
        "convs": "an Add adds two tensors",
        "lambda nodes: {n for node in nodes for n in node.outputs}": "every output has a pair now",
        "lambda nodes: {n for m in nodes if m.op != 'Relu' for n in m.inputs}": "fuses with keeps",
        "lambda nodes: {m.inputs[0] for m in nodes if m.op in ('Conv', 'Gemm', 'Relu')}": "a Relu",
        "lambda nodes: {m.inputs[1] for m in nodes}": "Your code raised IndexError",
        "lambda nodes: 'image'": "the text 'image', expected a set of names",
        "lambda nodes: nodes": "differ",
        "{'image'}": "Expected a function, got a set",
    },
    "09-load": {
        "lambda p: p[None]": "pixels from 0 to 255 are too large",
        "lambda p: (p / 255)[None]": "subtract the mean, then divide by the deviation",
        "lambda p: ((p - 0.1307) / 0.3081)[None]": "divide by 255 first",
        "lambda p: (p / 255 - 0.1307)[None]": "divide by the deviation too",
        "lambda p: load(p)[0]": "a channel axis is missing",
        "lambda p: load(p).transpose(1, 2, 0)": "the channels come first",
        "lambda p: load(p)[None]": "np.stack adds the axis of the rows",
        "lambda p: load(p.T)": "the image is turned",
        "lambda p: p.convert('L').resize((28, 28))": "Your code raised",
        "lambda p: str(p)": "expected numbers",
        "np.zeros((1, 28, 28))": "Expected a function, got an array",
    },
    "09-agreement": {
        "lambda a, b: (a == b).mean()": "compare which class is largest",
        "lambda a, b: (a.argmax(axis=0) == b.argmax(axis=0)).mean()": "the classes are along axis 1",
        "lambda a, b: (best(a) == best(b)).sum()": "that is a count",
        "lambda a, b: (best(a) != best(b)).mean()": "the share of different answers",
        "lambda a, b: best(a) == best(b)": "an array of shape [200], expected one number",
        "lambda a, b: a.argmax(axis=2)": "Your code raised AxisError",
        "0.99": "Expected a function",
    },
    "09-sqnr": {
        "lambda a, b: 2 * 10 * np.log10(ratio(a, b))": "20 log10 is for amplitudes",
        "lambda a, b: -10 * np.log10(ratio(a, b))": "the sign is turned",
        "lambda a, b: 10 * np.log(ratio(a, b))": "the natural logarithm",
        "lambda a, b: ratio(a, b)": "that is the ratio",
        "lambda a, b: 10 * np.log10(abs(a).sum() / abs(a - b).sum())": "a sum of squares",
        "lambda a, b: 10 * np.log10(a**2 / (a - b) ** 2)": "expected one number",
        "lambda a, b: log10(ratio(a, b))": "Your code raised NameError",
        "30": "Expected a function",
    },
    "10-clipping": {
        "lambda report: {t.name for t in report.tensors if t.clipped > 1}": "a share: 1 % is 0.01",
        "lambda report: {t.name for t in report.tensors if t.clipped > 0}": "clips a few values",
        "lambda report: {t.name for t in report.tensors if t.verdict != 'fits'}": "be too LARGE",
        "lambda report: {t.name for t in report.tensors if t.clipped >= 0.01}": "exactly 1 %",
        "lambda report: len(report.tensors)": "expected a set of names",
        "lambda report: report.clipped": "Your code raised AttributeError",
        "{'image'}": "Expected a function",
    },
    "10-scales": {
        "lambda y: eight(y)": "that is one scale for all",
        "lambda y: split(y, 2)": "a box has four values",
        "lambda y: split(y, 5)": "the first FOUR rows",
        "lambda y: y": "elements differ",
        "lambda y: eight(y[:, :4])": "your result has the shape",
        "lambda y: split(y, axis=0)": "Your code raised",
        "3": "Expected a function",
    },
    "10-products": {
        "lambda nodes: share([n for n in nodes if n.op == 'MatMul'])": "Gemm is a matrix product",
        "lambda nodes: share(nodes)": "not of all nodes",
        "lambda nodes: 100 * share(products(nodes))": "a share from 0 to 1",
        "lambda nodes: len(products(nodes)) * share(products(nodes))": "that is how many",
        "lambda nodes: products(nodes)": "a list, expected numbers",
        "lambda nodes: nodes.op": "Your code raised AttributeError",
        "0.5": "Expected a function",
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
    "10-clipping": [
        "lambda report: {t.name for t in report.tensors if t.clipped > 0.01}",
        "lambda report: (t.name for t in report.tensors if 100 * t.clipped > 1)",
    ],
    "10-scales": ["lambda y: split(y)", "lambda y: split(y).tolist()"],
    "10-products": [
        "lambda nodes: share(products(nodes))",
        "lambda nodes: np.float32(share(products(nodes)))",
    ],
    "06-repair": [
        "['pool', 'stem_relu', 'image']",
        "'pool, stem_relu, image'",
        "found.poor",
        "(tensor.name for tensor in found.poor)",
    ],
    "06-fell": ["held(layers).count('Float')", "10.0", "np.int64(10)"],
    "06-share": [
        "lambda layers: 100 * held(layers).count('Int8') / len(held(layers))",
        "lambda layers: np.float32(100 * np.mean([one == 'Int8' for one in held(layers)]))",
    ],
    "07-front": ["front", "lambda c, v: np.array(front(c, v))", "lambda c, v: iter(front(c, v))"],
    "07-throughput": [
        "lambda batch, ms: 1000 * batch / ms",
        "lambda batch, ms: np.float64(batch) / (ms / 1000)",
    ],
    "08-scale": ["solution()", "lambda bits: np.array(int(bits, 16), 'u4').view('f4')"],
    "08-sites": ["solution()", "lambda nodes: sorted(solution()(nodes))"],
    "09-load": ["load", "lambda p: load(p).tolist()", "lambda p: load(p).astype(np.float64)"],
    "09-agreement": [
        "lambda a, b: (best(a) == best(b)).mean()",
        "lambda a, b: sum(x == y for x, y in zip(best(a), best(b))) / len(a)",
    ],
    "09-sqnr": [
        "lambda a, b: 10 * np.log10(ratio(a, b))",
        "lambda a, b: np.float32(20 * np.log10(np.linalg.norm(a) / np.linalg.norm(a - b)))",
    ],
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
    names |= {
        "reader": reader,
        "struct": struct,
        "p_and_q": reference_and_candidate,
        "kl": divergence,
    }
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
