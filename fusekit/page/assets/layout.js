"use strict";
// Places for the boxes of a graph, top to bottom. dagre takes seconds for 2,000 boxes, so it is given small pieces:
// the graph is cut where all paths meet in one box, and equal pieces are laid out once. Edges that pass many layers
// take no part; they are drawn beside the boxes.
const Layout = (() => {
  const WIDTH = 184, HEIGHT = 40, LONG = 16, MOST = 220;

  function depths(boxes) {
    const depth = new Array(boxes.length).fill(0);
    boxes.forEach((box, i) => { for (const j of box.inputs) if (j < i) depth[i] = Math.max(depth[i], depth[j] + 1); });
    return depth;
  }

  function pieces(boxes, depth) {
    const last = boxes.map((_, i) => i);
    boxes.forEach((box, i) => box.inputs.forEach((j) => {
      if (j < i && depth[i] - depth[j] <= LONG) last[j] = Math.max(last[j], i);
    }));
    const found = [];
    let start = 0, far = last[0] ?? 0;
    for (let i = 1; i < boxes.length; i++) {
      if (far <= i && i > start) { found.push([start, i, true]); start = i; }
      else if (i - start >= MOST) { found.push([start, i, false]); start = i + 1; far = i + 1; }
      far = Math.max(far, last[i]);
    }
    if (start < boxes.length) found.push([start, boxes.length - 1, false]);
    return found;
  }

  function placed(boxes, depth, from, to, known) {
    const edges = [], fed = new Set(), read = new Set();
    for (let i = from; i <= to; i++) for (const j of new Set(boxes[i].inputs)) {
      if (j >= from && j < i && depth[i] - depth[j] <= LONG) { edges.push([j - from, i - from]); fed.add(i - from); read.add(j - from); }
    }
    const count = to - from + 1, hidden = [];
    for (let i = 1; i < count; i++) if (!fed.has(i)) hidden.push([0, i]);
    for (let i = 0; i < count - 1; i++) if (!read.has(i) && fed.has(i)) hidden.push([i, count - 1]);
    const key = `${count}|${edges.join(" ")}|${hidden.join(" ")}`;
    if (!known.has(key)) known.set(key, computed(count, edges, hidden));
    return known.get(key);
  }

  function computed(count, edges, hidden) {
    if (count === 2) {
      const drop = HEIGHT + 26;
      return { at: [[0, 0], [0, drop]], lines: edges.map((e) => [e, [[0, HEIGHT / 2], [0, drop - HEIGHT / 2]]]), height: drop };
    }
    const g = new dagre.Graph({ multigraph: false });
    g.setGraph({ nodesep: 16, ranksep: 26, edgesep: 8, ranker: count > 80 ? "longest-path" : "network-simplex" });
    g.setDefaultEdgeLabel(() => ({}));
    for (let i = 0; i < count; i++) g.setNode(String(i), { width: WIDTH, height: HEIGHT });
    for (const [a, b] of edges) g.setEdge(String(a), String(b), {});
    for (const [a, b] of hidden) if (!g.hasEdge(String(a), String(b))) g.setEdge(String(a), String(b), { weight: 0 });
    dagre.layout(g);
    const at = [];
    for (let i = 0; i < count; i++) { const n = g.node(String(i)); at.push([n.x, n.y]); }
    const lines = edges.map(([a, b]) => [[a, b], g.edge(String(a), String(b)).points.map((p) => [p.x, p.y])]);
    return { at, lines, height: Math.max(...at.map((p) => p[1])) };
  }

  // {at: [[x, y]], lines: [[from, to, points]], far: [[from, to]]}
  function run(boxes) {
    const depth = depths(boxes), at = new Array(boxes.length), lines = [], drawn = new Set(), known = new Map();
    let x = 0, y = 0, shared = false;
    for (const [from, to, meets] of pieces(boxes, depth)) {
      const piece = placed(boxes, depth, from, to, known);
      const dx = x - piece.at[0][0], dy = y - piece.at[0][1];
      piece.at.forEach(([px, py], i) => { if (!(shared && i === 0)) at[from + i] = [px + dx, py + dy]; });
      for (const [[a, b], points] of piece.lines) {
        drawn.add((from + a) * boxes.length + from + b);
        lines.push([from + a, from + b, points.map(([px, py]) => [px + dx, py + dy])]);
      }
      shared = meets;
      const bottom = Math.max(...piece.at.map((p) => p[1])) + dy;
      [x, y] = meets ? at[to] : [x, bottom + HEIGHT + 40];
    }
    const far = [];
    boxes.forEach((box, i) => box.inputs.forEach((j) => { if (!drawn.has(j * boxes.length + i)) far.push([j, i]); }));
    return { at, lines, far };
  }

  return { run, WIDTH, HEIGHT };
})();
