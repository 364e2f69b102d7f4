// The page of the sidecar's HTTP port: asks /api/status and draws it. Reads only. Names and messages
// are users' text: everything goes through textContent, nothing through innerHTML.
"use strict";

const POLL_MS = 2000;
const KEPT_SECONDS = 300;
const CHANGES_SECONDS = 600;
const STATES = ["ready", "down", "drain", "maint"];
const COLOURS = {open: "good", closed: "warn", unknown: "bad", ready: "good", down: "bad", drain: "warn", maint: "quiet"};

const byId = (id) => document.getElementById(id);
const samples = []; // {at, total, ports: {port: sessions}}, the oldest first
const cards = new Map(); // port -> its elements
const hosts = new Map(); // host, path and listener -> what shows it
let report = null;
let operations = null;

function make(tag, className, text) {
  const item = document.createElement(tag);
  if (className) item.className = className;
  if (text !== undefined) item.textContent = text;
  return item;
}

function shape(tag, attributes) {
  const item = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) item.setAttribute(name, value);
  return item;
}

function age(seconds) {
  if (seconds === null) return "-";
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    if (left >= size || (unit === "s" && !parts.length)) {
      parts.push(Math.floor(left / size) + unit);
      left %= size;
    }
  }
  return parts.slice(0, 2).join(" ");
}

function amount(number) {
  if (number === null) return "-";
  let size = number;
  for (const unit of ["", "k", "M", "G"]) {
    if (size < 999.5) return (unit && size < 9.95 ? size.toFixed(1) : size.toFixed(0)) + unit;
    size /= 1000;
  }
  return size.toFixed(1) + "T";
}

// points: [[x, y]] with x from 0 to 1; the highest y is the chart's top.
function drawLine(svg, points, width, height) {
  const most = Math.max(1, ...points.map(([, y]) => y));
  const place = ([x, y]) => `${(x * width).toFixed(1)},${(height - (y / most) * (height - 2)).toFixed(1)}`;
  const path = points.map(place).join(" ");
  const parts = [shape("line", {class: "floor", x1: 0, x2: width, y1: height, y2: height})];
  if (points.length > 1) {
    const [first, last] = [points[0][0] * width, points.at(-1)[0] * width];
    parts.push(shape("polygon", {class: "area", points: `${first},${height} ${path} ${last},${height}`}));
    parts.push(shape("polyline", {class: "line", points: path}));
  }
  svg.replaceChildren(...parts);
}

// first: the column from which on something is known.
function drawColumns(svg, counts, width, height, first) {
  const most = Math.max(1, ...counts);
  const step = width / counts.length;
  svg.replaceChildren(
    shape("line", {class: "floor", x1: first * step, x2: width, y1: height, y2: height}),
    ...counts.flatMap((count, index) => {
      if (!count) return [];
      const tall = Math.max(2, (count / most) * (height - 2));
      return shape("rect", {class: "column", x: index * step, y: height - tall, width: step * 0.8, height: tall});
    }),
  );
}

function overTime(value) {
  const now = Date.now() / 1000;
  // A page that was just opened shows what it has seen, as wide as the chart.
  const shown = Math.max(30, now - (samples[0]?.at ?? now));
  return samples.map((sample) => [1 - (now - sample.at) / shown, value(sample)]);
}

function showHead() {
  byId("router").textContent = report.router_name;
  document.title = `${report.router_name}: haproxy-sidecar`;
  const mark = byId("converged");
  mark.textContent = report.converged ? "converged" : "not converged";
  mark.className = `mark ${report.converged ? "good" : "bad"}`;
  byId("unready").hidden = report.converged;
  byId("unready").textContent = report.unready;
  const {haproxy, source} = report;
  const facts = [
    ["HAProxy", haproxy ? `${haproxy.version}, PID ${haproxy.pid}, up ${age(haproxy.uptime_seconds)}` : "away"],
    ["Source", `${source.kind} ${source.where}, ` + (source.missing.length ? `not synced yet: ${source.missing.join(", ")}` : `changed ${age(source.changed_seconds_ago)} ago`)],
    ["Ports", `${report.ports_open} open, ${report.ports_claimed} claimed, ${report.ports_total - report.ports_claimed} free`],
    ["Slots", `${report.slots_used} used, ${Math.max(0, report.slots_total - report.slots_used)} free`],
  ];
  byId("facts").replaceChildren(...facts.map(([name, value]) => {
    const item = make("div");
    item.append(make("dt", "", name), make("dd", "", value));
    return item;
  }));
}

