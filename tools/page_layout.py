"""What is wrong with a figure or a control on a page: texts over each other, cut or rotated; too
high.

    faults = layout_faults(browser, "#cell-look-engine")

The page may be JupyterLab's or any that holds drawn plotly figures.
"""

from __future__ import annotations

from selenium import webdriver

__all__ = ["TALLEST", "layout_faults"]

TALLEST = 700  # pixels: a figure fits on a laptop's screen

SCRIPT = r"""
const [selector, tallest] = arguments, faults = [];
const box = one => one.getBoundingClientRect();
const name = one => JSON.stringify(one.textContent.trim().slice(0, 40));
const shown = one => {
  const style = getComputedStyle(one), place = box(one);
  return place.width > 0 && place.height > 0 && style.visibility !== "hidden"
    && style.opacity !== "0" && style.fillOpacity !== "0" && one.textContent.trim() !== "";
};
const angle = text => {
  const m = text.getScreenCTM();
  return Math.round(Math.abs(Math.atan2(m.b, m.a)) * 180 / Math.PI);
};
const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
  && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
const beyond = (a, b) => a.left < b.left - 1.5 || a.right > b.right + 1.5
  || a.top < b.top - 1.5 || a.bottom > b.bottom + 1.5;
const clips = text => {
  const found = [];
  for (let at = text.parentElement; at && at.tagName !== "svg"; at = at.parentElement) {
    const id = /#([^"')]+)/.exec(at.getAttribute("clip-path") || "");
    const rect = id && document.getElementById(id[1])?.querySelector("rect");
    if (!rect) continue;
    const m = at.getScreenCTM(), [x, y, w, h] =
      ["x", "y", "width", "height"].map(key => Number(rect.getAttribute(key) || 0));
    found.push({left: m.a * x + m.e, right: m.a * (x + w) + m.e,
      top: m.d * y + m.f, bottom: m.d * (y + h) + m.f});
  }
  return found;
};
const hides = one => /hidden|clip|auto|scroll/.test(getComputedStyle(one).overflowX);
for (const root of document.querySelectorAll(selector)) {
  const plots = [...root.querySelectorAll(".js-plotly-plot")].filter(one => box(one).width > 0);
  for (const plot of plots) {
    const room = box(plot.querySelector(".main-svg")), say = words =>
      faults.push(`${plot.dataset.name || plot.layout?.title?.text || "a figure"}: ${words}`);
    if (room.height > tallest + 0.5) say(`${room.height} pixels high`);
    if (room.width > box(plot).width + 2) say("wider than its place");
    const texts = [...plot.querySelectorAll(".main-svg text")].filter(shown);
    const boxes = texts.map(box);
    texts.forEach((text, i) => {
      const turned = angle(text), isTitle = /title/.test(text.getAttribute("class") || "");
      if (turned > 1 && !isTitle) say(`${name(text)} is rotated by ${turned} degrees`);
      if (beyond(boxes[i], room)) say(`${name(text)} is cut at the figure's edge`);
      if (clips(text).some(clip => beyond(boxes[i], clip))) say(`${name(text)} is clipped`);
      for (let j = 0; j < i; j++)
        if (over(boxes[i], boxes[j])) say(`${name(text)} over ${name(texts[j])}`);
    });
  }
  const labels = [...root.querySelectorAll(
    ".widget-label, .widget-button, .widget-label-basic span, .widget-readout")].filter(shown);
  labels.forEach((one, i) => {
    if (hides(one) && one.scrollWidth > one.clientWidth + 1) faults.push(`${name(one)} is cut`);
    for (let j = 0; j < i; j++)
      if (!one.contains(labels[j]) && !labels[j].contains(one) && over(box(one), box(labels[j])))
        faults.push(`${name(one)} over ${name(labels[j])}`);
  });
  for (const out of root.querySelectorAll(".jp-OutputArea-output, .widget-html-content"))
    if (out.scrollWidth > out.clientWidth + 2)
      faults.push(`${name(out)} is ${out.scrollWidth - out.clientWidth} pixels wider than its place`);
}
return faults;
"""


def layout_faults(
    browser: webdriver.Chrome, selector: str = "body", tallest: int = TALLEST
) -> list[str]:
    """One line a fault, in the order of the page, of all that stands inside ``selector``."""
    return list(browser.execute_script(SCRIPT, selector, tallest))
