// All that is text on the page. Builds elements from strings, never markup.
function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = value; else node.setAttribute(key, value);
  }
  node.append(...children.map((child) => child instanceof Node ? child : String(child)));
  return node;
}

const DISK_WORDS = {
  slow: (n) => n === 1 ? "disk as fast as before" : "disk takes " + n + " times as long",
  stalled: (n) => "no sync returns for " + length(n),
  full: (n) => "disk full beyond " + count(n) + " bytes",
  roomy: () => "disk has room again",
  rot: () => "a bit turns over on the disk",
  error: (n) => "a call to the disk is going to fail, after " + n + " more",
  fuse: (n) => "is going to end between two calls to its disk, after " + n + " more",
};
const DEGREE_WORDS = { process: "crashes: the process ends, the disk stays", power: "loses power: what was not synced is lost", disk: "loses its disk",
  backup: "goes down, to come back with an old backup" };
const FATE_WORDS = { lost: "lost on the way", cut: "lost: the link was cut", unread: "never taken in: its session was over, or the region down",
  "under way": "still on its way when the run ended" };
const ANSWER_WORDS = {
  GRANTED: "run it: nobody else has", REPLAY: "it is done, here is the outcome", IN_PROGRESS: "somebody is at it",
  COMPLETED: "outcome recorded", CONTESTED: "outcome recorded, but another claim runs or took over",
  SUPERSEDED: "another claim won", MISMATCH: "same key, another payload", UNKNOWN: "a holder fell silent; nobody knows",
  UNAVAILABLE: "not now; nothing was granted", RENEWED: "lease made longer", RELEASED: "given back", FORGOTTEN: "erased",
  STALE: "the token counts no more", EXPIRED: "too old to be run", SETTLED: "done", HELD: "somebody is at it", FREE: "nobody has it",
};

// A moment in one line, for tips and details.
function titleOf(moment) {
  const here = moment.region ? regionName(moment.region) : "all", peer = moment.peer ? regionName(moment.peer) : "";
  switch (moment.what) {
    case "sent": return here + " sends " + peer + " " + moment.kind;
    case "arrived": return here + (moment.refused ? " refuses a frame of " : moment.news ? " hears news from " : " takes in a frame of ") + peer;
    case "answered": return here + ": " + moment.ask + " " + doc.keys[moment.keys[0]] + " → " + moment.answer;
    case "parked": return here + ": a duplicate of " + doc.keys[moment.keys[0]] + " waits";
    case "connected": return here + " and " + peer + " connect";
    case "up": return here + " has a link to " + peer;
    case "down": return here + " has no link to " + peer + " any more";
    case "broke": return "the session of " + here + " and " + peer + " breaks";
    case "durable": return here + ": log synced up to record " + moment.amount;
    case "crashed": return here + " " + DEGREE_WORDS[moment.kind];
    case "started": return here + " starts";
    case "paused": return here + " stands still";
    case "resumed": return here + " goes on";
    case "backed up": return "the data of " + here + " is copied";
    case "upgraded": return here + " is upgraded";
    case "refused": return here + " finds damage, and begins empty";
    case "retired": return here + " is retired";
    case "joined": return here + " is added";
    case "member": return here + " takes up change " + moment.amount + " of membership";
    case "clock": return here + ": clock set " + (moment.amount < 0 ? "back" : "forward") + " by " + Math.abs(moment.amount) + " ms";
    case "disk": return here + ": " + (DISK_WORDS[moment.kind] ?? (() => moment.kind))(moment.amount);
    case "cut": return here + " → " + peer + " cut";
    case "mended": return here + " → " + peer + " mended";
    case "healed": return "all faults end; " + plural(moment.amount, "key") + " known differently";
    case "agreed": return "all regions agree";
    case "violated": return "the rule is found broken";
    default: return moment.what;
  }
}

