// The grid: one card a prompt and seed, both pictures beside each other. Cards are kept by prompt
// and seed, so that what is on screen stays where it is while others fill.
const SAMPLE = 24; // pixels a side that pictures are compared at
const keyOf = (cell) => cell.prompt_id + ":" + cell.seed;

function elementOf(name, kind, parent) {
  const made = document.createElement(name);
  made.className = kind;
  parent.append(made);
  return made;
}

function makeCard(key) {
  const card = document.createElement("button");
  card.type = "button";
  card.className = "card";
  card.dataset.key = key;
  const two = elementOf("span", "two", card);
  const made = { card, shown: "", change: null, cell: null };
  made.left = elementOf("span", "spot", two);
  made.right = elementOf("span", "spot", two);
  made.words = elementOf("span", "words", card);
  made.marks = elementOf("span", "marks", card);
  made.seed = elementOf("span", "", made.marks);
  made.less = elementOf("span", "says-less", made.marks);
  return made;
}

async function loadImage(id) {
  const image = new Image();
  image.alt = "";
  image.draggable = false;
  for (let attempt = 0; ; attempt += 1) {
    try {
      image.src = "/pictures/" + encodeURIComponent(id) + (attempt ? "?again=" + attempt : "");
      await image.decode();
      return image;
    } catch {
      if (attempt > 5) return image;
      await new Promise((resolve) => setTimeout(resolve, 300 * 2 ** attempt));
    }
  }
}

// How different two pictures are: the mean distance of their pixels after shrinking both.
function changeBetween(left, right) {
  const [a, b] = [left, right].map((image) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SAMPLE;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, SAMPLE, SAMPLE);
    return context.getImageData(0, 0, SAMPLE, SAMPLE).data;
  });
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += Math.abs(a[i] - b[i]);
  return sum / a.length;
}

async function fillCard(made, onFilled) {
  const cell = made.cell;
  const shown = cell.comparison_id || "";
  if (made.shown === shown) return;
  made.shown = shown;
  made.change = null;
  if (!shown) {
    made.left.replaceChildren();
    made.right.replaceChildren();
    return;
  }
  const images = await Promise.all([cell.base_image_id, cell.aligned_image_id].map(loadImage));
  if (made.shown !== shown) return; // other sides were chosen meanwhile
  made.left.replaceChildren(images[0]);
  made.right.replaceChildren(images[1]);
  made.change = images.every((image) => image.naturalWidth) ? changeBetween(...images) : null;
  onFilled();
}

function makeGrid(place, { onFilled }) {
  const cards = new Map();
  let cells = [];
  let order = "listed";

  function sorted() {
    if (order === "listed") return cells;
    const change = (cell) => cards.get(keyOf(cell)).change;
    return [...cells].sort((a, b) => (change(b) ?? -1) - (change(a) ?? -1));
  }

  function arrange() {
    const wanted = sorted().map((cell) => cards.get(keyOf(cell)).card);
    const present = [...place.children];
    if (wanted.length === present.length && wanted.every((card, i) => card === present[i])) return;
    const focused = document.activeElement;
    place.replaceChildren(...wanted);
    if (focused && place.contains(focused)) focused.focus({ preventScroll: true });
  }

  return {
    paint(found, names, chosen) {
      cells = found;
      for (const cell of cells) {
        const key = keyOf(cell);
        if (!cards.has(key)) cards.set(key, makeCard(key));
        const made = cards.get(key);
        made.cell = cell;
        made.words.textContent = cell.prompt;
        made.seed.textContent = "seed " + cell.seed + (cell.own ? " · yours" : "");
        made.less.textContent = cell.labelled ? "was labelled: says less" : "";
        made.card.setAttribute("aria-pressed", String(key === chosen));
        made.card.setAttribute("aria-label",
          cell.prompt + ", seed " + cell.seed + ": " + names.join(" beside "));
        made.card.title = names.join(" beside ");
        fillCard(made, () => {
          if (order !== "listed") arrange();
          onFilled();
        });
      }
      const present = new Set(cells.map(keyOf));
      for (const key of cards.keys()) if (!present.has(key)) cards.delete(key);
      arrange();
    },
    setOrder(name) {
      order = name;
      arrange();
    },
    listed: () => sorted(),
    focus: (key) => cards.get(key)?.card.focus(),
  };
}
