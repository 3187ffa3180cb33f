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
let reply = null; // to “More pairs”: { id, sentence, refused }, shown in the row of that prompt
let replyTimer = null;
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

function tellInRow(id, sentence, refused) {
  clearTimeout(replyTimer);
  reply = { id, sentence, refused };
  [...part("lines").children].forEach(paintReply);
  if (sentence) replyTimer = setTimeout(() => tellInRow(id, "", false), 8000);
}

function paintReply(row) {
  const told = row.lastChild;
  const mine = reply && reply.id === row.dataset.key;
  sayOrHide(told, mine ? reply.sentence : "");
  told.classList.toggle("refused", Boolean(mine && reply.refused));
}

function moreButton(id) {
  const more = make("button", "st-button small", "More pairs");
  more.type = "button";
  more.dataset.more = id;
  more.title = "Make four more pairs of this prompt";
  return more;
}

function rowOf(line) {
  const row = make("li");
  const text = make("span", "text", line.text);
  text.dir = "auto";
  text.title = line.text;
  const more = line.split === "held_out" ? make("span") : moreButton(line.id);
  const told = make("p", "told");
  told.setAttribute("role", "status");
  row.append(text, make("span", "st-chip"), make("span", "counts"), more, told);
  return row;
}

function paintRow(row, line) {
  const [, role, counts] = row.children;
  const [word, tone, why] = ROLES[line.split];
  const held = line.split === "held_out";
  say(role, word);
  role.dataset.tone = tone;
  role.title = why;
  say(counts, held ? some(line.comparisons, "comparison", "comparisons")
    : line.pairs ? some(line.pairs, "pair", "pairs") + ", " + line.labelled + " labelled" : "no pairs yet");
  paintReply(row);
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
  keep(part("lines"), found.lines, (line) => line.id, rowOf, paintRow);
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

async function send(work, after, answer = tell) {
  if (busy) return;
  busy = true;
  count();
  try {
    const found = await work();
    answer(found.refused || found.told, Boolean(found.refused));
    if (!found.refused) after();
  } catch {
    answer("The studio does not answer; nothing was added. Try again in a moment.", true);
  }
  busy = false;
  count();
  look();
}

function makePairs() {
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
  if (button.dataset.do === "make") makePairs();
  if (button.dataset.do === "file") part("file").click();
  if (button.dataset.do === "longer") { limit = Math.min(500, limit + STEP); look(); }
  const id = button.dataset.more;
  if (id) send(() => server.more({ prompt_id: id }), () => {}, (...told) => tellInRow(id, ...told));
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
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) makePairs();
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
