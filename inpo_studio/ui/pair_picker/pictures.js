// Pictures are fetched and decoded before they are needed; showing one is then a matter of
// putting the decoded element in its place.
const MOST_TRIES = 60; // while the studio is away: four minutes
const MOST_ANSWERS = 4; // while it is there and has no picture that can be shown

const answers = (address) =>
  fetch(address).then((answer) => answer.status < 500, () => false);

function loadPicture(id) {
  const image = new Image();
  image.decoding = "sync";
  image.alt = "";
  image.draggable = false;
  const picture = { image, ready: false, lost: false, settled: null };
  picture.settled = (async () => {
    let answered = 0;
    for (let attempt = 0; ; attempt += 1) {
      try {
        image.src = "/pictures/" + encodeURIComponent(id) + (attempt ? "?again=" + attempt : "");
        await image.decode();
        picture.ready = true;
        return;
      } catch {
        if (await answers(image.src)) answered += 1;
        if (answered === MOST_ANSWERS || attempt === MOST_TRIES) {
          picture.lost = true;
          return;
        }
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

// The other way round: what is enough to load the pair again.
const describe = (pair) => ({ pair_id: pair.id, prompt: pair.prompt, counts: pair.counts,
  left_image_id: pair.left, right_image_id: pair.right });

const picturesOf = (pair) => [pair.pictures[pair.left], pair.pictures[pair.right]];
const pairIsReady = (pair) => picturesOf(pair).every((picture) => picture.ready);
const pairIsLost = (pair) => picturesOf(pair).some((picture) => picture.lost);
