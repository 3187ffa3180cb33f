// The model card: what the present model is, looking at another one, fetching it, changing to it.
const USUAL_MS = 3000;
const FETCHING_MS = 700;
const WISH = "inpo-studio:use-when-fetched";
const CHANGED = "inpo-studio:changed-model";
const SILENT = "The studio does not answer; try again.";

const root = element.querySelector(".model");
const part = (name) => root.querySelector('[data-is="' + name + '"]');
const button = (name) => root.querySelector('[data-do="' + name + '"]');
let asked = 0;
let polling = false;
let fetching = null; // the last download, as the studio told it
let found = null; // the model that was looked at last
let busy = false;

const visible = () => root.isConnected && document.visibilityState === "visible"
  && root.getClientRects().length > 0;

function remember(name, value) {
  try {
    if (value) sessionStorage.setItem(name, value);
    else sessionStorage.removeItem(name);
  } catch { /* then it is forgotten when the page is loaded again */ }
}

function remembered(name) {
  try {
    return sessionStorage.getItem(name) || "";
  } catch {
    return "";
  }
}

function put(name, text) {
  const at = part(name);
  if (at.textContent !== text) at.textContent = text;
}

function show(at, on) {
  if (at.hidden === on) at.hidden = !on;
}

function say(name, text) {
  put(name, text);
  show(part(name), Boolean(text));
}

// Beneath what was pressed, so that nothing one is about to press again moves.
function answerWith(name, text) {
  if (text) (part("other").hidden ? part("fetch") : part("hint")).after(part(name));
  say(name, text);
}

function sizeWord(count) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["KB", 1e3]]) {
    if (count >= size) return (count / size).toFixed(1) + " " + unit;
  }
  return count + " bytes";
}

function timeWord(seconds) {
  if (seconds < 90) return "about " + Math.max(1, Math.round(seconds)) + " s left";
  if (seconds < 5400) return "about " + Math.round(seconds / 60) + " min left";
  return "about " + Math.round(seconds / 3600) + " h left";
}

function planWord(model) {
  if (model.problem) return "";
  if (model.fits === null) return "being looked at…";
  return model.plan;
}

function paintPresent(model) {
  put("name", model.short);
  put("title", model.title);
  put("from", model.from);
  put("size", model.size || "–");
  put("plan", planWord(model) || "–");
  say("problem", model.problem);
}

function figures(told) {
  const done = sizeWord(told.done) + (told.total ? " of " + sizeWord(told.total) : "");
  if (told.state === "running") {
    if (!told.speed) return done + (told.file ? " · " + told.file : " · beginning…");
    const left = told.total > told.done ? " · " + timeWord((told.total - told.done) / told.speed) : "";
    return done + " · " + sizeWord(told.speed) + "/s" + left + " · " + told.file;
  }
  if (told.state === "stopped") return done + " are here. Finished files stay; the others begin again.";
  if (told.state === "failed") return told.error;
  return done + ". All of it is on this machine now.";
}

const HEADS = { running: "Fetching ", stopped: "Stopped fetching ", failed: "Could not fetch ", done: "Fetched " };

function paintFetch(told, present) {
  fetching = told;
  const shown = told && (told.state !== "done" || told.wanted_for !== present.name);
  show(part("fetch"), Boolean(shown));
  if (!shown) return;
  put("fetch-head", HEADS[told.state] + told.model);
  put("fetch-figures", figures(told));
  part("bar").style.transform = "scaleX(" + (told.total ? Math.min(1, told.done / told.total) : 0) + ")";
  show(button("stop"), told.state === "running");
  show(button("go-on"), told.state === "stopped" || told.state === "failed");
  show(button("use-fetched"), told.state === "done");
  show(button("forget"), told.state !== "running");
}

function offerRow(offer) {
  const row = document.createElement("li");
  const text = document.createElement("div");
  text.textContent = offer.name;
  const title = document.createElement("span");
  title.textContent = offer.title + (offer.used ? " · used in this workspace" : "");
  text.append(title);
  const use = document.createElement("button");
  use.type = "button";
  use.className = "st-button small";
  use.textContent = "Look";
  use.setAttribute("aria-label", "Look at " + offer.name);
  use.dataset.name = offer.name;
  row.append(text, use);
  return row;
}

let offered = "";
function paintOffers(offers) {
  const same = JSON.stringify(offers);
  if (same === offered) return;
  offered = same;
  part("offers").replaceChildren(...offers.map(offerRow));
  show(part("at-hand"), offers.length > 0);
}

