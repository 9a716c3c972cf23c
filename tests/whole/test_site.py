"""The course as pages to read: whole, offline, small, searchable, and every public name in the
reference.
"""

from __future__ import annotations

import html
import importlib
import importlib.util
import re
import time
from pathlib import Path

import pytest

if (
    importlib.util.find_spec("nbconvert") is None
    or importlib.util.find_spec("latex2mathml") is None
):
    pytest.skip(
        "needs what builds the pages: pip install 'trtlearn[test]'", allow_module_level=True
    )

from tools import notebooks
from tools.questions import OTHERS, THREAD
from tools.site import api, build, markdown, notebook

pytestmark = pytest.mark.xdist_group("notebooks")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, built once."""
    out = tmp_path_factory.mktemp("built") / "site"
    build.build(out)
    return out


def text(site: Path, name: str) -> str:
    return (site / name).read_text(encoding="utf-8")


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    assert build.problems(site) == []
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\(", style.read_text())


def test_it_is_small(site: Path) -> None:
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 30_000_000


def test_each_thread_question_is_one_click_from_the_front_page(site: Path) -> None:
    front = text(site, "index.html").split('<main id="main">')[1]
    for question in THREAD:
        link = re.search(
            r'<a href="([^"]+)"><b>(?:\d+\. )?' + re.escape(html.escape(question.question)), front
        )
        assert link is not None, question.key
        name = build.NOTEBOOKS[question.notebook][0]
        if (build.ROOT / "notebooks" / name).is_file():
            assert link[1].startswith(f"notebooks/{name.removesuffix('.ipynb')}.html"), question.key
    every = text(site, "questions.html")
    assert all(f'id="{one.key}"' in every for one in (*THREAD, *OTHERS))


def test_notebooks_have_live_figures_and_no_faults(site: Path) -> None:
    drawn = 0
    for path in build.notebooks():
        page = text(site, f"notebooks/{path.stem}.html")
        drawn += page.count('class="figure"')
        assert "Traceback" not in page
        assert "fault of the course" not in page
        cells = [str(cell.id) for cell in notebooks.read(path).cells]
        assert re.findall(r'<section class="cell" id="cell-([^"]+)"', page) == cells
        for claim in notebook.claims(notebook.executed(path)):
            assert html.escape(claim[1]) in text(site, "facts.html")
    assert drawn >= len(build.notebooks())


@pytest.mark.parametrize("name", api.modules())
def test_every_public_name_is_in_the_reference_and_says_what_it_is(name: str) -> None:
    module = importlib.import_module(f"trtlearn.{name}")
    page = api.page(name).body
    words = api.constants(module)
    for one in module.__all__:
        assert f'<dt id="{one}">' in page
        thing = getattr(module, one)
        if getattr(thing, "__module__", "").startswith("trtlearn"):
            assert (thing.__doc__ or "").strip() or one in words, (
                f"{name}.{one} says nothing of itself"
            )
    assert module.__doc__


def test_facts_name_their_files_and_hashes(site: Path) -> None:
    page = text(site, "facts.html")
    assert "NVIDIA H200" in page
    assert len(re.findall(r'title="SHA-256 [0-9a-f]{64}"', page)) >= 20


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="x" ></p><p id="x"></p><a href="b.html">b</a><a href="#y">y</a><script src="https://cdn.example/x.js"></script>'
    )
    assert len(build.problems(tmp_path)) == 4


def test_markdown_makes_formulas_code_and_links() -> None:
    made = markdown.markdown(
        "# A `b`\n\n$$\\frac{a}{b}$$\n\n[n](01_x.ipynb#cell-y) [w](https://a.b/c.md)\n"
    )
    assert "<mfrac>" in made
    assert 'id="a-b"' in made
    assert 'href="01_x.html#cell-y"' in made
    assert 'href="https://a.b/c.md"' in made


def test_arrays_of_widgets_become_plotly_s() -> None:
    model = {"state": {"data": [{"x": {"dtype": "float64", "shape": [1]}}]}}
    model["buffers"] = [
        {"path": ["data", 0, "x", "buffer"], "data": "AAAAAAAA8D8=", "encoding": "base64"}
    ]
    assert notebook.whole(model)["data"][0]["x"] == {
        "bdata": "AAAAAAAA8D8=",
        "dtype": "f8",
        "shape": "1",
    }


BROWSER = Path("/usr/bin/chromium").exists() and Path("/usr/bin/chromedriver").exists()


@pytest.mark.flaky(reruns=2)
@pytest.mark.skipif(not BROWSER, reason="needs a browser: apt-get install chromium chromium-driver")
def test_in_a_browser_figures_are_drawn_search_finds_and_the_theme_changes(site: Path) -> None:
    """Opened from the file system: no server, no network."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    from tools import browser as lab

    with lab.chromium() as page:
        page.get((site / "notebooks" / "00_what_int8_does.html").as_uri())
        boxes = page.find_elements(By.CSS_SELECTOR, ".figure")
        for box in boxes:
            page.execute_script("arguments[0].scrollIntoView()", box)
            lab.wait_for(
                lambda b=box: b.get_attribute("data-drawn"), 30, "the figure was not drawn"
            )
            assert box.find_elements(By.CSS_SELECTOR, ".main-svg")
        assert boxes
        ground = "return getComputedStyle(document.body).backgroundColor"
        colours = set()
        for _ in range(3):
            page.find_element(By.ID, "theme").click()
            colours.add(page.execute_script(ground))
        assert {"rgb(255, 255, 255)", "rgb(17, 17, 17)"} <= colours
        page.get((site / "index.html").as_uri())
        field = page.find_element(By.ID, "q")
        field.send_keys("no such word at all xyzzy")
        assert page.find_element(By.ID, "told").text == "nothing found"
        field.clear()
        field.send_keys("setTensorDynamicRange")
        hits = page.find_elements(By.CSS_SELECTOR, "#found a")
        assert hits
        assert any("02_bare_int8" in hit.get_attribute("href") for hit in hits)
        field.send_keys(Keys.ARROW_DOWN)
        assert page.switch_to.active_element == hits[0]
        page.switch_to.active_element.send_keys(Keys.ENTER)
        time.sleep(0.5)
        assert "setTensorDynamicRange" in page.find_element(By.TAG_NAME, "main").text
        asked = [entry["message"] for entry in page.get_log("performance")]
        assert not [one for one in asked if re.search(r'"requestWillBeSent".*"url":"https?:', one)]
        errors = [
            entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"
        ]
        assert errors == []
