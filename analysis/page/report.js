"use strict";
(async () => {
  const text = (id) => document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text("data")), (c) => c.charCodeAt(0));
  const unzipped = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const columns = JSON.parse(await new Response(unzipped).text());
  const { figures, words, cells } = JSON.parse(text("specs"));

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

  // On a narrow screen charts are built narrow, one panel under the other, and not scaled down.
  const room = document.querySelector("main").clientWidth - 30;
  const narrowed = (spec, names) => {
    if (!spec || typeof spec !== "object" || room > 700) return;
    for (const key of ["hconcat", "concat"]) {
      if (Array.isArray(spec[key])) { spec.vconcat = spec[key]; delete spec[key]; delete spec.columns; }
    }
    if (spec.columns) spec.columns = 1;
    if (spec.axis && spec.axis.labelLimit) spec.axis.labelLimit = Math.min(spec.axis.labelLimit, room * 0.4);
    if (typeof spec.width === "number") {
      const beside = names ? room * 0.45 : 60;
      spec.width = Math.min(spec.width, Math.max(room - beside, 120));
    }
    Object.values(spec).forEach((inner) => narrowed(inner, names));
  };

  const resolved = (svg) => {
    const style = getComputedStyle(document.documentElement);
    return svg.replace(/var\((--[a-z-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
  };
  const download = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const asSvg = async (view) => new Blob([resolved(await view.toSVG())], { type: "image/svg+xml" });
  const asPng = async (view) => {
    const image = new Image();
    image.src = URL.createObjectURL(await asSvg(view));
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * image.width, 2 * image.height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((done) => canvas.toBlob(done));
  };
  const savers = (view, name) => {
    const row = document.createElement("div");
    row.className = "save";
    for (const [kind, make] of [["SVG", asSvg], ["PNG", asPng]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `save ${kind}`;
      button.addEventListener("click", async () => download(await make(view), `${name}.${kind.toLowerCase()}`));
      row.append(button);
    }
    return row;
  };

  let curves = null;
  const choose = (panel, id) => {
    const select = document.getElementById(`choose-${panel}`);
    const option = select && [...select.options].find((o) => o.value === id);
    if (!option || !curves) return;
    select.value = id;
    document.getElementById(`said-${panel}`).textContent = words[id] || "";
    curves.signal(`config_${panel}`, id).signal(`title_${panel}`, option.text).runAsync();
  };

  for (const figure of figures) {
    for (const [i, spec] of figure.charts.entries()) {
      const names = ["best", "causes"].includes(figure.name);
      narrowed(spec, names);
      spec.datasets = Object.fromEntries([...used(spec)].map((name) => [name, rows[name]]));
      const place = document.getElementById(`${figure.name}-${i}`);
      try {
        const { view } = await vegaEmbed(place, spec,
          { ast: true, renderer: "svg", actions: false, config, logLevel: 1 });
        place.after(savers(view, figure.name));
        if (figure.name === "curves") curves = view;
      } catch (error) {
        place.textContent = "This figure could not be drawn; the numbers stand below.";
        console.error(error);
      }
    }
  }
  for (const panel of [0, 1]) {
    const select = document.getElementById(`choose-${panel}`);
    if (select) select.addEventListener("change", () => choose(panel, select.value));
  }

  // The map: what its cells show, and the curves under a cell.
  const buttons = [...document.querySelectorAll(".cell")];
  const shows = document.getElementById("shows");
  if (shows) shows.addEventListener("change", () => {
    for (const button of buttons) {
      const [said, tone] = cells[button.dataset.id][shows.value];
      button.textContent = said;
      button.classList.toggle("toned", tone !== null);
      button.style.background = tone === null ? "" :
        `color-mix(in srgb, var(--blue) ${Math.round(6 + 44 * tone)}%, var(--paper))`;
    }
  });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.classList.toggle("chosen", other === button));
      choose(1, button.dataset.id);
      document.getElementById("curves").scrollIntoView({ behavior: "smooth", block: "nearest" });
    });
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const next = step && buttons[buttons.indexOf(button) + step];
      if (next) { next.focus(); event.preventDefault(); }
    });
  }

  // The table: sort, filter, CSV, the settings of a row as YAML.
  const all = document.getElementById("all");
  const body = all.tBodies[0];
  const cellOf = (row, column) => row.cells[column];
  all.querySelectorAll("th button").forEach((head) => head.addEventListener("click", () => {
    const column = Number(head.dataset.column);
    const down = head.parentElement.getAttribute("aria-sort") !== "descending";
    all.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    head.parentElement.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => cellOf(row, column).dataset.value;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const apart = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -apart : apart;
    };
    body.append(...[...body.rows].sort(order));
  }));
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    const heads = [...all.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const short = { "learning rate": "lr", "batch size": "batch", "weight decay": "wd" };
    for (const row of body.rows) {
      const text = [...row.cells].map((cell, i) =>
        `${heads[i]} ${short[heads[i]] || ""} ${cell.textContent}`).join(" ").toLowerCase();
      row.hidden = !wanted.every((word) => text.split(/\s+/).some((part) => part.startsWith(word)));
    }
  });
  document.getElementById("csv").addEventListener("click", () => {
    const quoted = (text) => `"${text.trim().replaceAll('"', '""')}"`;
    const lines = [all.tHead.rows[0], ...body.rows].filter((row) => !row.hidden)
      .map((row) => [...row.cells].slice(0, -1).map((cell) => quoted(cell.textContent)).join(","));
    download(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }), "settings.csv");
  });
  for (const button of document.querySelectorAll(".yaml")) {
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.yaml);
        button.textContent = "copied";
      } catch {
        button.replaceWith(Object.assign(document.createElement("pre"), { textContent: button.dataset.yaml }));
      }
    });
  }
  // On paper everything is open.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));
  document.documentElement.dataset.drawn = "yes";
})();
