"""The seven scenes of the course in a real JupyterLab: each is drawn, a control changes its picture,
and nothing overlaps, is cut or is rotated, at two widths in both themes.

One notebook holds the cells of all scenes, with what they need: one server, one kernel, one page.
About 35 s of CPU.
"""

import time
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("selenium")
pytest.importorskip("jupyterlab")
if not Path("/usr/bin/chromium").exists() or not Path("/usr/bin/chromedriver").exists():
    pytest.skip(
        "needs a browser: apt-get install chromium chromium-driver", allow_module_level=True
    )

from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_browser import CONTROLS, changes, moves, press, texts

from tools import browser as lab
from tools import notebooks
from tools.page_layout import layout_faults

FOLDER = Path(__file__).resolve().parent.parent.parent / "notebooks"
SCENES = {
    "00": "run-digits",
    "02": "break-factor",
    "03": "look-spike",
    "04": "break-editor",
    "05": "look-follow",
    "06": "break-repair",
    "08": "break-placement",
}
EXTRA = {
    "print": "print('a claim of many words, ' * 12)",
    "list": "from trtlearn.show.controls import ipywidgets, stack\nstack(ipywidgets.Dropdown(options='ab'))",
}
STILL = "00"  # the grid of digits has no control
GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 17, 17)"}
SIZES = """const drawn = [...document.querySelectorAll('.js-plotly-plot')];
    const parts = [...drawn, ...document.querySelectorAll('.jp-Cell')];
    const boxes = parts.map(one => one.getBoundingClientRect());
    const whole = drawn.every(one => one.data?.length
        && Math.abs(one.querySelector('.main-svg').getBoundingClientRect().width
                    - one.getBoundingClientRect().width) < 20);
    return whole && drawn.length >= arguments[0] && JSON.stringify(boxes)"""

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.flaky(reruns=2)]


def settled(page):
    """Wait until every figure is drawn in its place and nothing moves any more."""
    seen = [None]

    def is_still():
        seen.append(page.execute_script(SIZES, len(SCENES)))
        time.sleep(0.2)
        return seen[-1] and seen[-1] == seen[-2]

    lab.wait_for(is_still, 30, "the figures were not drawn")


@pytest.fixture(scope="module")
def page():
    book = nbformat.v4.new_notebook(metadata=notebooks.METADATA)
    marks = []
    for number, scene in SCENES.items():
        path = next(FOLDER.glob(f"{number}_*.ipynb"))
        for cell in notebooks.needed(notebooks.read(path), scene):
            book.cells.append(nbformat.v4.new_code_cell(cell.source, id=f"{number}-{cell.id}"))
            marks.append(number if cell.id == scene else "")
    for mark, source in EXTRA.items():
        book.cells.append(nbformat.v4.new_code_cell(source, id=mark))
        marks.append(mark)
    with lab.jupyter(FOLDER) as server, lab.chromium(1280, 720) as opened:
        nbformat.write(book, server.folder / "scenes.ipynb")
        lab.open_notebook(opened, server, "scenes.ipynb")
        lab.run_all(opened)
        assert lab.faults(opened) == []
        for mark, cell in zip(marks, lab.cells(opened), strict=True):
            opened.execute_script("arguments[0].dataset.scene = arguments[1]", cell, mark)
        settled(opened)
        yield opened


def scene_of(page, number):
    return page.find_element(By.CSS_SELECTOR, f"[data-scene='{number}']")


def faults_of_all(page, theme):
    found = {}
    for number in SCENES:
        if faults := layout_faults(page, f"[data-scene='{number}']", [GROUNDS[theme]]):
            found[number] = faults
    return found


def set_theme(page, theme):
    change = "return window.jupyterapp.commands.execute('apputils:change-theme', arguments[0])"
    page.execute_script(change, {"theme": lab.THEMES[theme]})


@pytest.mark.parametrize("width", [1280, 1000])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_overlaps_is_cut_or_rotated(page, theme, width):
    set_theme(page, theme)
    page.set_window_size(width, 720)
    settled(page)
    assert faults_of_all(page, theme) == {}


@pytest.mark.parametrize("number", [number for number in SCENES if number != STILL])
def test_a_control_changes_the_picture(page, number):
    cell = scene_of(page, number)
    kinds = [
        (one, keys) for one, keys in CONTROLS.values() if cell.find_elements("css selector", one)
    ]
    for selector, keys in kinds:  # one of each kind
        assert moves(page, cell.find_elements(By.CSS_SELECTOR, selector)[0], keys), selector
    assert kinds
    settled(page)
    assert layout_faults(page, f"[data-scene='{number}']") == []


def test_a_cache_typed_into_is_answered(page):
    cell = scene_of(page, "04")
    area = cell.find_element(By.CSS_SELECTOR, "textarea")
    before = texts(cell)
    press(page, area, Keys.CONTROL, Keys.HOME)
    area.send_keys("x")
    after = changes(cell, before)
    assert "ignored" in after
    assert "Not recorded" in after


def test_a_click_on_a_mark_takes_the_pair_away(page):
    cell = scene_of(page, "08")
    before = texts(cell)
    mark = cell.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")[0]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(page).move_to_element(mark).pause(0.3).click().perform()
    assert changes(cell, before) != before


def test_printed_lines_break_between_words_and_arrows_are_light_in_the_dark(page):
    set_theme(page, "dark")
    style = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    assert page.execute_script(style, "[data-scene=print] pre", "wordBreak") == "normal"
    assert "%23ddd" in page.execute_script(style, "[data-scene=list] select", "backgroundImage")


def test_a_sliders_number_is_no_field(page):
    editable = page.execute_script("""const numbers = [...document.querySelectorAll('.widget-readout')];
        for (const number of numbers) number.dispatchEvent(new FocusEvent('focusin', {bubbles: true}));
        return numbers.map((number) => number.isContentEditable);""")
    assert editable
    assert not any(editable)


def test_the_page_asked_nobody_and_failed_nowhere(page):
    assert lab.faults(page) == []
    assert "fault of the course" not in page.find_element(By.TAG_NAME, "body").text
