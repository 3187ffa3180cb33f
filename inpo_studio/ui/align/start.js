// The start card: what the next round will do, and the drawer for those who know.
const fields = [...root.querySelectorAll("[data-field]")];
const FIRST = { which: "all", annotator: "", parent: "adopted", objective: "inpo" };
let objectives = [];

// The drawer as it stands; what is as usual is sent as empty.
function drawer() {
  const found = {};
  for (const field of fields) {
    const name = field.dataset.field;
    found[name] = field.value || FIRST[name] || "";
  }
  if (found.objective === FIRST.objective) found.objective = "";
  return found;
}

function changedFields() {
  return fields.filter((field) => field.value && field.value !== (FIRST[field.dataset.field] || ""));
}

function resetDrawer() {
  for (const field of fields) field.value = FIRST[field.dataset.field] || "";
}

function options(name, wanted) {
  const select = fields.find((field) => field.dataset.field === name);
  const chosen = select.value || FIRST[name];
  keep(select, wanted, ([value]) => value, ([value]) => {
    const option = make("option");
    option.value = value;
    return option;
  }, (option, [, text]) => say(option, text));
  select.value = wanted.some(([value]) => value === chosen) ? chosen : FIRST[name];
}

function paintOptions(plan, tree) {
  objectives = plan.objectives;
  options("objective", objectives.map((one) => [one.name, one.label]));
  options("annotator", [["", "Everybody’s"],
    ...plan.labellers.map((one) => [one.name, one.name + " (" + one.clear + ")"])]);
  const done = tree.rounds.filter((round) => round.actions.includes("branch"));
  options("parent", [
    ["adopted", "What is in use: " + (plan.adopted_number === null ? "the base model"
      : "round " + plan.adopted_number)],
    ["base", "The base model"],
    ...done.map((round) => [round.id, "Round " + round.number]),
  ]);
  for (const field of fields) {
    if (field.tagName === "INPUT") field.placeholder = String(plan.usual[field.dataset.field]);
  }
}

function paintDrawer() {
  const changed = changedFields();
  say(part("changed"), changed.length ? "· " + some(changed.length, "change", "changes") : "");
  part("usual").hidden = changed.length === 0;
  for (const field of fields) field.classList.toggle("changed", changed.includes(field));
  const chosen = fields.find((field) => field.dataset.field === "objective").value;
  const objective = objectives.find((one) => one.name === chosen);
  const noise = part("noise-field");
  noise.hidden = chosen !== "robust";
  if (noise.hidden) noise.querySelector("input").value = "";
  say(part("objective-note"), objective ? objective.note : "");
}

function paintStart(plan, unplanned, active, pending) {
  root.classList.toggle("busy", active);
  paintDrawer();
  sayOrHide(part("unplanned"), unplanned);
  part("go").disabled = !plan || !plan.ready || active || pending || Boolean(unplanned);
  if (!plan) return;
  say(part("go"), plan.button);
  part("go").classList.toggle("primary", !plan.paused);
  part("label-more").hidden = plan.ready;
  say(part("sentence"), plan.sentence);
  sayOrHide(part("hint"), plan.hint);
  const full = Math.min(1, plan.clear / plan.goal);
  part("goal-fill").style.transform = "scaleX(" + full + ")";
  say(part("goal-text"), plan.clear + (plan.clear < plan.goal ? " of " + plan.goal : "")
    + " clear choices");
}
