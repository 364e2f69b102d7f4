// Elements and words. Names and messages are users' text: everything goes through textContent,
// nothing through innerHTML.

export const byId = (id) => document.getElementById(id);

export function make(tag, className, text) {
  const item = document.createElement(tag);
  if (className) item.className = className;
  if (text !== undefined) item.textContent = text;
  return item;
}

export function shape(tag, attributes) {
  const item = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) item.setAttribute(name, value);
  return item;
}

// Lets `parent` have just these children. Moving an element would take the focus from it.
export function keep(parent, children) {
  const same = children.length === parent.children.length && children.every((item, index) => item === parent.children[index]);
  if (same) return;
  const focused = document.activeElement;
  parent.replaceChildren(...children);
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus({preventScroll: true});
}

export function setText(item, text) {
  const wanted = String(text);
  if (item.textContent !== wanted) item.textContent = wanted;
}

export function age(seconds) {
  if (seconds === null || seconds === undefined) return "-";
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

export function amount(number) {
  if (number === null || number === undefined) return "-";
  let size = number;
  for (const unit of ["", "k", "M", "G"]) {
    if (size < 999.5) return (unit && size < 9.95 ? size.toFixed(1) : size.toFixed(0)) + unit;
    size /= 1000;
  }
  return size.toFixed(1) + "T";
}

export const whole = (number) => number.toLocaleString("en");

export const counted = (number, what) => `${whole(number)} ${what}${number === 1 ? "" : "s"}`;
