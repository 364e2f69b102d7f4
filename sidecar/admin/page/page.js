// The page of the sidecar's HTTP port: asks /api/updates for what changed, and has it drawn. Reads
// only. Owns the loop, the head, the charts' figures, and keys.

import {go, onChange, shown} from "./address.js";
import {ask} from "./ask.js";
import {drawColumns, drawLine} from "./charts.js";
import {certificateWords} from "./details.js";
import {age, amount, byId, make} from "./dom.js";
import {Model, now} from "./model.js";
import {drawStrip} from "./strip.js";
import {drawTable, reveal, step} from "./table.js";

const POLL_MS = 2000;
const CHANGES_SECONDS = 600;

const model = new Model();
let operations = null;
let polling = false;
let opened = "";

function drawTop() {
  const {head} = model;
  byId("router").textContent = head.router_name;
  document.title = `${head.router_name}: haproxy-sidecar`;
  const mark = byId("converged");
  const text = head.converged ? "converged" : "not converged";
  if (mark.textContent !== text) mark.textContent = text;
  mark.className = `mark ${head.converged ? "good" : "bad"}`;
  byId("unready").hidden = head.converged;
  byId("unready").textContent = head.unready;
  const {haproxy, source} = head;
  const facts = [
    ["HAProxy", haproxy ? `${haproxy.version}, PID ${haproxy.pid}, up ${age(haproxy.uptime_seconds)}` : "away"],
    ["Source", `${source.kind} ${source.where}, ` + (source.missing.length ? `not synced yet: ${source.missing.join(", ")}` : `changed ${age(source.changed_seconds_ago)} ago`)],
    ["Ports", `${head.ports_open} open, ${head.ports_claimed} claimed, ${head.ports_total - head.ports_claimed} free`],
    ["Slots", `${head.slots_used} used, ${Math.max(0, head.slots_total - head.slots_used)} free`],
  ];
  byId("facts").replaceChildren(...facts.map(([name, value]) => {
    const item = make("div");
    item.append(make("dt", "", name), make("dd", "", value));
    return item;
  }));
  const own = head.default_certificate;
  byId("default").hidden = !own;
  byId("default").className = model.problems.some(([, group]) => group === "certificate") ? "warn" : "quiet";
  byId("default").textContent = own ? certificateWords(own) : "";
}

function drawCharts() {
  const at = now();
  byId("sessions-now").textContent = amount(model.totals.at(-1)[1]);
  drawLine(byId("sessions-chart"), model.totals, at, model.span, "sessions");
  const counts = new Array(60).fill(0);
  // Only the last ones are remembered: since when all are.
  const known = Math.max(at - CHANGES_SECONDS, operations.complete_since_seconds ?? 0);
  const columnOf = (when) => 59 - Math.floor(((at - when) / CHANGES_SECONDS) * 60);
  for (const {at_seconds} of operations.entries) {
    const column = columnOf(at_seconds);
    if (at_seconds >= known && column >= 0 && column < 60) counts[column] += 1;
  }
  const sum = counts.reduce((all, count) => all + count, 0);
  const all = known <= at - CHANGES_SECONDS;
  byId("changes-now").textContent = all ? amount(sum) : `${sum.toLocaleString("en")}+ (since ${age(at - known)})`;
  drawColumns(byId("changes-chart"), counts, all ? 0 : Math.max(0, columnOf(known)), CHANGES_SECONDS, "changes");
}

function draw() {
  if (!model.head) return;
  drawTable(model);
  const {open} = shown();
  if (open && open !== opened) reveal(open);
  opened = open;
}

async function poll() {
  // Two at a time could come in the wrong order.
  if (polling) return;
  polling = true;
  try {
    model.take(await ask(`api/updates?since=${model.version}`));
    // It is long, and changes only with this number.
    if (operations?.operations_total !== model.head.changes) operations = await ask("api/history");
    document.body.classList.remove("stale");
    drawTop();
    drawStrip(model);
    drawCharts();
    draw();
  } catch (error) {
    document.body.classList.add("stale");
    byId("converged").textContent = "no answer";
    byId("converged").className = "mark bad";
    byId("unready").hidden = false;
    byId("unready").textContent = `the sidecar does not answer (${error.message}); the data below is stale`;
  } finally {
    polling = false;
  }
}

async function loop() {
  for (;;) {
    if (!document.hidden) await poll();
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

const filter = byId("filter");
filter.addEventListener("input", () => go({q: filter.value.trim(), page: "", open: ""}, {letter: true}));
byId("only").addEventListener("change", () => go({only: byId("only").checked ? "problems" : "", page: ""}));
byId("group").addEventListener("click", () => go({only: "problems", page: ""}));
byId("bar").addEventListener("submit", (event) => event.preventDefault());

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const {target} = event;
  const isRow = target.matches("button.name");
  if (event.key === "/" && target !== filter) {
    filter.focus();
    filter.select();
  } else if (event.key === "Escape" && target === filter && filter.value) {
    go({q: "", page: ""});
  } else if (event.key === "Escape" && shown().open) {
    const {open} = shown();
    go({open: ""});
    reveal(open);
  } else if (event.key === "ArrowDown" && (isRow || target === filter)) {
    step(target, 1);
  } else if (event.key === "ArrowUp" && isRow) {
    step(target, -1);
  } else {
    return;
  }
  event.preventDefault();
});

onChange(draw);
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
loop();
