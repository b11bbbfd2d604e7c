// Charts as inline SVG: lines, stacked areas, sparks and bars. Text only ever goes in as text.

const NS = "http://www.w3.org/2000/svg";
const HEIGHT = 190, LEFT = 50, RIGHT = 8, TOP = 10, BOTTOM = 22;
export const COLORS = ["var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)", "var(--c7)", "var(--c8)"];

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const swatch = (color) => svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2, fill: color }));

// A round top of the scale and its steps: 1, 2 or 5 times a power of ten (or 1024 for bytes).
function scale(top, base) {
  if (!(top > 0)) return [1, [0, 1]];
  const unit = base === 1024 ? 1024 ** Math.floor(Math.log(top) / Math.log(1024)) : 1;
  const wanted = top / unit / 4;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = unit * power * [1, 2, 5, 10].find((n) => n * power >= wanted * 0.999);
  const steps = [];
  for (let at = 0; at < top + step * 0.999; at += step) steps.push(at);
  return [steps.at(-1), steps];
}

// Labels on the hour or the minute, about six of them.
function ticks(from, to) {
  const steps = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  const step = steps.find((s) => (to - from) / s <= 6) ?? 86400 * Math.ceil((to - from) / 86400 / 6);
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at <= to; at += step) found.push([at, clock(at, step)]);
  return found;
}

