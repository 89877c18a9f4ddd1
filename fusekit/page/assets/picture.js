// Both panes, and what is chosen in one shown in both.
(() => {
  const source = document.getElementById("picture");
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
    panes[side] = new Pane(figure, picture[side], hidden, gone, choose, picture.words);
  }
  document.documentElement.dataset.drawn = Math.round(performance.now() - started);
})();
