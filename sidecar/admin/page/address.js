// What is shown, as the page's address has it: so the back button works, and a link shows another
// person the same. Owns the query of the URL, nothing else.

export const DEFAULTS = {q: "", show: "all", only: "", sort: "name", page: "", open: ""};

let listener = () => {};
let typing = false;

export function shown() {
  const query = new URLSearchParams(location.search);
  return Object.fromEntries(Object.entries(DEFAULTS).map(([name, usual]) => [name, query.get(name) ?? usual]));
}

// The address with these `changes`.
function addressOf(changes) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({...shown(), ...changes})) {
    if (value !== DEFAULTS[name]) query.set(name, value);
  }
  const text = query.toString();
  return location.pathname + (text ? `?${text}` : "");
}

// Letters of one word are one step back.
export function go(changes, {letter = false} = {}) {
  const address = addressOf(changes);
  if (address === location.pathname + location.search) return;
  if (letter && typing) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  typing = letter;
  listener();
}

export function onChange(heard) {
  listener = heard;
  addEventListener("popstate", () => {
    typing = false;
    listener();
  });
}
