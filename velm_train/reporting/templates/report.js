"use strict";
/* Tables sort by column, the gallery filters and sorts, print opens what is folded. The page is whole without this. */
(() => {
  const text = (node) => node.textContent.replace(/\s+/g, " ").trim();

  /* A number if the cell starts with one, else its words; null where there is no figure. */
  const keyOf = (cell) => {
    if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    const words = text(cell.querySelector(".value") ?? cell);
    if (words === "" || words === "\u2013") return null;
    const number = /^[+\u2212-]?\d+(\.\d+)?/.exec(words);
    if (number && cell.tagName === "TD") return Number(number[0].replace("\u2212", "-"));
    return cell.classList.contains("figure") ? null : words.toLowerCase();
  };

  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

  const sortTable = (table, column, descending) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, key: keyOf(row.cells[column]) }));
    const known = rows.filter(({ key }) => key !== null).sort((a, b) => compare(a.key, b.key) * (descending ? -1 : 1));
    body.append(...known.map(({ row }) => row), ...rows.filter(({ key }) => key === null).map(({ row }) => row));
  };

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.dataset.unsorted !== undefined) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const first = column === 0 ? "ascending" : "descending";
        const now = head.getAttribute("aria-sort");
        const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        sortTable(table, column, next === "descending");
      });
    });
  }

  const controls = document.getElementById("gallery-controls");
  if (controls) {
    const gallery = document.getElementById("gallery");
    const cards = [...gallery.children];
    const shown = document.getElementById("gallery-shown");
    const fields = controls.elements;
    const orders = {
      "errors first": () => 0,
      "image": (a, b) => a.dataset.image.localeCompare(b.dataset.image),
      "score, highest first": (a, b) => b.dataset.score - a.dataset.score,
      "score, lowest first": (a, b) => a.dataset.score - b.dataset.score,
      "probability, highest first": (a, b) => b.dataset.probability - a.dataset.probability,
      "probability, lowest first": (a, b) => a.dataset.probability - b.dataset.probability,
    };
    const apply = () => {
      const wanted = fields.words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let number = 0;
      for (const card of cards) {
        const said = `${card.dataset.image} ${text(card)}`.toLowerCase();
        const keep = ["category", "outcome", "look"].every(
          (name) => !fields[name] || fields[name].value === "" || card.dataset[name] === fields[name].value
        );
        card.hidden = !(keep && wanted.every((word) => said.includes(word)));
        number += card.hidden ? 0 : 1;
      }
      shown.value = `${number} of ${cards.length} images`;
    };
    const arrange = () => gallery.append(...[...cards].sort(orders[fields.order.value]));
    controls.addEventListener("input", apply);
    fields.order.addEventListener("change", arrange);
    controls.addEventListener("submit", (event) => event.preventDefault());
    controls.addEventListener("reset", () => setTimeout(() => { apply(); arrange(); }));
    controls.hidden = false;
    apply();
  }

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
})();
