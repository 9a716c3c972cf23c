"""A moving figure opens with all that it shows, and plotly.js travels once."""

import comm
import ipywidgets
import plotly.graph_objects as go
import pytest

from trtlearn.show import controls
from trtlearn.show.controls import SCRIPT, figure_widget


@pytest.fixture
def sent(monkeypatch):
    """What widgets send to the page: (kind, state), in order."""
    messages = []

    class Comm(comm.base_comm.BaseComm):
        def publish_msg(self, msg_type, data=None, **rest):
            messages.append((msg_type, (data or {}).get("state") or data))

    monkeypatch.setattr(comm, "create_comm", Comm)
    return messages


def drawn(sent):
    return [state for kind, state in sent if kind == "comm_open" and "_widget_data" in state]


def test_a_figure_opens_in_its_place_with_what_was_changed_before(sent):
    fig = figure_widget(go.Figure(go.Bar(y=[1, 2]), layout={"title": {"text": "?"}}))
    with fig.batch_update():
        fig.data[0].y = [3, 4]
        fig.layout.title.text = "!"
    assert drawn(sent) == []
    ipywidgets.VBox([fig])
    (state,) = drawn(sent)
    assert list(state["_widget_data"][0]["y"]) == [3, 4]
    assert state["_widget_layout"]["title"]["text"] == "!"
    assert state["_config"]["responsive"]
    assert state["_esm"] == SCRIPT
    sent.clear()
    fig.data[0].y = [5, 6]
    assert any(state.get("_py2js_restyle") for _, state in sent)


def test_plotly_js_travels_once(sent):
    controls._plotly_js.cache_clear()
    for _ in range(3):
        ipywidgets.VBox([figure_widget(go.Figure())])
    large = [state for _, state in sent if len(str(state)) > 1_000_000]
    assert len(large) == 1
    assert {state["_plotly_id"] for state in drawn(sent)} == {
        controls._plotly_js(large[0]["value"]).model_id
    }


def test_the_page_may_ask_for_the_whole_figure(sent):
    fig = figure_widget(go.Figure(go.Bar(y=[1, 2])))
    ipywidgets.VBox([fig])
    fig.data[0].y = [7, 8]
    sent.clear()
    fig._handle_custom_msg({"trtlearn": "whole"}, [])
    (data,) = [state["_widget_data"] for _, state in sent if "_widget_data" in state]
    assert list(data[0]["y"]) == [7, 8]
    assert sent[-1][1]["content"] == {"trtlearn": "sent"}
    sent.clear()
    fig._handle_custom_msg({"other": 1}, [])
    assert sent == []


def test_shown_alone_it_opens_too(sent):
    fig = figure_widget(go.Figure(go.Bar(y=[1])))
    bundle = fig._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == fig.model_id
    assert len(drawn(sent)) == 1
