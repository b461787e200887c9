// The diagram: lanes for regions, time from left to right.
const canvas = $("canvas"), context = canvas.getContext("2d"), overview = $("overview");
const GUTTER = 58, AXIS = 22, RULER = 20, TOP = AXIS + RULER, MARK = 5.5, FRAMES_DRAWN_MAX = 2500;
const view = { from: 0, to: endUs, key: doc.key, hover: null, selected: null, step: -1,
  layers: { frames: true, reads: true, routine: false, rest: false } };
let width = 0, laneHeight = 60, colours = {}, targets = [], scheduled = false;

const xOf = (us) => GUTTER + (us - view.from) / (view.to - view.from) * (width - GUTTER);
const usOf = (x) => view.from + (x - GUTTER) / (width - GUTTER) * (view.to - view.from);
const yOf = (region) => TOP + (region - 0.5) * laneHeight;
const drawn = () => TOP + regionCount * laneHeight + 6;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "panel", "line", "ink", "soft", "faint", "lane", "accent", "cut", "cut-soft", "down", "message", "news",
    "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"]) colours[name] = style.getPropertyValue("--" + name).trim();
}

function fitCanvas(node, w, h) {
  const ratio = window.devicePixelRatio || 1;
  node.width = Math.round(w * ratio);
  node.height = Math.round(h * ratio);
  node.style.height = h + "px";
  node.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
}

function resize() {
  width = $("stage").clientWidth;
  const room = Math.max(300, Math.min(620, window.innerHeight * 0.62));
  laneHeight = Math.max(20, Math.min(96, (room - TOP) / regionCount));
  fitCanvas(canvas, width, drawn());
  fitCanvas(overview, overview.clientWidth, 34);
  draw();
}

// At most once a frame of the screen.
function draw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; drawAll(); });
}

// A mark's shape says what was answered, without its colour.
const SHAPES = {
  GRANTED: "up", COMPLETED: "disc", CONTESTED: "ringed", SUPERSEDED: "crossed", RELEASED: "drop", RENEWED: "plus", FORGOTTEN: "cross",
  REPLAY: "ring", SETTLED: "ring", HELD: "box", IN_PROGRESS: "box", MISMATCH: "diamond", UNKNOWN: "question", UNAVAILABLE: "dash",
  STALE: "diamond", EXPIRED: "cross", FREE: "dot", parked: "wait", sent: "lost", crashed: "bolt", started: "start", clock: "clock",
  disk: "disk", refused: "bolt", retired: "stop", joined: "start", member: "member", connected: "ring", broke: "cross", violated: "star", news: "dot",
};
function shape(c, name, x, y, r, fill) {
  c.fillStyle = c.strokeStyle = fill;
  c.lineWidth = 1.7;
  const path = (...points) => { c.beginPath(); points.forEach(([dx, dy], i) => i ? c.lineTo(x + dx * r, y + dy * r) : c.moveTo(x + dx * r, y + dy * r)); };
  const circle = (radius) => { c.beginPath(); c.arc(x, y, radius, 0, 7); };
  const letter = (text) => { c.font = "bold " + Math.round(r * 2.2) + "px system-ui, sans-serif"; c.textAlign = "center"; c.textBaseline = "middle"; c.fillText(text, x, y + 0.5); };
  switch (name) {
    case "up": path([0, -1.25], [1.15, 0.9], [-1.15, 0.9]); c.closePath(); c.fill(); break;
    case "drop": path([0, 1.2], [1.1, -0.8], [-1.1, -0.8]); c.closePath(); c.stroke(); break;
    case "disc": circle(r); c.fill(); break;
    case "ringed": circle(r * 0.55); c.fill(); circle(r * 1.15); c.stroke(); break;
    case "crossed": circle(r); c.stroke(); path([-0.7, -0.7], [0.7, 0.7]); c.stroke(); path([-0.7, 0.7], [0.7, -0.7]); c.stroke(); break;
    case "ring": circle(r * 0.75); c.stroke(); break;
    case "box": c.strokeRect(x - r * 0.7, y - r * 0.7, r * 1.4, r * 1.4); break;
    case "diamond": path([0, -1.1], [1.1, 0], [0, 1.1], [-1.1, 0]); c.closePath(); c.stroke(); break;
    case "plus": path([-1, 0], [1, 0]); c.stroke(); path([0, -1], [0, 1]); c.stroke(); break;
    case "cross": case "lost": path([-0.8, -0.8], [0.8, 0.8]); c.stroke(); path([-0.8, 0.8], [0.8, -0.8]); c.stroke(); break;
    case "dash": path([-0.9, 0], [0.9, 0]); c.stroke(); break;
    case "dot": circle(r * 0.45); c.fill(); break;
    case "question": letter("?"); break;
    case "wait": path([-0.7, -0.9], [0.7, -0.9], [-0.7, 0.9], [0.7, 0.9]); c.closePath(); c.stroke(); break;
    case "bolt": path([0.3, -1.5], [-0.8, 0.25], [0.05, 0.25], [-0.3, 1.5], [0.8, -0.25], [-0.05, -0.25]); c.closePath(); c.fill(); break;
    case "start": path([-0.8, -1.1], [1.1, 0], [-0.8, 1.1]); c.closePath(); c.fill(); break;
    case "stop": c.fillRect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8); break;
    case "clock": circle(r); c.stroke(); path([0, -0.65], [0, 0], [0.55, 0]); c.stroke(); break;
    case "disk": c.strokeRect(x - r, y - r * 0.8, r * 2, r * 1.6); path([-0.5, 0.1], [0.5, 0.1]); c.stroke(); break;
    case "member": letter("M"); break;
    case "star": c.beginPath(); for (let i = 0; i < 10; i++) { const a = Math.PI * i / 5, q = i % 2 ? 0.55 : 1.4; c.lineTo(x + Math.sin(a) * r * q, y - Math.cos(a) * r * q); } c.closePath(); c.fill(); break;
  }
}

