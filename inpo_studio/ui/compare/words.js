// The sentences of the page. They are set as text, never as HTML.
const sideName = (side) => (side.number === null ? "Base model" : "Round " + side.number);

function sideText(side) {
  if (side.number === null) return "Base model";
  return sideName(side)
    + (side.parent_number === null ? "" : ", from round " + side.parent_number)
    + (side.adopted ? " · adopted" : "");
}

const some = (count, one, many) => count + " " + (count === 1 ? one : many);
const waitsText = (number) =>
  "Round " + number + " is training: pictures come when it has ended or is paused.";

const OWN_LEFT = "Not shown: something else was asked for meanwhile; press Draw again.";

function settingsText(view) {
  return "Guidance " + view.guidance + " · " + some(view.steps, "step", "steps")
    + " · " + some(view.seeds, "seed", "seeds")
    + (view.adapter_on === "both" ? " · adapter on both" : "");
}

// [title, text] where there is no round to compare yet.
function emptyText(found) {
  if (found.training !== null) {
    return ["Round " + found.training + " is on its way",
      "When it is done, its pictures are shown here beside those of the base model. "
      + "Follow it under Align."];
  }
  return ["No round to compare yet",
    "Choose between pairs under Label, then start a round under Align. When it is done, you see "
    + "here what it changed: the same prompts and seeds by the base model and by the round."];
}

function statusText(found) {
  const drawn = found.cells.length - found.missing;
  const drawing = found.drawing;
  if (drawing && drawing.state === "running") {
    return "Drawing " + Math.min(drawing.done, drawing.total) + " of " + drawing.total;
  }
  if (found.training !== null && (drawing || found.missing)) return waitsText(found.training);
  if (drawing && drawing.state === "queued") return "Waiting for the worker…";
  if (!found.cells.length) return "There is no such prompt yet: write one of your own above.";
  if (found.missing) return drawn + " of " + found.cells.length + " drawn";
  return some(drawn, "comparison", "comparisons");
}

function stageText(found) {
  if (found.training !== null) return waitsText(found.training);
  if (found.drawing && found.drawing.state !== "failed") return "The first pictures are being drawn…";
  if (!found.cells.length) return "Write a prompt of your own to begin.";
  return "Nothing is drawn for these two sides yet.";
}

// What the dial stands at; `right` is the name of the side it changes.
function strengthText(strength, right) {
  if (strength === 0) return "0 switches " + right + " off: the right side is the base model itself.";
  if (strength === 1) return "1 is " + right + " as it was trained.";
  if (strength < 1) return "Below 1 the right side lies between the base model and " + right + ".";
  return "Above 1 what " + right + " learnt is exaggerated.";
}

const seconds = (ms) => (ms / 1000).toFixed(1) + " s";
