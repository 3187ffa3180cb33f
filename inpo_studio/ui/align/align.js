// The Align page: it looks at the studio once a second while a round is at work and the page is
// seen, and paints what has changed. Nothing here decides anything: the server does.
const POLL_MS = 1000;
const POLL_IDLE_MS = 4000;
const AT_WORK = ["queued", "running", "pausing", "cancelling", "finishing"];

const known = { plan: null, rounds: null, samples: null }; // { version, value }
let studio = "";
let watched = null; // the round on show
let rows = []; // its figures
let chosen = null; // the round a person wants to see; null is the one at work, else the latest
let unplanned = "";
let confirming = null; // the round whose cancelling waits for a yes
let pending = false; // a press is on its way
let looking = null; // the look that is on its way
let lookAgain = false;
let lookedAt = -Infinity;
let toldTimer = null;
let local = false; // whether this browser is on the studio's own machine
const visible = () => root.isConnected && document.visibilityState === "visible"
  && root.getClientRects().length > 0;
const atWork = () => Boolean(known.rounds && known.rounds.value.at_work);

function tell(sentence) {
  clearTimeout(toldTimer);
  say(part("told"), sentence);
  toldTimer = setTimeout(() => say(part("told"), ""), 8000);
}

function warn(sentence) {
  sayOrHide(part("warning"), sentence);
}

function question() {
  const versions = Object.entries(known).filter((entry) => entry[1]);
  return {
    studio,
    drawer: drawer(),
    watch: chosen,
    showing: watched ? watched.id : null,
    after_step: rows.length ? rows[rows.length - 1][0] : -1,
    attempt: watched ? watched.attempt : null,
    with_log: part("log-box").open,
    knows: Object.fromEntries(versions.map(([name, one]) => [name, one.version])),
  };
}

// Look now; a look that is on its way is followed by another, and both are waited for.
function look() {
  lookAgain = true;
  looking = looking || lookUntilDone().finally(() => { looking = null; });
  return looking;
}

async function lookUntilDone() {
  while (lookAgain) {
    lookAgain = false;
    lookedAt = performance.now();
    try {
      const found = await server.look(question());
      if (found.retry || found.refused) refused(found);
      else take(found);
    } catch {
      warn("The studio does not answer. A round that is training goes on without this page.");
    }
  }
}

function refused(found) {
  if (found.refused && chosen) chosen = null; // the round on show may be gone
  warn(found.retry || found.refused);
}

function take(found) {
  warn("");
  studio = studio || found.studio;
  for (const name of Object.keys(known)) if (found[name]) known[name] = found[name];
  unplanned = found.unplanned || "";
  local = Boolean(found.local);
  const seen = found.watched || null;
  if (!seen) rows = [];
  else if (!watched || watched.id !== seen.id || seen.afresh) rows = seen.figures;
  else rows = rows.concat(seen.figures);
  const log = watched && seen && watched.id === seen.id ? watched.log : [];
  watched = seen && { ...seen, figures: null, log: seen.log.length ? seen.log : log };
  paint();
  // The first painting is no change that should be seen to happen.
  setTimeout(() => root.classList.remove("opening"), 100);
}

function paint() {
  if (known.plan && known.rounds) paintOptions(known.plan.value, known.rounds.value);
  paintStart(known.plan && known.plan.value, unplanned, atWork(), pending);
  paintWatched();
  if (known.rounds) {
    paintTree(known.rounds.value, watched && watched.id);
    part("outlook").hidden = known.rounds.value.rounds.length > 0;
    paintBring(local);
  }
}

function paintWatched() {
  part("watch").hidden = !watched;
  if (!watched) return;
  const working = AT_WORK.includes(watched.state);
  part("watch").dataset.round = watched.id;
  part("watch").dataset.state = watched.state;
  part("watch").classList.toggle("working", working);
  say(part("watch-title"), "Round " + watched.number);
  say(part("watch-chip"), watched.state_word);
  part("watch-chip").dataset.tone = watched.tone;
  sayOrHide(part("doing"), watched.doing);
  part("progress").hidden = watched.state === "done";
  const share = watched.total_steps ? Math.min(1, watched.step / watched.total_steps) : 0;
  part("step-fill").style.transform = "scaleX(" + share + ")";
  say(part("step-text"), "Step " + watched.step + " of " + watched.total_steps);
  say(part("left-text"), watched.seconds_left === null ? ""
    : about(watched.seconds_left) + " left");
  sayOrHide(part("failure"), watched.failure);
  paintWatchedButtons(working);
  paintCharts(rows, watched, working);
  sayOrHide(part("no-figures"), rows.length || working ? ""
    : "It has not come to its first step, so there are no curves.");
  if (known.samples) paintStrips(known.samples.value);
  const log = part("log");
  const text = watched.log.join("\n") || "Nothing has been written yet.";
  if (log.textContent !== text) {
    log.textContent = text;
    log.scrollTop = log.scrollHeight;
  }
}