function newCard(port) {
  const card = make("details", "port");
  card.dataset.port = port;
  const row = make("summary", "row");
  const cells = ["number which", "", "which", "", "number which", "", "number quiet", "number quiet", "number quiet", "number quiet"].map((name) => make("span", name));
  const chart = shape("svg", {viewBox: "0 0 80 22", preserveAspectRatio: "none", "aria-hidden": "true"});
  cells[5].append(chart);
  row.append(...cells);
  const notes = make("ul", "notes");
  const servers = make("div", "servers");
  card.append(row, servers);
  const whole = make("div");
  whole.append(card, notes);
  return {whole, card, cells, chart, notes, servers};
}

function states(port) {
  const counts = new Map();
  for (const server of port.servers) counts.set(server.state, (counts.get(server.state) ?? 0) + 1);
  const told = STATES.filter((state) => counts.has(state)).map((state) => `${state} ${counts.get(state)}`);
  return told.join(", ") || "none";
}

// Connections that failed lately, and attempts that were made again: "3+9".
function failed(attempts) {
  const again = attempts ? attempts.retries + attempts.redispatches : 0;
  return attempts && attempts.errors + again ? `${attempts.errors}+${again}` : "";
}

function notesOf(port) {
  const found = [];
  if (port.failure) found.push(["bad", `cannot be reconciled: ${port.failure}`]);
  if (port.message) found.push(["warn", port.reason && port.reason !== "Admitted" ? `${port.reason}: ${port.message}` : port.message]);
  if (port.left_out) found.push(["warn", `${port.left_out} endpoints skipped; see limits.max_servers and pools.slots`]);
  if (port.drift) found.push(["bad", `changed by somebody else: ${port.drift}; will be repaired at the next full compare`]);
  if (port.connections_limit && port.connections >= port.connections_limit) found.push(["bad", `at its limit of ${port.connections_limit} connections: further ones are closed`]);
  if (port.attempts && port.attempts.errors) found.push(["bad", `${port.attempts.errors} of ${port.attempts.sessions} connections failed in the last ${Math.round(port.attempts.seconds)} s: no server accepted them`]);
  else if (failed(port.attempts)) found.push(["warn", `${port.attempts.retries + port.attempts.redispatches} failed attempts to reach a server were retried in the last ${Math.round(port.attempts.seconds)} s`]);
  if (port.held) found.push(["warn", `held until: haproxy-sidecar release ${port.port}`]);
  return found;
}

function serverTable(servers) {
  const columns = [
    ["Server", (s) => s.slot], ["State", (s) => s.state], ["Address", (s) => s.address],
    ["Pod", (s) => s.pod ?? ""], ["Node", (s) => s.node ?? ""], ["Check", (s) => s.check ?? ""],
    ["Weight", (s) => s.weight, "number"], ["Sessions", (s) => amount(s.sessions), "number"],
    ["Failed", (s) => failed(s.attempts), "number"],
    ["In", (s) => amount(s.bytes_in), "number"], ["Out", (s) => amount(s.bytes_out), "number"],
  ].filter(([name, value]) => !["Pod", "Node", "Check", "Failed"].includes(name) || servers.some((s) => value(s)));
  const table = make("table");
  const head = make("tr");
  head.append(...columns.map(([name, , kind]) => make("th", kind, name)));
  table.append(head);
  const order = [...servers].sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state));
  for (const server of order) {
    const row = make("tr");
    row.append(...columns.map(([name, value, kind]) => make("td", name === "State" ? COLOURS[server.state] : kind, value(server))));
    table.append(row);
  }
  return table;
}

function showPort(port) {
  let it = cards.get(port.port);
  if (!it) {
    it = newCard(port.port);
    cards.set(port.port, it);
  }
  const marks = (port.held ? " held" : "") + (port.failure ? " failing" : "");
  const texts = [port.port, port.state + marks, port.route ?? (port.shared ? "by SNI" : "-"), states(port), amount(port.sessions), null,
    amount(port.sessions_per_second), amount(port.bytes_in), amount(port.bytes_out), age(port.changed_seconds_ago)];
  texts.forEach((text, index) => { if (text !== null) it.cells[index].textContent = text; });
  it.cells[3].className = port.servers.some((server) => server.state === "down") ? "warn" : "";
  it.cells[1].className = port.failure ? "bad" : COLOURS[port.state];
  drawLine(it.chart, overTime((sample) => sample.ports[port.port] ?? 0), 80, 22);
  it.notes.replaceChildren(...notesOf(port).map(([colour, text]) => make("li", colour, text)));
  it.servers.replaceChildren(...(port.servers.length ? [serverTable(port.servers)] : []));
  return it.whole;
}