function paintFound(model) {
  found = model;
  show(part("found"), Boolean(model));
  if (!model) return;
  const missing = model.missing;
  put("found-name", model.short);
  put("found-title", model.title);
  put("found-from", model.from);
  put("found-sizes", missing ? missing.sentence : model.size + " on this machine; nothing to fetch.");
  put("found-fits", model.fits === false ? "does not fit this machine" : "fits this machine");
  part("found-fits").dataset.tone = model.fits === false ? "bad" : "good";
  show(part("found-fits"), model.fits !== null);
  put("found-plan", model.plan);
  show(part("precision-field"), Boolean(missing && missing.half));
  if (missing && missing.half) {
    const [half, whole] = part("precision").options;
    half.textContent = "Half: " + missing.half + ", the usual one for a graphics card";
    whole.textContent = "Full: " + missing.whole;
    part("precision").value = missing.precision;
  }
  say("found-full", missing ? missing.full_disk : "");
  show(button("fetch"), Boolean(missing));
  button("fetch").disabled = Boolean(missing && missing.full_disk);
  show(button("use"), model.ready);
}

async function call(name, data) {
  if (busy) return null;
  busy = true;
  answerWith("refused", "");
  root.setAttribute("aria-busy", "true");
  for (const one of root.querySelectorAll(".other button, .fetch button")) one.disabled = true;
  let told;
  try {
    told = await server[name](data || {});
  } catch {
    told = { refused: SILENT };
  }
  busy = false;
  root.removeAttribute("aria-busy");
  for (const one of root.querySelectorAll(".other button, .fetch button")) one.disabled = false;
  if (found && found.missing && found.missing.full_disk) button("fetch").disabled = true;
  const wrong = told ? told.refused || told.retry || "" : SILENT;
  if (wrong) answerWith("refused", wrong);
  return wrong ? null : told;
}

async function lookAt(name, precision) {
  answerWith("told", "Looking…");
  const told = await call("find_model", precision ? { name, precision } : { name });
  answerWith("told", "");
  paintFound(told ? told.found : null);
}

async function use(name) {
  answerWith("told", "Changing…");
  const told = await call("take_model", { name });
  answerWith("told", "");
  remember(WISH, "");
  if (!told) return;
  remember(CHANGED, told.used);
  location.reload(); // every tab begins anew, with what belongs to the new model
}

async function fetchIt(name, precision) {
  const told = await call("fetch_model", precision ? { name, precision } : { name });
  if (!told) return;
  remember(WISH, told.fetching);
  paintFound(null);
  open(false);
  await poll();
}

function open(on) {
  show(part("other"), on);
  button("open").setAttribute("aria-expanded", String(on));
}

async function poll() {
  if (polling) return;
  polling = true;
  asked = performance.now();
  try {
    const told = await server.look_model({});
    if (told && told.present) {
      paintPresent(told.present);
      show(button("open"), told.owner);
      if (told.owner) {
        paintOffers(told.offers);
        paintFetch(told.fetch, told.present);
      }
    }
  } catch { /* the next look will do */ }
  polling = false;
  if (fetching && fetching.state === "done" && remembered(WISH) === fetching.wanted_for && !busy) {
    use(fetching.wanted_for);
  }
}

root.addEventListener("click", (event) => {
  const at = event.target.closest("button");
  if (!at) return;
  if (at.dataset.name) {
    part("typed").value = at.dataset.name;
    lookAt(at.dataset.name);
  } else if (at.dataset.do === "open") open(part("other").hidden);
  else if (at.dataset.do === "fetch") fetchIt(found.name, chosenPrecision());
  else if (at.dataset.do === "use") use(found.name);
  else if (at.dataset.do === "use-fetched") use(fetching.wanted_for);
  else if (at.dataset.do === "go-on") {
    fetchIt(fetching.wanted_for, fetching.precision === "configuration" ? null : fetching.precision);
  } else if (at.dataset.do === "stop" || at.dataset.do === "forget") {
    remember(WISH, "");
    call("stop_fetch").then(poll);
  }
});

const chosenPrecision = () => (found && found.missing && found.missing.half ? part("precision").value : null);

part("form").addEventListener("submit", (event) => {
  event.preventDefault();
  lookAt(part("typed").value);
});

part("precision").addEventListener("change", () => lookAt(found.name, part("precision").value));

const changed = remembered(CHANGED);
if (changed) {
  remember(CHANGED, "");
  answerWith("told", "This studio now works with " + changed + ".");
}

new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) poll();
}).observe(root);
setInterval(() => {
  const every = fetching && fetching.state === "running" ? FETCHING_MS : USUAL_MS;
  if (visible() && performance.now() - asked > every) poll();
}, 200);
