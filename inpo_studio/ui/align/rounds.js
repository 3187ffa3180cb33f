// The tree of rounds: each a card, below the one it started from.
const percentRange = (range) => Math.round(100 * range[0]) + " to " + percent(range[1]);

function resultText(round) {
  if (round.imported) return round.imported.name;
  if (round.ranked_right === null) {
    return round.state === "done" && !round.validation_pairs
      ? "Not checked: no choice was on a validation prompt." : "";
  }
  const interval = round.interval ? " (" + percentRange(round.interval) + " is likely)" : "";
  const margin = round.margin === null ? "" : "; margin " + thousandths(round.margin) + " × 0.001";
  return percent(round.ranked_right) + " of " + some(round.validation_pairs, "validation pair",
    "validation pairs") + " ranked right" + interval + margin;
}

function factsText(round) {
  if (round.imported) {
    const left = round.imported.left_out
      ? "without " + some(round.imported.left_out, "layer", "layers") + " of the text encoder" : "";
    return ["From the file " + round.imported.file, left].filter(Boolean).join(" · ");
  }
  const verb = round.state === "done" ? "Learnt from " : "Learns from ";
  const learnt = round.choices ? verb + some(round.choices, "choice", "choices") : "";
  const which = !round.choices ? "" : (round.which === "fresh" ? " made since the round before" : "")
    + (round.annotators.length ? " by " + round.annotators.join(", ") : "");
  const steps = round.kept_step !== null && round.kept_step !== round.step
    ? "uses step " + round.kept_step + " of " + round.step
    : round.step ? some(round.step, "step", "steps") : "";
  const time = round.seconds ? (steps ? " in " : "") + span(round.seconds) : "";
  return [learnt + which, steps + time].filter(Boolean).join(" · ");
}

// The next round cannot be planned while one is at work, so nothing is branched from meanwhile.
function cardButtons(round, shownId, working) {
  const wanted = ["adopt", "branch", "resume", "compare", "export"].filter((name) => round.actions.includes(name)
    && !(name === "adopt" && round.adopted) && !(name === "branch" && working)
    && !(name === "compare" && !compareTab()));
  if (round.id !== shownId && !round.imported) wanted.push("watch");
  return wanted;
}

function paintCard(card, round, shownId, working) {
  const at = (name) => card.querySelector('[data-at="' + name + '"]');
  card.dataset.round = round.id;
  card.dataset.state = round.state;
  card.classList.toggle("in-use", round.adopted);
  card.style.setProperty("--depth", round.depth);
  say(at("title"), "Round " + round.number);
  say(at("state"), round.imported ? "imported" : round.state_word);
  at("state").dataset.tone = round.tone;
  at("adopted").hidden = !round.adopted;
  say(at("from"), round.imported ? "" : round.parent_number === null ? "from the base model"
    : "from round " + round.parent_number);
  sayOrHide(at("result"), resultText(round));
  sayOrHide(at("facts"), factsText(round));
  sayOrHide(at("failure"), round.failure);
  const changed = round.settings.filter((setting) => setting.changed);
  at("changes").hidden = changed.length === 0;
  keep(at("changes"), changed, (one) => one.label, () => make("span", "pill st-number"),
    (pill, one) => say(pill, one.label + " " + one.value));
  keep(at("buttons"), cardButtons(round, shownId, working), (name) => name, (name) => actionButton(name));
  paintExport(at, round);
  keep(at("thumbs"), round.thumbnails, (sample) => sample.id, picture);
  paintKept(at, round);
  const lines = round.settings.flatMap((one) => [["dt", one.label, one], ["dd", one.value, one]]);
  keep(at("settings"), lines, ([tag, , one]) => tag + one.label, ([tag]) => make(tag),
    (node, [, text, one]) => {
      say(node, text);
      node.classList.toggle("changed", one.changed);
    });
}

function paintKept(at, round) {
  const rests = ["done", "paused", "failed", "cancelled"].includes(round.state);
  const others = round.kept.some((one) => !one.used);
  at("kept-box").hidden = !rests || !others;
  keep(at("kept"), round.kept, (one) => one.step, (one) => {
    const line = make("li", "st-row");
    const button = actionButton("keep", "Keep step " + one.step);
    button.dataset.step = String(one.step);
    line.append(make("span", "st-fill st-number"), button);
    return line;
  }, (line, one) => {
    say(line.firstChild, "Step " + one.step + (one.ranked_right === null ? ""
      : ": " + percent(one.ranked_right) + " ranked right on validation"));
    line.lastChild.disabled = one.used;
    say(line.lastChild, one.used ? "In use" : "Keep step " + one.step);
  });
}

function paintTree(tree, shownId) {
  part("rounds-part").hidden = tree.rounds.length === 0;
  say(part("in-use"), tree.adopted_number === null ? "New pairs come from the base model."
    : "New pairs come from round " + tree.adopted_number + ".");
  part("revert").hidden = tree.adopted_number === null;
  keep(part("tree"), tree.rounds, (round) => round.id,
    () => part("card").content.firstElementChild.cloneNode(true),
    (card, round) => paintCard(card, round, shownId, tree.at_work));
}

// The Compare page's tab, where there is one; it hears which round is meant.
const tabNamed = (name) => [...document.querySelectorAll("[role=tab]")]
  .find((tab) => tab.textContent.trim() === name);
const compareTab = () => tabNamed("Compare");

function compare(roundId) {
  const tab = compareTab();
  if (!tab) return;
  window.studioCompare = roundId; // a page that was never opened begins only now, and reads it
  tab.click();
  tabNamed("Side by side")?.click();
  document.dispatchEvent(new CustomEvent("studio-compare", { detail: { round: roundId } }));
}
