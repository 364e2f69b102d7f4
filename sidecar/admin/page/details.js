// What is known of one row, below it: what is wrong, its servers and certificate, why it works or
// does not (/api/why), and what was done to it lately (/api/history).

import {ask} from "./ask.js";
import {age, amount, make} from "./dom.js";
import {daysOf} from "./problems.js";

const STATES = ["ready", "down", "drain", "maint"];
const COLOURS = {ready: "good", down: "bad", drain: "warn", maint: "quiet"};
const MARKS = {ok: "✓", warn: "!", bad: "✗", info: "·"};
const AGAIN_MS = 6000;
const OPERATIONS_MAX = 30;

let opened = null; // {key, row, parts, why, history, askedAt}

function failed(attempts) {
  const again = attempts ? attempts.retries + attempts.redispatches : 0;
  return attempts && attempts.errors + again ? `${attempts.errors}+${again}` : "";
}

function table(columns, items, label) {
  const it = make("table");
  it.setAttribute("aria-label", label);
  const head = make("tr");
  head.append(...columns.map(([name, , kind]) => {
    const cell = make("th", kind === "number" ? kind : "", name);
    cell.scope = "col";
    return cell;
  }));
  it.append(head);
  for (const item of items) {
    const row = make("tr");
    row.append(...columns.map(([, value, kind, colour]) => make("td", colour ? colour(item) : kind, value(item))));
    it.append(row);
  }
  const box = make("div", "scrolls");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", label);
  box.append(it);
  return box;
}

function serverTable(servers) {
  const columns = [
    ["Server", (s) => s.slot], ["State", (s) => s.state, "", (s) => COLOURS[s.state]], ["Address", (s) => s.address],
    ["Pod", (s) => s.pod ?? ""], ["Node", (s) => s.node ?? ""], ["Check", (s) => s.check ?? ""],
    ["Weight", (s) => s.weight, "number"], ["Sessions", (s) => amount(s.sessions), "number"],
    ["Failed", (s) => failed(s.attempts), "number"],
    ["In", (s) => amount(s.bytes_in), "number"], ["Out", (s) => amount(s.bytes_out), "number"],
  ].filter(([, value]) => servers.some((s) => !["", "-"].includes(value(s)))); // what nobody has says nothing
  return table(columns, [...servers].sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state)), "Servers");
}

// "12 requests in 5m 3s, 2 now, 14 ms on average".
function trafficOf(row) {
  const {seconds, sessions, sessions_total, requests, average} = row.item.traffic;
  const what = requests === null ? "connections" : "requests";
  const took = average.total === null ? "" : `, ${average.total} ms on average`;
  return `${amount(sessions_total)} ${what} in ${age(row.aged(seconds))}, ${amount(sessions)} now${took}`;
}

// Whose it is, by whom, until when, and where it comes from, in the words of `status HOST`.
export function certificateWords(certificate) {
  const {subject, issuer, not_after, source} = certificate;
  if (!not_after) return source;
  const days = daysOf(certificate);
  const left = days < 0 ? "expired" : days === 1 ? "1 day" : `${days} days`;
  return `${subject}, signed by ${issuer === subject ? "itself" : issuer}, valid until ${not_after.split("T")[0]} (${left}), ${source}`;
}

function certificateFacts(row) {
  const {served, served_seconds_ago, failure} = row.item.certificate;
  const since = served_seconds_ago === null ? "served" : `served for ${age(row.aged(served_seconds_ago))}`;
  return `${certificateWords(row.item.certificate)}; ${served ? since : `not served: ${failure || "it is being loaded"}`}`;
}

function authorityFacts({subjects, subjects_total, server_name, source}) {
  const more = subjects_total > subjects.length ? ` and ${subjects_total - subjects.length} more` : "";
  const name = server_name ? `the name ${server_name}` : "any name";
  return `servers need a certificate by ${subjects.join(" + ")}${more} (${source}), for ${name}`;
}

