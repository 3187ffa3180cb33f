// Pictures are fetched and decoded before they are needed; showing one is then a matter of
// putting the decoded element in its place.
function loadPicture(id) {
  const image = new Image();
  image.decoding = "sync";
  image.alt = "";
  image.draggable = false;
  const picture = { image, ready: false, failed: false, whenReady: null };
  picture.whenReady = (async () => {
    for (let attempt = 0; ; attempt += 1) {
      try {
        image.src = "/pictures/" + encodeURIComponent(id) + (attempt ? "?again=" + attempt : "");
        await image.decode();
        picture.ready = true;
        picture.failed = false;
        return;
      } catch {
        picture.failed = true;
        if (attempt > 60) return;
        await new Promise((resolve) => setTimeout(resolve, Math.min(4000, 300 * 2 ** attempt)));
      }
    }
  })();
  return picture;
}

// A pair as the server describes it, with its two pictures on their way.
function loadPair(shown) {
  const pair = {
    id: shown.pair_id,
    prompt: shown.prompt,
    counts: shown.counts,
    left: shown.left_image_id,
    right: shown.right_image_id,
    shownAt: null,
    pictures: {},
  };
  for (const id of [pair.left, pair.right]) pair.pictures[id] = loadPicture(id);
  return pair;
}

const pairIsReady = (pair) =>
  pair.pictures[pair.left].ready && pair.pictures[pair.right].ready;
