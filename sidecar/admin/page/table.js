// The table of ports and hosts: one page of the rows that are asked for, in the order that is asked
// for. Rows are kept while they are shown, so what has the focus keeps it.

import {go, shown} from "./address.js";
import {drawTrace} from "./charts.js";
import {closeDetails, drawDetails} from "./details.js";
import {age, amount, byId, counted, keep, make, setText, shape, whole} from "./dom.js";
import {chosen, now, sorted} from "./model.js";
import {GROUPS} from "./problems.js";

const PER_PAGE = 50;
const COLOURS = {open: "good", closed: "warn", unknown: "bad", failing: "bad", refused: "bad"};
const KINDS = {all: "All", port: "Ports", host: "Hosts", refused: "Not served"};

// name, title, class, whether the biggest is first
const COLUMNS = [
  ["name", "Port or host", "which"], ["state", "State", ""], ["route", "Route", ""], ["servers", "Servers", ""],
  ["certificate", "Certificate", "wide"], ["sessions", "Sessions", "number", true], ["", "", "wide trend"],
  ["rate", "New/s", "number wide", true], ["in", "In", "number wider", true], ["out", "Out", "number wider", true],
  ["changed", "Changed", "number wide"],
];

const bodies = new Map(); // key -> its elements
let page = 1;

function newBody(row) {
  const body = make("tbody");
  body.dataset.key = row.key;
  body.setAttribute("role", "rowgroup");
  const line = make("tr", "row");
  line.setAttribute("role", "row");
  const cells = COLUMNS.map(([name, , kind]) => {
    const cell = make(name === "name" ? "th" : "td", `${kind} of-${name || "trend"}`);
    cell.setAttribute("role", name === "name" ? "rowheader" : "cell");
    return cell;
  });
  cells[0].scope = "row";
  const button = make("button", "name");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  cells[0].append(button);
  const chart = shape("svg", {viewBox: "0 0 80 20", preserveAspectRatio: "none", "aria-hidden": "true"});
  cells[6].append(chart);
  line.append(...cells);
  line.addEventListener("click", (event) => {
    // Who marks text to copy it does not mean the row.
    if (event.target !== button && getSelection().toString()) return;
    toggle(row.key);
  });
  const under = [];
  for (const kind of ["note", "more"]) {
    const tr = make("tr", kind);
    const td = make("td");
    tr.setAttribute("role", "row");
    td.setAttribute("role", "cell");
    td.colSpan = COLUMNS.length;
    tr.hidden = true;
    tr.append(td);
    under.push([tr, td]);
  }
  body.append(line, under[0][0], under[1][0]);
  return {body, cells, button, chart, note: under[0], more: under[1]};
}

function toggle(key) {
  go({open: shown().open === key ? "" : key, page: page > 1 ? String(page) : ""});
}

// `span`: how many seconds the small charts show.
function drawRow(row, isOpen, span) {
  let it = bodies.get(row.key);
  if (!it) {
    it = newBody(row);
    bodies.set(row.key, it);
  }
  it.body.className = row.level === 3 ? "bad" : row.level === 2 ? "warn" : "";
  const texts = [null, row.state, row.route, row.servers, row.certificate, amount(row.sessions), null,
    amount(row.rate), amount(row.bytesIn), amount(row.bytesOut), age(row.changed)];
  texts.forEach((text, index) => { if (text !== null) setText(it.cells[index], row.kind === "refused" && text === "-" ? "" : text); });
  setText(it.button, row.name);
  it.cells[1].className = `of-state ${COLOURS[row.state.split(",")[0]]}`;
  it.cells[3].className = `of-servers ${row.item.servers?.some((server) => server.state === "down") ? "warn" : ""}`;
  it.cells[4].className = `wide of-certificate ${row.certificateColour}`;
  drawTrace(it.chart, row.trace, now(), span);
  const worst = row.problems.find(([level]) => level === "bad") ?? row.problems.find(([level]) => level === "warn");
  it.note[0].hidden = isOpen || !worst;
  setText(it.note[1], worst ? worst[2] : "");
  it.button.setAttribute("aria-expanded", String(isOpen));
  it.body.classList.toggle("open", isOpen);
  it.more[0].hidden = !isOpen;
  if (isOpen) drawDetails(it.more[1], row);
  else it.more[1].replaceChildren();
  return it.body;
}

