// The four charts: which figures they show and what these mean. Columns are those of the server.
const COLUMN = { loss: 1, train: 2, validation: 3, margin: 4, validationMargin: 5, winner: 6, loser: 7 };
const thousandths = (value) => short(1000 * value);
const CHARTS = [
  { key: "ranked", title: "Ranked right", format: percent, range: [0, 1], base: 0.5,
    baseText: "guessing",
    note: "Higher is better: the share of pairs where it now leans towards your pick. Validation "
      + "pairs are ones it does not learn from, so they tell more.",
    series: [
      { name: "train", column: COLUMN.train, smooth: true, tone: "train" },
      { name: "validation", column: COLUMN.validation, tone: "validation", counted: true },
    ] },
  { key: "margin", title: "Margin", unit: "× 0.001", format: thousandths, base: 0, baseText: "no change",
    note: "Lower is better: below zero it has come closer to your picks than to the others, "
      + "compared with where it started.",
    series: [
      { name: "train", column: COLUMN.margin, smooth: true, tone: "train" },
      { name: "validation", column: COLUMN.validationMargin, tone: "validation" },
    ] },
  { key: "errors", title: "Error against the start", unit: "× 0.001",
    format: thousandths, base: 0,
    baseText: "as at the start",
    note: "Winners below losers is better: how much worse it predicts the noise in pictures you "
      + "picked and in those you did not; both far up means it forgets how to draw.",
    series: [
      { name: "winners", column: COLUMN.winner, smooth: true, tone: "good" },
      { name: "losers", column: COLUMN.loser, smooth: true, tone: "bad" },
    ] },
  { key: "loss", title: "Loss", format: short, base: null, baseText: "",
    note: "What training pushes down: how far pairs are from being learnt, ties included. It "
      + "jumps, because each step looks at other pairs; a safeguard of winners, where a round has "
      + "one, adds to it.",
    series: [{ name: "train", column: COLUMN.loss, smooth: true, tone: "train" }] },
];
const SMOOTHED = "Lines of training are the mean of " + SMOOTH
  + " steps, with the single steps faint behind them; dots are measured on validation pairs.";

const charts = CHARTS.map((spec) => makeChart(spec, (step) => charts.forEach((c) => c.point(step))));
part("charts").append(...charts.map((chart) => chart.figure), make("p", "st-soft smoothed", SMOOTHED));

// While a round is at work its charts are there before their first point, so nothing jumps.
function paintCharts(rows, seen, working) {
  part("charts").hidden = rows.length === 0 && !working;
  if (part("charts").hidden) return;
  for (const chart of charts) chart.update(rows, seen.total_steps, seen.validation_pairs);
}
