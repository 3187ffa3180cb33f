// Puts what the server said into the page; every text goes in as text.
function fillSelect(select, options, chosen) {
  const wanted = options.map(([value, text]) => value + "\n" + text).join("\n");
  if (select.dataset.options === wanted) return; // an open list must not be taken away
  const before = chosen ?? select.value;
  select.dataset.options = wanted;
  select.replaceChildren(...options.map(([value, text]) => {
    const option = document.createElement("option");
    option.value = value;
    option.textContent = text;
    return option;
  }));
  if (options.some(([value]) => value === String(before))) select.value = String(before);
}

const roundName = (round) => "Round " + round.number + (round.adopted ? " (adopted)" : "");

function paintSetup(part, seen) {
  const rounds = seen.rounds.map((round) => [String(round.number), roundName(round)]);
  fillSelect(part("round"), rounds);
  const others = rounds.filter(([value]) => value !== part("round").value);
  fillSelect(part("against"), [["", "The base model"], ...others]);
  fillSelect(part("planned"), seen.plans.map((plan) => [String(plan.votes), String(plan.votes)]),
    part("planned").value || seen.planned);
  const prompts = [["all", "All " + seen.prompts + " held-out prompts"]];
  if (seen.own && seen.own < seen.prompts) {
    prompts.push(["own", some(seen.own, "prompt", "prompts") + " of my own"]);
  }
  fillSelect(part("prompts"), prompts);
  const plan = seen.plans.find((one) => String(one.votes) === part("planned").value);
  part("needed").textContent = neededText(plan);
  const texts = seen.texts.join("\n");
  if (part("texts").dataset.shown === texts) return;
  part("texts").dataset.shown = texts;
  part("texts").replaceChildren(...seen.texts.map((text) => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  }));
}

function paintHistory(part, seen, open) {
  part("past").hidden = !seen.trials.length;
  const said = JSON.stringify(seen.trials);
  if (part("trials").dataset.shown === said) return;
  part("trials").dataset.shown = said;
  part("trials").replaceChildren(...seen.trials.map((trial) => {
    const line = document.createElement("li");
    const chip = document.createElement("span");
    chip.className = "st-chip";
    chip.dataset.tone = trial.result ? TONES[trial.result.verdict] : "busy";
    chip.textContent = trial.result ? TITLES[trial.result.verdict] : "Open";
    const what = document.createElement("span");
    what.textContent = trial.aligned + " against " + trial.base + " · " + pastText(trial);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "st-button small";
    button.textContent = trial.result ? "Show" : "Go on";
    button.addEventListener("click", () => open(trial.number, Boolean(trial.result)));
    line.append(chip, what, button);
    return line;
  }));
}

function paintResult(part, trial, result, pictures) {
  part("result-of").textContent = result.aligned + " against " + result.base;
  part("test").textContent = result.test === "exact" ? "Exact test" : "Anytime-valid test";
  part("verdict").textContent = TITLES[result.verdict];
  part("verdict").dataset.tone = TONES[result.verdict];
  part("sentence").textContent = result.sentence;
  const [low, high] = result.interval;
  part("band").style.left = 100 * low + "%";
  part("band").style.width = 100 * (high - low) + "%";
  part("dot").style.left = 100 * result.win_rate + "%";
  part("end-base").textContent = result.base + " always won";
  part("end-aligned").textContent = result.aligned + " always won";
  part("rate").textContent = rateText(result);
  part("counts").textContent = countsText(result);
  part("why").textContent = testText(result);
  part("settings").textContent = settingsText(result);
  part("reveal").hidden = !pictures.length;
  part("reveal").open = false;
  part("grid").replaceChildren(...pictures.map((shown) => figureOf(shown, result)));
}

// Its pictures are fetched once somebody scrolls to them.
function figureOf(shown, result) {
  const figure = document.createElement("figure");
  const two = document.createElement("div");
  two.className = "two";
  for (const side of ["base", "aligned"]) {
    const place = document.createElement("div");
    place.className = "side" + (shown.winner === side ? " won" : "");
    const image = new Image();
    image.loading = "lazy";
    image.alt = result[side];
    image.src = "/pictures/" + encodeURIComponent(shown[side]);
    const name = document.createElement("span");
    name.textContent = result[side];
    place.append(image, name);
    two.append(place);
  }
  const caption = document.createElement("figcaption");
  const won = { tie: "both good", both_bad: "both bad" }[shown.winner]
    || "you chose " + result[shown.winner];
  caption.textContent = shown.prompt + " · seed " + shown.seed + " · " + won;
  figure.append(two, caption);
  return figure;
}
