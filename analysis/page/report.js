"use strict";
(async () => {
  const text = (id) => document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text("data")), (c) => c.charCodeAt(0));
  const unzipped = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const columns = JSON.parse(await new Response(unzipped).text());
  const { figures, words } = JSON.parse(text("specs"));

  const rows = {};
  for (const [name, table] of Object.entries(columns)) {
    const keys = Object.keys(table);
    rows[name] = table[keys[0]].map((_, i) => Object.fromEntries(keys.map((k) => [k, table[k][i]])));
  }
  const used = (spec, found = new Set()) => {
    if (spec && typeof spec === "object") {
      if (spec.data && spec.data.name) found.add(spec.data.name);
      Object.values(spec).forEach((inner) => used(inner, found));
    }
    return found;
  };

  // Colours are the page's own variables, so that they follow it into the dark and onto paper.
  const ink = "var(--ink)", soft = "var(--soft)", line = "var(--line)";
  const text_ = { labelColor: soft, titleColor: ink, labelFontSize: 11, titleFontSize: 11,
    titleFontWeight: 600 };
  const config = {
    background: "transparent", font: "system-ui, 'Liberation Sans', sans-serif",
    view: { stroke: "transparent" },
    axis: { ...text_, gridColor: line, domainColor: line, tickColor: line, gridOpacity: 0.7,
      labelSeparation: 5 },
    axisBand: { grid: false }, legend: text_, header: { ...text_, labelFontSize: 12 },
    title: { color: ink, fontSize: 13, fontWeight: 600, offset: 8 },
    rule: { color: soft }, text: { color: ink },
  };

  let curves = null;
  const choose = (panel, id) => {
    const select = document.getElementById(`choose-${panel}`);
    const option = [...select.options].find((o) => o.value === id);
    if (!option || !curves) return;
    select.value = id;
    document.getElementById(`said-${panel}`).textContent = words[id] || "";
    curves.signal(`config_${panel}`, id).signal(`title_${panel}`, option.text).runAsync();
  };

  for (const figure of figures) {
    for (const [i, spec] of figure.charts.entries()) {
      spec.datasets = Object.fromEntries([...used(spec)].map((name) => [name, rows[name]]));
      const place = document.getElementById(`${figure.name}-${i}`);
      let view;
      try {
        ({ view } = await vegaEmbed(place, spec,
          { ast: true, renderer: "svg", actions: false, config, logLevel: 1 }));
      } catch (error) {
        place.textContent = "This figure could not be drawn; the numbers stand below.";
        console.error(error);
        continue;
      }
      if (figure.name === "curves") curves = view;
      if (figure.name === "maps" || figure.name === "verdict") {
        view.addEventListener("click", (event, item) => {
          const id = item && item.datum && item.datum.config_id;
          if (!id || !document.getElementById("choose-0")) return;
          choose(event.shiftKey ? 1 : 0, id);
          document.getElementById("curves").scrollIntoView({ behavior: "smooth" });
        });
      }
    }
  }
  for (const panel of [0, 1]) {
    const select = document.getElementById(`choose-${panel}`);
    if (select) select.addEventListener("change", () => choose(panel, select.value));
  }
  document.documentElement.dataset.drawn = "yes";
})();
