// The prompts' page: what is typed, pasted or read from a file, and the list of what there is.
// Text of people is only ever set by textContent or as a field's value.
const LARGEST_FILE = 4 * 2 ** 20;
const POLL_MS = 6000;
const POLL_BUSY_MS = 1500;
const STEP = 40;
const ROLES = {
  train: ["teaches", "good", "Rounds learn from choices on it."],
  validation: ["checks", "warn", "Labelled, but no round learns from it."],
  held_out: ["compares", "", "Kept for Compare; never labelled."],
};

const root = element.querySelector(".prompts");
const part = (name) => root.querySelector('[data-is="' + name + '"]');
const some = (count, one, many) => count + " " + (count === 1 ? one : many);
const written = part("text");
let which = "all";
let limit = STEP;
let shown = "";
let busy = false;
let asked = 0;

const visible = () => root.isConnected && document.visibilityState === "visible"
  && root.getClientRects().length > 0;
const linesOf = (text) => [...new Set(
  text.split(/\r\n|\r|\n/).map((line) => line.trim()).filter(Boolean)
)];

function tell(sentence, refused = false) {
  const told = part("told");
  told.textContent = sentence;
  told.hidden = !sentence;
  told.classList.toggle("refused", refused);
}

function count() {
  const lines = linesOf(written.value).length;
  part("count").textContent = lines ? some(lines, "prompt", "prompts") : "";
  root.querySelector("[data-do=make]").disabled = busy || !lines;
}

function node(kind, name, text) {
  const made = document.createElement(kind);
  made.className = name;
  made.textContent = text;
  return made;
}

function lineOf(line) {
  const row = document.createElement("li");
  const text = node("span", "text", line.text);
  text.dir = "auto";
  text.title = line.text;
  const [word, tone, why] = ROLES[line.split];
  const role = node("span", "st-chip", word);
  role.dataset.tone = tone;
  role.title = why;
  const held = line.split === "held_out";
  const counts = held ? some(line.comparisons, "comparison", "comparisons")
    : line.pairs ? some(line.pairs, "pair", "pairs") + ", " + line.labelled + " labelled" : "no pairs yet";
  row.append(text, role, node("span", "counts", counts));
  if (!held) {
    const more = node("button", "st-button small", "More pairs");
    more.type = "button";
    more.dataset.more = line.id;
    more.title = "Make four more pairs of this prompt";
    row.append(more);
  } else row.append(document.createElement("span"));
  return row;
}

function paint(found) {
  for (const split of ["train", "validation", "held_out"]) part(split).textContent = found[split];
  part("making").textContent = !found.under_way ? ""
    : found.to_make ? "Making pairs: " + found.made + " of " + found.to_make
      : found.round_runs ? "Pairs come one by one while a round trains" : "Pairs are about to be made";
  part("empty").hidden = found.lines.length > 0;
  part("empty").textContent = part("search").value.trim() ? "No prompt holds this text."
    : which === "own" ? "You have added no prompts yet." : "There are no prompts here yet.";
  root.querySelector("[data-do=longer]").hidden = found.found <= found.lines.length || limit >= 500;
  const now = JSON.stringify(found.lines);
  if (now === shown) return;
  shown = now;
  part("lines").replaceChildren(...found.lines.map(lineOf));
}

async function look() {
  asked = performance.now();
  const wanted = { which, search: part("search").value, limit };
  try {
    const found = await server.look(wanted);
    const stale = wanted.which !== which || wanted.search !== part("search").value;
    if (stale) return;
    if (found.refused) tell(found.refused, true);
    else paint(found);
    root.dataset.pace = found.under_way ? "busy" : "";
  } catch { /* the next look will do */ }
}

async function send(work, after) {
  if (busy) return;
  busy = true;
  count();
  try {
    const found = await work();
    tell(found.refused || found.told, Boolean(found.refused));
    if (!found.refused) after();
  } catch {
    tell("The studio does not answer; nothing was added. Try again in a moment.", true);
  }
  busy = false;
  count();
  look();
}

function make() {
  const text = written.value;
  if (!linesOf(text).length) return;
  send(() => server.add({ text }), () => {
    if (written.value === text) written.value = "";
  });
}

async function take(file) {
  const name = "“" + file.name + "”";
  if (file.size > LARGEST_FILE) return tell(name + " is larger than 4 MB; split it.", true);
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch (error) {
    return tell(name + (error instanceof TypeError ? " is not UTF-8 text; save it as plain text."
      : " cannot be read; choose it again."), true);
  }
  if (text.includes("\0")) return tell(name + " is no text file; save it as plain text.", true);
  const lines = linesOf(text).filter((line) => !line.startsWith("#"));
  if (!lines.length) return tell(name + " holds no prompts; write one a line.", true);
  const before = written.value.trim() ? written.value.replace(/\s+$/, "") + "\n" : "";
  written.value = before + lines.join("\n") + "\n";
  count();
  tell(some(lines.length, "prompt", "prompts") + " from " + name
    + (lines.length === 1 ? " is" : " are") + " in the field; look through them, then make pairs.");
}

root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.do === "make") make();
  if (button.dataset.do === "file") part("file").click();
  if (button.dataset.do === "longer") { limit = Math.min(500, limit + STEP); look(); }
  if (button.dataset.more) send(() => server.more({ prompt_id: button.dataset.more }), () => {});
  if (button.dataset.which) {
    which = button.dataset.which;
    limit = STEP;
    for (const one of root.querySelectorAll("[data-which]")) {
      one.setAttribute("aria-pressed", String(one === button));
    }
    look();
  }
});
written.addEventListener("input", () => { count(); tell(""); });
written.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) make();
});
part("search").addEventListener("input", () => { limit = STEP; look(); });
part("file").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  if (file) await take(file);
  event.target.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  written.addEventListener(kind, (event) => {
    if (!event.dataTransfer || ![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    written.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) look();
}).observe(root);
setInterval(() => {
  const pace = root.dataset.pace === "busy" ? POLL_BUSY_MS : POLL_MS;
  if (visible() && !busy && performance.now() - asked > pace) look();
}, 500);
