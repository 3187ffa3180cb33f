// Which key does what, and when keys are not ours: while a field or control has the focus, when
// held down, and with a modifier.
const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "tie", ArrowDown: "both_bad",
  " ": "skip", Backspace: "undo", f: "flip", F: "flip", z: "zoom", Z: "zoom",
};
const CONTROLS = "input, textarea, select, button, a[href], summary, [contenteditable], [tabindex], "
  + "[role=button], [role=tab], [role=textbox], [role=slider], [role=menuitem], audio, video";

function keyAction(event, root) {
  if (event.defaultPrevented || event.repeat || event.isComposing) return null;
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  const focused = document.activeElement;
  if (focused && focused !== root && focused.matches(CONTROLS)) return null;
  return KEYS[event.key] || null;
}
