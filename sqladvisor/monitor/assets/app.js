// The page: asks the JSON API, draws what it says. Text from a server is only ever set as text.

import { chart, html, share, spark } from "/assets/chart.js";

const REFRESH_MS = 5000;
const by = (id) => document.getElementById(id);
const chosen = new URLSearchParams(location.hash.slice(1));
let overview = null;

// -- figures as people read them ------------------------------------------------------------------

const digits = (value, most) => value.toLocaleString("en-US", { maximumFractionDigits: most });
function number(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return `${digits(value / 1e9, 1)} G`;
  if (size >= 1e6) return `${digits(value / 1e6, 1)} M`;
  if (size >= 1e4) return `${digits(value / 1e3, 1)} k`;
  return digits(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}
function ms(value) {
  if (value == null) return "–";
  if (value >= 60000) return `${digits(value / 60000, 1)} min`;
  if (value >= 1000) return `${digits(value / 1000, 2)} s`;
  return `${digits(value, value >= 100 ? 0 : value >= 1 ? 2 : 3)} ms`;
}
function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = Math.abs(value), n = 0;
  while (size >= 1024 && n < units.length - 1) (size /= 1024), n++;
  return `${value < 0 ? "−" : ""}${digits(size, n && size < 100 ? 1 : 0)} ${units[n]}`;
}
const percent = (value, short) => (value == null ? "–" : `${digits(value * 100, short ? 1 : value > 0.99 && value < 1 ? 2 : 1)} %`);
const ago = (seconds) => seconds < 90 ? `${Math.max(0, Math.round(seconds))} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : seconds < 172800 ? `${digits(seconds / 3600, 1)} h` : `${Math.round(seconds / 86400)} d`;
const when = (at) => new Date(at * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });

// -- parts of the page ----------------------------------------------------------------------------

function tiles(data) {
  const { totals, now } = data;
  const last = (points) => [...points].reverse().find((v) => v != null);
  const active = Object.entries(data.sessions).find(([name]) => name === "active");
  const found = [
    ["transactions / s", number(totals.transactions_per_s)],
    ["mean statement", ms(data.latency_total.mean)],
    ["p95, estimated", ms(data.latency_total.p95)],
    ["cache hit", percent(totals.cache_hit), totals.cache_hit != null && totals.cache_hit < 0.9 ? "bad" : ""],
    ["active sessions", number(active ? last(active[1]) : 0)],
    ["server connections", now.clients == null ? "–" : `${now.clients} / ${now.max_clients}`, now.clients > 0.9 * now.max_clients ? "bad" : ""],
    ["rolled back", percent(totals.rollback_ratio)],
    ["size", bytes((last(data.size.table) ?? 0) + (last(data.size.index) ?? 0))],
  ];
  by("tiles").replaceChildren(...found.map(([name, value, look]) => html("div", { class: "tile" }, html("b", { class: look || null }, value), html("span", {}, name))));
}

function charts(data) {
  const common = { times: data.times, down: data.down };
  chart(by("throughput"), { ...common, series: data.throughput, format: number, label: "Transactions per second over time" });
  chart(by("latency"), { ...common, series: data.latency_ms, format: (v, axis) => (axis ? (v >= 1000 ? `${digits(v / 1000, 1)} s` : digits(v, v < 1 ? 2 : 1)) : ms(v)), marks: data.plan_changes.map((p) => [p.at, `new plan: ${(p.text ?? p.queryid).slice(0, 120)}`]), label: "Latency of statements over time", none: "needs pg_stat_statements" });
  chart(by("cache"), { ...common, series: { "cache hit": data.cache_hit }, format: percent, max: 1, min: (all) => Math.min(0.9, Math.floor(Math.min(...all, 1) * 10) / 10), label: "Cache hit ratio over time" });
  chart(by("sessions"), { ...common, series: data.sessions, stacked: true, format: number, label: "Connections by state over time" });
  chart(by("waits"), { ...common, series: data.waits, stacked: true, format: number, label: "Active sessions by what they wait for", none: "no session was active at a sample" });
  chart(by("writes"), { ...common, series: { WAL: data.wal_bytes_per_s, "temporary files": data.temp_bytes_per_s }, format: bytes, base: 1024, label: "Bytes written per second" });
  chart(by("size"), { ...common, series: { tables: data.size.table, indexes: data.size.index }, stacked: true, format: bytes, base: 1024, label: "Size of tables and indexes over time" });
}

function table(id, head, rows, none) {
  const target = by(id);
  if (!rows.length) return target.replaceChildren(html("caption", { class: "none" }, none));
  const cell = (name, value, look) => html(name, { class: look }, value);
  target.replaceChildren(
    html("thead", {}, html("tr", {}, ...head.map(([text, look]) => cell("th", text, look)))),
    html("tbody", {}, ...rows.map((row) => html("tr", {}, ...row.map((value, i) => cell("td", value, head[i][1] === "text" ? null : head[i][1]))))),
  );
}

const opened = new Set(); // texts that are unfolded stay so when the page refreshes
function text(id, sql, starred, ...more) {
  const line = sql.replace(/\s+/g, " ").trim() || "(text not known)";
  const details = html("details", { open: opened.has(id) }, html("summary", { title: line }, starred ? html("span", { class: "new", title: "new plan in this window" }, "★ ") : null, line), html("pre", {}, sql || line), ...more);
  details.addEventListener("toggle", () => (details.open ? opened.add(id) : opened.delete(id)));
  return details;
}

const gathered = { others: "all other statements", own: "sqladvisor's own looks" };

function statements(data) {
  const replanned = new Set(data.plan_changes.map((p) => p.queryid));
  const rows = data.statements.map((s) => [
    gathered[s.queryid] ? html("span", { class: "soft" }, gathered[s.queryid]) : text(s.queryid, s.text, replanned.has(s.queryid), html("p", { class: "note" }, `queryid ${s.queryid} · ${number(s.rows_per_call)} rows and ${number(s.blocks_per_call)} blocks per call · WAL ${bytes(s.wal_bytes)}`)),
    html("span", {}, share(s.share, "share"), percent(s.share, true)),
    number(s.calls), ms(s.exec_ms), ms(s.mean), ms(s.p95), ms(s.p99), percent(s.cache_hit, true),
    s.mean_over_time.length ? spark(s.mean_over_time, "Mean time over the window") : "",
  ]);
  const n = "number";
  table("statements", [["statement", "sql"], ["share", n], ["calls", n], ["total", n], ["mean", n], ["p95 est.", n], ["p99 est.", n], ["cache hit", n], ["mean over time", n]], rows, "No statement was counted in this window (is pg_stat_statements installed?).");
}

function grown(value) {
  if (!value) return html("span", { class: "soft" }, "0");
  return html("span", { class: value > 0 ? null : "good" }, `${value > 0 ? "+" : ""}${bytes(value)}`);
}

function relations(data) {
  const n = "number";
  const name = (r, last) => html("span", {}, html("span", { class: "soft" }, `${r.schema}.`), last);
  table("tables", [["table", "text"], ["size", n], ["grown", n], ["live rows", n], ["dead", n], ["seq scans", n], ["index scans", n]],
    data.tables.map((t) => [name(t, t.relation), bytes(t.bytes), grown(t.grown_bytes), number(t.live_rows), number(t.dead_rows), number(t.seq_scan ?? 0), number(t.idx_scan ?? 0)]), "No table.");
  table("indexes", [["index", "text"], ["on", "text"], ["size", n], ["grown", n], ["scans", n]],
    data.indexes.map((i) => [name(i, i.index), i.relation, bytes(i.bytes), grown(i.grown_bytes), number(i.scans ?? 0)]), "No index.");
}

function list(id, items, none) {
  by(id).replaceChildren(...(items.length ? items : [html("p", { class: "none" }, none)]));
}

function events(data) {
  const top = Math.max(...data.wait_events.map((e) => e.sessions), 0);
  list("events", data.wait_events.map((e) => html("div", { class: "bar" },
    html("span", {}, html("span", { class: "soft" }, `${e.type} `), e.event), share(e.sessions / top, "", e.type === "CPU" ? "var(--c3)" : "var(--c2)"), html("span", { class: "number" }, number(e.sessions)))), "No session was active at a sample.");
}

function plans(data) {
  list("plans", data.plan_changes.map((p) => html("div", { class: "item sql" },
    html("span", {}, html("span", { class: "tag" }, when(p.at)), ` mean ${ms(p.mean_ms_before)} → `, html("b", { class: p.mean_ms > p.mean_ms_before ? "bad" : "good" }, ms(p.mean_ms)), ` · planner cost ${number(p.cost_before)} → ${number(p.cost)}`),
    text(`plan ${p.queryid} ${p.at}`, p.text ?? `queryid ${p.queryid}`, true, html("div", { class: "plans" }, html("pre", {}, p.tree_before), html("pre", {}, p.tree))))),
    "None seen. “sqladvisor monitor --plans 10m” asks for plans (PostgreSQL 16 and newer).");
}

function alerts(data) {
  const now = data.alerts.map((a) => html("div", { class: "item" },
    html("span", {}, html("span", { class: `tag ${a.severity}` }, a.state === "firing" ? a.severity : "pending"), ` ${a.rule} `, a.label && html("span", { class: "soft" }, a.label)),
    html("p", {}, a.message), html("p", { class: "soft" }, `since ${when(a.since)}, value ${number(a.value)}`)));
  const before = data.alert_events.map((e) => html("div", { class: "item" },
    html("span", {}, html("span", { class: `tag ${e.event === "resolved" ? "resolved" : e.severity}` }, e.event), ` ${when(e.at)} ${e.rule} `, html("span", { class: "soft" }, e.label))));
  list("alerts", [...now, ...before], "None.");
}

function findings(data) {
  list("findings", data.findings.map((f) => html("div", { class: "item" },
    html("span", {}, html("span", { class: `tag ${f.severity}` }, f.severity), html("span", { class: "soft" }, ` ${f.rule}`)), html("p", {}, f.message), f.fix ? html("pre", {}, f.fix) : null)),
    "None.");
}

function notices(data) {
  const found = [];
  const { target } = data;
  if (!target.reachable) found.push(html("p", { class: "error" }, `Unreachable for ${ago(data.at - target.since)}: ${target.error}`));
  else if (target.stale) found.push(html("p", { class: "warning-back" }, `The last sample is ${ago(data.at - target.last_at)} old: is “sqladvisor monitor” running?`));
  for (const a of data.alerts) {
    if (a.state === "firing" && a.severity === "error" && target.reachable) found.push(html("p", { class: "firing" }, `${a.rule}: ${a.message}`));
  }
  by("notices").replaceChildren(...found);
}

function state(data) {
  const { target } = data;
  const look = !target.reachable ? "bad" : target.stale ? "warning" : "good";
  by("state").className = `state ${look}`;
  by("state").textContent = `PostgreSQL ${target.version} · sampled ${ago(data.at - target.last_at)} ago`;
}

// -- the loop -------------------------------------------------------------------------------------

function choose(name, value) {
  chosen.set(name, value);
  history.replaceState(null, "", `#${chosen}`);
  refresh();
}

