// As much of a browser's document as the script of the page's table uses. Reads {heads, rows, script, actions} from
// the standard input; prints, after each action, the numbers of the rows that the table shows, from the top.
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));

class Element {
  constructor(fields) { Object.assign(this, { attributes: {}, listeners: {}, children: [] }, fields); }
  addEventListener(event, action) { this.listeners[event] = action; }
  hasAttribute(name) { return name in this.attributes; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  replaceChildren(...children) { this.children = children; }
  append(...children) { this.children.push(...children); }
  get classList() { return { contains: (name) => (this.attributes.class ?? "").split(" ").includes(name) }; }
}
const camel = (name) => name.replace(/^data-/, "").replace(/-(.)/g, (_, letter) => letter.toUpperCase());
const dataset = (attributes) => Object.fromEntries(
  Object.entries(attributes).filter(([name]) => name.startsWith("data-")).map(([name, value]) => [camel(name), value]));
const heads = given.heads.map(({ text, ...attributes }) => new Element({ attributes, dataset: dataset(attributes), textContent: text }));
const rows = given.rows.map(({ data, cells }, number) => new Element({
  number, hidden: false, dataset: dataset(data),
  cells: cells.map(({ value, text }) => ({ dataset: value === null ? {} : { value }, textContent: text })),
}));
const body = {
  rows,
  append(...moved) { this.rows = [...this.rows.filter((row) => !moved.includes(row)), ...moved]; },
};
const filters = new Element({});
globalThis.Option = class { constructor(text, value = text) { Object.assign(this, { text, value }); } };
globalThis.document = {
  getElementById: (id) => ({ "leaderboard-table": { tBodies: [body], tHead: { rows: [{ cells: heads }] } }, filters })[id],
  createElement: (tag) => new Element({ tag, value: "" }),
};
new Function(given.script)();
const shown = given.actions.map(([action, what, value]) => {
  if (action === "click") {
    heads[what].children[0].listeners.click();
  } else {
    const select = filters.children.map((label) => label.children[1])[["collection", "predictor", "kind"].indexOf(what)];
    if (!select.children.some((option) => option.value === value)) throw new Error(`no option ${value}`);
    select.value = value;
    select.listeners.change();
  }
  return body.rows.filter((row) => !row.hidden).map((row) => row.number);
});
console.log(JSON.stringify(shown));
