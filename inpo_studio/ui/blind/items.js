// Two pictures to vote on, under names that are new with every serving. They are fetched and
// decoded before they are needed.
function loadBlindPicture(token) {
  const image = new Image();
  image.decoding = "sync";
  image.alt = "";
  image.draggable = false;
  const picture = { image, ready: false, failed: false, whenReady: null };
  picture.whenReady = (async () => {
    for (let attempt = 0; attempt < 4; attempt += 1) {
      try {
        image.src = "/blind/" + encodeURIComponent(token) + (attempt ? "?again=" + attempt : "");
        await image.decode();
        picture.ready = true;
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 300 * 2 ** attempt));
      }
    }
    picture.failed = true; // the studio has forgotten it; the page asks for the item anew
  })();
  return picture;
}

function loadItem(shown) {
  const item = { ticket: shown.ticket, prompt: shown.prompt, left: shown.left, right: shown.right,
    shownAt: null, pictures: {} };
  for (const token of [item.left, item.right]) item.pictures[token] = loadBlindPicture(token);
  return item;
}

const bothPictures = (item) => [item.pictures[item.left], item.pictures[item.right]];
const itemIsReady = (item) => bothPictures(item).every((picture) => picture.ready);
const itemHasFailed = (item) => bothPictures(item).some((picture) => picture.failed);

// A name for this page that survives a reload; a duplicated tab gets one of its own.
async function claimBlindPage() {
  const NAME = "inpo-studio:blind-page";
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
  let page = remembered(NAME);
  if (!page || !(await claim(page))) {
    page = freshId();
    await claim(page);
  }
  remember(NAME, page);
  return page;
}

function remembered(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null; // a browser that keeps nothing
  }
}

function remember(name, value) {
  try {
    if (value === null) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, value);
  } catch { /* then a reload begins anew */ }
}
