// Sorts the leaderboard by a click on a heading and filters it; without scripts it is a plain table, best first.
const table = document.getElementById("leaderboard-table");
const body = table.tBodies[0];
[...table.tHead.rows[0].cells].forEach((head, column) => {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const falls = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && !head.dataset.high);
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falls ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const compare = (a, b) => head.classList.contains("n") ? a - b : a.localeCompare(b);
    const known = (row) => value(row) !== "";
    const rows = [...body.rows];
    const sorted = rows.filter(known).sort((a, b) => compare(value(a), value(b)) * (falls ? 1 : -1));
    body.append(...sorted, ...rows.filter((row) => !known(row)));
  });
});
const filters = document.getElementById("filters");
const chosen = {};
for (const name of ["collection", "predictor", "kind"]) {
  const values = [...new Set([...body.rows].map((row) => row.dataset[name]))];
  if (values.length < 2) continue;
  const select = document.createElement("select");
  select.append(new Option("all", ""), ...values.map((value) => new Option(value)));
  select.addEventListener("change", () => {
    chosen[name] = select.value;
    for (const row of body.rows) row.hidden = Object.entries(chosen).some(([key, value]) => value && row.dataset[key] !== value);
  });
  const label = document.createElement("label");
  label.append(name === "kind" ? "sees " : name + " ", select);
  filters.append(label);
}