function factsOf(row) {
  const {item} = row;
  const facts = [];
  if (row.kind === "host") facts.push(["Listener", item.listener, ""]);
  if (item.pool) facts.push(["Pool", item.pool, ""]);
  if (item.connections_limit) facts.push(["Connections", `${amount(item.connections)} now, at most ${amount(item.connections_most)} so far, limited to ${item.connections_limit}`, ""]);
  if (item.traffic) facts.push(["Traffic", trafficOf(row), ""]);
  const errors = item.traffic?.responses?.["5xx"];
  if (errors) facts.push(["Errors", `${amount(errors)} answered 5xx`, "bad"]);
  if (row.bytesIn !== null) facts.push(["Bytes", `${amount(row.bytesIn)} in, ${amount(row.bytesOut)} out`, ""]);
  if (item.certificate) facts.push(["Certificate", certificateFacts(row), item.certificate.served ? "" : "bad"]);
  if (item.ca) facts.push(["CA", authorityFacts(item.ca), ""]);
  if (row.changed !== null) facts.push(["Changed", `${age(row.changed)} ago`, ""]);
  const list = make("dl");
  list.append(...facts.map(([name, text, colour]) => {
    const fact = make("div");
    fact.append(make("dt", "", name), make("dd", colour, text));
    return fact;
  }));
  return list;
}

function section(title, ...children) {
  const box = make("section");
  box.append(make("h3", "", title), ...children);
  return box;
}

function whyList({why}) {
  const list = make("ul", "why");
  for (const link of why.links) {
    const item = make("li", link.mark);
    const mark = make("span", "step", MARKS[link.mark]);
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", link.mark);
    const text = make("div");
    text.append(make("strong", "", link.name), ` ${link.text}`);
    for (const line of link.lines) text.append(make("div", `line ${line.mark}`, `${MARKS[line.mark]} ${line.text}`));
    if (link.remedy && ["bad", "warn"].includes(link.mark)) text.append(make("div", "remedy", `→ ${link.remedy}`));
    item.append(mark, text);
    list.append(item);
  }
  const end = make("p", why.works ? "good" : "bad", why.works ? "it works" : "it does not work");
  const box = make("div");
  box.append(list, end);
  return box;
}

function historyTable({entries}) {
  if (!entries.length) return make("p", "quiet", "nothing was done to it lately");
  return table([
    ["At", (e) => new Date(e.at_seconds * 1000).toLocaleTimeString("en-GB")],
    ["Command", (e) => e.command, "code"], ["Because of", (e) => e.causes.join(", ")],
    ["Reply", (e) => e.reply || "ok", "", (e) => (e.done ? "" : "bad")],
  ], entries.slice(0, OPERATIONS_MAX), "Last operations");
}

async function answerInto(box, path, draw) {
  let drawn;
  try {
    drawn = draw(await ask(path));
  } catch (error) {
    drawn = make("p", "bad", error.message);
  }
  // What has the focus, or is scrolled, stays as it is while nothing is new.
  if (box.firstElementChild?.outerHTML !== drawn.outerHTML) box.replaceChildren(drawn);
}

function askMore(it) {
  it.askedAt = performance.now();
  const {row} = it;
  const subject = row.kind === "port" ? row.name : row.item.route;
  if (subject) answerInto(it.why, `api/why?subject=${encodeURIComponent(subject)}`, whyList);
  if (row.kind === "port") answerInto(it.history, `api/history?port=${row.name}`, historyTable);
  if (row.kind === "host") answerInto(it.history, `api/history?backend=${encodeURIComponent(row.item.backend)}`, historyTable);
}

export function closeDetails() {
  opened = null;
}

export function drawDetails(box, row) {
  if (opened?.key !== row.key || opened.box !== box || !box.children.length) {
    const it = {key: row.key, box, row: null, now: make("div", "now"), why: make("div"), history: make("div")};
    it.why.append(make("p", "quiet", "asking…"));
    const side = [section(row.item.route || row.kind === "port" ? "Why" : "", it.why)];
    if (row.kind !== "refused") {
      it.history.append(make("p", "quiet", "asking…"));
      side.push(section("Last operations", it.history));
    }
    const whole = make("div", "details");
    whole.append(it.now, ...side);
    box.replaceChildren(whole);
    opened = it;
  }
  const isNew = opened.row !== row;
  const first = opened.row === null;
  opened.row = row;
  if (isNew) {
    const problems = make("ul", "notes");
    problems.append(...row.problems.map(([level, , text]) => make("li", level, text)));
    const servers = row.item.servers?.length ? [section("Servers", serverTable(row.item.servers))] : [];
    opened.now.replaceChildren(...(row.problems.length ? [problems] : []), ...servers, section(row.kind === "refused" ? "" : "Facts", factsOf(row)));
  } else {
    opened.now.querySelector("dl")?.replaceWith(factsOf(row));
  }
  if (first || performance.now() - opened.askedAt > AGAIN_MS) askMore(opened);
}
