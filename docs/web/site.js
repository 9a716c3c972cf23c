// Theme, search and figures of the course's pages. No network: everything comes from this folder.
(() => {
  const root = document.body.dataset.root, page = document.documentElement;

  const themes = ["", "light", "dark"], button = document.getElementById("theme");
  const name = () => { button.textContent = `Theme: ${page.dataset.theme || "system"}`; };
  button.addEventListener("click", () => {
    page.dataset.theme = themes[(themes.indexOf(page.dataset.theme || "") + 1) % themes.length];
    try { localStorage.setItem("theme", page.dataset.theme); } catch (e) { /* private window */ }
    name();
  });
  name();

  // Search: window.INDEX is [title, heading, address, text] for each section of each page.
  const field = document.getElementById("q"), list = document.getElementById("found");
  const told = document.getElementById("told");
  const plain = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
  const sections = (window.INDEX || []).map(([title, heading, to, text]) =>
    ({ title, heading, to, text, head: plain(`${title} ${heading}`), body: plain(text) }));
  const find = (question) => {
    const words = plain(question).split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    const rank = (one) => {
      let sum = 0;
      for (const word of words) {
        const places = one.body.split(word).length - 1;
        const here = (one.head.includes(word) ? 20 : 0) + Math.min(places, 8);
        if (!here) return 0;
        sum += here;
      }
      sum += one.body.includes(plain(question).trim()) ? 6 : 0;
      return one.to.startsWith("api/") ? sum / 2 : sum;  // the course before the reference
    };
    return sections.map((one) => [rank(one), one]).filter(([score]) => score > 0)
      .sort((a, b) => b[0] - a[0]).slice(0, 20).map(([, one]) => one);
  };
  const excerpt = (one, word) => {
    const at = Math.max(0, one.text.toLowerCase().indexOf(word.toLowerCase()) - 50);
    return (at ? "… " : "") + one.text.slice(at, at + 150);
  };
  const show = () => {
    const question = field.value.trim(), hits = find(question);
    list.replaceChildren(...hits.map((one) => {
      const item = document.createElement("li"), link = document.createElement("a");
      const head = document.createElement("b"), text = document.createElement("small");
      link.href = root + one.to;
      const heading = one.to.startsWith("api/") ? one.heading.replace(/\(.*$/s, "(…)") : one.heading;  // no signatures
      head.textContent = heading && heading !== one.title ? `${one.title}: ${heading}` : one.title;
      text.textContent = excerpt(one, question.split(/\s+/)[0] || "");
      link.append(head, text);
      item.append(link);
      return item;
    }));
    list.hidden = !hits.length;
    field.setAttribute("aria-expanded", String(hits.length > 0));
    told.textContent = !question ? "" : hits.length ? `${hits.length} places found` : "nothing found";
    told.classList.toggle("hidden", !question || hits.length > 0);
  };
  field.addEventListener("input", show);
  const close = () => { list.hidden = true; field.setAttribute("aria-expanded", "false"); };
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    list.querySelector("a")?.click();
  });
  document.getElementById("search").addEventListener("keydown", (event) => {
    const links = [field, ...list.querySelectorAll("a")], at = links.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { links[Math.min(Math.max(at + step, 0), links.length - 1)].focus(); event.preventDefault(); }
    if (event.key === "Escape") { close(); field.focus(); }
  });
  document.addEventListener("click", (event) => { if (!event.target.closest("#search")) close(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|TEXTAREA|SELECT/.test(event.target.tagName)) { field.focus(); event.preventDefault(); }
  });

  // Figures: drawn when they come near the window.
  const draw = (box) => {
    const { data, layout } = JSON.parse(box.querySelector("script").textContent);
    box.querySelector("p")?.remove();
    window.Plotly.newPlot(box, data, layout, { responsive: true, displaylogo: false })
      .then(() => { box.dataset.drawn = "yes"; });
  };
  const boxes = document.querySelectorAll(".figure");
  if (!window.Plotly || !boxes.length) return;
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) { if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); } }
  }, { rootMargin: "600px" });
  boxes.forEach((box) => near.observe(box));
  window.addEventListener("beforeprint", () => boxes.forEach((box) => { if (!box.dataset.drawn) draw(box); }));
})();
