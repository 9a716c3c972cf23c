// In the browser: plotly.js is loaded once for all figures.
//
// A FigureWidget brings plotly.js along, 5 MB each. anywidget (0.11) waits 2 s for such a file; where
// a page needs longer, every message to the figure is lost and it stays empty. This script is ready
// at once, fetches plotly.js from one hidden widget (which a page loaded again may have later than
// the figure), and asks for the whole figure where a change came before it.
async function code(model) {
  for (let tries = 0; ; tries += 1) {
    try {
      return (await model.widget_manager.get_model(model.get("_plotly_id"))).get("value");
    } catch (problem) {
      if (tries > 100) throw problem;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}
async function load(model) {
  const file = new Blob([await code(model)], { type: "text/javascript" });
  return import(URL.createObjectURL(file));
}
function plotly(model) {
  globalThis.trtlearnPlotly ??= load(model);
  return globalThis.trtlearnPlotly;
}
export default () => {
  let widget;
  return {
    initialize({ model }) {
      let early = false;
      const note = () => { early = true; };
      for (const kind of ["update", "relayout", "restyle"]) model.on(`change:_py2js_${kind}`, note);
      widget = plotly(model).then(async (module) => {
        if (early) {
          const sent = new Promise((done) => model.on("msg:custom", done));
          model.send({ trtlearn: "whole" });
          await sent;
        }
        const one = module.default();
        one.initialize({ model });
        return one;
      });
    },
    async render({ model, el }) {
      el.style.minHeight = `${model.get("_widget_layout").height ?? 360}px`;
      const stop = (await widget).render({ model, el });
      el.style.minHeight = "";
      return stop;
    },
  };
};
