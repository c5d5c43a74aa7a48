"use strict";
// Sorting, filters, search, and the records behind each row. Foreign text only ever becomes textContent or an attribute's value.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dialog = document.getElementById("details");
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const shape = (name, attributes = {}, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // Sorting: blanks stay last in either direction; a third press restores the given order.
  const collator = new Intl.Collator("en", { numeric: true });
  for (const table of all("[data-sortable]")) {
    const body = table.tBodies[0];
    const given = [...body.rows];
    for (const button of all("[data-sort]", table)) {
      button.addEventListener("click", () => {
        const head = button.closest("th");
        const first = button.dataset.sort === "text" || head.cellIndex === 0 ? "ascending" : "descending";
        const second = first === "ascending" ? "descending" : "ascending";
        const order = { none: first, [first]: second, [second]: "none" }[head.getAttribute("aria-sort")];
        for (const other of all("th[aria-sort]", table)) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", order);
        const value = (row) => row.cells[head.cellIndex].dataset.value ?? "";
        const sign = order === "descending" ? -1 : 1;
        const compare = (one, other) => {
          const [left, right] = [value(one), value(other)];
          if (left === "" || right === "") return (left === "") - (right === "");
          return sign * (button.dataset.sort === "text" ? collator.compare(left, right) : left - right);
        };
        body.append(...(order === "none" ? given : [...given].sort(compare)));
      });
    }
  }

  // Filters: what isn't shown in the tables isn't shown in any plot either.
  const form = document.getElementById("filters");
  const rows = all("tr[data-row]");
  const fields = ["dataset", "family", "backbone", "method"];
  const filter = () => {
    const wanted = new FormData(form);
    const words = (wanted.get("text") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const shown = new Set();
    for (const row of rows) {
      const fits = fields.every((name) => !wanted.get(name) || row.dataset[name] === wanted.get(name)) &&
        words.every((word) => row.dataset.text.includes(word));
      row.classList.toggle("filtered", !fits);
      if (fits) shown.add(row.dataset.row);
    }
    for (const mark of all("[data-mark]")) mark.classList.toggle("filtered", !shown.has(mark.dataset.mark));
    for (const section of all("[data-section]")) {
      const some = all("tr[data-row]", section).some((row) => shown.has(row.dataset.row));
      section.classList.toggle("filtered", !some);
    }
    document.getElementById("count").textContent = `${shown.size} of ${rows.length} rows`;
  };
  form.hidden = rows.length < 2;
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());

  for (const button of all("[data-show]")) {
    button.addEventListener("click", () => {
      const figure = button.closest("figure");
      figure.dataset.shows = button.dataset.show;
      for (const other of all("[data-show]", figure)) other.setAttribute("aria-pressed", String(other === button));
    });
  }

  // The details of a row.
  const facts = (pairs) => {
    const list = element("dl");
    for (const [name, value] of pairs) {
      list.append(element("dt", {}, name), element("dd", {}, value instanceof Node ? value : String(value)));
    }
    return list;
  };
  const leaves = (value, path = "") => {
    if (value === null || typeof value !== "object") return [[path, value === null ? "none" : value]];
    const entries = Object.entries(value);
    if (Array.isArray(value) && entries.every(([, part]) => part === null || typeof part !== "object")) {
      return [[path, value.join(", ") || "none"]];
    }
    return entries.flatMap(([key, part]) => leaves(part, path ? `${path}.${key}` : key));
  };
  const folded = (title, ...content) => element("details", {}, element("summary", {}, title), ...content);
  const headed = (title, ...content) => [element("h3", {}, title), ...content];
  const table = (caption, header, body) => {
    const head = header.map((text, index) => element("th", { scope: "col", ...(index ? { class: "n" } : {}) }, text));
    const lines = body.map(([name, ...figures]) => element("tr", {}, element("th", { scope: "row" }, name),
      ...figures.map((text) => element("td", { class: "n" }, text))));
    return element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
      element("table", { class: "plain" }, element("caption", {}, caption), element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines)));
  };

  const chart = (caption, lines, across, up) => {
    const points = lines.flatMap((line) => line.points);
    if (!points.length) return null;
    const [width, height, left, bottom] = [360, 210, 44, 34];
    const range = (values) => [Math.min(...values), Math.max(...values)];
    const [x0, x1] = range(points.map((point) => point[0]));
    let [y0, y1] = range(points.map((point) => point[1]));
    if (y0 === y1) [y0, y1] = [y0 - 1, y1 + 1];
    const x = (value) => left + ((value - x0) / (x1 - x0 || 1)) * (width - left - 12);
    const y = (value) => height - bottom - ((value - y0) / (y1 - y0)) * (height - bottom - 12);
    const drawing = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": caption });
    for (const value of [y0, (y0 + y1) / 2, y1]) {
      drawing.append(shape("path", { class: "grid", d: `M${left} ${y(value)}H${width - 12}` }),
        shape("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, Math.abs(value) < 10 ? value.toFixed(2) : value.toFixed(1)));
    }
    for (const value of [x0, x1]) {
      drawing.append(shape("text", { x: x(value), y: height - 18, "text-anchor": value === x0 ? "start" : "end" }, String(value)));
    }
    drawing.append(shape("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, `${up} over ${across}`));
    for (const line of lines) {
      const d = line.points.map((point, index) => `${index ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`).join("");
      drawing.append(shape("path", { class: `curve ${line.style}`, d }));
    }
    return element("figure", {}, drawing, element("figcaption", {}, caption));
  };
  const thresholds = data.thresholds;
  const overlapLines = (row, style) => row.seeds.filter((seed) => seed.curve.length)
    .map((seed) => ({ style, points: seed.curve.map((value, index) => [thresholds[index], value]).filter((point) => point[1] !== null) }));
  const lossLines = (row, style) => row.seeds.filter((seed) => seed.losses.length).map((seed) => ({ style, points: seed.losses }));
  const charts = (row) => {
    const baseline = data.rows[row.baseline];
    const beside = baseline ? "; dashed: the baseline" : "";
    const lines = (make) => [...(baseline ? make(baseline, "base thin") : []), ...make(row, "thin")];
    const losses = lossLines(row, "thin").length ? lines(lossLines) : [];
    const drawn = [
      chart(`F1 by the overlap that a lane needs, a line a seed${beside}`, overlapLines(row, "thin").length ? lines(overlapLines) : [], "IoU", "F1"),
      chart(`Training loss, a line a seed${beside} (a method's own terms included)`, losses, "steps", "loss"),
    ].filter(Boolean);
    return drawn.length ? headed("Curves", element("div", { class: "charts" }, ...drawn)) : [];
  };

  const colours = ["#ff5a36", "#36c5ff", "#ffd23f", "#5be36a", "#d58cff", "#ff9ad1"];
  const line = (numbers, attributes) => {
    const points = [];
    for (let index = 0; index < numbers.length; index += 2) points.push(`${numbers[index]},${numbers[index + 1]}`);
    return shape("polyline", { ...attributes, points: points.join(" ") });
  };
  const frameFigure = (scenario, shown) => {
    const frame = data.frames[shown.frame];
    const [width, height] = frame.size;
    const told = `${shown.rank}: ${shown.score}`;
    const drawing = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `${scenario}, ${told}; ${shown.lanes.length} lanes predicted${frame.labels ? `, ${frame.labels.length} labelled` : ""}` });
    if (frame.picture) drawing.append(shape("image", { href: frame.picture, width, height, preserveAspectRatio: "none" }));
    shown.lanes.forEach((lane, index) => drawing.append(line(lane, { class: "edge" }),
      line(lane, { class: "lane", stroke: colours[index % colours.length] })));
    for (const label of frame.labels ?? []) drawing.append(line(label, { class: "label" }));
    return element("figure", {}, drawing, element("figcaption", { title: frame.id }, told));
  };
  const frames = (row) => {
    if (!row.overlays) return headed("Frames", element("p", { class: "weak" }, data.without));
    const told = element("p", { class: "weak" }, row.overlays.told);
    const box = element("div", {}, ...row.overlays.scenarios.map((scenario) => element("div", { class: "frames" },
      element("h4", {}, scenario.name), ...scenario.shown.map((shown) => frameFigure(scenario.name, shown)))));
    const button = element("button", { type: "button", class: "quiet", "aria-pressed": "true" }, "Labels");
    button.addEventListener("click", () => button.setAttribute("aria-pressed", String(!box.classList.toggle("nolabels"))));
    const labelled = row.overlays.scenarios.some((scenario) => scenario.shown.some((shown) => data.frames[shown.frame].labels));
    return headed("Best, median and worst frames", told, ...(labelled ? [button] : []), box);
  };

  const seedDetails = (seed) => {
    const training = seed.training ? leaves(seed.training) : [["training", "elsewhere"]];
    return folded(`Seed ${seed.seed}: ${seed.record}`,
      facts([["record", element("a", { href: seed.file }, `${seed.record}.json`)], ["confidence threshold", seed.threshold],
        ...seed.told.map((told) => ["told", told])]),
      ...headed("Hashes (sha256)", facts(seed.hashes.map(([name, digest]) => [data.pool[name], element("code", {}, digest)]))),
      ...headed("Training", facts(training)),
      ...headed("Environment", facts(leaves(data.pool[seed.environment]))));
  };
  const show = (name) => {
    const row = data.rows[name];
    if (!row) return;
    const close = element("button", { type: "button", class: "quiet", autofocus: "" }, "Close");
    close.addEventListener("click", () => dialog.close());
    const title = element("h2", { id: "details-title" }, row.title);
    const baseline = data.rows[row.baseline];
    const lead = [["Scored on", row.place], [row.headline, row.score], ...(row.unranked ? [["Not ranked", row.unranked]] : []),
      ...(row.verdict ? [["Verdict", row.verdict]] : []), ...row.gain,
      ...(row.latency ? [["p50 latency", row.latency]] : [])];
    if (baseline) {
      const open = element("button", { type: "button", class: "open" }, baseline.title);
      open.addEventListener("click", () => { location.hash = `row=${row.baseline}`; });
      lead.push(["Compared with", open]);
    }
    const scores = row.scores.map(([column, score, change]) => row.gain.length ? [column, score, change] : [column, score]);
    dialog.replaceChildren(
      element("div", { class: "top" }, element("div", {}, title), close),
      element("div", { class: "body" }, facts(lead),
        ...headed("Scores", table("Means over seeds, in points; counts as they are", ["", "Score", ...(row.gain.length ? ["Gain"] : [])], scores)),
        ...charts(row), ...frames(row),
        ...headed(row.seeds.length < row.seed_count ? `Records (${row.seeds.length} of ${row.seed_count})` : "Records", ...row.seeds.map(seedDetails)),
        ...headed("Configuration", ...Object.entries(row.configuration).map(([part, place]) => folded(part, facts(leaves(data.pool[place])))))));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    close.focus();
  };
  const named = () => new URLSearchParams(location.hash.slice(1)).get("row");
  const follow = () => { if (named()) show(named()); else if (dialog.open) dialog.close(); };
  let opener = null;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open], a[data-mark]");
    if (!button) return;
    event.preventDefault();
    opener = button;
    const name = button.dataset.open ?? button.dataset.mark;
    if (named() === name) show(name); else location.hash = `row=${name}`;
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    if (named()) history.replaceState(null, "", location.pathname + location.search);
    opener?.focus();
  });
  window.addEventListener("hashchange", follow);
  follow();
})();