function pickers() {
  const select = by("target");
  const names = overview.targets.map((t) => t.name);
  if (!names.includes(chosen.get("target"))) chosen.set("target", names[0] ?? "");
  if (!overview.windows.includes(chosen.get("window"))) chosen.set("window", "1h");
  const label = (t) => `${t.reachable ? "" : "✕ "}${t.name}${t.alerts ? ` (${t.alerts} alert${t.alerts > 1 ? "s" : ""})` : ""}`;
  if (document.activeElement !== select) {
    select.replaceChildren(...overview.targets.map((t) => html("option", { value: t.name, selected: t.name === chosen.get("target") }, label(t))));
  }
  by("windows").replaceChildren(...overview.windows.map((w) => {
    const button = html("button", { type: "button", "aria-pressed": String(w === chosen.get("window")) }, w);
    button.addEventListener("click", () => choose("window", w));
    return button;
  }));
}

async function get(path) {
  const answer = await fetch(path);
  if (answer.status === 401) location.assign("/login");
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return answer.json();
}

let asked = 0;
async function refresh() {
  const mine = ++asked;
  try {
    overview = await get("/api/overview");
    if (!overview.targets.length) throw new Error("The store is empty: `sqladvisor monitor` fills it.");
    pickers();
    const data = await get(`/api/target?name=${encodeURIComponent(chosen.get("target"))}&window=${chosen.get("window")}`);
    if (mine !== asked) return; // another window was chosen meanwhile
    by("empty").hidden = true;
    by("main").hidden = false;
    for (const draw of [state, notices, tiles, charts, statements, relations, events, plans, alerts, findings]) draw(data);
    by("footer").textContent = `${overview.targets.length} database${overview.targets.length > 1 ? "s" : ""} · drawn ${new Date().toLocaleTimeString([], { hour12: false })} · times are this browser's`;
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    if (mine !== asked) return;
    by("state").className = "state bad";
    by("state").textContent = `no answer: ${error.message}`;
    by("empty").textContent = String(error.message);
    by("empty").hidden = !by("main").hidden;
  }
}

function theme() {
  const root = document.documentElement;
  const saved = localStorage.getItem("theme");
  if (saved) root.dataset.theme = saved;
  by("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });
}

theme();
by("target").addEventListener("change", (event) => choose("target", event.target.value));
refresh();
let settled = 0;
addEventListener("resize", () => {
  clearTimeout(settled);
  settled = setTimeout(refresh, 150);
});
setInterval(() => document.hidden || by("main").matches(":has(.tip)") || refresh(), REFRESH_MS);
