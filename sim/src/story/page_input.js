// Mouse, wheel, touch and keys; and the beginning.
function show(from, to) {
  const least = 20, span = Math.min(Math.max(to - from, least), endUs * 1.04);
  const middle = (from + to) / 2, margin = endUs * 0.02;
  view.from = Math.max(-margin, Math.min(middle - span / 2, endUs + margin - span));
  view.to = view.from + span;
  draw();
}
const zoom = (factor, us = (view.from + view.to) / 2) => show(us - (us - view.from) * factor, us + (view.to - us) * factor);
const pan = (part) => { const by = (view.to - view.from) * part; show(view.from + by, view.to + by); };
const showAll = () => show(-endUs * 0.01, endUs * 1.01);

// From the first step to the last that happened; the finding itself may be half a minute later.
function showCause() {
  const times = doc.steps.filter((step) => !step.around && step.moments.some((id) => byId.get(id)?.what !== "violated")).map((step) => step.at_us);
  if (times.length === 0) return showAll();
  const first = Math.min(...times), last = Math.max(...times), found = doc.violation?.at_us ?? last;
  const end = found - last > (last - first) * 2 + 1000 ? last : found, margin = Math.max(200, (end - first) * 0.08);
  show(first - margin, end + margin);
}

function select(moment, title, rows) {
  view.selected = moment ?? null;
  $("details").hidden = !moment && !title;
  if (moment || title) {
    $("detailsTitle").textContent = moment ? titleOf(moment) : title;
    $("detailsList").replaceChildren(...(moment ? rowsOf(moment) : rows).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  }
  draw();
}

function goToStep(index, scroll) {
  if (index < 0 || index >= doc.steps.length) return;
  view.step = index;
  const step = doc.steps[index];
  [...$("steps").children].forEach((item, at) => item.firstChild.classList.toggle("current", at === index));
  const last = step.moments.length > 0 ? byId.get(step.moments[step.moments.length - 1]) : null;
  const sent = step.moments.length > 1 ? byId.get(step.moments[0]) : null;
  const from = sent?.at_us ?? step.at_us, span = Math.min(view.to - view.from, Math.max((step.at_us - from) * 6, endUs / 60, 20_000));
  if (from < view.from || step.at_us > view.to || view.to - view.from > span * 40) show((from + step.at_us) / 2 - span / 2, (from + step.at_us) / 2 + span / 2);
  const shown = last && last.what === "arrived" && sent ? sent : last;
  if (shown) select(shown); else select(null, step.text, [["time", seconds(step.at_us)]]);
  if (scroll) $("diagram").scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

function chooseKey(name) {
  const key = doc.keys.indexOf(name);
  view.key = key < 0 ? null : key;
  $("key").value = key < 0 ? "" : name;
  $("diagramTitle").textContent = key < 0 ? "What happened when" : "What happened when, about " + name;
  draw();
}

// What is under the pointer: marks before frames before bands.
function under(x, y) {
  let best = null, least = Infinity;
  for (const target of targets) {
    let distance = Infinity;
    if (target.point) { const d = Math.hypot(x - target.point[0], y - target.point[1]); if (d <= target.point[2]) distance = d - 20; }
    else if (target.line) { const d = toLine(x, y, target.line); if (d <= 5) distance = d; }
    else if (target.box) { const [bx, by, w, h] = target.box; if (x >= bx - 1 && x <= bx + w + 1 && y >= by && y <= by + h) distance = target.moment ? 4 : 10 + h / 10; }
    if (distance <= least && distance < Infinity) { least = distance; best = target; }
  }
  return best;
}
function toLine(x, y, [x1, y1, x2, y2]) {
  const dx = x2 - x1, dy = y2 - y1, at = Math.max(0, Math.min(1, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x1 - at * dx, y - y1 - at * dy);
}

function hover(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  const found = under(x, y), tip = $("tip");
  const before = view.hover;
  view.hover = found;
  tip.hidden = !found;
  canvas.style.cursor = found ? "pointer" : "";
  if (found) {
    const rows = found.moment ? rowsOf(found.moment) : found.rows;
    tip.replaceChildren(element("b", {}, found.moment ? titleOf(found.moment) : found.title), ...rows.map(([name, value]) => element("div", {}, name + ": " + value)));
    tip.style.left = Math.max(4, Math.min(x + 14, width - tip.offsetWidth - 6)) + "px";
    const below = y + 16 + tip.offsetHeight < box.height;
    tip.style.top = Math.max(2, below ? y + 16 : y - tip.offsetHeight - 12) + "px";
  }
  if ((before?.moment ?? null) !== (found?.moment ?? null)) draw();
}

let drag = null, wheeledElsewhere = -1e9;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, from: view.from, to: view.to, moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return hover(event);
  const by = event.clientX - drag.x;
  if (Math.abs(by) > 3) drag.moved = true;
  if (!drag.moved) return;
  canvas.classList.add("dragging");
  $("tip").hidden = true;
  const us = by / (width - GUTTER) * (drag.to - drag.from);
  show(drag.from - us, drag.to - us);
});
canvas.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved) {
    hover(event);
    const found = view.hover;
    select(found?.moment, found?.title, found?.rows);
  }
  drag = null;
  canvas.classList.remove("dragging");
});
canvas.addEventListener("pointercancel", () => { drag = null; canvas.classList.remove("dragging"); });
canvas.addEventListener("pointerleave", () => { view.hover = null; $("tip").hidden = true; draw(); });
canvas.addEventListener("dblclick", (event) => zoom(0.35, usOf(event.clientX - canvas.getBoundingClientRect().left)));