// Stripes, for what must be told apart without colour.
function stripes(c, x, y, w, h, colour, step, back) {
  c.save();
  c.beginPath(); c.rect(x, y, w, h); c.clip();
  c.strokeStyle = colour; c.lineWidth = 1;
  c.beginPath();
  for (let at = x - h - ((x - h) % step); at < x + w; at += step) back ? (c.moveTo(at + h, y + h), c.lineTo(at, y)) : (c.moveTo(at, y + h), c.lineTo(at + h, y));
  c.stroke();
  c.restore();
}

const seen = (from, to) => to >= view.from && from <= view.to;
function clipped(from, to) {
  const x = Math.max(GUTTER, xOf(from));
  return [x, Math.max(1, Math.min(width, xOf(to)) - x)];
}

function text(words, x, y, colour, align = "left", font = "12px") {
  context.font = font + " system-ui, sans-serif";
  context.fillStyle = colour; context.textAlign = align; context.textBaseline = "middle";
  context.fillText(words, x, y);
}

function drawLanes() {
  const slots = doc.slots;
  const most = Math.max(1, ...slots.frames.map((lane) => Math.max(...lane)));
  for (let region = 1; region <= regionCount; region++) {
    const y = yOf(region), top = y - laneHeight / 2;
    if (region > 1) { context.fillStyle = colours.line; context.fillRect(0, top, width, 1); }
    text(regionName(region), GUTTER - 10, y, colours.ink, "right", "600 " + (laneHeight < 26 ? 11 : 13) + "px");
    const first = Math.max(0, Math.floor(view.from / slots.width_us)), last = Math.ceil(view.to / slots.width_us);
    context.fillStyle = colours.lane;
    // Where single moments can be seen their sum says nothing more.
    const wide = xOf(slots.width_us) - xOf(0) > 30;
    for (let slot = first; !wide && slot <= last && slot < slots.frames[region - 1].length; slot++) {
      const n = slots.frames[region - 1][slot];
      if (n === 0) continue;
      const [x, w] = clipped(slot * slots.width_us, (slot + 1) * slots.width_us);
      const h = Math.max(1, Math.sqrt(n / most) * laneHeight * 0.8);
      context.fillRect(x, y + laneHeight * 0.4 - h, w, h);
    }
    context.fillStyle = colours.faint;
    context.fillRect(GUTTER, y, width - GUTTER, 1);
    for (const span of unreached[region - 1]) {
      if (!seen(span.from, span.to)) continue;
      const [x, w] = clipped(span.from, span.to), h = Math.min(6, laneHeight / 5), at = top + laneHeight - h - 1;
      context.fillStyle = colours["cut-soft"]; context.fillRect(x, at, w, h);
      stripes(context, x, at, w, h, colours.cut, 5);
      targets.push({ box: [x, at - 2, w, h + 4], title: regionName(region) + " reaches " + (span.tos.length === regionCount - 1 ? "nobody" : "not " + span.tos.map(regionName).join(", ")),
        rows: [["from", seconds(span.from)], ["until", seconds(span.to)]] });
    }
  }
  for (const [region, from, until, why] of doc.downs) {
    const to = until ?? endUs;
    if (!seen(from, to)) continue;
    const [x, w] = clipped(from, to), top = yOf(region) - laneHeight / 2 + 3, h = laneHeight - 6;
    context.fillStyle = colours.paper; context.fillRect(x, top, w, h);
    stripes(context, x, top, w, h, colours.down, 7, true);
    context.strokeStyle = colours.faint; context.lineWidth = 1; context.strokeRect(x + 0.5, top + 0.5, w, h);
    if (w > 70 && laneHeight > 30) text(why, x + 6, top + 9, colours.soft, "left", "11px");
    targets.push({ box: [x, top, w, h], title: regionName(region) + ": " + why, rows: [["from", seconds(from)], ["until", until === null ? "the end" : seconds(until)]] });
  }
}

