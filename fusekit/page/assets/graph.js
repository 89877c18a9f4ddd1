// One pane: a graph that is moved, zoomed, walked through with the keyboard, and of which regions are selected.
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 6;
const STRIP = 28; // the width of the overview beside a graph

function drawn(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  return element;
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const tail = (text, most) => (text.length > most ? `…${text.slice(1 - most)}` : text);
const factsOf = (box) => Object.fromEntries(box.facts);
const colourOf = (region) => `var(--r${region % COLOURS})`;

function titleOf(box) {
  const facts = factsOf(box);
  const stride = facts.stride && !/^1(×1)*$/.test(facts.stride) ? ` /${facts.stride.split("×")[0]}` : "";
  return `${box.operator}${facts.kernel ? ` ${facts.kernel}` : ""}${stride}${facts.groups ? ` g${facts.groups}` : ""}`;
}

class Pane {
  constructor(figure, boxes, hidden, gone, choose, words) {
    this.figure = figure; this.boxes = boxes; this.gone = gone; this.choose = choose; this.words = words;
    this.svg = figure.querySelector("svg");
    this.side = figure.dataset.side;
    const count = boxes.filter((box) => box.operator !== "input" && box.operator !== "output").length;
    figure.querySelector("figcaption").textContent =
      `${words[this.side]}: ${count.toLocaleString("en")} operators in the program${hidden ? `; ${hidden.toLocaleString("en")} that do nothing are not drawn` : ""}`;
    this.layout = Layout.run(boxes);
    this.readers = boxes.map(() => []);
    boxes.forEach((box, i) => box.inputs.forEach((j) => this.readers[j].push(i)));
    this.measure();
    this.draw();
    this.listen();
    this.overview();
    this.fitStart();
  }

  draw() {
    const world = drawn("g", {}), edges = drawn("g", { "aria-hidden": "true" });
    this.edges = [];
    for (const [from, to, points] of this.layout.lines) this.edge(edges, from, to, curve(points), "edge");
    for (const [from, to] of this.layout.far) this.edge(edges, from, to, this.around(from, to), "edge far");
    world.append(edges);
    this.nodes = this.boxes.map((box, i) => this.node(box, i));
    world.append(...this.nodes);
    this.world = world;
    this.svg.replaceChildren(world);
    this.current = 0;
    if (this.nodes.length) this.nodes[0].setAttribute("tabindex", "0");
  }

  edge(parent, from, to, d, kind) {
    const path = drawn("path", { class: kind, d });
    this.edges.push([from, to, path]);
    parent.append(path);
  }

  around(from, to) {
    const [[x1, y1], [x2, y2]] = [this.layout.at[from], this.layout.at[to]];
    const side = Math.max(x1, x2) + Layout.WIDTH * 0.5 + 24 + Math.min(160, Math.abs(y2 - y1) / 30);
    const half = Layout.WIDTH / 2;
    return `M${x1 + half},${y1} C${side + 40},${y1} ${side + 40},${y2} ${x2 + half},${y2}`;
  }

  node(box, i) {
    const [x, y] = this.layout.at[i], half = Layout.WIDTH / 2, up = Layout.HEIGHT / 2;
    const made = box.region >= 0, gone = made && this.gone.has(box.region);
    const g = drawn("g", {
      class: `node${made ? " made" : ""}${gone ? " gone" : ""}`, transform: `translate(${x},${y})`, tabindex: "-1",
      role: "button", "data-index": i,
      "aria-label": `${titleOf(box)}${box.where ? `, ${box.where}` : ""}, ${made ? (gone ? this.words.gone : `${this.words.made}, number ${box.region + 1}`) : this.words.kept}`,
    });
    if (made) g.style.setProperty("--c", colourOf(box.region));
    g.append(
      drawn("rect", { class: "body", x: -half, y: -up, width: Layout.WIDTH, height: Layout.HEIGHT, rx: 6 }),
      drawn("text", { x: 10 - half, y: box.where ? -3 : 4 }, cut(titleOf(box), made ? 22 : 26)),
    );
    if (box.where) g.append(drawn("text", { class: "sub", x: 10 - half, y: 12 }, tail(box.where, 27)));
    if (made) g.append(drawn("text", { class: "tag", x: half - 7, y: -6 }, gone ? "gone" : `${box.region + 1}`));
    return g;
  }

  // --- what is seen -----------------------------------------------------------------------------------------------

  bounds(indices) {
    const xs = [], ys = [];
    for (const i of indices) { xs.push(this.layout.at[i][0]); ys.push(this.layout.at[i][1]); }
    return [Math.min(...xs) - Layout.WIDTH / 2, Math.min(...ys) - Layout.HEIGHT / 2, Math.max(...xs) + Layout.WIDTH / 2, Math.max(...ys) + Layout.HEIGHT / 2];
  }

  all() { return this.boxes.map((_, i) => i); }

  set(k, x, y) {
    this.k = this.clamp(k); this.x = x; this.y = y; this.moved = true;
    this.world.setAttribute("transform", `translate(${x},${y}) scale(${this.k})`);
    this.window?.setAttribute("y", String((-y / this.k - this.top) / this.tall * 100));
    this.window?.setAttribute("height", String(this.size()[1] / this.k / this.tall * 100));
  }

  overview() { // the whole height beside the graph: rewritten regions as stripes, and what is seen of it
    const [, top, , bottom] = this.bounds(this.all());
    this.top = top; this.tall = bottom - top;
    if (this.tall < 3 * this.size()[1]) return;
    const strip = drawn("svg", { class: "overview", viewBox: "0 0 10 100", preserveAspectRatio: "none", "aria-hidden": "true" });
    const ends = new Map();
    this.boxes.forEach((box, i) => {
      if (box.region < 0) return;
      const y = this.layout.at[i][1], [low, high] = ends.get(box.region) ?? [y, y];
      ends.set(box.region, [Math.min(low, y), Math.max(high, y)]);
    });
    const up = Layout.HEIGHT / 2, part = (y) => (y - top) / this.tall * 100;
    for (const [region, [low, high]] of ends) {
      const stripe = drawn("rect", { x: 2, width: 6, y: part(low - up), height: part(high + up) - part(low - up) });
      stripe.style.fill = colourOf(region);
      strip.append(stripe);
    }
    this.window = drawn("rect", { class: "window", x: 0.5, width: 9, y: 0, height: 1, rx: 1 });
    strip.append(this.window);
    const go = (event) => {
      const box = strip.getBoundingClientRect(), y = top + (event.clientY - box.top) / box.height * this.tall;
      this.set(this.k, this.x, this.size()[1] / 2 - y * this.k);
    };
    strip.addEventListener("pointerdown", (event) => { strip.setPointerCapture(event.pointerId); go(event); });
    strip.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
    this.figure.querySelector(".frame").append(strip);
    this.measured[0] -= STRIP;
  }

  measure() { // once, and not after each change: the browser would lay out all boxes to answer
    const box = this.svg.getBoundingClientRect();
    this.measured = [(box.width || 600) - (this.window ? STRIP : 0), box.height || 500];
  }

  size() { return this.measured; }

  fitStart() { // the upper end, so that it can be read
    const [left, top, right, bottom] = this.bounds(this.all()), [w, h] = this.size();
    const k = Math.min(1, Math.max(0.55, (w - 32) / (right - left)));
    const first = this.layout.at[0][0];
    const x = (right - left) * k <= w - 32 ? w / 2 - ((left + right) / 2) * k : w / 2 - first * k;
    const y = (bottom - top) * k <= h - 32 ? h / 2 - ((top + bottom) / 2) * k : 16 - top * k;
    this.set(k, x, y);
    this.moved = false;
  }

  fit(indices = this.all(), most = 1.2) {
    const [left, top, right, bottom] = this.bounds(indices), [w, h] = this.size();
    const k = Math.min(most, (w - 32) / (right - left), (h - 32) / (bottom - top));
    this.set(k, w / 2 - ((left + right) / 2) * this.clamp(k), h / 2 - ((top + bottom) / 2) * this.clamp(k));
  }

  clamp(k) { return Math.min(3, Math.max(0.02, k)); }

  show(indices) { // centre them, zoomed out as far as needed but readable
    const [left, top, right, bottom] = this.bounds(indices), [w, h] = this.size();
    const k = Math.max(0.4, Math.min(Math.max(this.k, 0.6), (w - 32) / (right - left), (h - 32) / (bottom - top)));
    this.set(k, w / 2 - ((left + right) / 2) * k, h / 2 - ((top + bottom) / 2) * k);
  }

  zoom(factor, cx, cy) {
    const [w, h] = this.size(), px = cx ?? w / 2, py = cy ?? h / 2, k = this.clamp(this.k * factor), f = k / this.k;
    this.set(k, px - (px - this.x) * f, py - (py - this.y) * f);
  }

  // --- what is chosen ---------------------------------------------------------------------------------------------

  mark(chosen) {
    this.svg.classList.toggle("dim", chosen !== null);
    this.nodes.forEach((node, i) => node.classList.toggle("chosen", chosen !== null && chosen.has(i)));
    for (const [from, to, path] of this.edges) path.classList.toggle("chosen", chosen !== null && chosen.has(from) && chosen.has(to));
  }

  focus(i) {
    if (i === undefined || !this.nodes[i]) return;
    this.nodes[this.current].setAttribute("tabindex", "-1");
    this.current = i;
    this.nodes[i].setAttribute("tabindex", "0");
    this.nodes[i].focus({ preventScroll: true });
    const [x, y] = this.layout.at[i], [w, h] = this.size();
    const [sx, sy] = [x * this.k + this.x, y * this.k + this.y], mx = Math.min(100, w / 3), my = Math.min(60, h / 3);
    const nx = Math.min(w - mx, Math.max(mx, sx)), ny = Math.min(h - my, Math.max(my, sy));
    if (nx !== sx || ny !== sy) this.set(this.k, this.x + nx - sx, this.y + ny - sy);
  }

  beside(i, way) { // the nearest box in the same row, to the left or right
    const [x, y] = this.layout.at[i];
    let best, least = Infinity;
    this.layout.at.forEach(([ox, oy], j) => {
      const d = (ox - x) * way;
      if (j !== i && Math.abs(oy - y) < Layout.HEIGHT && d > 0 && d < least) { least = d; best = j; }
    });
    return best;
  }

  listen() {
    const svg = this.svg;
    const at = (event) => { const node = event.target.closest?.(".node"); return node ? Number(node.dataset.index) : undefined; };
    let start = null, moved = false;
    svg.addEventListener("pointerdown", (event) => { if (event.button === 0) { start = [event.clientX, event.clientY, this.x, this.y]; moved = false; } });
    svg.addEventListener("pointermove", (event) => {
      if (!start) return;
      const dx = event.clientX - start[0], dy = event.clientY - start[1];
      if (!moved && Math.hypot(dx, dy) > 4) { moved = true; svg.classList.add("moving"); svg.setPointerCapture(event.pointerId); }
      if (moved) this.set(this.k, start[2] + dx, start[3] + dy);
    });
    const end = () => { start = null; svg.classList.remove("moving"); };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
    svg.addEventListener("click", (event) => {
      if (moved) { moved = false; return; }
      const i = at(event);
      if (i === undefined) { this.choose(null); return; }
      this.focus(i);
      this.choose({ side: this.side, index: i });
    });
    svg.addEventListener("wheel", (event) => {
      const box = svg.getBoundingClientRect();
      if (event.ctrlKey || event.metaKey) { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top); return; }
      if (!svg.contains(document.activeElement)) return; // until it is used, the page scrolls
      event.preventDefault();
      this.set(this.k, this.x - event.deltaX, this.y - event.deltaY);
    }, { passive: false });
    svg.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const i = this.current;
      const ways = {
        ArrowDown: () => this.focus(this.readers[i][0]), ArrowUp: () => this.focus(this.boxes[i].inputs[0]),
        ArrowLeft: () => this.focus(this.beside(i, -1)), ArrowRight: () => this.focus(this.beside(i, 1)),
        Home: () => this.focus(0), End: () => this.focus(this.nodes.length - 1),
        Enter: () => this.choose({ side: this.side, index: i }), " ": () => this.choose({ side: this.side, index: i }),
        Escape: () => this.choose(null), "+": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit(),
      };
      if (ways[event.key]) { event.preventDefault(); ways[event.key](); }
    });
    const buttons = [["+", "Zoom in", () => this.zoom(1.25)], ["−", "Zoom out", () => this.zoom(0.8)], ["⤢", "Show everything", () => this.fit()]];
    for (const [sign, label, act] of buttons) {
      const button = document.createElement("button");
      button.type = "button"; button.textContent = sign;
      button.setAttribute("aria-label", `${label}, ${this.side}`); button.title = label;
      button.addEventListener("click", act);
      this.figure.querySelector(".zoom").append(button);
    }
    addEventListener("resize", () => { this.measure(); if (!this.moved) this.fitStart(); });
  }
}

function curve(points) {
  let d = `M${points[0][0]},${points[0][1]}`;
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i], [nx, ny] = points[i + 1];
    const last = i === points.length - 2;
    d += ` Q${x},${y} ${last ? nx : (x + nx) / 2},${last ? ny : (y + ny) / 2}`;
  }
  return points.length === 2 ? `${d} L${points[1][0]},${points[1][1]}` : d;
}
