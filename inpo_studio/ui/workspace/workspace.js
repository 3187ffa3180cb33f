// The workspace's page: read anew while it is the one that is looked at.
const POLL_MS = 3000;
const TONES = { done: "good", failed: "bad", cancelled: "bad", paused: "warn", queued: "" };
const STATES = {
  queued: "waiting", preparing: "getting ready", running: "training", pausing: "pausing",
  cancelling: "being cancelled", finishing: "ending",
};
const STAGES = {
  freeze: "taking in the choices", cache: "preparing the pictures", train: "training",
  render: "drawing pictures", score: "measuring",
};

const root = element.querySelector(".workspace");
const part = (name) => root.querySelector('[data-is="' + name + '"]');
let asked = 0;

const visible = () => root.isConnected && document.visibilityState === "visible"
  && root.getClientRects().length > 0;

function cell(row, text) {
  const made = document.createElement("td");
  made.textContent = text;
  row.append(made);
  return made;
}

function chip(word, tone) {
  const made = document.createElement("span");
  made.className = "st-chip";
  made.dataset.tone = tone;
  made.textContent = word;
  return made;
}

function rowOf(round) {
  const row = document.createElement("tr");
  cell(row, round.number);
  const state = cell(row, "");
  const runs = round.state in STATES && round.state !== "queued";
  const word = runs && STAGES[round.stage] ? STAGES[round.stage] : STATES[round.state] || round.state;
  state.append(chip(word, runs ? "busy" : TONES[round.state] || ""));
  if (round.adopted) state.append(" ", chip("in use", "busy"));
  if (round.failure) {
    const why = document.createElement("span");
    why.className = "why";
    why.textContent = round.failure;
    state.append(why);
  }
  cell(row, round.steps ? round.step + " of " + round.steps : "");
  return row;
}

function paint(found) {
  for (const name of ["workspace", "annotator", "database"]) part(name).textContent = found[name];
  part("overlap").textContent = found.overlap
    ? "Everybody who labels here is shown every pair."
    : "";
  for (const name of ["prompts", "ready", "choices"]) part(name).textContent = found[name];
  part("prompts-word").textContent = found.prompts === 1 ? "prompt to label by" : "prompts to label by";
  part("ready-word").textContent = found.ready === 1 ? "pair waits to be labelled" : "pairs wait to be labelled";
  part("choices-word").textContent = found.choices === 1 ? "choice kept" : "choices kept";
  part("rounds").hidden = !found.rounds.length;
  part("none").hidden = found.rounds.length > 0;
  part("rows").replaceChildren(...found.rounds.map(rowOf));
}

async function look() {
  asked = performance.now();
  try {
    const found = await server.look({});
    if (!found.refused) paint(found);
  } catch { /* the next look will do */ }
}

new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) look();
}).observe(root);
setInterval(() => {
  if (visible() && performance.now() - asked > POLL_MS) look();
}, 500);
