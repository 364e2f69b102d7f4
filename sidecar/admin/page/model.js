// What is known: the rows, as /api/updates tells them and what changed of them, and what came of
// their sessions since the page was opened. Draws nothing.

import {certificateMark, daysOf} from "./problems.js";

const KEPT_SECONDS = 300;
const TRACE_MAX = 150;
const STATES = ["ready", "down", "drain", "maint"];
const LEVELS = {bad: 3, warn: 2, note: 1};

export const now = () => Date.now() / 1000;

export function titleOf(item) {
  return item.host + (item.host && item.port ? `:${item.port}` : "") + item.path;
}

function states(servers) {
  const counts = new Map();
  for (const server of servers) counts.set(server.state, (counts.get(server.state) ?? 0) + 1);
  return STATES.filter((state) => counts.has(state)).map((state) => `${state} ${counts.get(state)}`).join(", ");
}

function searchOf(row) {
  const {item} = row;
  const parts = [row.name, row.kind, row.state, row.route, item.pool, item.listener, item.backend, item.reason, row.certificate];
  for (const server of item.servers ?? []) parts.push(server.address, server.state, server.pod, server.node, server.service, server.slot);
  if (item.certificate) parts.push(item.certificate.subject, item.certificate.issuer, item.certificate.source);
  for (const [, group, text] of row.problems) parts.push(group, text);
  return parts.filter(Boolean).join("\n").toLowerCase();
}

// A row of the table. `item`: the report's own; `at`: when it came, from which on its ages count.
class Row {
  constructor(item, at, before) {
    this.item = item;
    this.key = item.key;
    this.at = at;
    this.kind = item.key.startsWith("port:") ? "port" : item.key.startsWith("route:") ? "refused" : "host";
    this.name = this.kind === "port" ? String(item.port) : titleOf(item) || (item.port ? String(item.port) : item.route);
    const traffic = item.traffic ?? item;
    this.state = this.kind === "refused" ? "refused" : item.failure ? "failing" : item.held ? `${item.state}, held` : item.state;
    this.route = item.route ?? (item.shared ? "by SNI" : "-");
    this.servers = item.servers ? states(item.servers) || "none" : "";
    this.sessions = (this.kind === "host" ? item.traffic?.sessions : item.sessions) ?? null;
    this.rate = traffic.sessions_per_second ?? null;
    this.bytesIn = traffic.bytes_in ?? null;
    this.bytesOut = traffic.bytes_out ?? null;
    this.days = daysOf(item.certificate);
    this.problems = item.problems; // [level, group, text], the worst first
    [this.certificateColour, this.certificate] = certificateMark(item.certificate, this.problems);
    this.level = Math.max(0, ...this.problems.map(([level]) => LEVELS[level]));
    this.trace = before?.trace ?? [];
    if (this.trace.at(-1)?.[1] !== (this.sessions ?? 0)) this.trace.push([at, this.sessions ?? 0]);
    if (this.trace.length > TRACE_MAX) this.trace.shift();
    this.searched = null;
  }

  get search() {
    this.searched ??= searchOf(this);
    return this.searched;
  }

  // Seconds, of an age that was told when the row came.
  aged(seconds) {
    return seconds === null || seconds === undefined ? null : seconds + now() - this.at;
  }

  get changed() {
    return this.aged(this.item.changed_seconds_ago ?? null);
  }

  get isProblem() {
    return this.level >= LEVELS.warn;
  }

  in(group) {
    return this.problems.some(([, name]) => name === group);
  }

  has(words) {
    return words.every((word) => this.search.includes(word));
  }
}

export class Model {
  constructor() {
    this.version = "";
    this.head = null;
    this.problems = []; // what is about no single row
    this.rows = new Map();
    this.totals = []; // [when, sessions], the oldest first
  }

  // How many seconds of sessions there are. A page that was just opened shows what it has seen, as
  // wide as a chart.
  get span() {
    return Math.max(30, now() - (this.totals[0]?.[0] ?? now()));
  }

  take(update) {
    const at = now();
    const before = this.rows;
    if (update.whole) this.rows = new Map();
    for (const item of update.rows) this.rows.set(item.key, new Row(item, at, before.get(item.key)));
    for (const key of update.gone) this.rows.delete(key);
    this.version = update.version;
    this.head = update.head;
    this.problems = update.problems;
    let total = 0;
    for (const row of this.rows.values()) total += row.sessions ?? 0;
    this.totals.push([at, total]);
    while (this.totals[0][0] < at - KEPT_SECONDS) this.totals.shift();
  }
}

// How rows are compared, by the name of a column. What is not known is last in either direction.
const VALUES = {
  state: (row) => row.state,
  route: (row) => row.route,
  servers: (row) => row.item.servers?.length ?? null,
  sessions: (row) => row.sessions,
  rate: (row) => row.rate,
  in: (row) => row.bytesIn,
  out: (row) => row.bytesOut,
  certificate: (row) => row.days,
  changed: (row) => row.changed,
};

const KINDS = {port: 0, host: 1, refused: 2};
const words = new Intl.Collator("en", {numeric: true});

const byName = (a, b) => KINDS[a.kind] - KINDS[b.kind] || words.compare(a.name, b.name) || words.compare(a.key, b.key);

export function sorted(rows, sort) {
  const down = sort.startsWith("-");
  const value = VALUES[down ? sort.slice(1) : sort];
  const sign = down ? -1 : 1;
  if (!value) return rows.sort((a, b) => sign * byName(a, b));
  return rows.map((row) => [value(row), row]).sort(([a, one], [b, other]) => {
    if (a === null || b === null) return (a === null) - (b === null) || byName(one, other);
    return sign * (typeof a === "string" ? words.compare(a, b) : a - b) || byName(one, other);
  }).map(([, row]) => row);
}

// The rows that are asked for, but for their kind.
export function chosen(model, {q, only}) {
  const asked = q.toLowerCase().split(/\s+/).filter(Boolean);
  const meant = (row) => (!only || (only === "problems" ? row.isProblem : row.in(only))) && row.has(asked);
  return [...model.rows.values()].filter(meant);
}
