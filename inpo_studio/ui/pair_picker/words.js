// The sentences of the picker that depend on numbers. They are set as text, never as HTML.
const CLEAR = ["left", "right", "tie"];
const NAMES = {
  left: "left is better", right: "right is better", tie: "both good",
  both_bad: "both bad", skip: "skipped",
};

// [title, text] where a picture of the pair on screen cannot be had.
const LOST = ["A picture of this pair cannot be loaded; skip it, or reload the page.", ""];

const some = (count, one, many) => count + " " + (count === 1 ? one : many);

function countText(standing) {
  const fresh = standing.rounds.length ? " new" : "";
  const left = " · " + (standing.round_runs
    ? some(standing.ready, "pair", "pairs") + " left while a round trains"
    : some(standing.ready, "pair ready", "pairs ready"));
  if (standing.fresh >= standing.goal) {
    return standing.fresh + fresh + " clear choices: enough for a useful round" + left;
  }
  return standing.fresh + " of " + standing.goal + fresh + " clear choices for a useful round" + left;
}

function wentText(standing) {
  const into = standing.rounds.map(
    (round) => "round " + round.number + " (" + round.state + ") "
      + (round.state === "done" ? "learnt from " : "is learning from ") + round.choices
  );
  const rest = standing.fresh + " are new";
  return some(standing.choices, "choice", "choices") + " so far: "
    + into.concat(rest).join(", ") + ".";
}

function waitingText(standing) {
  if (!standing) return ["Opening the workspace…", ""];
  if (standing.problem) return ["No pairs can be made", standing.problem];
  if (!standing.prompts) {
    return ["What would you like to see?", "Add a few prompts of your own under Prompts."];
  }
  if (standing.round_runs) {
    return [
      "All pairs are labelled",
      "A round is training; new pairs come slowly, or when it has ended.",
    ];
  }
  return ["Making pairs…", "The first ones of a fresh workspace take a few seconds."];
}