function clock(at, step) {
  const when = new Date(at * 1000);
  if (step >= 86400) return when.toLocaleDateString([], { month: "short", day: "numeric" });
  return when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

// A gap of one bucket is bridged (samples and buckets do not fall together); a longer one is shown.
function runs(points) {
  const found = [];
  let run = [];
  points.forEach((point, i) => {
    if (point == null) return;
    if (run.length && i - run.at(-1)[0] > 2) {
      found.push(run);
      run = [];
    }
    run.push([i, point]);
  });
  if (run.length) found.push(run);
  return found;
}

// options: times, series {name: points}, stacked, format, base, max, min, down, marks [[time, text]], label
export function chart(figure, options) {
  const { times, stacked = false, format = String, down = [] } = options;
  const names = Object.keys(options.series).filter((n) => options.series[n].some((v) => v != null));
  figure.querySelectorAll(":scope > :not(figcaption)").forEach((old) => old.remove());
  // As wide as it is shown, so that letters have one size on the page.
  const look = getComputedStyle(figure);
  const WIDTH = Math.max(300, figure.clientWidth - parseFloat(look.paddingLeft) - parseFloat(look.paddingRight));
  const count = times.length;
  const width = times.length > 1 ? times[1] - times[0] : 1;
  const start = times[0] - width, end = times[count - 1];
  const x = (i) => LEFT + ((i + 0.5) / count) * (WIDTH - LEFT - RIGHT);
  const totals = times.map((_, i) => (stacked ? names.reduce((sum, n) => sum + (options.series[n][i] ?? 0), 0) : Math.max(0, ...names.map((n) => options.series[n][i] ?? 0))));
  const low = options.min?.(names.flatMap((n) => options.series[n].filter((v) => v != null))) ?? 0;
  const [top, steps] = options.max ? [options.max, [low, (low + options.max) / 2, options.max]] : scale(Math.max(...totals), options.base);
  const y = (v) => TOP + (1 - (v - low) / (top - low || 1)) * (HEIGHT - TOP - BOTTOM);

  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": options.label ?? "" });
  for (const step of steps) {
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(step), y2: y(step) }));
    picture.append(svg("text", { class: "axis", x: LEFT - 7, y: y(step) + 4, "text-anchor": "end" }, format(step, true)));
  }
  for (const [at, text] of ticks(start, end)) {
    const place = LEFT + ((at - start) / (end - start)) * (WIDTH - LEFT - RIGHT);
    if (place > WIDTH - 20 || place < LEFT + 10) continue;
    picture.append(svg("text", { class: "axis", x: place, y: HEIGHT - 6, "text-anchor": "middle" }, text));
  }
  const slot = (WIDTH - LEFT - RIGHT) / count;
  down.forEach((is, i) => is && picture.append(svg("rect", { class: "outage", x: x(i) - slot / 2, y: TOP, width: slot, height: HEIGHT - TOP - BOTTOM })));

  const base = new Array(count).fill(0);
  names.forEach((name, n) => {
    const color = COLORS[n % COLORS.length];
    const points = options.series[name];
    const tops = points.map((v, i) => (v == null ? null : stacked ? base[i] + v : v));
    for (const run of runs(tops)) {
      if (run.length === 1) {
        picture.append(svg("circle", { cx: x(run[0][0]), cy: y(run[0][1]), r: 1.8, fill: color }));
        continue;
      }
      const line = run.map(([i, v]) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
      if (stacked || names.length === 1) {
        const under = [...run].reverse().map(([i]) => `${x(i).toFixed(1)},${y(stacked ? base[i] : low).toFixed(1)}`).join(" ");
        picture.append(svg("polygon", { points: `${line} ${under}`, fill: color, opacity: stacked ? 0.55 : 0.16 }));
      }
      picture.append(svg("polyline", { points: line, fill: "none", stroke: color, "stroke-width": 1.6, "stroke-linejoin": "round" }));
    }
    if (stacked) points.forEach((v, i) => (base[i] += v ?? 0));
  });
  for (const [at, text] of options.marks ?? []) {
    const place = LEFT + ((at - start) / (end - start)) * (WIDTH - LEFT - RIGHT);
    picture.append(svg("line", { class: "cursor", x1: place, x2: place, y1: TOP + 4, y2: HEIGHT - BOTTOM }));
    picture.append(svg("text", { class: "star", x: place, y: TOP + 3, "text-anchor": "middle" }, "★", svg("title", {}, text)));
  }
  if (!names.length) picture.append(svg("text", { class: "axis", x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, options.none ?? "nothing sampled in this window"));
  figure.append(picture);
  if (names.length > 1) {
    figure.append(html("ul", { class: "legend" }, ...names.map((name, n) => html("li", {}, swatch(COLORS[n % COLORS.length]), name))));
  }
  hover(figure, picture, { times, names, series: options.series, format, x, count, WIDTH });
}

function hover(figure, picture, { times, names, series, format, x, count, WIDTH }) {
  let tip = null, cursor = null;
  const leave = () => {
    tip?.remove();
    cursor?.remove();
    tip = cursor = null;
  };
  picture.addEventListener("pointerleave", leave);
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * WIDTH;
    const i = Math.round(((place - LEFT) / (WIDTH - LEFT - RIGHT)) * count - 0.5);
    if (i < 0 || i >= count || !names.length) return leave();
    leave();
    cursor = svg("line", { class: "cursor", x1: x(i), x2: x(i), y1: TOP, y2: HEIGHT - BOTTOM });
    picture.append(cursor);
    tip = html("div", { class: "tip" }, html("time", {}, new Date(times[i] * 1000).toLocaleString()));
    names.forEach((name, n) => {
      const value = series[name][i];
      tip.append(html("div", {}, swatch(COLORS[n % COLORS.length]), name, html("b", {}, value == null ? "–" : format(value))));
    });
    figure.append(tip);
    const left = event.clientX - figure.getBoundingClientRect().left;
    tip.style.top = `${picture.offsetTop + 34}px`;
    tip.style.left = left > box.width / 2 ? `${Math.max(0, left - tip.offsetWidth - 14)}px` : `${left + 14}px`;
  });
}

export function spark(points, label) {
  const known = points.filter((v) => v != null);
  const picture = svg("svg", { class: "spark", viewBox: "0 0 110 24", role: "img", "aria-label": label });
  if (!known.length) return picture;
  const top = Math.max(...known) || 1;
  const place = ([i, v]) => `${((i + 0.5) / points.length) * 110},${22 - (v / top) * 20}`;
  for (const run of runs(points)) {
    if (run.length === 1) {
      const [cx, cy] = place(run[0]).split(",");
      picture.append(svg("circle", { cx, cy, r: 1.3, fill: "var(--c1)" }));
    } else picture.append(svg("polyline", { points: run.map(place).join(" "), fill: "none", stroke: "var(--c1)", "stroke-width": 1.3 }));
  }
  return picture;
}

export function share(part, className, color = "var(--c1)") {
  const width = Math.max(0, Math.min(1, part)) * 100;
  return svg("svg", { class: className, viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { width: 100, height: 10, fill: "var(--grid)" }), svg("rect", { width, height: 10, fill: color }));
}
