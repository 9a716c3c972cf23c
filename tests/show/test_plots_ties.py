"""The figure of shared scales: every tensor once, tied ones in their group."""

from trtlearn.calibration.tensors import predict_ties
from trtlearn.model.course_data import model_path
from trtlearn.model.read import read_model
from trtlearn.show import shared_scales


def test_every_tensor_is_drawn_and_groups_are_the_predicted_ones():
    model = read_model(model_path("resnet"))
    ties = predict_ties(model).ties
    assert ties
    figure = shared_scales(model)
    drawn = [trace for trace in figure.data if trace.mode == "markers+text"]
    hovered = {text.split("<br>")[0] for trace in drawn for text in trace.hovertext}
    assert hovered == set(model.tensors)
    groups = drawn[1:]
    assert (
        len({trace.marker.color for trace in groups})
        == len(groups)
        == len({tie.source for tie in ties})
    )
    for tie in ties:
        (trace,) = [
            t for t in groups if tie.tensor in {text.split("<br>")[0] for text in t.hovertext}
        ]
        assert tie.source in {text.split("<br>")[0] for text in trace.hovertext}


def test_the_legacy_calibrator_ties_nothing():
    figure = shared_scales(model_path("resnet"), "legacy")
    assert [trace.name for trace in figure.data if trace.name] == ["a scale of its own"]
