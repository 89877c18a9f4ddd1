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
    const words = filter.value.toLowerCase(), rows = [...document.getElementById("refusals").tBodies[0].rows];
    rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(words); });
    const left = rows.filter((row) => !row.hidden).length;
    document.getElementById("count").textContent = `${left} line${left === 1 ? "" : "s"}`;
  });

  const source = document.getElementById("picture");
  if (!source) return;
  const started = performance.now(), picture = JSON.parse(source.textContent);
  const left = new Set(picture.after.map((box) => box.region));
  const gone = new Set(picture.before.map((box) => box.region).filter((region) => region >= 0 && !left.has(region)));
  const details = document.getElementById("details"), nothing = [...details.childNodes];
  const panes = {};
  const choose = (what) => {
    if (what === null) { for (const pane of Object.values(panes)) pane.mark(null); details.replaceChildren(...nothing); return; }
    const box = picture[what.side][what.index], region = box.region;
    const inRegion = (boxes) => boxes.flatMap((each, i) => (each.region === region ? [i] : []));
    let old, now;
    if (region >= 0) { old = inRegion(picture.before); now = inRegion(picture.after); }
    else if (what.side === "after") { old = [...box.origins]; now = [what.index]; }
    else { old = [what.index]; now = picture.after.flatMap((each, i) => (each.region < 0 && each.origins.includes(what.index) ? [i] : [])); }
    panes.before.mark(new Set(old)); panes.after.mark(new Set(now));
    const other = what.side === "before" ? [panes.after, now] : [panes.before, old];
    if (other[1].length) other[0].show(other[1]);
    details.replaceChildren(...tell(picture, old, now, region));
  };
  for (const figure of document.querySelectorAll(".pane")) {
    const side = figure.dataset.side, hidden = picture.hidden[side === "before" ? 0 : 1];
    panes[side] = new Pane(figure, picture[side], hidden, gone, choose);
  }
  root.dataset.drawn = Math.round(performance.now() - started);
})();
