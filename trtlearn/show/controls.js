// In the browser: keys stay in their control, changed text is read aloud, figures fill the page.
//
// Without the mark JupyterLab takes the arrow keys from lists and radio buttons and moves to another
// cell. It looks for the mark from the focused element upwards and stops at the first match of its
// own, so each control needs it (@lumino/commands; measured in JupyterLab 4.6 by
// tests/course/test_browser.py). A FigureWidget is drawn before it has a place on the page, 700
// pixels wide, and looks at its place again only when the window is resized (plotly 6).
function render({ el }) {
  el.style.display = "none";
  if (!document.getElementById("trtlearn-style")) {
    const style = document.createElement("style");
    Object.assign(style, { id: "trtlearn-style", textContent: STYLE });
    document.head.append(style);
  }
  const mark = () => {
    const box = el.closest(".widget-vbox");
    if (!box) { requestAnimationFrame(mark); return; }
    box.addEventListener("focusin", (event) => {
      event.target.setAttribute("data-lm-suppress-shortcuts", "true");
      if (event.target.matches(".widget-readout")) event.target.contentEditable = "false";
    });
    for (const text of box.querySelectorAll(".widget-html")) {
      text.setAttribute("aria-live", "polite");
    }
    if (box.querySelector(".js-plotly-plot")) widen();
  };
  const widen = () => window.dispatchEvent(new Event("resize"));
  const drawn = ({ detail }) => {
    if (el.closest(".widget-vbox")?.contains(detail.element)) widen();
  };
  document.addEventListener("plotlywidget-after-render", drawn);
  mark();
  return () => document.removeEventListener("plotlywidget-after-render", drawn);
}
export default { render };
