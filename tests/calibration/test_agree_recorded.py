"""Our scales held against TensorRT's own: the caches in data/recordings/, the course's networks and
images.
"""

import pytest

from trtlearn.calibration.agreement import agree
from trtlearn.model.course_data import load_images, model_path
from trtlearn.recorded.files import recording_folders

FOLDERS = [folder for folder in recording_folders() if (folder / "resnet").is_dir()]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize(
    ("model", "variant", "unlike"),
    [
        ("resnet", "entropy2", 0),
        ("resnet", "minmax", 0),
        ("resnet", "legacy", 0),
        ("mobile", "entropy2", 1),
        ("mobile", "entropy", 0),
        ("mobile", "legacy", 0),
    ],
)
def test_every_scale_of_the_courses_networks_is_tensorrts(model, variant, unlike, folder):
    cache = folder / model / f"int8-{variant}.cache"
    report = agree(model_path(model), load_images("calibration")[0], cache, batch=8)
    others = [tensor for tensor in report.tensors if not tensor.agrees()]
    assert len(others) == unlike
    assert all("near tie" in (tensor.explanation or "") for tensor in others)
    assert len(report.tensors) >= 12
