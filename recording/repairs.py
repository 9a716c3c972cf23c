"""Record every way to repair the entropy 2 ranges of the resnet network
(studies/resnet-repairs.json.gz).

    python -m recording.repairs [FOLDER]    by default the newest recordings; some minutes

Each tensor of the recorded engine has the range of entropy 2 or that of min-max. For every choice
the engine is computed in numpy for the first test images, as ``Build.simulate`` does; what several
choices have in common is computed once.
"""

from __future__ import annotations

import copy
import datetime
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recording.saving import save_packed
from trtlearn.builds import Build
from trtlearn.engine.records import Provenance
from trtlearn.int8.groups import engine_groups, float_tensors
from trtlearn.int8.simulate import _Network
from trtlearn.model.course_data import data_hashes
from trtlearn.model.graph import describe, node_key
from trtlearn.model.read import load_proto
from trtlearn.networks import network
from trtlearn.recorded.computed import REPAIRS, Repairs
from trtlearn.recorded.files import folder_with

MODEL, COUNT = "resnet", 200
SAME_SCALE = {"flatten"}  # a reshape hands on its input's codes and scale: no switch

Scales = dict[str, float]


def scales_of(build: Build) -> Scales:
    """Tensor -> the scale that the engine has for it."""
    assert build.ranges is not None
    return {tensor.name: tensor.scale for tensor in build.ranges.tensors if tensor.scale}


def choices(
    build: Build, path: Path, images: NDArray[np.float32], both: tuple[Scales, Scales]
) -> Iterator[tuple[frozenset[str], NDArray[np.int64]]]:
    """The tensors with the second scale, and the class of each image; for every choice."""
    proto = load_proto(path)
    shape = describe(proto)
    nodes = {node_key(node): node for node in proto.graph.node}
    order = {name: index for index, name in enumerate(nodes)}
    groups = engine_groups(shape, build.engine)
    layers = sorted(groups, key=lambda names: max(order[name] for name in names))
    floats = float_tensors(shape, build.engine)
    first = {name: scale for name, scale in both[0].items() if name not in floats}

    def walk(
        state: _Network, at: int, repaired: frozenset[str]
    ) -> Iterator[tuple[frozenset[str], NDArray[np.int64]]]:
        if at > len(layers):
            yield repaired, state.tensors[shape.outputs[0].name].values.argmax(1)
            return
        name = shape.inputs[0].name if at == 0 else nodes[layers[at - 1][-1]].output[0]
        switched = name in first and name in both[1] and name not in SAME_SCALE
        for index in (0, 1) if switched else (0,):
            after = copy.copy(state)
            after.tensors, after.scales = dict(state.tensors), dict(state.scales)
            if index:
                after.scales[name] = both[1][name]
            if at == 0:
                after.put_input(name, images)
            else:
                after.run_group([nodes[node] for node in layers[at - 1]])
            yield from walk(after, at + 1, repaired | {name} if index else repaired)

    yield from walk(_Network(proto, first), 0, frozenset())


def main() -> int:
    """Run the study and write it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else folder_with("studies")
    course = network(MODEL, folder, "recorded")
    build = course.build("int8-entropy2")
    scales = scales_of(build), scales_of(course.build("int8-minmax"))
    images, labels = course.images("test")[:COUNT], course.labels()[:COUNT]
    right = {}
    for repaired, classes in choices(build, course.path, images, scales):
        right[repaired] = int((classes == labels).sum())
        print(len(right), right[repaired], *sorted(repaired), flush=True)
    every = max(right, key=len)
    tensors = tuple(name for name in scales[0] if name in every)
    table = [
        right[frozenset(name for bit, name in enumerate(tensors) if choice >> bit & 1)]
        for choice in range(1 << len(tensors))
    ]
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    origin = Provenance(
        gpu="a CPU (numpy model of the engine)",
        tensorrt=build.provenance.tensorrt,
        time_utc=now,
        sha256=data_hashes(MODEL),
    )
    record = Repairs(
        MODEL,
        COUNT,
        tensors,
        {name: scales[0][name] for name in tensors},
        {name: scales[1][name] for name in tensors},
        tuple(table),
        origin,
    )
    print(save_packed(folder / REPAIRS, record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
