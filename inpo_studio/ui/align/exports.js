// Adapters as files: what a round can be downloaded as, whether it loads elsewhere, and LoRAs in.
const FORMS = {
  kohya: ["For ComfyUI, A1111 and kohya", "One file; put it into the program’s folder of LoRAs."],
  diffusers: ["For diffusers", "For Python code on that library (load_lora_weights); a zip archive."],
  peft: ["For PEFT", "For Python code on that library, for instance to train on; a zip archive."],
};
const exportsOf = new Map(); // round id -> the server's last answer, or null before the first
const AT_CHECK = ["waiting", "working"];
let bringing = false; // a LoRA is on its way, maybe for minutes; the other buttons work meanwhile
let exportBusy = ""; // round id and form whose file is being made
let askedAt = 0;

function size(bytes) {
  return bytes < 1e6 ? Math.max(1, Math.round(bytes / 1e3)) + " KB"
    : (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0) + " MB";
}

// Ask what is ready; with a form, have it made. The answer, or null after a sentence was shown.
async function askExports(roundId, more) {
  askedAt = performance.now();
  try {
    const found = await server.exports({ studio, round_id: roundId, ...more });
    if (!found.retry && !found.refused) {
      if (exportsOf.has(roundId)) exportsOf.set(roundId, found);
      return found;
    }
    tell(found.retry || found.refused);
  } catch {
    tell("The studio does not answer; nothing was exported.");
  }
  return null;
}

async function makeExport(roundId, form, check) {
  if (exportBusy) return;
  exportBusy = roundId + form;
  paint();
  const found = await askExports(roundId, { form, check });
  exportBusy = "";
  paint();
  const one = found && !check && found.forms.find((each) => each.form === form);
  if (!one) return;
  const link = make("a");
  link.href = one.url;
  link.download = one.name;
  link.click();
}

function toggleExport(roundId) {
  if (exportsOf.delete(roundId)) {
    paint();
    return;
  }
  exportsOf.set(roundId, null);
  paint();
  askExports(roundId, {}).then(paint);
}

function exportRow(form) {
  const row = make("li", "form");
  const [title, note] = FORMS[form];
  const about = make("div", "st-fill");
  about.append(make("b", "", title), make("span", "st-soft", note));
  const buttons = make("span", "st-row buttons");
  for (const [name, label] of [["download", "Download"], ["check", "Check the file"]]) {
    const button = actionButton(name, label);
    button.dataset.form = form;
    buttons.append(button);
  }
  const file = make("p", "file st-soft st-number");
  const card = make("a", "", "Model card");
  file.append(make("span"), card);
  row.append(about, buttons, file, make("p", "found"));
  return row;
}

function paintExportRow(row, roundId, form, one) {
  const busy = exportBusy === roundId + form;
  const [download, check] = row.querySelectorAll("button");
  const checking = Boolean(one) && AT_CHECK.includes(one.state);
  download.disabled = Boolean(exportBusy);
  check.disabled = Boolean(exportBusy) || checking;
  say(download, busy ? "One moment …" : "Download");
  const [name, card] = row.querySelector(".file").children;
  row.querySelector(".file").hidden = !one || !one.name;
  if (one && one.name) {
    say(name, one.name + " (" + size(one.bytes) + ")");
    card.href = one.card;
    card.download = "";
  }
  const found = row.querySelector(".found");
  sayOrHide(found, one ? one.sentence : "");
  found.dataset.state = one ? one.state : "";
}

function paintExport(at, round) {
  const open = exportsOf.has(round.id) && round.actions.includes("export");
  at("export").hidden = !open;
  const button = at("buttons").querySelector("[data-act=export]");
  if (button) button.setAttribute("aria-expanded", String(open));
  if (!open) return;
  const answer = exportsOf.get(round.id);
  keep(at("forms"), Object.keys(FORMS), (form) => form, exportRow, (row, form) => {
    paintExportRow(row, round.id, form, answer && answer.forms.find((one) => one.form === form));
  });
  at("hub").hidden = !local;
  const upload = at("hub").querySelector("[data-act=push]");
  upload.disabled = Boolean(exportBusy);
  say(upload, exportBusy === round.id + "hub" ? "Uploading …" : "Upload");
  say(at("merge-command"), "inpo-studio merge --round " + round.number + " --out FILE.safetensors");
}

async function pushToHub(card) {
  if (exportBusy) return;
  const at = (name) => card.querySelector('[data-at="' + name + '"]');
  const told = (state, sentence) => {
    at("hub-found").dataset.state = state;
    say(at("hub-found"), sentence);
  };
  exportBusy = card.dataset.round + "hub";
  told("", "");
  paint();
  try {
    const found = await server.push({
      studio,
      round_id: card.dataset.round,
      repository: at("hub-name").value.trim(),
      public: at("hub-public").checked,
    });
    if (found.told) told("passed", found.told);
    else told("failed", found.retry || found.refused);
  } catch {
    told("failed", "The studio does not answer; look on the Hub whether it has arrived.");
  }
  exportBusy = "";
  paint();
}

// While a file is being checked its sentence is asked for once a second.
setInterval(() => {
  if (!visible() || performance.now() - askedAt < POLL_MS) return;
  for (const [roundId, answer] of exportsOf) {
    const checking = answer && answer.forms.some((one) => AT_CHECK.includes(one.state));
    if (checking) askExports(roundId, {}).then(paint);
  }
}, 200);

function paintBring(local) {
  part("bring").hidden = !local;
  const source = part("bring-source").value.trim();
  part("bring-go").disabled = bringing || !source;
  say(part("bring-go"), bringing ? "One moment …" : "Add it");
}

async function bringLora() {
  if (bringing) return;
  const problem = (sentence) => sayOrHide(part("bring-problem"), sentence);
  bringing = true;
  problem("");
  paint();
  let found = null;
  try {
    found = await server.bring({
      studio,
      source: part("bring-source").value.trim(),
      name: part("bring-name").value.trim(),
      ignore_text_encoder: part("bring-ignore").checked,
    });
    if (found.brought) tell(found.told);
    else problem(found.retry || found.refused);
  } catch {
    problem("The studio does not answer; nothing was changed.");
  }
  await look();
  bringing = false;
  paint();
  if (!found || !found.brought) return;
  part("bring-source").value = part("bring-name").value = "";
  part("bring-ignore").checked = false;
  part("bring").open = false;
  paint();
  part("tree").querySelector('[data-round="' + found.brought + '"]')
    ?.scrollIntoView({ behavior: "smooth", block: "center" });
}
