// The pair picker: what is on screen, the keys, and the pairs that come next.
const AHEAD = 5; // pairs that wait behind the one on screen, at least
const AT_ONCE = 3;
const NEAR = 5; // choices whose pictures are kept for an undo; earlier ones are loaded anew
const POLL_MS = 4000;
const POLL_EMPTY_MS = 1000;

const root = element.querySelector(".picker");
const part = (name) => root.querySelector('[data-is="' + name + '"]');
let outbox = null;
let page = "";
let studio = "";
let queue = []; // the first one is on screen
let past = []; // what Backspace undoes, latest last
let oldest = null; // position of the oldest choice the server told of
let morePast = true;
let standing = null;
let asking = false;
let unreachable = false;
let noticeTimer = null;
const call = (name, data) => server[name]({ page, studio, ...data });
const visible = () => root.isConnected && document.visibilityState === "visible"
  && root.getClientRects().length > 0;

function paint() {
  const pair = queue[0];
  const ready = Boolean(pair) && pairIsReady(pair);
  const lost = Boolean(pair) && pairIsLost(pair);
  part("prompt").textContent = pair ? pair.prompt : "";
  for (const side of ["left", "right"]) {
    const spot = part(side);
    const image = ready ? pair.pictures[pair[side]].image : null;
    if (!image) spot.replaceChildren();
    else if (spot.firstChild !== image) spot.replaceChildren(image);
  }
  const empty = !pair || lost;
  part("waiting").hidden = !empty;
  part("pictures").classList.toggle("empty", empty);
  if (empty) {
    const [title, text] = lost ? LOST : waitingText(standing);
    part("waiting-title").textContent = title;
    part("waiting-text").textContent = text;
  }
  root.dataset.pair = ready ? pair.id : "";
  const able = { undo: past.length > 0, skip: ready || lost };
  for (const button of root.querySelectorAll("[data-do]")) {
    button.disabled = !(able[button.dataset.do] ?? ready);
  }
  if (ready && pair.shownAt === null) {
    pair.shownAt = performance.now();
  } else if (pair && !ready && !lost) {
    Promise.all(picturesOf(pair).map((picture) => picture.settled))
      .then(() => queue[0] === pair && paint());
  }
  paintStanding();
}

function paintStanding() {
  const state = outbox && outbox.trouble ? "kept" : outbox && outbox.waiting ? "saving" : "saved";
  const mark = part("mark");
  mark.dataset.state = state;
  mark.textContent = state === "saved" ? "Saved" : state === "saving" ? "Saving…"
    : some(outbox.waiting, "choice", "choices") + " not sent yet";
  const trouble = (outbox && outbox.trouble) || (unreachable ? "The studio does not answer." : "");
  const warning = part("warning");
  warning.hidden = !trouble && !(outbox && !outbox.kept);
  warning.textContent = !outbox || outbox.kept
    ? trouble + (outbox && outbox.waiting
      ? " What you press is kept in this browser and sent when it is back."
      : " New pairs come when it is back.")
    : "This browser keeps nothing: choices that are not saved yet are lost if you close the page.";
  if (!standing) return;
  part("count").textContent = countText(standing);
  part("fill").style.transform = "scaleX(" + Math.min(1, standing.fresh / standing.goal) + ")";
  part("went").textContent = wentText(standing);
}

function tell(sentence) {
  clearTimeout(noticeTimer);
  part("notice").textContent = sentence;
  noticeTimer = setTimeout(() => { part("notice").textContent = ""; }, 6000);
}

function tally(pair, choice, step) {
  if (!standing) return;
  const clear = pair.counts && CLEAR.includes(choice) ? step : 0;
  standing = { ...standing, choices: standing.choices + step, clear: standing.clear + clear,
    fresh: Math.max(0, standing.fresh + clear), ready: Math.max(0, standing.ready - step) };
}

function choose(choice) {
  const pair = queue[0];
  if (!pair || !outbox) return;
  const seen = pairIsReady(pair) && pair.shownAt !== null;
  if (!seen && !(choice === "skip" && pairIsLost(pair))) return;
  const key = freshId();
  const milliseconds = !seen ? null
    : Math.min(2 ** 31 - 1, Math.round(performance.now() - pair.shownAt));
  queue.shift();
  past.push({ key, choice, pair });
  forget(past[past.length - 1 - NEAR]);
  root.classList.remove("zoomed");
  tally(pair, choice, 1);
  outbox.add({ about: pair.id, call: "commit_choice", data: { key, pair_id: pair.id, choice,
    left_image_id: pair.left, right_image_id: pair.right, milliseconds } });
  paint();
  tell("");
  if (queue.length <= 2) refill(); // otherwise once this choice is safe
}

// Each pair holds two pictures: those of a long session would fill the memory.
function forget(item) {
  if (!item || !item.pair) return;
  item.shown = describe(item.pair);
  item.pair = null;
}

