(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`); };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  name();

  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead th").forEach((th, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button"; sorter.textContent = th.textContent; th.replaceChildren(sorter);
      sorter.addEventListener("click", () => {
        const up = th.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = table.tBodies[0], number = th.classList.contains("n");
        const key = (row) => { const cell = row.cells[column]; return cell.dataset.key ?? cell.textContent; };
        const value = (row) => (number ? Number.parseFloat(key(row).replace(/^[^\d.]*/, "").replaceAll(",", "")) || 0 : key(row));
        const order = number ? (a, b) => value(a) - value(b) : (a, b) => value(a).localeCompare(value(b), "en", { numeric: true });
        body.append(...[...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a))));
      });
    });
  }

  const filter = document.getElementById("filter");
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase(), rows = [...document.getElementById(filter.getAttribute("aria-controls")).tBodies[0].rows];
    rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(words); });
    const left = rows.filter((row) => !row.hidden).length;
    document.getElementById("count").textContent = `${left} line${left === 1 ? "" : "s"}`;
  });
})();