function drawHead(sort) {
  const head = byId("head");
  if (!head.children.length) {
    head.append(...COLUMNS.map(([name, title, kind, biggest]) => {
      const cell = make(name ? "th" : "td", `${kind} of-${name || "trend"}`);
      cell.setAttribute("role", name ? "columnheader" : "cell");
      if (!name) return cell;
      cell.scope = "col";
      cell.dataset.sort = name;
      const button = make("button", "sort", title);
      button.type = "button";
      button.addEventListener("click", () => {
        const first = biggest ? `-${name}` : name;
        const other = biggest ? name : `-${name}`;
        go({sort: shown().sort === first ? other : first, page: ""});
      });
      cell.append(button);
      return cell;
    }));
  }
  for (const cell of head.children) {
    const sorts = cell.dataset.sort === sort.replace("-", "");
    if (sorts) cell.setAttribute("aria-sort", sort.startsWith("-") ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
}

// How many of each kind, which are also what to choose from.
function drawKinds(rows, show) {
  const box = byId("kinds");
  if (!box.querySelector("input")) {
    for (const kind of Object.keys(KINDS)) {
      const label = make("label");
      const input = make("input");
      Object.assign(input, {type: "radio", name: "show", value: kind});
      input.addEventListener("change", () => go({show: kind, page: "", open: ""}));
      label.append(input, make("span"));
      box.append(label);
    }
  }
  for (const label of box.querySelectorAll("label")) {
    const [input, text] = label.children;
    const number = input.value === "all" ? rows.length : rows.filter((row) => row.kind === input.value).length;
    input.checked = input.value === show;
    setText(text, `${KINDS[input.value]} ${whole(number)}`);
  }
}

function drawPager(count, pages) {
  const first = (page - 1) * PER_PAGE;
  setText(byId("count"), count > PER_PAGE ? `${whole(first + 1)} to ${whole(Math.min(count, first + PER_PAGE))} of ${whole(count)}` : counted(count, "row"));
  const box = byId("pages");
  box.hidden = pages < 2;
  if (!box.children.length) {
    for (const [title, target] of [["first", () => 1], ["previous", () => page - 1], ["next", () => page + 1], ["last", (most) => most]]) {
      const button = make("button", "", title);
      button.type = "button";
      button.addEventListener("click", () => {
        go({page: String(target(Number(box.dataset.pages))), open: ""});
        byId("table").scrollIntoView({block: "nearest"});
      });
      box.append(button);
    }
  }
  box.dataset.pages = pages;
  [page < 2, page < 2, page >= pages, page >= pages].forEach((off, index) => { box.children[index].disabled = off; });
}

function drawBar({q, only}) {
  const filter = byId("filter");
  if (filter.value.trim() !== q) filter.value = q;
  byId("only").checked = only !== "";
  const group = byId("group");
  group.hidden = !(only in GROUPS);
  setText(group, group.hidden ? "" : `${GROUPS[only]} ×`);
  group.setAttribute("aria-label", `not only those ${GROUPS[only] ?? ""}`);
}

export function drawTable(model) {
  const asked = shown();
  const found = chosen(model, asked);
  const rows = sorted(asked.show === "all" ? found : found.filter((row) => row.kind === asked.show), asked.sort);
  const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
  const place = asked.open ? rows.findIndex((row) => row.key === asked.open) : -1;
  const wanted = asked.page ? Number.parseInt(asked.page, 10) || 1 : Math.floor(Math.max(0, place) / PER_PAGE) + 1;
  page = Math.min(pages, Math.max(1, wanted));
  const visible = rows.slice((page - 1) * PER_PAGE, page * PER_PAGE);
  for (const key of bodies.keys()) if (!visible.some((row) => row.key === key)) bodies.delete(key);
  drawHead(asked.sort);
  drawKinds(found, asked.show);
  drawBar(asked);
  byId("table").classList.toggle("no-certificates", ![...model.rows.values()].some((row) => row.certificate));
  if (!visible.some((row) => row.key === asked.open)) closeDetails();
  keep(byId("table"), [byId("table").tHead, ...visible.map((row) => drawRow(row, row.key === asked.open, model.span))]);
  byId("table").hidden = !visible.length;
  byId("nothing").hidden = visible.length > 0;
  setText(byId("nothing"), model.rows.size ? "nothing is like that" : "no Route has a port or a host");
  drawPager(rows.length, pages);
}

// Lets a person see the row that was led to.
export function reveal(key) {
  const it = bodies.get(key);
  if (!it) return;
  it.button.focus({preventScroll: true});
  it.body.scrollIntoView({block: "nearest"});
}

// The focus goes to the row above or below.
export function step(from, by) {
  const buttons = [...byId("table").querySelectorAll("button.name")];
  const place = buttons.indexOf(from);
  buttons[place < 0 ? 0 : place + by]?.focus();
}
