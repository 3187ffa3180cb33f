// What was pressed, kept in the browser until the studio has it durably; sent in order, and
// again until it is answered. Every message carries its own key, so sending twice is harmless.
function makeOutbox({ page, send, onChange, onAnswer }) {
  const PREFIX = "inpo-studio:outbox:";
  const LONGEST_WAIT_MS = 4000;
  const ANSWER_WITHIN_MS = 8000;
  const SILENT = "The studio does not answer.";
  let place = null;
  let messages = [];
  let sending = false;
  let trouble = "";
  let kept = true;
  let wake = null;

  const read = (name) => {
    try {
      const found = JSON.parse(localStorage.getItem(name) || "[]");
      return Array.isArray(found) ? found : [];
    } catch {
      return [];
    }
  };

  function keep() {
    try {
      if (messages.length) localStorage.setItem(place, JSON.stringify(messages));
      else localStorage.removeItem(place);
      kept = true;
    } catch {
      kept = false;
    }
  }

  const within = (promise, ms) =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no answer")), ms);
      promise.then(resolve, reject).finally(() => clearTimeout(timer));
    });

  const pause = (ms) =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  async function pump() {
    if (sending) return;
    sending = true;
    let wait = 250;
    while (messages.length) {
      const message = messages[0];
      let answer = null;
      try {
        answer = await within(send(message), ANSWER_WITHIN_MS);
        trouble = !answer ? SILENT : answer.retry || "";
      } catch {
        trouble = SILENT;
      }
      if (trouble) {
        onChange();
        await pause(wait * (0.75 + Math.random() / 2));
        wait = Math.min(2 * wait, LONGEST_WAIT_MS);
        continue;
      }
      wait = 250;
      messages.shift();
      keep();
      try {
        onAnswer(message, answer);
      } catch (error) {
        console.error(error); // what is durable must not keep the next ones from being sent
      }
      onChange();
    }
    sending = false;
    onChange();
  }

  // Messages of pages that were closed before they could send: their lock is free.
  async function adopt() {
    if (!navigator.locks || !place) return;
    const mine = place.slice(0, place.length - page.length);
    const names = Object.keys(localStorage).filter((n) => n.startsWith(mine) && n !== place);
    for (const name of names) {
      const other = name.slice(mine.length);
      await navigator.locks.request(lockOf(other), { ifAvailable: true }, (lock) => {
        if (!lock) return;
        const found = read(name);
        messages = messages.concat(found);
        keep();
        if (kept) localStorage.removeItem(name);
      });
    }
    onChange();
    pump();
  }

  return {
    open(studio) {
      if (place) return;
      place = PREFIX + studio + ":" + page;
      messages = read(place).concat(messages);
      keep();
      pump();
      adopt();
    },
    add(message) {
      messages.push(message);
      keep();
      onChange();
      pump();
    },
    adopt,
    hurry: () => wake && wake(),
    has: (pairId) => messages.some((message) => message.about === pairId),
    undoes: (key) => messages.some((m) => m.call === "take_back" && m.data.key === key),
    pairs: () => messages.map((message) => message.about),
    get waiting() { return messages.length; },
    get trouble() { return trouble; },
    get kept() { return kept; },
  };
}

function lockOf(page) {
  return "inpo-studio:page:" + page;
}

function freshId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A name for this page that survives a reload; a duplicated tab gets one of its own.
async function claimPage() {
  const NAME = "inpo-studio:page";
  let page = null;
  try {
    page = sessionStorage.getItem(NAME);
  } catch { /* a browser that keeps nothing */ }
  const claim = (id) =>
    new Promise((resolve) => {
      if (!navigator.locks) return resolve(true);
      navigator.locks
        .request(lockOf(id), { ifAvailable: true }, (lock) => {
          resolve(Boolean(lock));
          return lock ? new Promise(() => {}) : null; // held as long as the page lives
        })
        .catch(() => resolve(true));
    });
  if (!page || !(await claim(page))) {
    page = freshId();
    await claim(page);
  }
  try {
    sessionStorage.setItem(NAME, page);
  } catch { /* then a reload counts as a new page */ }
  return page;
}
