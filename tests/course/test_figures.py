"""Every figure of every notebook, drawn by plotly.js at the widths that it has in JupyterLab's page of
1280 and of 1000 pixels: no text over another, cut, rotated or faint, and none too high.

A figure looks the same in both themes: its texts are held against the ground of each. The notebooks'
outputs are those that tests/course/test_notebooks.py keeps; drawing takes about 20 s of CPU.
"""

import json
from pathlib import Path

import plotly
import pytest

pytest.importorskip("selenium")
if not Path("/usr/bin/chromium").exists() or not Path("/usr/bin/chromedriver").exists():
    pytest.skip(
        "needs a browser: apt-get install chromium chromium-driver", allow_module_level=True
    )

from tools import browser
from tools.page_layout import layout_faults
from tools.site.notebook import PLOTLY, STATE, executed, whole

ROOT = Path(__file__).resolve().parent.parent.parent
FOUND = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLACES = {1280: 1112, 1000: 832}  # the page's width -> what is left for an output
GROUNDS = ["rgb(255, 255, 255)", "rgb(17, 17, 17)"]
DRAW = """const [facts, width, done] = arguments;
    Plotly.newPlot("place", facts.data, {...facts.layout, width}).then(() => done());"""
NARROW = """const [width, done] = arguments;
    Plotly.relayout("place", {width}).then(() => done());"""

pytestmark = [pytest.mark.xdist_group("notebooks")]


def figures(path):
    """What each figure of a notebook is called, and the figure as plotly.js takes it."""
    book = executed(path)
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            if PLOTLY in output.get("data", {}):
                yield cell.id, output.data[PLOTLY]
    models = book.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for model in models.values():
        if "_widget_data" in model["state"]:
            state = whole(model)
            title = state["_widget_layout"].get("title", {}).get("text", "")
            yield title, {"data": state["_widget_data"], "layout": state["_widget_layout"]}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    file = tmp_path_factory.mktemp("figures") / "page.html"
    style = "<style>body { margin: 0; font-family: sans-serif }</style>"
    file.write_text(
        f'<meta charset="utf-8">{style}<script src="{script.as_uri()}"></script>'
        '<div id="place" style="width: 1112px"></div>'
    )
    with browser.chromium(1280, 900) as opened:
        opened.get(file.as_uri())
        opened.set_script_timeout(60)
        yield opened


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_no_figure_is_illegible(page, path):
    found, count = {}, 0
    for name, facts in figures(path):
        count += 1
        for width, room in PLACES.items():
            if width == max(PLACES):
                page.execute_async_script(DRAW, facts, room)
            else:
                page.execute_async_script(NARROW, room)
            if faults := layout_faults(page, "body", GROUNDS):
                found[f"{name} at {width}"] = faults
    assert count
    assert found == {}, json.dumps(found, indent=1, ensure_ascii=False)


AXIS = {"range": [0, 1], "visible": False}
BROKEN = {
    "over": {
        "annotations": [{"text": "one", "x": 0.5, "y": 0.5}, {"text": "two", "x": 0.5, "y": 0.5}]
    },
    "is rotated by 90": {
        "annotations": [{"text": "a value", "x": 0.5, "y": 0.5, "textangle": -90}]
    },
    "is cut at": {"annotations": [{"text": "far too long " * 20, "x": 0.5, "y": 0.5}]},
    "900 pixels high": {"height": 900},
    "on rgb(255, 255, 255)": {
        "annotations": [{"text": "x", "x": 0.5, "y": 0.5, "font": {"color": "#eee"}}]
    },
}


@pytest.mark.parametrize("fault", BROKEN)
def test_each_fault_would_be_found(page, fault):
    layout = {"height": 300, "xaxis": AXIS, "yaxis": AXIS} | BROKEN[fault]
    plain = {"showarrow": False, "font": {"color": "#777"}}
    layout["annotations"] = [plain | note for note in layout.get("annotations", ())]
    page.execute_async_script(DRAW, {"data": [{"x": [0], "y": [0]}], "layout": layout}, 800)
    found = layout_faults(page, "body", GROUNDS)
    assert len(found) == 1
    assert fault in found[0]


def test_a_bar_s_text_in_a_small_bar_and_a_figure_without_marks_are_found(page):
    bar = {"type": "bar", "orientation": "h", "x": [1], "text": ["a long text"], "cliponaxis": True}
    layout = {"height": 300, "xaxis": {"range": [0, 1.01]}, "showlegend": False}
    facts = {"data": [bar | {"textposition": "outside", "constraintext": "none"}], "layout": layout}
    page.execute_async_script(DRAW, facts, 800)
    assert any("'a long text' is clipped" in one.replace('"', "'") for one in layout_faults(page))
    page.execute_async_script(DRAW, {"data": [], "layout": {"height": 300}}, 800)
    assert any("empty" in one for one in layout_faults(page))
