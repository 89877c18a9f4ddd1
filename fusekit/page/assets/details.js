// What is told of the selected operator: its layers, the laws, the candidates. All text is set as text.
function made(name, words, ...children) {
  const element = document.createElement(name);
  for (const key in words) element.setAttribute(key, words[key]);
  element.append(...children);
  return element;
}

function tableOf(headings, rows, right = []) {
  const cell = (kind, text, i) => made(kind, right.includes(i) ? { class: "n" } : {}, text);
  const head = made("tr", {}, ...headings.map((text, i) => { const th = cell("th", text, i); th.scope = "col"; return th; }));
  return made("div", { class: "scroll" }, made("table", {}, made("thead", {}, head), made("tbody", {}, ...rows.map((row) => made("tr", {}, ...row.map((text, i) => cell("td", text, i)))))));
}

const SHOWN = ["kernel", "stride", "padding", "dilation", "groups", "channels", "receptive field", "parameters", "MACs", "output"];

function boxesTable(boxes) {
  const facts = boxes.map(factsOf), names = SHOWN.filter((name) => facts.some((each) => each[name]));
  const rows = boxes.map((box, i) => [box.operator, box.where, ...names.map((name) => facts[i][name] ?? "")]);
  return tableOf(["operator", "layer", ...names], rows, names.map((name, i) => (name === "parameters" || name === "MACs" ? i + 2 : -1)));
}

function tell(picture, old, now, region) {
  const inside = new Set(old), events = picture.events.filter((event) => event.boxes.some((i) => inside.has(i)));
  const applied = events.filter((event) => event.outcome === "applied"), others = events.filter((event) => event.outcome !== "applied");
  const parts = [], boxes = (now.length ? now.map((i) => picture.after[i]) : old.map((i) => picture.before[i]));
  const title = made("h3", {}, boxes.map((box) => box.where || box.operator).slice(0, 2).join(", "));
  if (region >= 0) { const swatch = made("span", { class: "swatch" }); swatch.style.setProperty("--c", colourOf(region)); title.prepend(swatch); }
  parts.push(title);
  const count = (n) => `${n} operator${n === 1 ? "" : "s"}`;
  if (region < 0) parts.push(made("p", { class: "hint" }, picture.words.same));
  else parts.push(made("p", { class: "hint" }, `Number ${region + 1}: ${count(old.length)} ${picture.words.became} ${now.length ? count(now.length) : "nothing"}.`));
  if (applied.length) {
    parts.push(made("h4", {}, picture.words.laws));
    for (const law of new Set(applied.map((event) => event.rewrite))) {
      const ours = applied.filter((event) => event.rewrite === law), errors = ours.map((event) => Number(event.error)).filter((e) => !Number.isNaN(e));
      const worst = errors.length ? `; float64 error of the check at most ${Math.max(...errors).toExponential(1)}` : "";
      const changes = [...new Set(ours.map((event) => event.change).filter(Boolean))].slice(0, 4).join("; ");
      const prices = [...new Set(ours.map((event) => event.price).filter(Boolean))].slice(0, 4).join(", ");
      parts.push(made("p", { class: "formula" }, picture.laws[law] || law));
      parts.push(made("p", { class: "hint" }, `${law}, ${ours.length} time${ours.length === 1 ? "" : "s"}${changes ? `: ${changes}` : ""}${prices ? `; price ${prices}` : ""}${worst}`));
    }
  }
  if (region >= 0) parts.push(made("h4", {}, picture.words.before), boxesTable(old.map((i) => picture.before[i])));
  if (now.length) parts.push(made("h4", {}, region >= 0 ? picture.words.after : "Operator"), boxesTable(now.map((i) => picture.after[i])));
  if (others.length) {
    parts.push(made("h4", {}, picture.words.others));
    parts.push(tableOf(picture.words.columns, others.map((e) => [e.rewrite, e.outcome, e.price, e.reason]), [2]));
  }
  return parts;
}
