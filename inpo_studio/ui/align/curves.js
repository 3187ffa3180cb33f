// A chart of curves over optimiser steps. The SVG is stretched to its box; strokes keep their
// width. Paths stay the same elements and only get new points, so nothing flickers.
const SVG = "http://www.w3.org/2000/svg";
const SMOOTH = 5; // steps that a smoothed value is the mean of

function svgNode(name, className) {
  const made = document.createElementNS(SVG, name);
  if (className) made.setAttribute("class", className);
  return made;
}

// Points [step, value] of a column; smoothed ones are the mean of the last few steps.
function pointsOf(rows, column, smooth) {
  const points = rows.filter((row) => row[column] !== null).map((row) => [row[0], row[column]]);
  if (!smooth) return points;
  return points.map(([step], index) => {
    const last = points.slice(Math.max(0, index + 1 - SMOOTH), index + 1);
    return [step, last.reduce((sum, point) => sum + point[1], 0) / last.length];
  });
}

const valueAt = (points, step) => {
  let found = null;
  for (const point of points) {
    if (point[0] > step) break;
    found = point[1];
  }
  return found;
};

// The next larger of 1, 2, 2.5, 5 times a power of ten.
function niceStep(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  return [1, 2, 2.5, 5, 10].find((factor) => factor * power >= size * 0.999) * power;
}

// A range that holds all values; the one there is stays while it fits and is not far too wide.
function rangeOf(values, base, old) {
  const all = base === null ? values : [base, ...values];
  if (!values.length) return old || [-1, 1];
  const low = Math.min(...all);
  const high = Math.max(...all);
  const width = high - low || Math.abs(low) || 1e-3;
  if (old && low >= old[0] && high <= old[1] && width > 0.3 * (old[1] - old[0])) return old;
  const step = niceStep(width / 3);
  return [Math.floor((low - 0.04 * width) / step) * step, Math.ceil((high + 0.04 * width) / step) * step];
}

function makeChart(spec, onHover) {
  const figure = make("figure", "chart");
  figure.dataset.chart = spec.key;
  const head = make("figcaption", "st-row");
  const title = make("h3", "", spec.title + " ");
  if (spec.unit) title.append(make("span", "unit", spec.unit));
  head.append(title, make("span", "st-fill"));
  const plot = make("div", "plot");
  const svg = svgNode("svg");
  svg.setAttribute("viewBox", "0 0 1000 1000");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const baseLine = svgNode("path", "base");
  const cursor = svgNode("path", "cursor");
  svg.append(baseLine, cursor);
  const marks = { high: make("span", "mark high"), low: make("span", "mark low"),
    base: make("span", "mark middle", spec.baseText) };
  const foot = make("div", "foot st-number");
  const [from, at, to] = [make("span"), make("span", "at"), make("span")];
  foot.append(from, at, to);
  plot.append(svg, ...Object.values(marks));
  const lines = spec.series.map((series) => {
    const key = make("span", "key st-number");
    key.dataset.tone = series.tone;
    const value = make("b");
    key.append(series.name + " ", value);
    head.append(key);
    const paths = {};
    for (const kind of series.smooth ? ["raw", "line"] : ["line", "dots"]) {
      paths[kind] = svgNode("path", kind);
      paths[kind].dataset.tone = series.tone;
      paths[kind].dataset.series = series.name;
      paths[kind].dataset.points = "0";
      svg.append(paths[kind]);
    }
    return { series, value, paths, points: [] };
  });
  figure.append(head, plot, foot, make("p", "st-soft", spec.note));

  let rows = [];
  let total = 1;
  let range = spec.range || null;
  const x = (step) => (1000 * step) / total;
  const y = (value) => 1000 * (1 - (value - range[0]) / (range[1] - range[0]));
  const path = (points, dots) => points.map(([step, value], index) => (index && !dots ? "L" : "M")
    + x(step).toFixed(1) + " " + y(value).toFixed(1) + (dots ? "h0" : "")).join("");

  function draw(node, points, dots) {
    node.setAttribute("d", path(points, dots));
    node.dataset.points = String(points.length);
  }

  function update(newRows, newTotal, checked) {
    const started = newRows[0] !== rows[0];
    [rows, total] = [newRows, Math.max(1, newTotal)];
    for (const line of lines) line.points = pointsOf(rows, line.series.column, line.series.smooth);
    if (!spec.range) {
      const values = lines.flatMap((line) => line.points.map((point) => point[1]));
      range = rangeOf(values, spec.base, started ? null : range);
    }
    for (const { series, paths, points } of lines) {
      draw(paths.line, points);
      if (paths.raw) draw(paths.raw, pointsOf(rows, series.column, false));
      if (paths.dots) draw(paths.dots, points, true);
    }
    const level = spec.base === null ? null : y(spec.base);
    baseLine.setAttribute("d", level === null ? "" : "M0 " + level.toFixed(1) + "H1000");
    const blank = rows.length === 0 && !spec.range;
    say(marks.high, blank ? "" : spec.format(range[1]));
    say(marks.low, blank ? "" : spec.format(range[0]));
    marks.base.style.top = level / 10 + "%";
    marks.base.hidden = level === null || level < 120 || level > 880;
    // Its word stands at the right end, on the side of the line where fewer curves end.
    const above = lines.filter((line) => line.points.length && line.points.at(-1)[1] > spec.base);
    marks.base.classList.toggle("under", 2 * above.length >= lines.length);
    say(from, "step 0");
    say(to, String(total));
    figure.dataset.checked = checked;
    point(null);
  }

  // Show the values at a step, or the latest ones.
  function point(step) {
    const shown = step === null ? Infinity : step;
    const said = lines.map((line) => {
      const value = valueAt(line.points, shown);
      const count = line.series.counted && Number(figure.dataset.checked);
      say(line.value, value === null ? "–" : spec.format(value)
        + (count ? " of " + count : ""));
      return line.series.name + " " + line.value.textContent;
    });
    cursor.setAttribute("d", step === null ? "" : "M" + x(step).toFixed(1) + " 0V1000");
    say(at, step === null ? "" : "step " + step);
    if (step === null) svg.setAttribute("aria-label", spec.title + ": " + said.join(", "));
  }

  plot.addEventListener("pointermove", (event) => {
    if (!rows.length) return;
    const box = svg.getBoundingClientRect();
    const wanted = ((event.clientX - box.left) / box.width) * total;
    const near = rows.reduce((best, row) => (
      Math.abs(row[0] - wanted) < Math.abs(best - wanted) ? row[0] : best), rows[0][0]);
    onHover(near);
  });
  plot.addEventListener("pointerleave", () => onHover(null));
  return { figure, update, point };
}
