"""What is wrong with a figure or a control on a page: texts over each other, cut, rotated or faint;
too high.

    faults = layout_faults(browser, "#cell-look-engine")

The page may be JupyterLab's or any that holds drawn plotly figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from selenium import webdriver

__all__ = ["TALLEST", "layout_faults"]

TALLEST = 700  # pixels: a figure fits on a laptop's screen

SCRIPT = r"""
const [selector, tallest, grounds] = arguments, faults = [];
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
const light = color => {
  const part = c => c <= 10 ? c / 3294 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = /(\d+), (\d+), (\d+)/.exec(color).slice(1).map(Number).map(part);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const faint = (color, ground) => {
  const [low, high] = [light(color), light(ground)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05) < 3;
};
const within = (a, b) => b.left < (a.left + a.right) / 2 && (a.left + a.right) / 2 < b.right
  && b.top < (a.top + a.bottom) / 2 && (a.top + a.bottom) / 2 < b.bottom;
const hides = one => /hidden|clip|auto|scroll/.test(getComputedStyle(one).overflowX);
for (const root of document.querySelectorAll(selector)) {
  const plots = [...root.querySelectorAll(".js-plotly-plot")].filter(one => box(one).width > 0);
  for (const plot of plots) {
    const room = box(plot.querySelector(".main-svg")), say = words =>
      faults.push(`${plot.dataset.name || plot.layout?.title?.text || "a figure"}: ${words}`);
    if (room.height > tallest + 0.5) say(`${room.height} pixels high`);
    if (room.width > box(plot).width + 2) say("wider than its place");
    if (!plot.data?.length && !plot.layout?.images?.length) say("empty");
    const marks = [...plot.querySelectorAll(
      ".bars path, .shapelayer path, .heatmaplayer image, .plot image, .annotation .bg")]
      .filter(one => Number(getComputedStyle(one).fillOpacity) > 0.3).map(box);
    const texts = [...plot.querySelectorAll(".main-svg text")].filter(shown);
    const boxes = texts.map(box);
    texts.forEach((text, i) => {
      const turned = angle(text), isTitle = /title/.test(text.getAttribute("class") || "");
      if (turned > 1 && !isTitle) say(`${name(text)} is rotated by ${turned} degrees`);
      if (beyond(boxes[i], room)) say(`${name(text)} is cut at the figure's edge`);
      const color = getComputedStyle(text).fill;
      if (!marks.some(mark => within(boxes[i], mark)))
        for (const ground of grounds)
          if (faint(color, ground)) say(`${name(text)} is ${color} on ${ground}`);
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
    browser: webdriver.Chrome, selector: str = "body", grounds: Sequence[str] = ()
) -> list[str]:
    """One line a fault, in the order of the page, of all that stands inside ``selector``.

    ``grounds``: colours of the page, such as "rgb(17, 17, 17)", on which each text of a figure
    must have a contrast of at least 3 (WCAG 2.1, 1.4.3), unless a mark lies behind it.
    """
    return list(browser.execute_script(SCRIPT, selector, TALLEST, list(grounds)))