function drawHolders() {
  if (view.key === null) return;
  const h = Math.min(16, laneHeight * 0.34);
  holderSpans(view.key).forEach((lane, index) => {
    const y = yOf(index + 1) - h / 2;
    for (const [from, to, state, letter] of lane) {
      if (!seen(from, to)) continue;
      const [x, w] = clipped(from, to), colour = colours[colourOf(letter)];
      context.globalAlpha = state === "settled" ? 0.55 : 0.16; context.fillStyle = colour; context.fillRect(x, y, w, h);
      context.globalAlpha = 0.9; context.strokeStyle = colour; context.lineWidth = 1.2;
      context.setLineDash(state === "settled" ? [] : [4, 3]); context.strokeRect(x + 0.5, y + 0.5, Math.max(1, w - 1), h - 1); context.setLineDash([]);
      context.globalAlpha = 1;
      if (w > 24 && h > 10) text(letter, x + 12, y + h / 2, colours.ink, "center", "700 11px");
      targets.push({ box: [x, y, w, h], title: regionName(index + 1) + " takes " + doc.keys[view.key] + " for " + (state === "settled" ? "done by" : "held by") + " claim " + letter,
        rows: [["from", seconds(from)], ["until", seconds(to)]] });
    }
  });
}

function drawRuler() {
  context.fillStyle = colours.panel; context.fillRect(0, 0, width, AXIS);
  const span = view.to - view.from, rough = span / Math.max(2, (width - GUTTER) / 110), power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].find((n) => n * power >= rough) * power), digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step / 1e6) + 1e-9)));
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
    const x = xOf(at);
    context.fillStyle = colours.line; context.fillRect(x, AXIS - 5, 1, 5);
    if (x > GUTTER + 20 && x < width - 30) text((at / 1e6).toFixed(digits) + " s", x, AXIS / 2, colours.soft, "center");
  }
  text("links", GUTTER - 10, AXIS + RULER / 2, colours.soft, "right", "11px");
  let busy = -1;
  for (const part of partitions) {
    if (!seen(part.from, part.to)) continue;
    const [x, w] = clipped(part.from, part.to);
    context.fillStyle = colours["cut-soft"]; context.fillRect(x, AXIS + 2, w, RULER - 4);
    if (w > 3) { context.strokeStyle = colours.cut; context.lineWidth = 1; context.strokeRect(x + 0.5, AXIS + 2.5, w - 1, RULER - 5); }
    else if (Math.floor(x) !== busy) { busy = Math.floor(x); context.fillStyle = colours.cut; context.fillRect(x, AXIS + 2, 1, RULER - 4); }
    part.words ??= null;
    const label = () => part.words ??= partitionWords(part.cuts);
    if (w > 44) {
      context.save(); context.beginPath(); context.rect(x, AXIS, w - 3, RULER); context.clip();
      text(label(), x + 5, AXIS + RULER / 2 + 0.5, colours.cut, "left", "600 11px"); context.restore();
    }
    targets.push({ box: [x, AXIS, w, RULER], get title() { return label(); }, rows: [["from", seconds(part.from)], ["until", seconds(part.to)]] });
  }
}

// How strongly a moment is drawn: 0 not at all, 1 dimmed, 2 plainly, 3 as part of the cause.
function strength(moment, about) {
  if (inSteps.has(moment.id)) return 3;
  if (view.key !== null && !about) return view.layers.rest ? 1 : 0;
  return doc.violation && view.key === doc.violation.key && view.key !== null && !inCone.has(moment.id) ? 1 : 2;
}
const ALPHA = [0, 0.22, 0.9, 1];

