// The pickers above, and the line above the grid: how far it is and what can be done.
function paintPickers() {
  for (const [name, without] of [["base", view.round], ["round", view.base || ""]]) {
    const select = part(name);
    const sides = found.sides.filter((side) => name === "base" || side.id);
    const made = sides.map((side) => {
      const option = document.createElement("option");
      option.value = side.id;
      option.textContent = sideText(side);
      option.disabled = side.id === without;
      return option;
    });
    const key = made.map((option) => option.value + option.textContent + option.disabled).join("|");
    if (select.dataset.key !== key) {
      select.replaceChildren(...made);
      select.dataset.key = key;
    }
    select.value = name === "base" ? view.base || "" : view.round || "";
  }
  act("swap").disabled = !view.base;
  act("swap").title = view.base ? "Swap both sides" : "The base model stays on the left";
  part("settings-text").textContent = settingsText(view);
}

function paintBar() {
  const drawing = found.drawing;
  const going = Boolean(drawing && drawing.state !== "failed");
  part("status").textContent = statusText(found);
  part("bar").classList.toggle("on", going && drawing.total > 0);
  part("fill").style.transform =
    "scaleX(" + (going && drawing.total ? Math.min(1, drawing.done / drawing.total) : 0) + ")";
  act("stop").hidden = !going;
  act("draw").hidden = going || !found.missing;
  act("draw").textContent = drawing && drawing.state === "failed" ? "Try again"
    : "Draw " + (found.missing === found.cells.length ? "" : "the other ")
      + some(found.missing, "comparison", "comparisons");
  act("begin").hidden = act("draw").hidden;
  act("begin").textContent = act("draw").textContent;
  act("more").hidden = !found.more;
  act("more").textContent = "Show " + some(Math.min(MORE, found.more), "more prompt", "more prompts");
}