// What else is to be said of it.
function rowsOf(moment) {
  const rows = [["time", seconds(moment.at_us)]];
  const add = (name, value) => { if (value !== undefined && value !== null && value !== "") rows.push([name, value]); };
  if (moment.what === "answered") {
    add("means", ANSWER_WORDS[moment.answer]);
    add("claim", moment.claim);
    add("reason", moment.text);
    add("job", moment.job);
    if (moment.unseen) add("did not know of", "claim " + moment.unseen.join(", claim ") + ", which ran elsewhere");
    add("answer left", moment.told_us === undefined ? "never" : "after " + length(moment.told_us - moment.at_us));
    add("heard", moment.heard_us === undefined ? "never: the service got no answer" : "after " + length(moment.heard_us - moment.at_us));
  } else if (moment.what === "sent") {
    add("says", moment.text);
    add("size", count(moment.amount) + " bytes");
    add("fate", FATE_WORDS[moment.fate]);
    for (const arrived of arrivalsOf.get(moment.id) ?? []) {
      add(arrived.again ? "comes again" : "taken in", seconds(arrived.at_us) + ", after " + length(arrived.at_us - moment.at_us));
      if (arrived.refused) add("refused", arrived.text); else add("news", arrived.news ? arrived.text : "none");
    }
  } else {
    add("says", moment.text);
    if (moment.keys) add("keys", moment.keys.map((key) => doc.keys[key]).join(", "));
    if (moment.what === "parked") add("job", moment.job);
  }
  if (inSteps.has(moment.id)) add("part of", "what led to the violation");
  return rows;
}

function fillHeader() {
  const broken = doc.violation;
  $("seed").textContent = "seed " + doc.seed + (doc.canary ? ", with the bug “" + doc.canary + "” planted" : "");
  $("badge").textContent = doc.verdict === "pass" ? "✓ passed" : "✗ " + (broken ? broken.invariant : doc.verdict);
  $("badge").classList.add(doc.verdict === "pass" ? "pass" : "bad");
  $("headline").textContent = broken ? broken.title
    : doc.verdict === "pass" ? "every rule held" : "panicked: " + (doc.panic ?? "");
  const facts = [plural(regionCount, "region"), plural(doc.keys_of_run, "key"), seconds(doc.virtual_us) + " of virtual time",
    plural(doc.events, "event"), plural(doc.measured.answers_heard, "answer")];
  $("facts").append(facts.join(" · ") + " · run it again: ", element("code", {}, doc.replay));
}

function fillBroken() {
  const broken = doc.violation;
  if (!broken) return;
  $("broken").hidden = false;
  $("meaning").textContent = broken.meaning;
  $("clause").textContent = broken.invariant + ": “" + broken.clause + "”";
  const where = broken.regions.length > 0 ? " in " + broken.regions.map(regionName).join(", ") : "";
  $("about").textContent = "Found at " + seconds(broken.at_us) + where
    + (broken.key === null ? "" : ", about the key " + doc.keys[broken.key]) + ".";
  for (const line of broken.words) $("words").append(element("p", {}, line));
  for (const line of broken.story) $("raw").append(element("p", {}, line));
  if (!broken.expected) return;
  $("known").hidden = false;
  const row = (name, held, odd) => element("tr", odd ? { class: "odd-one" } : {}, element("td", {}, name),
    element("td", {}, (odd ? "≠ " : "") + held.holder, element("div", { class: "parts" }, held.parts.join("; "))));
  $("holdings").append(row("by all that was accepted", broken.expected, false));
  // Regions that know the same are one row; what most know comes first.
  const groups = new Map();
  for (const held of broken.holdings) {
    const same = held.holder + "\n" + [...held.parts].sort().join("\n");
    groups.set(same, (groups.get(same) ?? []).concat(held));
  }
  const sorted = [...groups.values()].sort((a, b) => b.length - a.length);
  sorted.forEach((group, at) => $("holdings").append(
    row(group.map((held) => regionName(held.region)).join(", "), group[0], at > 0 && group[0].holder !== "down")));
}