function drawFrames() {
  const list = [];
  for (const sent of doc.moments) {
    if (sent.what !== "sent" || sent.at_us > view.to) continue;
    const arrivals = arrivalsOf.get(sent.id) ?? [];
    const last = arrivals.length > 0 ? arrivals[arrivals.length - 1].at_us : sent.at_us;
    if (last < view.from) continue;
    const routine = !sent.keys;
    if (routine && !view.layers.routine && !inSteps.has(sent.id)) continue;
    const strong = Math.max(strength(sent, frameConcerns(sent, view.key)), ...arrivals.map((a) => inSteps.has(a.id) ? 3 : 0));
    if (strong > 0 && (view.layers.frames || strong === 3)) list.push([strong, sent, arrivals]);
  }
  list.sort((a, b) => a[0] - b[0]);
  const tooMany = list.length - FRAMES_DRAWN_MAX;
  if (tooMany > 0) list.splice(0, tooMany);
  $("notice").textContent = tooMany > 0 ? plural(tooMany, "frame") + " of those in view not drawn: zoom in to see all." : "";
  // Where there are many, each is fainter: what shows is where they are dense.
  const faint = Math.max(0.15, Math.min(1, 500 / list.length));
  for (const [strong, sent, arrivals] of list) drawFrame(strong, sent, arrivals, strong === 3 ? 1 : faint);
  context.globalAlpha = 1;
}

function drawFrame(strong, sent, arrivals, faint) {
  const x1 = xOf(sent.at_us), y1 = yOf(sent.region), y2 = yOf(sent.peer);
  const news = arrivals.some((a) => a.news);
  context.globalAlpha = ALPHA[strong] * (news || strong === 3 ? 1 : 0.55) * faint;
  context.strokeStyle = strong === 3 ? colours.accent : news ? colours.news : colours.message;
  context.lineWidth = strong === 3 ? 2.2 : news ? 1.3 : 0.9;
  if (arrivals.length === 0) {
    const x2 = x1 + Math.min(30, laneHeight / 2), y = y1 + Math.sign(y2 - y1) * Math.min(Math.abs(y2 - y1), laneHeight) * 0.45;
    context.setLineDash([4, 3]); line(x1, y1, x2, y); context.setLineDash([]);
    shape(context, "lost", x2, y, 4, strong === 3 ? colours.accent : colours.cut);
    targets.push({ line: [x1, y1, x2, y], moment: sent });
    return;
  }
  for (const arrived of arrivals) {
    const x2 = xOf(arrived.at_us);
    if (arrived.again || arrived.refused) context.setLineDash([2, 3]);
    line(x1, y1, x2, y2);
    context.setLineDash([]);
    if (faint > 0.4 && news || strong === 3) arrowHead(x1, y1, x2, y2, strong === 3 ? 8 : 6);
    targets.push({ line: [x1, y1, x2, y2], moment: sent });
  }
}

function line(x1, y1, x2, y2) { context.beginPath(); context.moveTo(x1, y1); context.lineTo(x2, y2); context.stroke(); }
function arrowHead(x1, y1, x2, y2, size) {
  const angle = Math.atan2(y2 - y1, x2 - x1);
  context.fillStyle = context.strokeStyle;
  context.beginPath(); context.moveTo(x2, y2);
  for (const turn of [0.42, -0.42]) context.lineTo(x2 - Math.cos(angle + turn) * size, y2 - Math.sin(angle + turn) * size);
  context.closePath(); context.fill();
}

const READS = new Set(["REPLAY", "SETTLED", "HELD", "FREE", "IN_PROGRESS", "UNAVAILABLE", "MISMATCH", "UNKNOWN", "STALE", "EXPIRED", "parked"]);
const SESSIONS = new Set(["connected", "broke"]);
const LIVES = new Set(["crashed", "started", "clock", "disk", "refused", "retired", "joined", "member"]);
function drawMarks() {
  const later = [], lastRead = new Map();
  for (const moment of doc.moments) {
    if (moment.at_us < view.from || moment.at_us > view.to || !moment.region) continue;
    const life = LIVES.has(moment.what) || (inSteps.has(moment.id) && SESSIONS.has(moment.what)), answered = moment.what === "answered";
    if (!life && !answered && moment.what !== "parked" && moment.what !== "violated") continue;
    const strong = life ? (inSteps.has(moment.id) ? 3 : 2) : moment.what === "violated" ? 3 : strength(moment, concerns(moment, view.key));
    const read = READS.has(moment.answer ?? moment.what) && strong < 3;
    if (strong === 0 || (read && !view.layers.reads)) continue;
    if (read) {
      // Where they stand too close one of a kind is drawn for all.
      const kind = moment.region + SHAPES[moment.answer ?? moment.what], x = xOf(moment.at_us);
      if (x - (lastRead.get(kind) ?? -99) < 7) continue;
      lastRead.set(kind, x);
    }
    if (strong === 3) later.push([moment, life, strong]); else drawMark(moment, life, strong);
  }
  later.forEach(([moment, life, strong]) => drawMark(moment, life, strong));
  context.globalAlpha = 1;
}

