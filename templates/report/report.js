// SPDX-License-Identifier: GPL-2.0-or-later
// Plots, table of candidates and event handlers of the page. All text is inserted as text, never as HTML.
"use strict";

(() => {
  const report = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const number = (x, digits = 4) => (x === null || x === undefined ? "–" : String(Number(x.toPrecision(digits))));
  const charts = [];
  // Index of the part that is shown.
  let part = 0;
  let chosen = 0;

  const timeAt = (series, step) => {
    const last = series.step.length - 1;
    const perStep = last > 0 ? (series.time[last] - series.time[0]) / (series.step[last] - series.step[0]) : 0;
    return series.time[0] + (step - series.step[0]) * perStep;
  };
  const timeOf = (candidate) => timeAt(report.parts[candidate.part].series, candidate.step);
  const eventsOf = (k) => report.candidates
    .map((candidate, index) => ({ candidate, index }))
    .filter(({ candidate }) => candidate.part === k && candidate.step !== null)
    .map((event) => ({ ...event, time: timeOf(event.candidate) }));

  const axis = (label, more = {}) => ({
    label, labelSize: 20, labelFont: "12px system-ui, sans-serif", font: "11px system-ui, sans-serif",
    stroke: colour("--soft"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, ...more,
  });
  const line = (label, stroke, more = {}) => ({
    label, stroke, width: 1.5, points: { show: false }, spanGaps: false, value: (_, v) => number(v), ...more,
  });
  const atTheEnds = (values) => values.filter((v) => v !== null && Number.isFinite(v));

  // Horizontal lines at the thresholds, and marks at the candidates.
  const marks = (events) => (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    for (const [value, name] of [[report.low, "--flag"], [report.high, "--bad"]]) {
      if (value === null) continue;
      const y = plot.valToPos(value, "y", true);
      ctx.strokeStyle = colour(name);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.setLineDash([]);
    for (const event of events) {
      const x = plot.valToPos(event.time, "x", true);
      const gamma = event.candidate.gamma;
      const y = gamma === null ? bbox.top + 8 : plot.valToPos(gamma, "y", true);
      ctx.fillStyle = ctx.strokeStyle = colour(event.candidate.trigger === "flag" ? "--flag" : "--bad");
      ctx.beginPath();
      ctx.arc(x, Math.max(bbox.top + 6, y), 4.5 * devicePixelRatio, 0, 2 * Math.PI);
      ctx.fill();
      if (event.index === chosen) {
        ctx.lineWidth = 2 * devicePixelRatio;
        ctx.beginPath();
        ctx.arc(x, Math.max(bbox.top + 6, y), 8 * devicePixelRatio, 0, 2 * Math.PI);
        ctx.stroke();
      }
    }
    ctx.restore();
  };

  function plot(id, height, options, data) {
    const place = byId(id);
    if (!place) return;
    place.replaceChildren();
    if (data[0].length === 0 || data.slice(1).every((column) => atTheEnds(column).length === 0)) {
      const none = document.createElement("p");
      none.className = "small";
      none.textContent = "no data";
      place.append(none);
      return;
    }
    const all = { width: Math.max(place.clientWidth, 200), height, cursor: { drag: { x: true, y: false } }, ...options };
    const chart = new uPlot(all, data, place);
    place.setAttribute("role", "group");
    const whole = all.scales && all.scales.x && all.scales.x.range || [data[0][0], data[0][data[0].length - 1]];
    charts.push({ id, place, chart, height, whole });
    return chart;
  }

  // A logarithmic axis for γ if it diverges.
  const scaleOfGamma = (columns) => {
    const values = columns.flatMap(atTheEnds).concat([report.high, report.low].filter((v) => v !== null));
    const [low, most] = [Math.min(...values), Math.max(...values)];
    const log = most > 6 * (report.high || 1) && low > 0;
    return { distr: log ? 3 : 1, range: log ? [low / 1.3, most * 1.5] : [0, most * 1.08] };
  };
  const time = { x: { time: false } };

  // A constant, such as the volume of a fixed cell, in the middle.
  const wide = (low, high) => (high - low > 1e-6 * Math.abs(high) ? [low, high] : [low * 0.99, high * 1.01]);

  function drawPart() {
    const { series, atoms, name } = report.parts[part];
    const events = eventsOf(part);
    const sync = { key: "part", setSeries: false };
    const cursor = { drag: { x: true, y: false }, sync };
    const base = { cursor, scales: time };
    const x = { label: "t / ps", value: (_, v) => number(v, 6) };
    const gammas = [series.gamma_max, series.q99, series.q90, series.q50];
    const chart = plot("gamma", 300, {
      ...base,
      scales: { ...time, y: scaleOfGamma([series.gamma_max, events.map((e) => e.candidate.gamma)]) },
      axes: [axis("time / ps"), axis("γ")],
      series: [x, line("largest", colour("--accent"), { width: 2 }), line("99 %", colour("--good")),
        line("90 %", colour("--flag"), { width: 1 }), line("median", colour("--soft"), { width: 1 })],
      hooks: { draw: [marks(events)] },
    }, [series.time, ...gammas]);
    if (chart) {
      chart.over.addEventListener("click", (e) => {
        const left = e.clientX - chart.over.getBoundingClientRect().left;
        const near = events.map((event) => [Math.abs(chart.valToPos(event.time, "x") - left), event.index]);
        near.sort((a, b) => a[0] - b[0]);
        if (near.length && near[0][0] < 10) choose(near[0][1]);
      });
    }
    const joined = series.polls_in_a_point === 1 ? ""
      : `, ${series.polls_in_a_point} per point: the largest γ and the largest counts are shown`;
    byId("resolution").textContent =
      `${series.polls} polls${joined}. Dots: candidates; click a dot to show the candidate below. Drag to zoom in, double-click to show everything.`;
    plot("above", 200, {
      ...base, axes: [axis("time / ps"), axis("atoms")],
      series: [x, line(`above ${report.low ?? "the lower threshold"}`, colour("--flag")),
        line(`above ${report.high ?? "the threshold"}`, colour("--bad"))],
      scales: { ...time, y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.08] } },
    }, [series.time, series.above_low, series.above_high]);
    plot("temperature", 200, {
      ...base, axes: [axis("time / ps"), axis("T / K", { size: 55 })],
      series: [x, line("mean", colour("--accent")), line("lowest", colour("--soft"), { width: 0.7 }),
        line("highest", colour("--soft"), { width: 0.7 })],
    }, [series.time, series.temperature, series.coldest, series.hottest]);
    const perAtom = atoms ? 1000 / atoms : 1;
    plot("energy", 200, {
      ...base, axes: [axis("time / ps"), axis(atoms ? "meV/atom" : "eV", { size: 60 })],
      series: [x, line("change", colour("--accent"))],
    }, [series.time, series.energy.map((e) => (e === null ? null : e * perAtom))]);
    plot("pressure", 200, {
      ...base, axes: [axis("time / ps"), axis("p / GPa", { size: 55 })], series: [x, line("mean", colour("--accent"))],
    }, [series.time, series.pressure]);
    plot("volume", 200, {
      ...base, axes: [axis("time / ps"), axis("V / Å³", { size: 65 })], series: [x, line("mean", colour("--accent"))],
      scales: { ...time, y: { range: (_, low, high) => wide(low, high) } },
    }, [series.time, series.volume]);
    plot("speed", 200, {
      ...base, axes: [axis("time / ps"), axis("ns/day", { size: 55 })], series: [x, line("mean", colour("--accent"))],
      scales: { ...time, y: { range: (_, low, high) => [0, high * 1.08] } },
    }, [series.time, series.speed]);
    const biased = atTheEnds(series.bias).length > 0;
    byId("of-bias").hidden = byId("of-found").hidden = !biased;
    if (biased) {
      plot("bias", 200, {
        ...base, axes: [axis("time / ps"), axis("τ / eV", { size: 60 })], series: [x, line("mean", colour("--accent"))],
        scales: { ...time, y: { range: (_, low, high) => [0, (high || 1) * 1.08] } },
      }, [series.time, series.bias]);
      const { found } = report.parts[part];
      // A step at each environment, from the first poll to the last.
      const times = [series.time[0], ...found.map((step) => timeAt(series, step)), series.time[series.time.length - 1]];
      const counts = [0, ...found.map((_, k) => k + 1), found.length];
      plot("found", 200, {
        ...base, axes: [axis("time / ps"), axis("environments")],
        series: [x, line("found", colour("--accent"), { paths: uPlot.paths.stepped({ align: 1 }) })],
        scales: { ...time, y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.08] } },
      }, [times, counts]);
    }
    const elements = Object.keys(series.elements);
    byId("by-element").hidden = elements.length === 0;
    if (elements.length) {
      const colours = ["--accent", "--good", "--flag", "--bad", "--soft"];
      plot("elements", 200, {
        ...base, axes: [axis("time / ps"), axis("γ")], scales: { ...time, y: scaleOfGamma(Object.values(series.elements)) },
        series: [x, ...elements.map((name, k) => line(name, colour(colours[k % colours.length])))],
      }, [series.time, ...Object.values(series.elements)]);
    }
    drawHistogram(series.histogram);
    drawTrajectory(report.parts[part].trajectory);
    byId("gamma").setAttribute("aria-label", `γ against time, ${name}`);
  }

  const powersOfTwo = (_, __, low, high) => {
    const first = Math.ceil(Math.log2(low)), last = Math.floor(Math.log2(high));
    return Array.from({ length: Math.max(0, last - first + 1) }, (___, k) => 2 ** (first + k));
  };

  function drawHistogram(bins) {
    const edges = [], counts = [];
    for (const [low, high, n] of bins) {
      if (edges.length && edges[edges.length - 1] !== low) {
        counts[counts.length - 1] = null;
      }
      if (edges[edges.length - 1] === low) { edges.pop(); counts.pop(); }
      edges.push(low, high);
      counts.push(n, n);
    }
    const limits = (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      for (const [value, name] of [[report.low, "--flag"], [report.high, "--bad"]]) {
        if (value === null) continue;
        const x = plot.valToPos(value, "x", true);
        if (x < bbox.left || x > bbox.left + bbox.width) continue;
        ctx.strokeStyle = colour(name);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.restore();
    };
    const most = Math.max(1, ...atTheEnds(counts));
    const last = Math.max(edges[edges.length - 1] || 1, (report.high || 1) * 1.3);
    plot("histogram", 200, {
      scales: { x: { time: false, distr: 3, log: 2, range: [edges[0] || 0.1, last] }, y: { distr: 3, range: [0.5, most * 2] } },
      axes: [axis("γ", { splits: powersOfTwo, values: (_, ticks) => ticks.map((v) => (v === null ? null : number(v))) }), axis("atoms", { size: 60,
        values: (_, ticks) => ticks.map((v) => (v === null ? null : v >= 1e4 ? v.toExponential(0) : number(v))) })],
      series: [{ label: "γ from", value: (_, v) => number(v) },
        line("atoms", colour("--accent"), { paths: uPlot.paths.stepped({ align: 1 }), fill: colour("--fade"), fillTo: 0.5 })],
      hooks: { draw: [limits] },
    }, [edges, counts]);
  }

  // ---- trajectory ----

  const frameView = byId("frame") && new ClusterView(byId("frame"), byId("frame-hover"));

  // Colours of curves that are not ordered; of more than five, from the scale of γ.
  const hues = (n) => (n > 5 ? Array.from({ length: n }, (_, k) => ClusterView.scale(0.05 + (0.85 * k) / (n - 1)))
    : ["--accent", "--good", "--flag", "--bad", "--soft"].map(colour));

  function drawTrajectory(trajectory) {
    if (!frameView) return;
    byId("trajectory").hidden = !trajectory;
    if (!trajectory) return;
    if (byId("trajectory-part")) byId("trajectory-part").textContent = `of ${report.parts[part].name}`;
    byId("trajectory-summary").textContent = trajectory.summary;
    const { radial, displacement, frame } = trajectory;
    byId("radial-note").textContent = trajectory.radial_note;
    byId("displacement-note").textContent = trajectory.displacement_note;
    const fromZero = { range: (_, low, high) => [0, (high || 1) * 1.08] };
    const pairs = radial ? radial.pairs : [];
    plot("radial", 240, {
      scales: { ...time, y: fromZero }, axes: [axis("r / Å"), axis("g(r)", { size: 45 })],
      series: [{ label: "r / Å", value: (_, v) => number(v) }, ...pairs.map(([name], k) => line(name, hues(pairs.length)[k]))],
    }, [radial ? radial.r : [], ...pairs.map(([, g]) => g)]);
    const elements = displacement ? displacement.elements : [];
    plot("displacement", 240, {
      scales: { ...time, y: fromZero }, axes: [axis("time / ps"), axis("MSD / Å²", { size: 55 })],
      series: [{ label: "t / ps", value: (_, v) => number(v, 6) }, ...elements.map((e, k) => line(e.name, hues(elements.length)[k]))],
    }, [displacement ? displacement.time : [], ...elements.map((e) => e.msd)]);
    byId("diffusion").replaceChildren(...elements.flatMap((element) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      dt.textContent = `D of ${element.name}`;
      const fit = element.fit ? `, fit from ${number(element.fit[0])} to ${number(element.fit[1])} ps` : "";
      dd.textContent = element.diffusion + fit;
      return [dt, dd];
    }));
    byId("frame-viewer").hidden = !frame;
    if (!frame) return;
    byId("frame-caption").textContent = frame.caption;
    const known = frame.most !== null;
    byId("frame-colour").parentElement.hidden = !known;
    frameView.colour = known ? byId("frame-colour").value : "element";
    byId("frame-elements").hidden = frameView.colour !== "element";
    byId("frame-elements").replaceChildren(...frame.picture.elements.map(([symbol, hue]) => {
      const item = document.createElement("span");
      item.textContent = symbol;
      item.style.setProperty("--atom", hue);
      return item;
    }));
    frameView.show({ ...frame, whole: true }, Math.max(report.high || 0, frame.most || 0) || 1);
    frameView.legend(byId("frame-scale"), report.high);
  }

  function drawOverview() {
    if (!byId("overview")) return;
    const tables = report.parts.map(({ series }) => [series.time, series.gamma_max]);
    const hue = (k) => ClusterView.scale(report.parts.length > 1 ? 0.05 + (0.8 * k) / (report.parts.length - 1) : 0);
    const data = uPlot.join(tables, tables.map(() => [2]));
    plot("overview", 280, {
      scales: { ...time, y: scaleOfGamma(report.parts.map(({ series }) => series.gamma_max)) },
      axes: [axis("time / ps"), axis("largest γ")],
      series: [{ label: "t / ps", value: (_, v) => number(v, 6) },
        ...report.parts.map((p, k) => line(p.name, hue(k), { spanGaps: true }))],
      hooks: { draw: [marks([])] },
    }, data);
  }

  // What the rounds of a loop have learned.
  function drawRounds() {
    const { rounds } = report;
    if (!byId("learning")) return;
    const numbers = rounds.map((round) => round.number);
    const points = { points: { show: true, size: 6 }, spanGaps: true };
    const colours = ["--accent", "--good", "--flag", "--bad", "--soft"];
    const curves = (id, label, columns) => plot(id, 200, {
      cursor: { drag: { x: true, y: false } }, scales: { ...time, y: { range: (_, low, high) => [0, (high || 1) * 1.08] } },
      axes: [axis("round", { incrs: [1, 2, 5, 10, 20, 50, 100] }), axis(label, { size: 60 })],
      series: [{ label: "round" }, ...columns.map(([name], k) => line(name, colour(colours[k % colours.length]), points))],
    }, [numbers, ...columns.map(([, values]) => values)]);
    const milli = (value) => (value === null || value === undefined ? null : 1000 * value);
    curves("learning", "meV/Å", [
      ["labels, before training", rounds.map((r) => milli(r.force_rmse_before))],
      ["labels, after training", rounds.map((r) => milli(r.force_rmse_after))],
      ["audits", rounds.map((r) => milli(r.audit && r.audit.force_rmse))],
    ]);
    const names = [...new Set(rounds.flatMap((round) => round.checks.map((check) => check.name)))];
    const errorOf = (round, name) => round.checks.find((check) => check.name === name);
    curves("learning-checks", "meV/Å", names.map((name) => [name, rounds.map((r) => milli(errorOf(r, name)?.force_rmse))]));
    curves("learning-gamma", "γ", [["largest γ of the run", rounds.map((r) => r.gamma_max)]]);
    let labels = 0;
    curves("learning-labels", "labels", [["labels", rounds.map((r) => (labels += r.labelled))]]);
    const parts = [["run", "run"], ["label", "labelling"], ["train", "training"]];
    const other = (r) => Object.values(r.seconds).reduce((a, b) => a + b, 0) - parts.reduce((sum, [key]) => sum + r.seconds[key], 0);
    curves("learning-time", "s", [...parts.map(([key, name]) => [name, rounds.map((r) => r.seconds[key])]), ["other", rounds.map(other)]]);
  }

  function drawAll() {
    charts.splice(0).forEach(({ chart }) => chart.destroy());
    drawOverview();
    drawRounds();
    drawPart();
  }

  // ---- candidates ----

  if (frameView) {
    byId("frame-colour").addEventListener("change", () => drawTrajectory(report.parts[part].trajectory));
    byId("frame-reset").addEventListener("click", () => { frameView.reset(); frameView.draw(); });
  }

  const view = byId("cluster") && new ClusterView(byId("cluster"), byId("hover"));
  const rows = [];

  // Shows a candidate, and its part unless `stay`.
  function choose(index, stay) {
    const candidate = report.candidates[index];
    if (!candidate || !view) return;
    chosen = index;
    rows.forEach((row, k) => row.setAttribute("aria-selected", String(k === index)));
    if (candidate.part !== part && byId("part") && !stay) {
      part = candidate.part;
      byId("part").value = String(part);
      drawAll();
    } else {
      charts.forEach(({ chart }) => chart.redraw(false));
    }
    const known = candidate.picture && candidate.picture.gamma ? atTheEnds(candidate.picture.gamma) : [];
    view.show(candidate, Math.max(report.high || 0, candidate.gamma || 0, ...known) || 1);
    view.legend(byId("scale"), report.high);
    byId("candidate-title").textContent = `Candidate ${candidate.id}: ${candidate.formula}`;
    const facts = [
      ["status", candidate.status], ["γ of the centre", number(candidate.gamma, 6)],
      ["core share of the centre", number(candidate.core_share)], ["step", candidate.step ?? "–"],
      ["centre", candidate.center_id === null ? "–" : `atom ${candidate.center_id}`],
      ["trigger", { gamma: "γ passed the threshold", core: "core repulsion", sparse: "few neighbours", flag: "between the thresholds", crash: "the run crashed" }[candidate.trigger] || candidate.trigger || "–"],
      ["core", `${candidate.core} of ${candidate.natoms} atoms, radius ${number(candidate.radius)} Å`],
      ["buffer", `${number(candidate.buffer)} Å`], ["shape", candidate.shape || "–"],
    ];
    if (candidate.energy !== null) facts.push(["energy", `${candidate.energy} eV`]);
    if (candidate.largest_force !== null) facts.push(["largest force", `${number(candidate.largest_force)} eV/Å`]);
    if (candidate.message) facts.push(["message", candidate.message]);
    byId("candidate-facts").replaceChildren(...facts.flatMap(([name, value]) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      dt.textContent = name;
      dd.textContent = value;
      return [dt, dd];
    }));
    byId("checks").replaceChildren(...checksOf(candidate).map(([mark, text]) => {
      const item = document.createElement("li");
      item.className = mark;
      item.textContent = text;
      return item;
    }));
  }

  // Results of the verification of the cut-out before it was stored.
  function checksOf(candidate) {
    const { gamma_parent: parent, gamma_cluster: here, max_force_difference: forces } = candidate;
    const list = [];
    if (parent === null || here === null) {
      list.push(["none", "γ in the cut-out was not compared with that in the run"]);
    } else {
      list.push([candidate.same_gamma ? "on" : "off", `γ of the centre: ${number(here, 6)} in the cut-out, ${number(parent, 6)} in the run`]);
    }
    if (forces === null) list.push(["none", "forces were not compared"]);
    // For information: forces agree only if the buffer is at least twice the cutoff.
    else list.push(["none", `forces of the core differ by at most ${number(forces, 3)} eV/Å from those in the run`]);
    return list;
  }

  function fillTable() {
    const body = document.querySelector("#candidates tbody");
    if (!body) return;
    report.candidates.forEach((candidate, index) => {
      const row = document.createElement("tr");
      const cells = [null, candidate.status, candidate.formula, candidate.natoms, candidate.core, number(candidate.gamma, 5),
        candidate.step ?? "–", candidate.center_id ?? "–", candidate.trigger ?? "–"];
      if (report.parts.length > 1) cells.push(report.parts[candidate.part].name);
      cells.forEach((value, k) => {
        const cell = document.createElement("td");
        if (k === 0) {
          const button = document.createElement("button");
          button.type = "button";
          button.textContent = String(candidate.id);
          cell.append(button);
        } else {
          cell.textContent = String(value);
        }
        if ([1, 2, 8, 9].includes(k)) cell.className = "text";
        row.append(cell);
      });
      row.addEventListener("click", () => choose(index));
      rows.push(row);
      body.append(row);
    });
  }

  // The parts of the plots to which the user has zoomed in.
  const zooms = () => charts.map(({ id, chart, whole }) => [id, chart.scales.x, whole])
    .filter(([, x, [low, high]]) => x.min > low || x.max < high).map(([id, { min, max }]) => [id, { min, max }]);
  const setZooms = (list) => {
    for (const [id, limits] of list) charts.filter((chart) => chart.id === id).forEach(({ chart }) => chart.setScale("x", limits));
  };

  function setTheme(name) {
    root.dataset.theme = name;
    const kept = zooms();
    drawAll();
    if (view) choose(chosen, true);
    setZooms(kept);
  }

  // ---- reloading, while the run is under way ----

  // A file may not fetch another file, so the page is reloaded as a whole. What the user has chosen is kept in the session.
  const KEY = `lammps-otf ${location.pathname}`;
  const named = (ids) => Object.fromEntries(ids.filter(byId).map((id) => [id, byId(id)]));
  const selects = named(["colour", "frame-colour"]);
  const boxes = named(["buffer", "reload"]);
  const views = () => Object.entries({ cluster: view, frame: frameView }).filter(([, v]) => v);
  const details = () => [...document.querySelectorAll("details")];

  function state() {
    return {
      scroll: [scrollX, scrollY], theme: root.dataset.theme, themed, zooms: zooms(), part: report.parts[part].name,
      candidate: report.candidates[chosen] && report.candidates[chosen].id,
      selects: Object.entries(selects).map(([id, select]) => [id, select.value]),
      boxes: Object.entries(boxes).map(([id, box]) => [id, box.checked]),
      views: views().map(([id, v]) => [id, v.state]), open: details().map((d) => d.open),
      focus: document.activeElement && document.activeElement.id,
    };
  }

  // The state before the reload; null if the page was opened anew.
  function takeState() {
    try {
      const text = sessionStorage.getItem(KEY);
      sessionStorage.removeItem(KEY);
      return JSON.parse(text);
    } catch {
      return null;
    }
  }

  function restore(old) {
    setZooms(old.zooms);
    for (const [id, at] of old.views) Object.fromEntries(views())[id].state = at;
    details().forEach((d, k) => { d.open = Boolean(old.open[k]); });
    if (old.focus && byId(old.focus)) byId(old.focus).focus({ preventScroll: true });
    // The plots get their heights after this script, and before the next frame.
    requestAnimationFrame(() => scrollTo(...old.scroll));
  }

  function reloadRegularly() {
    let [held, due] = [false, false];
    const reload = () => {
      // Not while the user drags or selects text, nor in a hidden tab.
      const busy = held || document.hidden || !document.getSelection().isCollapsed;
      if (!due || busy || !byId("reload").checked) return;
      try { sessionStorage.setItem(KEY, JSON.stringify(state())); } catch { /* without the state */ }
      location.reload();
    };
    addEventListener("pointerdown", () => { held = true; }, true);
    for (const end of ["pointerup", "pointercancel"]) {
      addEventListener(end, () => { held = false; setTimeout(reload); }, true);
    }
    for (const change of ["visibilitychange", "selectionchange"]) document.addEventListener(change, reload);
    byId("reload").addEventListener("change", reload);
    setTimeout(() => { due = true; reload(); }, 1000 * report.reload);
  }

  // Whether the user has chosen the colours.
  let themed = false;
  const old = takeState();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const systemTheme = () => (dark.matches ? "dark" : "light");
  if (old) {
    history.scrollRestoration = "manual";
    themed = old.themed;
    part = Math.max(0, report.parts.findIndex((p) => p.name === old.part));
    chosen = Math.max(0, report.candidates.findIndex((c) => c.id === old.candidate));
    for (const [id, value] of old.selects) if (selects[id]) selects[id].value = value;
    for (const [id, checked] of old.boxes) if (boxes[id]) boxes[id].checked = checked;
  } else if (report.candidates.length) {
    part = report.candidates[0].part;
  }
  if (byId("part")) {
    byId("part").value = String(part);
    byId("part").addEventListener("change", (e) => { part = Number(e.target.value); drawAll(); });
  }
  if (view) {
    [view.colour, view.buffer] = [byId("colour").value, byId("buffer").checked];
    byId("colour").addEventListener("change", (e) => { view.colour = e.target.value; view.draw(); view.legend(byId("scale"), report.high); });
    byId("buffer").addEventListener("change", (e) => { view.buffer = e.target.checked; view.draw(); });
    byId("reset").addEventListener("click", () => { view.reset(); view.draw(); });
  }
  byId("theme").addEventListener("click", () => { themed = true; setTheme(root.dataset.theme === "dark" ? "light" : "dark"); });
  fillTable();
  dark.addEventListener("change", () => { if (!themed) setTheme(systemTheme()); });
  setTheme(old && themed ? old.theme : systemTheme());
  new ResizeObserver(() => {
    charts.forEach(({ place, chart, height }) => {
      const width = Math.max(place.clientWidth, 200);
      if (Math.abs(chart.width - width) > 1) chart.setSize({ width, height });
    });
  }).observe(document.body);
  if (old) restore(old);
  if (report.reload) reloadRegularly();
})();
