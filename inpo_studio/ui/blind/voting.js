// Voting: the item on screen, the votes, and the items that come next.
function paintItem() {
  const item = queue[0];
  const ready = Boolean(item) && itemIsReady(item);
  part("prompt").textContent = item ? item.prompt : "";
  for (const side of ["left", "right"]) {
    const image = ready ? item.pictures[item[side]].image : null;
    if (!image) part(side).replaceChildren();
    else if (part(side).firstChild !== image) part(side).replaceChildren(image);
  }
  root.dataset.ticket = ready ? item.ticket : "";
  for (const button of root.querySelectorAll('[data-in="voting"] [data-do]')) {
    if (button.dataset.do !== "undo") button.disabled = !ready;
  }
  if (ready && item.shownAt === null) item.shownAt = performance.now();
  if (item && !ready) {
    Promise.all(bothPictures(item).map((picture) => picture.whenReady)).then(() => {
      if (itemHasFailed(item)) drop(item);
      if (queue[0] === item || itemHasFailed(item)) paint();
    });
  }
  const found = seen.trials.find((one) => one.number === trial);
  part("between").textContent = found ? found.aligned + " against " + found.base + ", without names"
    : "";
  if (progress) {
    part("count").textContent = progress.votes + " of " + progress.target + " votes";
    part("fill").style.transform = "scaleX(" + progress.votes / progress.target + ")";
  }
}

function drop(item) {
  queue = queue.filter((other) => other !== item);
  refill(true);
}

// Until the studio has told anew: `ready` are the items it could serve.
function counted(choice, step) {
  changes += 1;
  if (!progress) return;
  progress = { ...progress, ready: Math.max(0, progress.ready - step),
    votes: progress.votes + (choice === "skip" ? 0 : step) };
}

function vote(choice) {
  const item = queue[0];
  if (!item || !isOpen() || !itemIsReady(item) || item.shownAt === null) return;
  const key = freshId();
  const milliseconds = Math.min(2 ** 31 - 1, Math.round(performance.now() - item.shownAt));
  queue.shift();
  past.push({ key, choice, item });
  root.classList.remove("zoomed");
  part("peek").hidden = true;
  counted(choice, 1);
  outbox.add({ about: item.ticket, call: "cast",
    data: { key, trial, ticket: item.ticket, choice, left: item.left, milliseconds } });
  paint();
  tell("");
  if (queue.length <= 2) refill(); // otherwise once this vote is safe
}

function undo() {
  const last = isOpen() && past.pop();
  if (!last) return;
  if (last.item) {
    last.item.shownAt = null;
    queue = [last.item, ...queue.filter((other) => other !== last.item)];
  }
  counted(last.choice, -1);
  outbox.add({ about: last.item ? last.item.ticket : last.key, call: "take_back",
    data: { key: last.key, again: !last.item } });
  paint();
  tell(last.choice === "seen" ? "Undone." : "Undone: " + SAID[last.choice] + ".");
}

function flip() {
  const item = queue[0];
  if (item) [item.left, item.right] = [item.right, item.left];
  paint();
}

const actions = { undo, flip, zoom: () => queue[0] && root.classList.toggle("zoomed") };
const act = (name) => (actions[name] ? actions[name]() : vote(name));

function answered(message, answer) {
  if (answer.refused) {
    past = past.filter((item) => item.key !== message.data.key);
    tell(answer.refused);
  }
  if (answer.item) queue.unshift(loadItem(answer.item));
  if (!outbox.waiting) refill(true);
}

async function refill(always = false) {
  if (!outbox || !isOpen()) return;
  if (asking) {
    askAgain = askAgain || always;
    return;
  }
  const want = queue.length <= AHEAD ? AHEAD + 1 + AT_ONCE - queue.length : 0;
  if (!want && !always) return;
  asking = true;
  const asked = { trial, changes, settled: !outbox.waiting };
  const pending = outbox.pairs();
  const holding = [...new Set([...queue.map((item) => item.ticket), ...pending])];
  try {
    const found = await call("next_items", { trial, holding, want });
    unreachable = Boolean(found.retry);
    if (found.retry || found.refused) tell(found.retry || found.refused);
    else if (asked.trial === trial) takeItems(found, asked.settled && asked.changes === changes);
  } catch {
    unreachable = true;
  }
  asking = false;
  paint();
  if (askAgain) {
    askAgain = false;
    await refill(true);
  }
}

// What was not durable when it was asked for, or was pressed since, is newer than the answer.
function takeItems(found, upToDate) {
  for (const shown of found.items) queue.push(loadItem(shown));
  if (progress && !upToDate) {
    askAgain = askAgain || !outbox.waiting;
    progress = { ...found.progress, votes: progress.votes };
    return;
  }
  progress = found.progress;
  queue = queue.filter((item) => !found.lost.includes(item.ticket));
  if (progress.complete) queue = [];
}

