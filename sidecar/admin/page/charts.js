// Lines and columns with their scales. Knows numbers only.

import {age, amount, make, shape} from "./dom.js";

const WIDTH = 300;
const HEIGHT = 64;

// The next number that reads well: 1, 2, 5, 10, 20, …
function ceiling(most) {
  const size = 10 ** Math.floor(Math.log10(Math.max(1, most)));
  return [1, 2, 5, 10].find((step) => step * size >= most) * size;
}

// points: [[x, y]] with x from 0 to 1; `top` is the highest y that has room.
function lineOf(points, width, height, top) {
  if (!points.length) return [];
  const path = points.map(([x, y]) => `${(x * width).toFixed(1)},${(height - (y / top) * (height - 2)).toFixed(1)}`).join(" ");
  const [first, last] = [points[0][0] * width, points.at(-1)[0] * width];
  return [
    shape("polygon", {class: "area", points: `${first},${height} ${path} ${last},${height}`}),
    shape("polyline", {class: "line", points: path}),
  ];
}

// A chart's box: the drawing, its scale at the left, and below it since when.
function show(box, parts, top, since, label) {
  const svg = shape("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label});
  const grid = [2, HEIGHT / 2 + 1].map((y) => shape("line", {class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y}));
  svg.append(...grid, ...parts);
  const scale = make("div", "scale");
  const half = top / 2;
  scale.append(...[top, Number.isInteger(half) ? half : null, 0].map((number) => make("span", "", number === null ? "" : amount(number))));
  const times = make("div", "times");
  times.append(make("span", "", `${age(since)} ago`), make("span", "", "now"));
  scale.setAttribute("aria-hidden", "true");
  times.setAttribute("aria-hidden", "true");
  box.replaceChildren(scale, svg, times);
}

const floor = (from) => shape("line", {class: "floor", x1: from, x2: WIDTH, y1: HEIGHT, y2: HEIGHT});

// totals: [when, number], the oldest first; `span`: of how many seconds.
export function drawLine(box, totals, at, span, name) {
  const points = totals.map(([when, number]) => [1 - (at - when) / span, number]);
  const top = ceiling(Math.max(1, ...totals.map(([, number]) => number)));
  const drawn = points.length > 1 ? lineOf(points, WIDTH, HEIGHT, top) : [];
  show(box, [floor(0), ...drawn], top, span, `${name}: ${totals.at(-1)?.[1] ?? 0} now, at most ${Math.max(0, ...totals.map(([, number]) => number))}`);
}

// first: the column from which on something is known.
export function drawColumns(box, counts, first, seconds, name) {
  const top = ceiling(Math.max(1, ...counts));
  const step = WIDTH / counts.length;
  const columns = counts.flatMap((count, index) => {
    if (!count) return [];
    const tall = Math.max(2, (count / top) * (HEIGHT - 2));
    return shape("rect", {class: "column", x: index * step, y: HEIGHT - tall, width: step * 0.8, height: tall});
  });
  show(box, [floor(first * step), ...columns], top, seconds, `${name}: ${counts.reduce((sum, count) => sum + count, 0)}`);
}

// trace: [when, number] where the number became another one, the oldest first.
export function drawTrace(svg, trace, at, span) {
  const points = [];
  const place = (when) => Math.max(0, 1 - (at - when) / span);
  trace.forEach(([when, number], index) => {
    if (index) points.push([place(when), trace[index - 1][1]]);
    points.push([place(when), number]);
  });
  if (trace.length) points.push([1, trace.at(-1)[1]]);
  const top = Math.max(1, ...points.map(([, number]) => number));
  const flat = points.every(([, number]) => !number);
  svg.replaceChildren(...(flat ? [] : lineOf(points, 80, 20, top)));
}
