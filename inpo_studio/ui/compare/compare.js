// The Compare page: what it shows, what it asks for, and its controls.
const BUSY_MS = 400;
const QUIET_MS = 4000;
const USUAL = { guidance: 3, steps: 20, seeds: 1, adapter_on: "prompt" };
const MORE = 12;

const root = element;
const part = (name) => root.querySelector('[data-is="' + name + '"]');
const act = (name) => root.querySelector('[data-do="' + name + '"]');
// A button under Align may have asked for a round before this page was there.
let view = { base: null, round: window.studioCompare || null, ...USUAL, prompts: MORE };
let studio = "";
let found = null; // the last answer, with the names of both sides
let tried = new Set(); // views whose missing pictures were asked for by this page
let looking = false;
let again = false;
let trouble = "";
let ownAsks = 0; // drawings of own prompts that were asked for

const call = (name, data) => server[name]({ studio, ...view, ...data });
const visible = () => root.isConnected && document.visibilityState === "visible"
  && root.getClientRects().length > 0;
const busy = () => viewer.waits || Boolean(found && found.drawing && found.drawing.state !== "failed");

const viewer = makeViewer({
  root, part, call,
  show: (comparison) => trigger("show", { comparison }),
  onDrawn: () => found && paint(),
});
const grid = makeGrid(part("cards"), { onFilled: () => {} });

function paint() {
  root.dataset.state = found.state;
  part("empty").hidden = found.state !== "empty";
  const failure = found.drawing && found.drawing.state === "failed" ? found.drawing.failure : "";
  const warning = trouble || (failure && "The pictures could not be drawn. " + failure);
  part("warning").hidden = !warning;
  part("warning").textContent = warning;
  if (found.state === "empty") {
    const [title, text] = emptyText(found);
    part("empty-title").textContent = title;
    part("empty-text").textContent = text;
    return;
  }
  paintPickers();
  paintBar();
  const chosen = viewer.chosen;
  grid.paint(found.cells, found.names, chosen && keyOf(chosen));
  viewer.paint(found);
  const listed = grid.listed();
  const at = chosen ? listed.findIndex((cell) => keyOf(cell) === keyOf(chosen)) : -1;
  part("place").textContent = at < 0 ? "" : at + 1 + " of " + listed.length;
  act("previous").disabled = at <= 0;
  act("next").disabled = at < 0 || at >= listed.length - 1;
}

function take(answer) {
  studio = answer.studio;
  const { base, round_id: round } = answer.view;
  view = { ...view, base, round };
  const side = (id) => answer.sides.find((one) => one.id === (id || ""));
  answer.names = answer.state === "empty" ? [] : [side(base), side(round)].map(sideName);
  found = answer;
  if (found.state === "empty") return;
  const key = viewer.chosen && keyOf(viewer.chosen);
  const same = found.cells.find((cell) => keyOf(cell) === key);
  viewer.choose(same || found.cells.find((cell) => cell.comparison_id) || null);
}

async function look(opened = false) {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  const asked = JSON.stringify(view);
  try {
    const answer = await call("look", { opened });
    trouble = answer.refused || answer.retry || "";
    if (!trouble && (asked === JSON.stringify(view) || view.round === null)) take(answer);
  } catch {
    trouble = "The studio does not answer.";
  }
  looking = false;
  if (found) paint();
  const key = JSON.stringify(view);
  const free = found && !trouble && found.by_itself && found.training === null;
  if (free && found.missing && !found.drawing && !tried.has(key)) await draw();
  if (again) {
    again = false;
    look();
  }
}

async function tell(name, data) {
  try {
    const answer = await call(name, data);
    trouble = answer.refused || answer.retry || "";
  } catch {
    trouble = "The studio does not answer.";
  }
  await look();
}

async function draw(more = false) {
  tried.add(JSON.stringify(view));
  await tell("draw", { again: more, first: viewer.chosen && viewer.chosen.prompt_id });
}

function change(to) {
  view = { ...view, ...to };
  viewer.clear();
  paintPickers();
  viewer.paint(found);
  look();
}

