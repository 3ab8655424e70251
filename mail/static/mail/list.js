// Lists and the reading page: selection, keyboard, cards that fetch what is in them when opened.
// All state is in the page itself, so it survives (or rightly ends with) every swap; only the cursor is remembered.
(() => {
  "use strict";

  const list = () => document.querySelector("[data-mail-list]");
  const reading = () => document.querySelector("[data-mail-message]");
  const lines = () => [...document.querySelectorAll("[data-line]")];
  const box = (line) => line.querySelector('input[name="uid"]');

  // --- Selection ------------------------------------------------------------------------------------------------

  let lastChecked = null; // for a range with Shift

  function showSelection() {
    const form = list();
    if (!form) return;
    const all = lines();
    const chosen = all.filter((line) => box(line).checked);
    for (const line of all) line.classList.toggle("is-selected", box(line).checked);
    form.classList.toggle("has-selection", chosen.length > 0);
    form.querySelector("[data-selected]").textContent = `${chosen.length} selected`;
    const checkAll = form.querySelector("[data-check-all]");
    if (!checkAll) return; // an empty folder
    checkAll.checked = all.length > 0 && chosen.length === all.length;
    checkAll.indeterminate = chosen.length > 0 && !checkAll.checked;
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-check-all]")) {
      for (const line of lines()) box(line).checked = event.target.checked;
      showSelection();
    } else if (event.target.matches('[data-line] input[name="uid"]')) {
      showSelection();
    }
  });

  document.addEventListener("click", (event) => {
    const clicked = event.target.closest?.('[data-line] input[name="uid"]');
    if (!clicked) return;
    const line = clicked.closest("[data-line]");
    const all = lines();
    const [from, to] = [all.indexOf(lastChecked), all.indexOf(line)].sort((a, b) => a - b);
    if (event.shiftKey && from >= 0) {
      for (const between of all.slice(from, to + 1)) box(between).checked = clicked.checked;
      showSelection();
    }
    lastChecked = line;
  });

  // --- The cursor -----------------------------------------------------------------------------------------------

  let cursor = { uid: null, index: -1 };

  function current() {
    const all = lines();
    return all.find((line) => line.dataset.line === cursor.uid) ?? null;
  }

  function putCursor(line) {
    for (const other of lines()) other.classList.toggle("is-current", other === line);
    cursor = { uid: line?.dataset.line ?? null, index: lines().indexOf(line) };
    if (!line) return;
    line.querySelector(".mail-link").focus({ preventScroll: true });
    line.scrollIntoView({ block: "nearest" });
  }

  function step(by) {
    const all = lines();
    if (!all.length) return;
    const at = current() ? all.indexOf(current()) : by > 0 ? -1 : all.length;
    putCursor(all[Math.max(0, Math.min(all.length - 1, at + by))]);
  }

  document.addEventListener("focusin", (event) => {
    const line = event.target.closest?.("[data-line]");
    if (!line || line.dataset.line === cursor.uid) return;
    for (const other of lines()) other.classList.toggle("is-current", other === line);
    cursor = { uid: line.dataset.line, index: lines().indexOf(line) };
  });

  // --- Actions by keyboard --------------------------------------------------------------------------------------

  function act(action) {
    const form = list() ?? reading()?.querySelector("form.mail-bar");
    const button = form?.querySelector(`button[name="action"][value="${action}"]`);
    if (!button) return false;
    if (list() && !lines().some((line) => box(line).checked)) {
      const own = current()?.querySelector(`button[name="one"][value^="${action}:"]`);
      if (!own) return false;
      form.requestSubmit(own);
    } else {
      form.requestSubmit(button);
    }
    return true;
  }

  // The button is the one that submitted: a click, a key, or whatever asked for it. (Not the one clicked last.)
  document.body.addEventListener("htmx:configRequest", (event) => {
    const { elt, parameters, triggeringEvent } = event.detail;
    if (!elt.matches("[data-mail-list], form.mail-bar")) return;
    delete parameters.action;
    delete parameters.one;
    const button = triggeringEvent?.submitter;
    if (button?.name) parameters[button.name] = button.value;
  });

  const press = (selector) => {
    const element = document.querySelector(selector);
    element?.click();
    return Boolean(element);
  };

  function toggleCheck() {
    const line = current();
    if (!line) return false;
    box(line).checked = !box(line).checked;
    lastChecked = line;
    showSelection();
    return true;
  }

  const open = () => {
    const line = current();
    line?.querySelector(".mail-link").click();
    return Boolean(line);
  };

  const KEYS = {
    j: () => (reading() ? press('[data-turn="older"]') : (step(+1), true)),
    k: () => (reading() ? press('[data-turn="newer"]') : (step(-1), true)),
    o: open,
    u: () => press("[data-back]"),
    x: toggleCheck,
    e: () => act("archive"),
    "#": () => act("delete") || act("purge"),
    I: () => act("read"),
    U: () => act("unread"),
    r: () => press('[data-answer="reply"]'),
    a: () => press('[data-answer="all"]'),
    f: () => press('[data-answer="forward"]'),
    c: () => press(".rail-action"),
    "?": () => document.getElementById("mail-keys")?.showModal() ?? true,
  };

  const isTyping = (element) =>
    element.closest?.("textarea, select, dialog, [contenteditable], input:not([type=checkbox])") !== null;

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTyping(event.target)) return;
    if (Object.hasOwn(KEYS, event.key) && (list() || reading() || event.key === "c") && KEYS[event.key]()) {
      event.preventDefault();
    }
  });

  // --- Cards ----------------------------------------------------------------------------------------------------

  document.addEventListener(
    "toggle",
    (event) => {
      const card = event.target;
      if (!card.matches?.("[data-card]") || !card.open) return;
      htmx.ajax("GET", card.dataset.card, { target: card.querySelector(".mail-card-inside"), swap: "innerHTML" });
      delete card.dataset.card;
    },
    true, // toggle does not bubble
  );

  // --- After a swap ---------------------------------------------------------------------------------------------

  // In the same step as the swap: a key pressed right after it already finds the cursor.
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target?.id !== "content") return;
    showSelection();
    const all = lines();
    // What was at the cursor may be gone: the next line takes its place, so that one can go on with the keyboard.
    if (cursor.uid && all.length) putCursor(current() ?? all[Math.min(Math.max(0, cursor.index), all.length - 1)]);
  });
  showSelection(); // a reload may bring ticked boxes back
})();
