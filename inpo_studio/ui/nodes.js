// Elements made, written and kept, for pages that are painted again and again.
function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Write only what differs: the page is painted once a second and must not disturb a selection.
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function sayOrHide(node, text) {
  say(node, text || "");
  node.hidden = !text;
}

// Children of `parent`, one an item, kept as they are where the item is still there.
function keep(parent, items, keyOf, makeOne, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = old.get(key);
    old.delete(key);
    if (!child) {
      child = makeOne(item);
      child.dataset.key = key;
    }
    if (child !== place) parent.insertBefore(child, place);
    else place = place.nextElementSibling;
    if (update) update(child, item);
  }
  for (const gone of old.values()) gone.remove();
}
