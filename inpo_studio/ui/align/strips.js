// Samples: a row for each prompt, a picture for each step, the untrained one first.
function paintStrips(samples) {
  part("samples").hidden = samples.length === 0;
  const rows = new Map();
  for (const sample of samples) {
    if (!rows.has(sample.position)) rows.set(sample.position, []);
    rows.get(sample.position).push(sample);
  }
  const ordered = [...rows.entries()].sort((a, b) => a[0] - b[0]);
  keep(part("strips"), ordered, ([position]) => position, () => {
    const row = make("div", "strip");
    row.append(make("p", "caption"), make("div", "reel"));
    row.firstChild.dir = "auto";
    return row;
  }, (row, [, shown]) => {
    shown.sort((a, b) => a.step - b.step);
    say(row.firstChild, shown[0].prompt);
    const reel = row.lastChild;
    const atEnd = reel.scrollLeft + reel.clientWidth >= reel.scrollWidth - 8;
    const before = reel.childElementCount;
    keep(reel, shown, (sample) => sample.id, (sample) => {
      const cell = make("figure", "cell");
      cell.dataset.step = String(sample.step);
      cell.append(picture(sample), make("figcaption", "st-number", sample.step ? "step " + sample.step
        : "before"));
      return cell;
    });
    if (atEnd && reel.childElementCount > before) reel.scrollLeft = reel.scrollWidth;
  });
}