function titleOf(host) {
  return host.host + (host.port ? `:${host.port}` : "") + host.path;
}

// "12 requests in 5m 3s, 2 now, 14 ms on average".
function trafficOf({seconds, sessions, sessions_total, requests, average}) {
  const what = requests === null ? "connections" : "requests";
  const took = average.total === null ? "" : `, ${average.total} ms on average`;
  return `${amount(sessions_total)} ${what} in ${age(seconds)}, ${amount(sessions)} now${took}`;
}

const isDefault = (certificate) => certificate.source === "default certificate";

// "certificate 89d", and its colour: how long it is valid; that it is not served counts more.
function certificateMark(certificate) {
  if (certificate.served === false) return ["bad", "certificate not served"];
  const days = certificate.seconds_left === null ? null : Math.floor(certificate.seconds_left / 86400);
  if (days === null || (isDefault(certificate) && days >= 14)) return ["quiet", "default certificate"];
  if (days < 0) return ["bad", "certificate expired"];
  return [days < 3 ? "bad" : days < 14 ? "warn" : "quiet", `certificate ${days}d`];
}

// Whose it is, by whom, until when, and where it comes from, in the words of `status HOST`.
function titleWords({subject, issuer, not_after, seconds_left, source}) {
  if (!not_after) return source;
  const days = Math.floor(seconds_left / 86400);
  const left = days < 0 ? "expired" : days === 1 ? "1 day" : `${days} days`;
  return `${subject}, signed by ${issuer === subject ? "itself" : issuer}, valid until ${not_after.split("T")[0]} (${left}), ${source}`;
}

function certificateFacts(certificate) {
  const {served, served_seconds_ago, failure} = certificate;
  const since = served_seconds_ago === null ? "served" : `served for ${age(served_seconds_ago)}`;
  return `${titleWords(certificate)}; ${served ? since : `not served: ${failure || "it is being loaded"}`}`;
}

function authorityFacts({subjects, subjects_total, server_name, source}) {
  const more = subjects_total > subjects.length ? ` and ${subjects_total - subjects.length} more` : "";
  const name = server_name ? `the name ${server_name}` : "any name";
  return `servers need a certificate by ${subjects.join(" + ")}${more} (${source}), for ${name}`;
}

function tlsFacts({certificate, ca}) {
  const rows = [];
  if (certificate) rows.push(["Certificate", certificateFacts(certificate), certificate.served ? "" : "bad"]);
  if (ca) rows.push(["CA", authorityFacts(ca), ""]);
  return rows.map(([name, text, colour]) => {
    const item = make("div");
    item.append(make("dt", "quiet", name), make("dd", colour, text));
    return item;
  });
}

// A Route by host: one line, its certificate and servers below it once it is opened.
function showHost(host) {
  const title = titleOf(host);
  let it = hosts.get(title + host.listener);
  if (!it) {
    const card = make("details", "host");
    const line = make("summary");
    const servers = make("div", "servers");
    const tls = make("dl", "tls");
    card.append(line, tls, servers);
    it = {card, line, tls, servers};
    hosts.set(title + host.listener, it);
  }
  const parts = [make("strong", "", title), make("span", host.failure ? "bad" : COLOURS[host.state], host.state),
    make("span", "quiet", host.listener), make("span", "", host.route), make("span", "quiet", states(host))];
  if (host.certificate) parts.push(make("span", ...certificateMark(host.certificate)));
  if (host.traffic) parts.push(make("span", "quiet", trafficOf(host.traffic)));
  if (host.traffic?.responses?.["5xx"]) parts.push(make("span", "bad", `${amount(host.traffic.responses["5xx"])} answered 5xx`));
  const note = host.failure || host.message;
  if (note) parts.push(make("span", host.failure ? "bad" : "warn", note));
  it.line.replaceChildren(...parts.flatMap((part) => [part, " "]));
  it.tls.replaceChildren(...tlsFacts(host));
  it.servers.replaceChildren(...(host.servers.length ? [serverTable(host.servers)] : []));
  return it.card;
}

