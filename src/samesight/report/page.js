"use strict";
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent;
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const numbers = head.classList.contains("number");
      const was = head.getAttribute("aria-sort");
      const up = was ? was === "descending" : !numbers;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        if (!numbers) return (up ? 1 : -1) * x.localeCompare(y, undefined, { numeric: true });
        const [m, n] = [parseFloat(x), parseFloat(y)];
        if (isNaN(m) || isNaN(n)) return isNaN(m) - isNaN(n);
        return up ? m - n : n - m;
      });
      body.append(...rows);
    });
  });
}