function fillSteps() {
  if (doc.steps.length === 0) return;
  $("led").hidden = false;
  const left = doc.steps_left_out > 0 ? plural(doc.steps_left_out, "step") + " about earlier claims, or of too many, left out. " : "";
  $("ledNote").textContent = left + "Each step came before the next in the same region, or by a frame from another. "
    + "In italics: faults that were in the way. Click a step to see it in the diagram.";
  doc.steps.forEach((step, index) => {
    const last = step.moments.length > 0 && byId.get(step.moments[step.moments.length - 1])?.what === "violated";
    const button = element("button", { type: "button" }, element("span", { class: "when" }, seconds(step.at_us)),
      element("span", { class: "where" }, step.region ? regionName(step.region) : "all"), element("span", { class: "text" }, step.text));
    button.addEventListener("click", () => goToStep(index, true));
    $("steps").append(element("li", { class: last ? "end" : step.around ? "around" : "" }, button));
  });
}

function table(rows, heads) {
  const cell = (name, value) => element(name, typeof value === "number" ? { class: "number" } : {}, typeof value === "number" ? count(value) : value);
  const body = rows.map((row) => element("tr", {}, ...row.map((value) => cell("td", value))));
  return element("div", { class: "scroll" }, element("table", {}, element("tr", {}, ...heads.map((head, i) =>
    element("th", { class: i > 0 && rows.length > 0 && typeof rows[0][i] === "number" ? "number" : "" }, head))), ...body));
}

function fillFigures() {
  const m = doc.measured, box = $("numbers");
  const NAMES = { duplicate_window: "same operation run twice", staleness: "news reaches a region", durability_wait: "answer waits for disk", frame_trip: "frame on its way" };
  for (const d of m.distributions) d.title = NAMES[d.name] ?? d.name;
  const some = m.distributions.filter((d) => d.count > 0);
  box.append(element("p", {}, plural(m.doubles, "operation") + " granted twice at a time"
    + (m.doubles_unnoticed > 0 ? ", " + count(m.doubles_unnoticed) + " of them unnoticed to the end." : ".")));
  const lines = some.map((d) => [d.title, d.count, length(d.p50), length(d.p90), length(d.p99), length(d.max)]);
  box.append(table(lines, ["how long", "times", "half within", "90 %", "99 %", "longest"]));
  const answers = Object.entries(m.answers).map(([name, n]) => name + " " + count(n)).join(", ");
  const refused = Object.entries(m.refused).map(([name, n]) => name + " " + count(n)).join(", ");
  box.append(element("p", {}, "Answers: " + (answers || "none") + (refused ? ". Refused because: " + refused : "") + "."));
  const kinds = Object.entries(m.frames).sort((a, b) => b[1].bytes - a[1].bytes).map(([kind, row]) => [kind, row.frames, row.bytes]);
  box.append(element("details", {}, element("summary", {}, "Frames by kind"), table(kinds, ["kind", "frames", "bytes"])));
  const links = [...m.links].sort((a, b) => b[3] - a[3]).slice(0, 40)
    .map((l) => [regionName(l[0]) + " → " + regionName(l[1]), l[2], l[3], l[4], l[5]]);
  box.append(element("details", {}, element("summary", {}, "Links" + (m.links.length > 40 ? " (the 40 busiest)" : "")),
    table(links, ["link", "frames", "bytes", "lost", "cut"])));
}

function fillLeftOut() {
  const kinds = Object.entries(doc.recorded);
  const all = kinds.reduce((sum, [, n]) => sum + n, 0), shown = doc.moments.length;
  const missing = kinds.filter(([kind, n]) => n > (doc.shown[kind] ?? 0)).map(([kind, n]) => [kind, n, doc.shown[kind] ?? 0]);
  const words = ["The run had " + plural(all, "moment") + "; " + (shown === all ? "all" : count(shown)) + " are on this page."];
  if (missing.length > 0) words.push("Shown are " + (doc.violation ? "the cause of the violation, its key, and what is near it in time" : "faults, what changed a key, and of the rest an even sample")
    + ". The grey bars in the lanes count everything.");
  if (doc.cuts_left_out > 0) words.push(plural(doc.cuts_left_out, "cut") + " of links are not shown.");
  if (doc.keys.length < doc.keys_of_run) words.push(plural(doc.keys_of_run - doc.keys.length, "key") + " do not occur in what is shown; --key NAME puts one first.");
  $("leftOut").textContent = words.join(" ");
  if (missing.length > 0) $("counts").append(table(missing, ["kind", "recorded", "shown"]));
}
