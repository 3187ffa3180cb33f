// Small things that every part of the page uses: parts by name, numbers as a person reads them.
const root = element.querySelector(".align");
const part = (name) => root.querySelector('[data-is="' + name + '"]');

const some = (count, one, many) => count + " " + (count === 1 ? one : many);
const percent = (value) => Math.round(100 * value) + " %";

// A number with three digits that count.
function short(value) {
  if (!value) return "0";
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return (size < 0.001 ? value.toExponential(1) : value.toFixed(digits)).replace(/-/g, "−");
}

function span(seconds) {
  if (seconds < 90) return Math.max(1, Math.round(seconds)) + " s";
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return minutes + " min";
  const rest = minutes % 60;
  return Math.floor(minutes / 60) + " h" + (rest ? " " + rest + " min" : "");
}

const about = (seconds) => (seconds < 8 ? "a few seconds"
  : "about " + span(seconds < 90 ? 5 * Math.round(seconds / 5) : seconds));

const ACTIONS = {
  pause: "Pause", resume: "Resume", finish: "Finish now and keep", cancel: "Cancel",
  adopt: "Adopt", branch: "Branch from here", compare: "Compare", watch: "Show its curves",
  export: "Export",
};
const HELP = {
  pause: "Stop after this step; it can go on later, with nothing lost",
  resume: "Go on from the last checkpoint",
  finish: "End now and keep what it has learnt so far",
  cancel: "Stop for good and drop what it has learnt",
  adopt: "Make new pairs with this round's model from now on; it can be undone",
  branch: "Let the next round start from this one",
  compare: "See it beside the base model on prompts it never saw",
  watch: "Show this round's curves and samples above",
  export: "Have its adapter as a file for other programs",
  check: "Load the file in plain diffusers and compare pictures with those of this studio",
};

function actionButton(name, label) {
  const button = make("button", "st-button small", label || ACTIONS[name]);
  button.type = "button";
  button.dataset.act = name;
  button.title = HELP[name] || "";
  if (name === "cancel") button.classList.add("danger");
  return button;
}

function picture(sample) {
  const image = make("img", "st-picture");
  image.loading = "lazy";
  image.decoding = "async";
  image.draggable = false;
  image.alt = sample.prompt + (sample.step ? ", at step " + sample.step : ", before training");
  image.src = "/pictures/" + encodeURIComponent(sample.id);
  return image;
}