// Who scrolls down the page over the diagram does not mean to zoom.
document.addEventListener("wheel", (event) => { if (event.target !== canvas) wheeledElsewhere = event.timeStamp; }, { passive: true });
canvas.addEventListener("wheel", (event) => {
  if (event.timeStamp - wheeledElsewhere < 350) { wheeledElsewhere = event.timeStamp; return; }
  event.preventDefault();
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) return pan((event.deltaX || event.deltaY) / width);
  const lines = event.deltaMode === 1 ? 30 : 1;
  zoom(Math.exp(Math.max(-250, Math.min(250, event.deltaY * lines)) * 0.0022), usOf(event.clientX - canvas.getBoundingClientRect().left));
}, { passive: false });

let dragOverview = false;
const centreAt = (event) => {
  const box = overview.getBoundingClientRect(), us = (event.clientX - box.left) / box.width * endUs, half = (view.to - view.from) / 2;
  show(us - half, us + half);
};
overview.addEventListener("pointerdown", (event) => { dragOverview = true; overview.setPointerCapture(event.pointerId); centreAt(event); });
overview.addEventListener("pointermove", (event) => { if (dragOverview) centreAt(event); });
overview.addEventListener("pointerup", () => { dragOverview = false; });

const KEYS = {
  ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15), "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1.65), 0: showAll,
  v: showCause, n: () => goToStep(view.step + 1), p: () => goToStep(view.step - 1), Escape: () => { select(null); chooseKey(""); },
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT" && event.target.type !== "checkbox") return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

function fillControls() {
  const list = $("keys");
  doc.keys.forEach((key) => list.append(element("option", { value: key })));
  $("key").addEventListener("change", () => chooseKey($("key").value));
  $("key").addEventListener("input", () => { if (doc.keys.includes($("key").value) || $("key").value === "") chooseKey($("key").value); });
  $("allKeys").addEventListener("click", () => chooseKey(""));
  $("zoomIn").addEventListener("click", () => zoom(0.6));
  $("zoomOut").addEventListener("click", () => zoom(1.65));
  $("fit").addEventListener("click", showAll);
  $("toCause").addEventListener("click", showCause);
  $("closeDetails").addEventListener("click", () => select(null));
  for (const key of doc.twice.slice(0, 6)) {
    const chip = element("button", { type: "button", class: "chip", title: "granted twice at a time" }, doc.keys[key]);
    chip.addEventListener("click", () => chooseKey(doc.keys[key]));
    $("chips").append($("chips").childElementCount ? "" : "run twice: ", chip);
  }
  $("toCause").hidden = doc.steps.length === 0;
  const LAYERS = { frames: "frames", routine: "pings, acks, comparisons", reads: "answers that change nothing", rest: "other keys, dimmed" };
  for (const [name, words] of Object.entries(LAYERS)) {
    const box = element("input", { type: "checkbox" });
    box.checked = view.layers[name];
    box.addEventListener("change", () => { view.layers[name] = box.checked; draw(); });
    $("layers").append(element("label", {}, box, words));
  }
}

