// The sentences of the blind vote that depend on numbers. They are set as text, never as HTML.
const SAID = {
  left: "left is better", right: "right is better", tie: "both good",
  both_bad: "both bad", skip: "skipped",
};
const TITLES = { better: "Better", worse: "Worse", "can't tell yet": "Can't tell yet" };
const TONES = { better: "good", worse: "bad", "can't tell yet": "" };

const some = (count, one, many) => count + " " + (count === 1 ? one : many);
const percent = (share) => Math.round(100 * share) + "\u00a0%";

function neededText(plan) {
  if (!plan) return "";
  if (!plan.needed) return "So few votes can never be enough for a verdict.";
  return "With " + plan.votes + " votes and no ties, " + plan.needed
    + " wins are needed to say “better”: equally good models get there by luck in at most "
    + "2.5 % of all such votes.";
}

function drawingText(progress) {
  if (progress.failed) return progress.failed;
  return some(progress.drawn, "comparison", "comparisons") + " of " + progress.items + " drawn. "
    + (progress.note || "You can begin as soon as the first ones are there.");
}

function testText(result) {
  const votes = result.wins + result.losses + result.ties;
  if (result.test === "exact") {
    return "You looked after exactly the " + result.planned + " votes that were planned, so the "
      + "exact one-sided sign test at 2.5 % holds.";
  }
  const why = votes > result.first_look
    ? "You went on voting after a look at the result"
    : "You looked before all votes were in";
  return why + ", so an anytime-valid test is used: it holds however often you look, and wants "
    + "more evidence (an e-value of 40; Robbins 1970, Ramdas and others 2023).";
}

function countsText(result) {
  const votes = result.wins + result.losses + result.ties;
  const ties = result.ties
    ? " " + some(result.ties, "tie counts", "ties count") + " half in the win rate and "
      + (result.ties === 1 ? "is" : "are") + " left out of the test."
    : "";
  return result.aligned + " won " + result.wins + ", " + result.base + " won " + result.losses
    + ", " + some(result.ties, "tie", "ties") + ", of " + some(votes, "vote", "votes") + "." + ties;
}

function rateText(result) {
  const kind = result.test === "exact" ? "95 % interval" : "95 % interval that holds at any time";
  return percent(result.win_rate) + " win rate, " + kind + " "
    + percent(result.interval[0]) + " to " + percent(result.interval[1]);
}

function settingsText(result) {
  return "Drawn at guidance " + result.guidance + ", " + result.steps + " steps, strength "
    + result.scale + ".";
}

function pastText(trial) {
  if (!trial.result) return trial.votes + " of " + trial.target + " votes";
  const votes = trial.result.wins + trial.result.losses + trial.result.ties;
  return percent(trial.result.win_rate) + " win rate after " + some(votes, "vote", "votes");
}
