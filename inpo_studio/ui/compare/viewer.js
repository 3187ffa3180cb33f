// The large picture: which prompt and strength it shows, and asking for one that is not drawn.
const LOOK_MS = 120;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function makeViewer({ root, part, call, show, onDrawn }) {
  let chosen = null; // the cell
  let strength = 1;
  let shown = ""; // the comparison that the slider has or is getting
  let shownAt = 1; // and its strength
  let asked = null; // what is being drawn by itself
  let told = ""; // about the last one: how long it took, or why it failed
  let since = null;
  let loaded = new Set();
  let names = ["", ""];

  const waits = () => asked !== null;

  function paint(found) {
    names = found.names;
    part("left-name").textContent = names[0];
    part("right-name").textContent = names[1]
      + (shownAt === 1 ? "" : " at strength " + shownAt.toFixed(1));
    part("prompt").textContent = chosen ? chosen.prompt : "";
    part("seed").hidden = !chosen;
    part("seed").textContent = chosen ? "seed " + chosen.seed : "";
    part("labelled").hidden = !(chosen && chosen.labelled);
    part("strength").disabled = !chosen;
    if (!part("strength").matches(":active")) {
      part("strength").value = strength;
      part("strength-text").textContent = strength.toFixed(1);
    }
    const busy = waits() && asked.own === false;
    part("strength-told").textContent = !chosen ? "" : busy
      ? (found.training === null ? "Drawing at " + asked.strength.toFixed(1) + "…"
        : waitsText(found.training))
      : told || strengthText(strength, names[1]);
    part("stage-text").textContent = stageText(found);
    root.dataset.viewing = shown ? "yes" : "no";
    root.dataset.waits = waits() ? "yes" : "no";
  }

  function present(comparison, at = 1) {
    if (!comparison || comparison === shown) return;
    shown = comparison;
    shownAt = at;
    loaded = new Set();
    show(comparison);
  }

  // Gradio's slider has got a picture; when it has both, the person sees them.
  function onLoad(event) {
    const image = event.target;
    if (!(image instanceof HTMLImageElement) || !image.closest("#compare-slider")) return;
    loaded.add(image.src);
    if (loaded.size < 2) return;
    root.dataset.shown = shown;
    if (since !== null) {
      told = "Drawn in " + seconds(performance.now() - since) + ". " + told;
      since = null;
      onDrawn();
    }
  }

  async function ask(prompt, seed, at, own) {
    const mine = { job: null, strength: at, own, begun: performance.now() };
    const instead = asked ? asked.job : null;
    asked = mine;
    told = "";
    onDrawn();
    let answer = null;
    try {
      answer = await call("one", { prompt, seed, strength: at, instead });
      while (asked === mine && ["queued", "running"].includes(answer.state)) {
        mine.job = answer.job;
        await pause(LOOK_MS);
        const next = await call("look_at", { job: answer.job });
        answer = next.retry ? answer : next;
      }
    } catch {
      answer = { failure: "The studio does not answer." };
    }
    if (asked !== mine) return null;
    asked = null;
    const problem = answer.refused || answer.retry || answer.failure
      || (answer.comparison_id ? "" : "The picture was not drawn; try again.");
    if (problem) {
      told = own ? "" : problem;
      onDrawn();
      return { problem };
    }
    if (mine.job) since = mine.begun;
    return answer;
  }

  async function setStrength(value) {
    if (!chosen || value === strength) return;
    strength = value;
    told = "";
    if (value === 1 && chosen.comparison_id) {
      asked = null;
      present(chosen.comparison_id);
      onDrawn();
      return;
    }
    const cell = chosen;
    const answer = await ask(cell.prompt, cell.seed, value, false);
    if (!answer || answer.problem || !chosen || keyOf(chosen) !== keyOf(cell)) return;
    told = strengthText(value, names[1]);
    present(answer.comparison_id, value);
    onDrawn();
  }

  root.addEventListener("load", onLoad, true);
  return {
    paint,
    setStrength,
    ask,
    get chosen() { return chosen; },
    get waits() { return waits(); },
    choose(cell) {
      const other = !chosen || !cell || keyOf(chosen) !== keyOf(cell);
      if (other) {
        strength = 1;
        told = "";
        asked = asked && asked.own ? asked : null;
      }
      chosen = cell;
      if (cell && strength === 1 && cell.comparison_id) present(cell.comparison_id);
      else if (other || !cell) [shown, shownAt] = ["", 1];
    },
    // Other sides or settings: what the slider has is of the former ones. The prompt stays.
    clear() {
      [shown, shownAt] = ["", 1];
      chosen = chosen && { ...chosen, comparison_id: null };
      asked = null;
      strength = 1;
      told = "";
      delete root.dataset.shown;
    },
  };
}

// Gradio's slider takes the wheel and the first finger for its zoom; in the page both scroll on.
function scrollOn(root, event) {
  const image = event.target.closest("#compare-slider") && !document.fullscreenElement
    && root.querySelector("#compare-slider img");
  const zooms = event.ctrlKey || (event.touches && event.touches.length > 1)
    || event.target.closest("[data-testid=slider]");
  const zoomed = event.touches && image && !image.style.transform.endsWith("scale(1)");
  if (image && !zooms && !zoomed) event.stopPropagation();
}