function fillLegend() {
  const marks = [["GRANTED", "GRANTED: a service may run it"], ["COMPLETED", "COMPLETED"], ["CONTESTED", "CONTESTED: completed, another ran too"],
    ["SUPERSEDED", "SUPERSEDED: another claim won"], ["REPLAY", "REPLAY, SETTLED: done already"], ["IN_PROGRESS", "IN_PROGRESS, HELD"], ["RENEWED", "RENEWED"],
    ["RELEASED", "RELEASED"], ["FORGOTTEN", "FORGOTTEN"], ["MISMATCH", "MISMATCH, STALE"], ["UNKNOWN", "UNKNOWN"], ["UNAVAILABLE", "UNAVAILABLE"],
    ["parked", "waits for the key to change"], ["crashed", "goes down"], ["started", "starts"], ["clock", "clock set anew"], ["disk", "trouble with the disk"],
    ["violated", "rule found broken"]];
  if (doc.steps.some((step) => step.moments.some((id) => SESSIONS.has(byId.get(id)?.what)))) marks.push(["connected", "session begins"], ["broke", "session breaks"]);
  const item = (words, paint) => {
    const box = element("canvas"), c = box.getContext("2d"), ratio = window.devicePixelRatio || 1;
    box.width = 34 * ratio; box.height = 20 * ratio; c.scale(ratio, ratio);
    paint(c);
    return element("div", {}, box, words);
  };
  const arrow = (colour, w, dash) => (c) => { c.strokeStyle = c.fillStyle = colour; c.lineWidth = w; c.setLineDash(dash); c.beginPath(); c.moveTo(3, 4); c.lineTo(29, 16); c.stroke(); };
  const items = marks.map(([name, words]) => item(words, (c) => shape(c, SHAPES[name], 17, 10, 6, name === "violated" ? colours.accent : colours.ink)));
  items.push(item("frame that brought news", arrow(colours.news, 1.5, [])), item("frame that brought none", arrow(colours.message, 1, [])),
    item("frame lost, or never taken in", (c) => { arrow(colours.message, 1, [4, 3])(c); c.setLineDash([]); shape(c, "lost", 29, 15, 3.5, colours.cut); }));
  if (doc.steps.length > 0) items.push(item("part of what led to it", (c) => { c.strokeStyle = colours.accent; c.lineWidth = 2; c.beginPath(); c.arc(17, 10, 8, 0, 7); c.stroke(); }));
  items.push(item("cannot reach some region", (c) => { c.fillStyle = colours["cut-soft"]; c.fillRect(2, 7, 30, 6); stripes(c, 2, 7, 30, 6, colours.cut, 5); }),
    item("down", (c) => stripes(c, 2, 2, 30, 16, colours.soft, 7, true)),
    item("held by claim A, in this region's eyes", (c) => { c.strokeStyle = colours.c0; c.setLineDash([4, 3]); c.strokeRect(3, 4, 28, 12); }),
    item("settled by claim A", (c) => { c.fillStyle = colours.c0; c.globalAlpha = 0.55; c.fillRect(3, 4, 28, 12); }),
    item("grey bars: how much was sent", (c) => { c.fillStyle = colours.down; [5, 9, 14, 7].forEach((h, i) => c.fillRect(4 + i * 7, 18 - h, 6, h)); }));
  $("legend").replaceChildren(...items);
}

function recolour() { readColours(); fillLegend(); draw(); }
readColours();
fillHeader();
fillBroken();
fillSteps();
fillFigures();
fillLeftOut();
fillControls();
fillLegend();
chooseKey(doc.key === null ? "" : doc.keys[doc.key]);
resize();
if (doc.steps.length > 0) showCause(); else showAll();
new ResizeObserver(resize).observe($("stage"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