function paintWatchedButtons(working) {
  const asks = confirming === watched.id && watched.actions.includes("cancel");
  const names = asks ? ["ask", "cancel-yes", "cancel-no"]
    : ["resume", "pause", "finish", "cancel", "compare", "adopt"].filter((name) => (
      watched.actions.includes(name) && !(name === "compare" && !compareTab())
        && !(name === "adopt" && inUse(watched.number))));
  const made = {
    ask: () => make("span", "st-soft", "Drop what round " + watched.number + " has learnt?"),
    "cancel-yes": () => actionButton("cancel-yes", "Yes, cancel it"),
    "cancel-no": () => actionButton("cancel-no", "No, go on"),
  };
  keep(part("watch-buttons"), names, (name) => watched.id + name,
    (name) => (made[name] ? made[name]() : actionButton(name)),
    (button, name) => {
      button.classList.toggle("primary", (name === "resume" && !watched.failure) || (name === "compare" && !working));
      button.classList.toggle("danger", name === "cancel" || name === "cancel-yes");
      if (name !== "ask") button.disabled = pending;
    });
}

const inUse = (number) => known.rounds && known.rounds.value.adopted_number === number;

// Send what a button asks for, once; the sentence of the answer is shown.
async function send(name, data) {
  if (pending) return;
  pending = true;
  paint();
  try {
    const found = await server[name]({ studio, ...data });
    tell(found.retry || found.refused || found.told);
    if (found.started) chosen = null;
  } catch {
    tell("The studio does not answer; nothing was changed.");
  }
  await look();
  pending = false;
  paint();
}

function branch(roundId) {
  part("drawer").open = true;
  const select = fields.find((field) => field.dataset.field === "parent");
  select.value = roundId;
  look();
  part("start").scrollIntoView({ behavior: "smooth", block: "start" });
  part("go").focus({ preventScroll: true });
}

function show(roundId) {
  chosen = roundId;
  look().then(() => part("watch").scrollIntoView({ behavior: "smooth", block: "start" }));
}

function press(button) {
  const name = button.dataset.act;
  const card = button.closest("[data-round]");
  const roundId = card ? card.dataset.round : null;
  if (name === "cancel") confirming = roundId;
  else confirming = null;
  if (name === "cancel" || name === "cancel-no") paint();
  else if (name === "compare") compare(roundId);
  else if (name === "branch") branch(roundId);
  else if (name === "watch") show(roundId);
  else if (name === "export") toggleExport(roundId);
  else if (name === "push") pushToHub(card);
  else if (name === "download") makeExport(roundId, button.dataset.form, false);
  else if (name === "check") makeExport(roundId, button.dataset.form, true);
  else {
    const step = name === "keep" ? Number(button.dataset.step) : null;
    send("act", { action: name === "cancel-yes" ? "cancel" : name, round_id: roundId, step });
  }
}

let drawerTimer = null;
root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || button.disabled) return;
  if (button.dataset.act) press(button);
  else if (button === part("go")) send("start", { drawer: drawer() }).then(() => {
    if (!part("watch").hidden) part("watch").scrollIntoView({ behavior: "smooth", block: "nearest" });
  });
  else if (button === part("label-more")) tabNamed("Label")?.click();
  else if (button === part("larger")) {
    const larger = part("samples").classList.toggle("larger");
    button.setAttribute("aria-pressed", String(larger));
    say(button, larger ? "Smaller" : "Larger");
  } else if (button === part("bring-go")) bringLora();
  else if (button === part("revert")) send("act", { action: "revert" });
  else if (button === part("usual")) {
    resetDrawer();
    look();
  }
});
part("fields").addEventListener("input", () => {
  clearTimeout(drawerTimer);
  paintDrawer();
  part("go").disabled = true; // until the plan for what stands here has come
  drawerTimer = setTimeout(look, 250);
});
part("log-box").addEventListener("toggle", () => look());
part("bring").addEventListener("input", () => paintBring(local));
document.addEventListener("visibilitychange", () => visible() && look());
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) look();
}).observe(root);
setInterval(() => {
  const wait = atWork() ? POLL_MS : POLL_IDLE_MS;
  if (visible() && performance.now() - lookedAt >= wait) look();
}, 100);
