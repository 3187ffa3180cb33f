// The workspace's page: read anew while it is the one that is looked at.
const POLL_MS = 3000;
const COUNTS = {
  prompts: ["prompt to label by", "prompts to label by"],
  ready: ["pair waits to be labelled", "pairs wait to be labelled"],
  choices: ["choice kept", "choices kept"],
  rounds: ["round trained", "rounds trained"],
};

const root = element.querySelector(".workspace");
const part = (name) => root.querySelector('[data-is="' + name + '"]');
let asked = 0;

const visible = () => root.isConnected && document.visibilityState === "visible"
  && root.getClientRects().length > 0;

function paint(found) {
  for (const name of ["workspace", "annotator", "policy", "database"]) {
    part(name).textContent = found[name];
  }
  part("overlap").textContent = found.overlap
    ? "Everybody who labels here is shown every pair."
    : "";
  for (const [name, [one, many]] of Object.entries(COUNTS)) {
    part(name).textContent = found[name];
    part(name + "-word").textContent = found[name] === 1 ? one : many;
  }
}

async function look() {
  asked = performance.now();
  try {
    const found = await server.look({});
    if (!found.refused) paint(found);
  } catch { /* the next look will do */ }
}

new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) look();
}).observe(root);
setInterval(() => {
  if (visible() && performance.now() - asked > POLL_MS) look();
}, 500);
