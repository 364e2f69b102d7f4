// What is wrong, on top of the page: one line for each kind of problem, worst first, whose parts
// lead to the rows that they are about.

import {go} from "./address.js";
import {byId, counted, make, whole} from "./dom.js";
import {GROUPS} from "./problems.js";

// Of one kind, so many are named.
const NAMED_MAX = 3;

let drawn = "";

// What a person clicks to see one row, wherever it is.
function linkTo(row) {
  const link = make("button", "link", row.kind === "refused" ? row.route : row.name);
  link.type = "button";
  link.addEventListener("click", () => go({open: row.key, q: "", only: "", show: "all", page: ""}));
  return link;
}

function groupItem(colour, title, lines, more) {
  const item = make("li", colour);
  const list = make("ul");
  list.append(...lines, ...more);
  item.append(title, list);
  return item;
}

function lineOf(parts) {
  const line = make("li");
  line.append(...parts);
  return line;
}

function groupOf(name, found) {
  const bad = found.some(({level}) => level === "bad");
  const title = make("button", "link title", `${whole(found.length)} ${GROUPS[name]}`);
  title.type = "button";
  title.addEventListener("click", () => go({only: name, q: "", show: "all", page: "", open: ""}));
  const lines = found.slice(0, NAMED_MAX).map(({row, text}) => lineOf([linkTo(row), make("span", "", `${row.kind === "refused" || row.route === "-" ? "" : ` ${row.route}`}: ${text}`)]));
  const left = found.length - NAMED_MAX;
  const more = [];
  if (left > 0) {
    const rest = make("button", "link quiet", `and ${whole(left)} more`);
    rest.type = "button";
    rest.addEventListener("click", () => title.click());
    more.push(lineOf([rest]));
  }
  return groupItem(bad ? "bad" : "warn", title, lines, more);
}

function routerGroup(found) {
  const bad = found.some(([level]) => level === "bad");
  const lines = found.slice(0, NAMED_MAX).map(([, , text]) => lineOf([make("span", "", text)]));
  const more = [];
  if (found.length > NAMED_MAX) {
    const rest = make("details");
    const list = make("ul");
    list.append(...found.slice(NAMED_MAX).map(([, , text]) => lineOf([make("span", "", text)])));
    rest.append(make("summary", "quiet", `and ${whole(found.length - NAMED_MAX)} more`), list);
    more.push(lineOf([rest]));
  }
  return groupItem(bad ? "bad" : "warn", make("span", "title", `${whole(found.length)} router-wide`), lines, more);
}

export function drawStrip(model) {
  const groups = new Map(Object.keys(GROUPS).map((name) => [name, []]));
  const certificates = new Set();
  for (const row of model.rows.values()) {
    for (const [level, group, text] of row.problems) {
      if (!group) continue;
      // All paths of a host have one certificate.
      if (group === "certificate") {
        const own = `${row.item.host} ${text}`;
        if (certificates.has(own)) continue;
        certificates.add(own);
      }
      groups.get(group).push({level, text, row});
    }
  }
  const own = model.problems;
  const present = [...groups].filter(([, found]) => found.length);
  // Numbers in texts change all the time, and buttons under the pointer must not go.
  const signature = JSON.stringify([own, present.map(([name, found]) => [name, found.length, found.slice(0, NAMED_MAX).map(({row, text}) => [row.key, text])])]);
  if (signature === drawn) return;
  drawn = signature;
  const rows = new Set(present.flatMap(([, found]) => found.map(({row}) => row)));
  const number = own.length + rows.size;
  byId("problems").hidden = false;
  byId("problems").className = number ? "" : "fine";
  byId("problems-title").textContent = number ? counted(number, "problem") : "No problems";
  const focused = document.activeElement;
  const place = [...byId("problems").querySelectorAll("button")].indexOf(focused);
  byId("problem-groups").replaceChildren(...(own.length ? [routerGroup(own)] : []), ...present.map(([name, found]) => groupOf(name, found)));
  if (place >= 0) byId("problems").querySelectorAll("button")[place]?.focus({preventScroll: true});
}