function step(by) {
  const listed = grid.listed();
  const at = listed.findIndex((cell) => viewer.chosen && keyOf(cell) === keyOf(viewer.chosen));
  const cell = listed[at + by];
  if (!cell) return null;
  viewer.choose(cell);
  paint();
  return keyOf(cell);
}

const actions = {
  swap: () => view.base && change({ base: view.round, round: view.base }),
  settings() {
    const open = part("drawer").hidden;
    part("drawer").hidden = !open;
    act("settings").setAttribute("aria-expanded", String(open));
    for (const name of Object.keys(USUAL)) part(name).value = view[name];
  },
  usual() {
    for (const [name, value] of Object.entries(USUAL)) part(name).value = value;
  },
  previous: () => step(-1),
  next: () => step(1),
  stop: () => tell("stop", {}),
  draw: () => draw(),
  begin: () => draw(),
  more() {
    view = { ...view, prompts: view.prompts + MORE };
    if (found.by_itself && found.training === null) draw(true);
    else look();
  },
};

async function drawOwn(event) {
  event.preventDefault();
  const prompt = part("own-prompt").value.trim();
  if (!prompt) return;
  const seed = Number(part("own-seed").value);
  const mine = ++ownAsks;
  part("own-told").textContent =
    found.training === null ? "Drawing…" : waitsText(found.training);
  const answer = await viewer.ask(prompt, seed, 1, true);
  if (mine !== ownAsks) return; // what is told is about a later one
  if (!answer) {
    part("own-told").textContent = OWN_LEFT;
    return;
  }
  part("own-told").textContent = answer.problem || "";
  if (answer.problem) return;
  part("own-prompt").value = "";
  const cell = { ...answer, prompt, seed, labelled: false, own: true };
  viewer.choose(cell);
  await look();
  if (mine !== ownAsks) return;
  const known = found.cells.find((one) => keyOf(one) === keyOf(cell));
  part("own-told").textContent = known && known.labelled
    ? "This prompt was labelled by, so the comparison says less." : "";
}

root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button && !button.disabled) return actions[button.dataset.do]();
  const card = event.target.closest(".card");
  if (!card) return undefined;
  viewer.choose(found.cells.find((cell) => keyOf(cell) === card.dataset.key));
  paint();
  const box = part("stage").getBoundingClientRect();
  if (box.bottom < 120) part("stage").scrollIntoView({ block: "center", behavior: "smooth" });
  return undefined;
});
for (const name of ["wheel", "touchstart"]) {
  root.addEventListener(name, (event) => scrollOn(root, event), { capture: true, passive: true });
}
part("cards").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const key = by && !event.ctrlKey && !event.metaKey && !event.altKey ? step(by) : null;
  if (!key) return;
  event.preventDefault();
  grid.focus(key);
});
part("base").addEventListener("change", (event) => change({ base: event.target.value || null }));
part("round").addEventListener("change", (event) => change({ round: event.target.value }));
part("order").addEventListener("change", (event) => { grid.setOrder(event.target.value); paint(); });
part("strength").addEventListener("input", (event) => {
  part("strength-text").textContent = Number(event.target.value).toFixed(1);
});
part("strength").addEventListener("change", (event) => {
  viewer.setStrength(Math.round(10 * Number(event.target.value)) / 10);
});
part("own").addEventListener("submit", drawOwn);
part("drawer").addEventListener("submit", (event) => {
  event.preventDefault();
  const read = Object.entries(USUAL).map(([name, usual]) => [
    name, typeof usual === "number" ? Number(part(name).value) : part(name).value]);
  actions.settings();
  change(Object.fromEntries(read));
});
// A button under Align asks for its round.
document.addEventListener("studio-compare", (event) => {
  const to = { base: null, round: event.detail.round };
  if (found && found.state !== "empty") change(to);
  else {
    view = { ...view, ...to };
    again = looking; // that look asks for something else
  }
});
document.addEventListener("visibilitychange", () => visible() && look());
let opened = false;
new IntersectionObserver((entries) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  look(!opened);
  opened = true;
}).observe(root);
let last = 0;
setInterval(() => {
  const now = performance.now();
  if (!visible() || now - last < (busy() ? BUSY_MS : QUIET_MS)) return;
  last = now;
  look();
}, 200);