function pairOf(item) {
  item.pair = item.pair || loadPair(item.shown);
  return item.pair;
}

function undo() {
  const last = past.pop();
  if (!last) return;
  const pair = pairOf(last);
  past.slice(-2).forEach(pairOf);
  pair.shownAt = null;
  queue = [pair, ...queue.filter((other) => other.id !== pair.id)];
  tally(pair, last.choice, -1);
  outbox.add({ about: pair.id, call: "take_back", data: { key: last.key } });
  paint();
  tell("Undone: " + NAMES[last.choice] + ".");
  if (past.length < AHEAD) remember();
}

function flip() {
  const pair = queue[0];
  if (pair) [pair.left, pair.right] = [pair.right, pair.left];
  paint();
}

const actions = { undo, flip, zoom: () => queue[0] && root.classList.toggle("zoomed") };
const act = (name) => (actions[name] ? actions[name]() : choose(name));

function answered(message, answer) {
  if (!outbox.waiting) refill();
  if (answer.refused) {
    past = past.filter((item) => item.key !== message.data.key);
    tell(answer.refused);
    refill(true);
  } else if (answer.frozen_in && answer.frozen_in.length) {
    tell("Undone. Round " + answer.frozen_in.join(", ")
      + " has frozen that choice and stays as it was; the next round leaves it out.");
  }
}

async function refill(withStanding = false) {
  const want = queue.length <= AHEAD ? AHEAD + 1 + AT_ONCE - queue.length : 0;
  if (!outbox || asking || (!want && !withStanding)) return;
  asking = true;
  const pending = outbox.pairs();
  const holding = [...new Set([...queue.map((pair) => pair.id), ...pending])];
  try {
    const found = await call("next_pairs", { holding, want, standing: withStanding });
    unreachable = Boolean(found.retry);
    if (found.retry || found.refused) tell(found.retry || found.refused);
    else take(found, new Set(pending));
  } catch {
    unreachable = true;
  }
  asking = false;
  paint();
}

function take(found, pending) {
  if (!studio) {
    studio = found.studio;
    outbox.open(studio);
  }
  const busy = (id) => pending.has(id) || outbox.has(id);
  const lost = found.lost.filter((id) => !busy(id));
  queue = queue.filter((pair) => !lost.includes(pair.id));
  for (const shown of found.pairs) {
    const known = busy(shown.pair_id) || queue.some((pair) => pair.id === shown.pair_id);
    if (!known) queue.push(loadPair(shown));
  }
  if (found.standing && !outbox.waiting) standing = found.standing;
}

async function remember() {
  if (!morePast) return;
  morePast = false;
  try {
    const found = await call("past_choices", { before: oldest });
    const known = (key) => outbox.undoes(key) || past.some((own) => own.key === key);
    const items = (found.past || []).filter((item) => !known(item.key));
    if (found.past && found.past.length) {
      oldest = found.past[found.past.length - 1].position;
      morePast = true;
    }
    past = items.reverse().concat(past);
    past.slice(-2).forEach(pairOf);
  } catch {
    morePast = true;
  }
  paint();
}

function onKey(event) {
  const name = visible() ? keyAction(event, root) : null;
  if (!name) return;
  event.preventDefault();
  act(name);
}

function onPointer(event) {
  const frame = root.querySelector(".zoomed .frame") && event.target.closest(".frame");
  if (!frame) return;
  const box = frame.getBoundingClientRect();
  root.style.setProperty("--x", (100 * (event.clientX - box.left)) / box.width + "%");
  root.style.setProperty("--y", (100 * (event.clientY - box.top)) / box.height + "%");
}

root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button && !button.disabled) act(button.dataset.do);
});
root.addEventListener("pointermove", onPointer);
root.addEventListener("pointerdown", (event) => {
  // A click must not leave the focus on a button: the keys would stop.
  if (!event.target.closest(".pictures, .actions")) return;
  event.preventDefault();
  root.focus({ preventScroll: true });
  onPointer(event);
});
document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => visible() && refill(true));
window.addEventListener("online", () => outbox && outbox.hurry());
new IntersectionObserver((entries) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  const focused = document.activeElement;
  if (!focused || focused === document.body || focused.matches("[role=tab]")) {
    root.focus({ preventScroll: true });
  }
  refill(true);
}).observe(root);

(async () => {
  page = await claimPage();
  outbox = makeOutbox({ page, send: (message) => call(message.call, message.data),
    onChange: paintStanding, onAnswer: answered });
  await refill(true);
  remember();
  let asked = 0;
  setInterval(() => {
    root.dataset.ahead = queue.filter(pairIsReady).length;
    const now = performance.now();
    if (!visible() || now - asked < (queue.length ? POLL_MS : POLL_EMPTY_MS)) return;
    asked = now;
    refill(true);
    outbox.adopt();
    if (!past.length) remember();
  }, 250);
})();
