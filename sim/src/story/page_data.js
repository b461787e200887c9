// The document, and what is looked up in it. Draws nothing.
const doc = JSON.parse(document.getElementById("document").textContent);
const $ = (id) => document.getElementById(id);
const regionCount = doc.regions.length;
const endUs = Math.max(doc.virtual_us, 1);
const byId = new Map(doc.moments.map((moment) => [moment.id, moment]));
const inCone = new Set(doc.cone);
const inSteps = new Set(doc.steps.flatMap((step) => step.moments));

// Where each frame was taken in; a frame and its arrivals are one thing to look at.
const arrivalsOf = new Map();
for (const moment of doc.moments) {
  if (moment.what === "arrived" && moment.sent !== undefined) {
    if (!arrivalsOf.has(moment.sent)) arrivalsOf.set(moment.sent, []);
    arrivalsOf.get(moment.sent).push(moment);
  }
}

const seconds = (us) => (us / 1e6).toFixed(us < 1e9 ? 6 : 3) + " s";
const length = (us) => us >= 1e6 ? (us / 1e6).toFixed(2) + " s" : us >= 1e3 ? (us / 1e3).toFixed(2) + " ms" : us + " µs";
const count = (n) => Number(n).toLocaleString("en");
const plural = (n, word) => count(n) + " " + word + (n === 1 ? "" : "s");
const regionName = (number) => doc.regions[number - 1] ?? "r" + number;

// Letters to colours; the letter itself is always drawn beside.
function colourOf(letter) {
  let sum = 0;
  for (const c of String(letter)) sum = sum * 7 + c.charCodeAt(0) - 65;
  return "c" + (Math.abs(sum) % 8);
}

// What of the run concerns a key; `null` is all of it.
function concerns(moment, key) {
  if (key === null || !moment.keys) return key === null;
  return moment.keys.includes(key);
}
function frameConcerns(sent, key) {
  return concerns(sent, key) || (arrivalsOf.get(sent.id) ?? []).some((arrived) => concerns(arrived, key));
}

// Who held a key in whose eyes: by region, spans of [since, until, state, letter].
const spansByKey = new Map();
function holderSpans(key) {
  if (spansByKey.has(key)) return spansByKey.get(key);
  const lanes = Array.from({ length: regionCount }, () => []);
  for (const [at, region, of, state, letter] of doc.holders) {
    if (of !== key) continue;
    const lane = lanes[region - 1];
    if (lane.length > 0) lane[lane.length - 1][1] = at;
    lane.push([at, endUs, state, letter]);
  }
  const spans = lanes.map((lane) => lane.filter((span) => span[2] !== "free"));
  spansByKey.set(key, spans);
  return spans;
}

// One cut a link: from, to, since, until.
const cuts = doc.cuts.flatMap(([since, until, set]) => doc.cut_sets[set].map(([from, to]) => [from, to, since, until]));

// From which time on which directed links are cut, as one list of spans in which nothing changes.
const partitions = (() => {
  const times = [...new Set([0, endUs, ...doc.cuts.flatMap(([since, until]) => [since, until ?? endUs])])].sort((a, b) => a - b);
  const begins = [...cuts].sort((a, b) => a[2] - b[2]);
  const spans = [];
  let open = [], next = 0;
  for (let i = 0; i + 1 < times.length; i++) {
    open = open.filter((cut) => (cut[3] ?? endUs) > times[i]);
    while (next < begins.length && begins[next][2] <= times[i]) {
      if ((begins[next][3] ?? endUs) > times[i]) open.push(begins[next]);
      next++;
    }
    if (open.length > 0) spans.push({ from: times[i], to: times[i + 1], cuts: open.slice() });
  }
  return spans;
})();

// A partition in words: groups that see each other, or the links that are cut.
function partitionWords(cuts) {
  const cut = new Set(cuts.map(([from, to]) => from + ">" + to));
  const sees = (a, b) => !cut.has(a + ">" + b) && !cut.has(b + ">" + a);
  const group = new Array(regionCount + 1).fill(0);
  let groups = 0;
  for (let start = 1; start <= regionCount; start++) {
    if (group[start]) continue;
    group[start] = ++groups;
    const reach = [start];
    while (reach.length > 0) {
      const a = reach.pop();
      for (let b = 1; b <= regionCount; b++) if (!group[b] && sees(a, b)) { group[b] = groups; reach.push(b); }
    }
  }
  const links = [...cut];
  let crossing = 0;
  for (let a = 1; a <= regionCount; a++) for (let b = 1; b <= regionCount; b++) if (group[a] !== group[b]) crossing++;
  if (groups === regionCount && groups > 4) return "nobody reaches anybody";
  if (groups > 1 && crossing === links.length) {
    const names = Array.from({ length: groups }, (_, g) => doc.regions.filter((_, i) => group[i + 1] === g + 1));
    return names.map((list) => list.length > 6 ? list[0] + "…" + list[list.length - 1] : list.join(" ")).join(" | ");
  }
  const pairs = [];
  for (const link of links) {
    const [a, b] = link.split(">").map(Number);
    if (cut.has(b + ">" + a)) { if (a < b) pairs.push(regionName(a) + "–" + regionName(b)); }
    else pairs.push(regionName(a) + "→" + regionName(b));
  }
  if (pairs.length <= 3) return "cut: " + pairs.join(", ");
  return "cut: " + links.length + " of " + regionCount * (regionCount - 1) + " directions";
}

// Which regions a region cannot send to, in spans; for its lane.
const unreached = Array.from({ length: regionCount }, () => []);
for (const span of partitions) {
  const by = new Map();
  for (const [from, to] of span.cuts) by.set(from, (by.get(from) ?? []).concat(to));
  for (const [from, tos] of by) {
    const lane = unreached[from - 1], last = lane[lane.length - 1];
    if (last && last.to === span.from && last.tos.join() === tos.join()) last.to = span.to;
    else lane.push({ from: span.from, to: span.to, tos });
  }
}
