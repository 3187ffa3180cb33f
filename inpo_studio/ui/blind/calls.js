// What the buttons beside the pictures do.
const ask = async (name, data) => {
  try {
    const answer = await call(name, data);
    unreachable = Boolean(answer.retry);
    if (answer.retry || answer.refused) tell(answer.retry || answer.refused);
    return answer.retry || answer.refused ? null : answer;
  } catch {
    unreachable = true;
    return null;
  }
};

function enter(number) {
  trial = number;
  remember(OPEN_TRIAL, number ? String(number) : null);
  [queue, past, progress, result] = [[], [], null, null];
  part("peek").hidden = true;
}

async function openTrial(number, ended) {
  enter(number);
  if (ended) {
    await look();
    return;
  }
  paint();
  await refill(true);
  const found = await ask("past_votes", { trial: number });
  if (found && trial === number && !past.length) {
    past = found.keys.map((key) => ({ key, choice: "seen", item: null }));
  }
  paint();
  focusHere();
}

async function lookAround() {
  const found = await ask("look_around", {});
  if (!found) return;
  seen = found;
  if (studio) return;
  studio = found.studio;
  outbox.open("blind-" + studio);
}

async function look() {
  if (outbox.waiting) return;
  const number = trial;
  const found = await ask("show_result", { trial: number });
  if (found && trial === number) {
    result = found.result;
    past = [];
    part("peek").hidden = true;
    paintResult(part, trial, found.result, found.pictures);
    for (const [name, shown] of [["resume", !result.complete], ["more", result.complete]]) {
      const button = root.querySelector('[data-call="' + name + '"]');
      button.hidden = !shown;
      button.classList.toggle("primary", name === "resume" || result.verdict === "can't tell yet");
    }
    await lookAround();
  } else if (!found && !progress) enter(0);
  paint();
}

const calls = {
  async start() {
    if (starting) return;
    starting = true;
    const against = part("against").value;
    const found = await ask("start_vote", {
      round: Number(part("round").value), against: against ? Number(against) : null,
      planned: Number(part("planned").value), prompts: part("prompts").value });
    starting = false;
    if (!found) return;
    await lookAround();
    await openTrial(found.trial, false);
  },
  async leave() {
    enter(0);
    await lookAround();
    paint();
  },
  async again() {
    await ask("draw_again", { trial });
    await refill(true);
  },
  peek() { part("peek").hidden = !part("peek").hidden; },
  stay() {
    part("peek").hidden = true;
    focusHere();
  },
  look,
  async resume() { await openTrial(trial, false); },
  async more() {
    if (await ask("add_votes", { trial, more: 10 })) await openTrial(trial, false);
    paint();
  },
};

function focusHere() {
  root.focus({ preventScroll: true });
}

// After a reload one is where one was.
async function resumeLast() {
  const number = Number(remembered(OPEN_TRIAL));
  const known = seen.trials.find((one) => one.number === number);
  if (!trial && known && !known.result) await openTrial(number, false);
}
