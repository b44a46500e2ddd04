// Tables are sorted by a click on a head; curves are hidden and shown by their buttons.
"use strict";

// A number where the cell begins with one; a run that diverged, or is missing, is no number.
function key(cell) {
  const text = cell.textContent.trim();
  const number = /^[-+]?[\d.,]+(e[-+]?\d+)?/i.exec(text);
  if (!number || /diverged$/.test(text)) return text;
  return parseFloat(number[0].replace(/,/g, ""));
}

// Rising or falling, what is no number comes last.
function compare(a, b, sign) {
  const numbers = [typeof a === "number", typeof b === "number"];
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
  return sign * (numbers[0] ? a - b : a.localeCompare(b));
}

function sort(head) {
  const column = head.cellIndex;
  const falling = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const body = head.closest("table").tBodies[0];
  const rows = Array.from(body.rows, (row) => [key(row.cells[column]), row]);
  rows.sort((a, b) => compare(a[0], b[0], falling ? -1 : 1));
  body.append(...rows.map((pair) => pair[1]));
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.closest("th")));
}

for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    for (const line of document.querySelectorAll("." + button.dataset.line)) {
      line.style.display = shown ? "" : "none";
    }
  });
}