function showHosts(meant) {
  const shown = report.hosts.filter((host) => meant(titleOf(host), host.route)).map(showHost);
  const there = new Set(report.hosts.map((host) => titleOf(host) + host.listener));
  for (const key of hosts.keys()) if (!there.has(key)) hosts.delete(key);
  const list = byId("hosts");
  if (shown.length !== list.children.length || shown.some((item, index) => item !== list.children[index])) list.replaceChildren(...shown);
  byId("hosts-section").hidden = !report.hosts.length;
  const own = report.default_certificate;
  byId("default").hidden = !own;
  byId("default").className = own?.seconds_left < 14 * 86400 ? "warn" : "quiet";
  byId("default").textContent = own ? titleWords(own) : "";
}

function showPorts() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const meant = (port, route) => !wanted || `${port ?? ""} ${route ?? ""}`.toLowerCase().includes(wanted);
  const shown = report.ports.filter((port) => meant(port.port, port.route)).map(showPort);
  const there = new Set(report.ports.map((port) => port.port));
  for (const port of cards.keys()) if (!there.has(port)) cards.delete(port);
  const list = byId("ports");
  // Moving an element would take the focus from it.
  if (shown.length !== list.children.length || shown.some((item, index) => item !== list.children[index])) list.replaceChildren(...shown);
  byId("no-ports").hidden = shown.length > 0 || report.hosts.length > 0;
  showHosts(meant);
  showList("waiting", report.waiting.filter((item) => meant(item.port, item.route)).map((item) => `${item.route}: ${item.reason}: ${item.message}`));
  showList("problems", report.problems);
}

function showList(id, lines) {
  byId(id).hidden = !lines.length;
  byId(id).querySelector("ul").replaceChildren(...lines.map((line) => make("li", "", line)));
}

function showCharts() {
  const total = samples.at(-1)?.total ?? 0;
  byId("sessions-now").textContent = amount(total);
  drawLine(byId("sessions-chart"), overTime((sample) => sample.total), 300, 60);
  const now = Date.now() / 1000;
  const counts = new Array(60).fill(0);
  // Only the last ones are remembered: since when all are.
  const known = Math.max(now - CHANGES_SECONDS, operations.complete_since_seconds ?? 0);
  const columnOf = (at) => 59 - Math.floor(((now - at) / CHANGES_SECONDS) * 60);
  for (const {at_seconds} of operations.entries) {
    const column = columnOf(at_seconds);
    if (at_seconds >= known && column >= 0 && column < 60) counts[column] += 1;
  }
  const sum = counts.reduce((all, count) => all + count, 0);
  const whole = known <= now - CHANGES_SECONDS;
  byId("changes-now").textContent = whole ? amount(sum) : `${sum.toLocaleString("en")}+ (since ${age(now - known)})`;
  drawColumns(byId("changes-chart"), counts, 300, 60, whole ? 0 : Math.max(0, columnOf(known)));
}

async function ask(path) {
  // Not relative to the document: its URL may have a password in it, which fetch() refuses.
  const url = new URL(path, location.origin + location.pathname);
  const answer = await fetch(url, {cache: "no-store", signal: AbortSignal.timeout(10000)});
  if (!answer.ok) throw new Error((await answer.text()).trim() || `HTTP ${answer.status}`);
  return answer.json();
}

async function poll() {
  try {
    report = await ask("api/status");
    // It is long, and changes only with this number.
    if (operations?.operations_total !== report.changes) operations = await ask("api/history");
    const at = Date.now() / 1000;
    const ports = Object.fromEntries(report.ports.map((port) => [port.port, port.sessions ?? 0]));
    samples.push({at, total: Object.values(ports).reduce((sum, count) => sum + count, 0), ports});
    while (samples.length && samples[0].at < at - KEPT_SECONDS) samples.shift();
    document.body.classList.remove("stale");
    showHead();
    showPorts();
    showCharts();
  } catch (error) {
    document.body.classList.add("stale");
    byId("converged").textContent = "no answer";
    byId("converged").className = "mark bad";
    byId("unready").hidden = false;
    byId("unready").textContent = `the sidecar does not answer (${error.message}); the data below is stale`;
  }
}

async function loop() {
  for (;;) {
    if (!document.hidden) await poll();
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

byId("filter").addEventListener("input", () => { if (report) showPorts(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
loop();
