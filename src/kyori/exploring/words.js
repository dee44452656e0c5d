// What the page says, in its language, and how it asks the server.

let texts = {};
export const speak = (words) => (texts = words);
export const say = (key, fields = {}) => texts[key].replace(/\{(\w+)\}/g, (_, name) => fields[name]);
export const count = (n) => n.toLocaleString(document.documentElement.lang);
export const distanceText = (d) => (d === 0 ? "0" : d.toPrecision(4));

export const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
};

// The server writes pictures as markup in which everything foreign is escaped.
export const picture = (markup) => {
  const template = document.createElement("template");
  template.innerHTML = markup;
  return template.content;
};

export const ask = async (path, fields = {}, options = {}) => {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) for (const one of [value].flat()) query.append(name, one);
  let answer;
  try {
    answer = await fetch(`${path}?${query}`, options);
  } catch {
    throw new Error(say("gone"));
  }
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return answer;
};
export const askJson = async (path, fields) => (await ask(path, fields)).json();

// Items as a gallery shows them; those that were asked for before are kept.
const KEPT = 3000;
const known = new Map();
export const remember = (item) => {
  known.delete(item.row);
  known.set(item.row, item);
  if (known.size > KEPT) known.delete(known.keys().next().value);
};
export const briefs = async (rows) => {
  const found = new Map(rows.filter((row) => known.has(row)).map((row) => [row, known.get(row)]));
  const missing = rows.filter((row) => !found.has(row));
  if (missing.length) {
    for (const item of (await askJson("items", { row: missing })).items) {
      remember(item);
      found.set(item.row, item);
    }
  }
  return rows.map((row) => found.get(row));
};