function drawMark(moment, life, strong) {
  const read = READS.has(moment.answer ?? moment.what) && strong < 3;
  const x = xOf(moment.at_us), r = Math.min(MARK, laneHeight / 5) * (strong === 3 ? 1.25 : read ? 0.75 : 1);
  const y = yOf(moment.region) - laneHeight * (life ? 0.3 : read ? -0.24 : moment.what === "violated" ? -0.34 : 0);
  const colour = moment.what === "violated" ? colours.accent : life ? colours.soft : moment.claim && view.key !== null ? colours[colourOf(moment.claim)] : colours.ink;
  context.globalAlpha = ALPHA[strong] * (read ? 0.6 : 1);
  if (strong === 3 && moment.what !== "violated") {
    context.fillStyle = colours.paper; context.strokeStyle = colours.accent; context.lineWidth = 2;
    context.beginPath(); context.arc(x, y, r * 1.75, 0, 7); context.fill(); context.stroke();
  }
  shape(context, SHAPES[moment.answer ?? moment.what] ?? "dot", x, y, moment.what === "violated" ? 8 : r, colour);
  if (strong === 3 && moment.claim && laneHeight > 40) text(moment.claim, x, y - r * 2.9, colours.accent, "center", "700 11px");
  targets.push({ point: [x, y, Math.max(8, r * 1.6)], moment });
}

function drawVerticals() {
  for (const moment of doc.moments) {
    const words = { healed: "faults end", agreed: "all agree", violated: "found broken" }[moment.what];
    if (!words || moment.at_us < view.from || moment.at_us > view.to) continue;
    const x = xOf(moment.at_us), bad = moment.what === "violated";
    context.strokeStyle = bad ? colours.accent : colours.soft; context.lineWidth = bad ? 2 : 1;
    context.setLineDash([5, 4]); line(x, AXIS, x, drawn()); context.setLineDash([]);
    const right = x > width - 90;
    text(words, x + (right ? -5 : 5), TOP + 8, bad ? colours.accent : colours.soft, right ? "right" : "left", "600 11px");
    targets.push({ box: [x - 3, AXIS, 6, drawn()], moment });
  }
}

function drawAll() {
  targets = [];
  context.clearRect(0, 0, width, drawn());
  drawLanes();
  drawHolders();
  context.save();
  context.beginPath(); context.rect(GUTTER, TOP, width - GUTTER, drawn()); context.clip();
  drawVerticals();
  drawFrames();
  drawMarks();
  drawChosen();
  context.restore();
  drawRuler();
  drawOverview();
}

function drawChosen() {
  const moment = view.hover?.moment ?? view.selected;
  for (const target of targets) {
    if (!moment || target.moment !== moment) continue;
    context.strokeStyle = colours.ink; context.lineWidth = 2;
    if (target.point) { context.beginPath(); context.arc(target.point[0], target.point[1], 11, 0, 7); context.stroke(); }
    if (target.line) { context.lineWidth = 3; context.globalAlpha = 0.6; line(...target.line); context.globalAlpha = 1; }
  }
}

function drawOverview() {
  const c = overview.getContext("2d"), w = overview.clientWidth, h = 34, slots = doc.slots, x = (us) => us / endUs * w;
  c.clearRect(0, 0, w, h);
  const sums = slots.frames[0].map((_, slot) => slots.frames.reduce((sum, lane) => sum + lane[slot], 0)), most = Math.max(1, ...sums);
  c.fillStyle = colours.faint;
  sums.forEach((n, slot) => { const bar = Math.sqrt(n / most) * (h - 10); c.fillRect(x(slot * slots.width_us), h - bar, Math.max(1, x(slots.width_us)), bar); });
  c.fillStyle = colours.cut;
  for (const part of partitions) c.fillRect(x(part.from), 0, Math.max(1, x(part.to - part.from)), 4);
  c.fillStyle = colours.accent;
  for (const step of doc.steps) if (!step.around) c.fillRect(x(step.at_us) - 1, 5, 2, 8);
  c.fillStyle = colours.ink; c.globalAlpha = 0.1; c.fillRect(x(view.from), 0, Math.max(3, x(view.to - view.from)), h);
  c.globalAlpha = 1; c.strokeStyle = colours.ink; c.strokeRect(x(view.from) + 0.5, 0.5, Math.max(3, x(view.to - view.from)) - 1, h - 1);
}
