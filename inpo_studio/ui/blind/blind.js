// The blind vote: which part of it is on screen, the keys, and the items that come next.
const AHEAD = 4; // items that wait behind the one on screen, at least
const AT_ONCE = 2;
const POLL_MS = 4000;
const POLL_BUSY_MS = 1000;
const OPEN_TRIAL = "inpo-studio:blind-trial";

const root = element.querySelector(".blind");
const part = (name) => root.querySelector('[data-is="' + name + '"]');
let outbox = null;
let page = "";
let studio = "";
let seen = null; // what there is to vote on, and the trials so far
let trial = 0; // the number of the one that is open; 0 is none
let progress = null;
let queue = []; // the first one is on screen
let past = []; // what Backspace undoes, latest last
let result = null;
let asking = false;
let askAgain = false;
let changes = 0; // presses so far
let unreachable = false;
let starting = false;
let noticeTimer = null;
const call = (name, data) => server[name]({ page, studio, ...data });
const visible = () => root.isConnected && document.visibilityState === "visible"
  && root.getClientRects().length > 0;
const isOpen = () => trial > 0 && !result;

function modeNow() {
  if (!seen) return "loading";
  if (result) return "result";
  if (trial) {
    if (!progress) return queue.length ? "voting" : "loading";
    if (!queue.length && progress.votes >= progress.target) return "complete";
    return queue.length || progress.ready ? "voting" : "preparing";
  }
  return seen.rounds.length && seen.prompts ? "setup" : "empty";
}

function paint() {
  const mode = modeNow();
  root.dataset.mode = mode;
  if (mode === "empty") paintEmpty();
  if (mode === "setup") paintSetup(part, seen);
  if (mode === "preparing") paintPreparing();
  if (mode === "voting") paintItem();
  else root.dataset.ticket = "";
  if (mode === "complete") {
    part("complete-title").textContent = progress.looked ? "The added votes are in"
      : "All " + progress.target + " votes are in";
  }
  if (seen) paintHistory(part, seen, openTrial);
  for (const button of root.querySelectorAll('[data-do="undo"]')) button.disabled = !past.length;
  paintSaved();
}

function paintEmpty() {
  const round = seen.rounds.length;
  part("empty-title").textContent = round ? "No prompts to judge by yet" : "No round to judge yet";
  part("empty-text").textContent = round
    ? "Write a few prompts to compare by under Compare; no round learns from those."
    : "Once a round under Align has ended, vote here on pictures without names: base against "
      + "aligned, and the studio says whether it is better, worse, or can't tell yet.";
}

function paintPreparing() {
  part("preparing-title").textContent = progress.failed ? "The pictures could not be drawn"
    : progress.votes ? "Drawing the next pictures" : "Drawing the pictures";
  part("preparing-text").textContent = drawingText(progress);
  part("drawn").style.transform = "scaleX(" + progress.drawn / Math.max(1, progress.items) + ")";
  part("again").hidden = !progress.failed;
}

function paintSaved() {
  const waiting = outbox ? outbox.waiting : 0;
  const state = outbox && outbox.trouble ? "kept" : waiting ? "saving" : "saved";
  for (const mark of [part("mark"), part("mark-done")]) {
    mark.dataset.state = state;
    mark.textContent = state === "saved" ? "Saved" : state === "saving" ? "Saving…"
      : some(waiting, "vote", "votes") + " not sent yet";
  }
  const trouble = (outbox && outbox.trouble) || (unreachable ? "The studio does not answer." : "");
  part("warning").hidden = !trouble;
  part("warning").textContent = trouble
    + (waiting ? " What you press is kept in this browser and sent when it is back." : "");
  for (const button of root.querySelectorAll('[data-call="look"]')) {
    button.disabled = waiting > 0 || !progress || !progress.votes;
  }
}

function tell(sentence) {
  clearTimeout(noticeTimer);
  for (const spot of [part("notice"), part("told")]) spot.textContent = "";
  part(modeNow() === "voting" ? "notice" : "told").textContent = sentence;
  if (sentence) noticeTimer = setTimeout(() => tell(""), 6000);
}

function onKey(event) {
  const mode = visible() ? root.dataset.mode : "";
  const name = mode === "voting" || mode === "complete" || (mode === "preparing" && past.length)
    ? keyAction(event, root) : null;
  if (!name || (mode !== "voting" && name !== "undo")) return;
  event.preventDefault();
  act(name);
}

function onPointer(event) {
  const frame = root.querySelector(".zoomed .frame")
    && event.target.closest(".frame");
  if (!frame) return;
  const box = frame.getBoundingClientRect();
  root.style.setProperty("--x", (100 * (event.clientX - box.left)) / box.width + "%");
  root.style.setProperty("--y", (100 * (event.clientY - box.top)) / box.height + "%");
}

async function refresh() {
  if (isOpen()) await refill(true);
  else if (!result || unreachable) { // beside a result, until the studio answers again
    await lookAround();
    paint();
  }
}

root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do], [data-call]");
  if (!button || button.disabled) return;
  if (button.dataset.do) act(button.dataset.do);
  else calls[button.dataset.call]();
});
root.addEventListener("change", () => seen && paint());
root.addEventListener("pointermove", onPointer);
root.addEventListener("pointerdown", (event) => {
  // A click must not leave the focus on a button: the keys would stop.
  if (!event.target.closest(".pictures, .actions")) return;
  event.preventDefault();
  focusHere();
  onPointer(event);
});
document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => visible() && refresh());
window.addEventListener("online", () => outbox && outbox.hurry());
new IntersectionObserver((entries) => {
  if (outbox && entries.some((entry) => entry.isIntersecting)) refresh();
}).observe(root);

(async () => {
  page = await claimBlindPage();
  outbox = makeOutbox({ page, send: (message) => call(message.call, message.data),
    onChange: paintSaved, onAnswer: answered });
  let asked = -POLL_MS;
  let busy = false;
  setInterval(async () => {
    const now = performance.now();
    const soon = !seen || ["loading", "empty", "preparing"].includes(root.dataset.mode);
    if (busy || !visible() || now - asked < (soon ? POLL_BUSY_MS : POLL_MS)) return;
    [asked, busy] = [now, true];
    const first = !seen;
    await refresh();
    if (first && seen) await resumeLast();
    busy = false;
  }, 250);
})();
