// The drive's pages: selection, keyboard, dialog, details, dragging things onto folders.
// Everything is bound to the document once; the content below it is swapped by htmx.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("has-js");

  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const list = () => $("[data-items]");
  const rows = () => all("[data-item]", list() ?? document.createElement("div"));
  const box = (row) => $('input[name="item"]', row);
  const chosen = () => rows().filter((row) => box(row).checked);

  // --- Sizes, as the server says them (penncloud_site/templatetags/human.py) -------------------------------------

  function humanSize(size) {
    if (size < 1000) return size === 1 ? "1 byte" : `${size} bytes`;
    const units = ["kB", "MB", "GB", "TB", "PB"];
    let amount = size;
    for (const unit of units) {
      amount /= 1000;
      if (amount < 999.5 || unit === "PB") return `${amount < 9.95 ? amount.toFixed(1) : amount.toFixed(0)} ${unit}`;
    }
    return "";
  }

  // --- Selection ------------------------------------------------------------------------------------------------

  let lastRow = null; // where a range that is chosen with shift begins

  function showSelection() {
    const form = list();
    if (!form) return;
    const picked = chosen();
    const size = picked.reduce((sum, row) => sum + Number(row.dataset.size), 0);
    form.classList.toggle("has-selection", picked.length > 0);
    const words = `${picked.length} selected`;
    $("[data-count]", form).textContent = picked.length === 0 ? "" : size > 0 ? `${words}, ${humanSize(size)}` : words;
    for (const row of rows()) row.classList.toggle("is-chosen", box(row).checked);
    const every = $("[data-all]", form);
    every.checked = picked.length > 0 && picked.length === rows().length;
    every.indeterminate = picked.length > 0 && !every.checked;
    const download = $("[data-download]", form);
    if (download) {
      const file = picked.length === 1 && !picked[0].dataset.folder ? picked[0].dataset.item : null;
      download.hidden = !file;
      if (file) download.href = `/drive/file/${file}/download`;
    }
  }

  function choose(row, on, range = false) {
    const shown = rows();
    const from = range && lastRow ? shown.indexOf(lastRow) : -1;
    const to = shown.indexOf(row);
    const span = from < 0 ? [row] : shown.slice(Math.min(from, to), Math.max(from, to) + 1);
    for (const each of span) box(each).checked = on;
    lastRow = row;
    showSelection();
  }

  function chooseAll(on) {
    for (const row of rows()) box(row).checked = on;
    showSelection();
  }

  document.addEventListener("click", (event) => {
    const target = event.target;
    if (target.closest("[data-clear]")) chooseAll(false);
    if (target.closest("[data-close-dialog]")) closeDialog();
    if (target.closest("[data-close-details]")) closeDetails();
    const row = target.closest("[data-item]");
    if (!row) return;
    if (target.matches('input[name="item"]')) choose(row, target.checked, event.shiftKey);
    else if (!target.closest("a, button, .dropdown")) choose(row, !box(row).checked, event.shiftKey);
  });
  document.addEventListener("mousedown", (event) => {
    if (event.shiftKey && event.target.closest("[data-item]")) event.preventDefault(); // would mark text
  });
  document.addEventListener("dblclick", (event) => {
    const row = event.target.closest("[data-item]");
    if (row && !event.target.closest("a, button, input")) $("[data-open]", row)?.click();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) chooseAll(event.target.checked);
  });

  // --- Dialog ---------------------------------------------------------------------------------------------------

  const dialog = document.createElement("dialog");
  dialog.id = "drive-dialog";
  dialog.className = "drive-dialog";
  dialog.setAttribute("aria-labelledby", "drive-dialog-title");
  document.body.append(dialog);

  function closeDialog() {
    if (dialog.open) dialog.close();
    else history.back(); // the form is a page of its own
  }
  dialog.addEventListener("close", () => dialog.replaceChildren());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });

  function showDialog() {
    if (!dialog.open) dialog.showModal();
    const field = $("[autofocus]", dialog);
    field?.focus();
    if (field?.matches("[data-select-stem]")) {
      const dot = field.value.lastIndexOf(".");
      field.setSelectionRange(0, dot > 0 ? dot : field.value.length);
    }
  }

  // --- Fetching the list again ----------------------------------------------------------------------------------

  let staying = false; // the answer under way is this same list: what is chosen, and how far it is scrolled, stays
  let kept = null;

  function refresh(to = null) {
    const away = to && to !== location.pathname;
    const address = new URL(away ? to : location.href, location.href);
    const loaded = Number($("#more")?.dataset.pages ?? Math.ceil(rows().length / 50));
    if (!away && loaded > 1) {
      address.searchParams.delete("page");
      address.searchParams.set("pages", loaded);
    }
    staying = !away;
    htmx.ajax("GET", address.pathname + address.search, { target: "#content", swap: "innerHTML" }).then(() => {
      if (away) history.pushState({ htmx: true }, "", to);
    });
  }

  document.body.addEventListener("driveChanged", (event) => {
    if (dialog.open) dialog.close();
    refresh(event.detail?.to);
  });

  document.body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target?.id !== "content") return;
    // Now, not when it was asked for: somebody may have chosen more since.
    kept = staying ? { chosen: new Set(chosen().map((row) => row.dataset.item)), scroll: scrollY } : null;
    staying = false;
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    const target = event.detail.target?.id;
    if (target === "drive-dialog" && dialog.childElementCount) showDialog();
    if (target === "content") {
      lastRow = null;
      for (const row of kept ? rows() : []) box(row).checked = kept.chosen.has(row.dataset.item);
      if (kept) scrollTo({ top: kept.scroll });
      kept = null;
    }
    showSelection(); // also after "more": the box for all may be half full now
  });

  // --- The menu of a row, made when it is first opened ------------------------------------------------------------

  const NO_UID = "0".repeat(32);

  function addMenu(button) {
    const row = button.closest("[data-item]");
    const menu = $("#drive-row-menu").content.firstElementChild.cloneNode(true);
    if (row.dataset.folder) $("[data-files-only]", menu).remove();
    for (const entry of all("*", menu)) {
      for (const { name, value } of [...entry.attributes]) {
        if (value.includes(NO_UID)) entry.setAttribute(name, value.replace(NO_UID, row.dataset.item));
      }
    }
    button.after(menu);
    button.dataset.bsToggle = "dropdown"; // only now: Tabler looks for the menus of all such buttons when the page loads
    htmx.process(menu);
  }

  // On the window, capturing: the menu must be there when Bootstrap looks for it, which it does capturing at the document.
  for (const event of ["click", "keydown"]) {
    addEventListener(event, ({ target }) => {
      const button = target.closest?.("[data-menu]");
      if (button && !button.nextElementSibling) addMenu(button);
    }, true);
  }

  // --- Details --------------------------------------------------------------------------------------------------

  function closeDetails() {
    const pane = $("#drive-details");
    if (!pane?.childElementCount) return false;
    pane.replaceChildren();
    return true;
  }

  // --- Keyboard -------------------------------------------------------------------------------------------------

  const focusedRow = () => document.activeElement?.closest?.("[data-item]") ?? null;

  function step(by) {
    const shown = rows();
    if (!shown.length) return;
    const now = shown.indexOf(focusedRow());
    const next = shown[Math.min(shown.length - 1, Math.max(0, now < 0 ? 0 : now + by))];
    ($("[data-open]", next) ?? box(next)).focus();
    next.scrollIntoView({ block: "nearest" });
  }

  function chosenOrFocused() {
    const row = focusedRow();
    if (!chosen().length && row) choose(row, true);
    return chosen().length > 0;
  }

  const KEYS = {
    ArrowDown: () => step(+1),
    ArrowUp: () => step(-1),
    j: () => step(+1),
    k: () => step(-1),
    x: () => focusedRow() && choose(focusedRow(), !box(focusedRow()).checked),
    Delete: () => chosenOrFocused() && $("[data-delete]").click(),
    F2: () => $("[data-rename]", focusedRow() ?? chosen()[0] ?? document.createElement("p"))?.click(),
    n: () => $('[data-key="n"]')?.click(),
    u: () => $("[data-upload]")?.click(),
    Escape: () => closeDetails() || chooseAll(false),
  };

  document.addEventListener("keydown", (event) => {
    if (!$("[data-drive]") || dialog.open || event.altKey || event.metaKey) return;
    if (event.target.closest("input:not([type=checkbox]), textarea, select, .dropdown-menu")) return;
    if (event.ctrlKey) {
      if (event.key === "a" && list()) {
        event.preventDefault();
        chooseAll(true);
      }
      return;
    }
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // --- Dragging things onto folders -----------------------------------------------------------------------------

  const ITEMS = "application/x-penncloud-items";
  const dropFolder = (event) => {
    if (!event.dataTransfer?.types.includes(ITEMS)) return null;
    const folder = event.target.closest?.("[data-folder]");
    return folder && !folder.classList.contains("is-dragged") ? folder : null;
  };

  document.addEventListener("dragstart", (event) => {
    const row = event.target.closest?.('[data-item][draggable="true"]');
    if (!row) return;
    const dragged = box(row).checked ? chosen() : [row];
    for (const each of dragged) each.classList.add("is-dragged");
    event.dataTransfer.setData(ITEMS, JSON.stringify(dragged.map((each) => each.dataset.item)));
    event.dataTransfer.effectAllowed = "move";
  });
  document.addEventListener("dragover", (event) => {
    const folder = dropFolder(event);
    for (const other of all(".drops-here")) if (other !== folder) other.classList.remove("drops-here");
    if (!folder) return;
    event.preventDefault();
    folder.classList.add("drops-here");
  });
  document.addEventListener("drop", (event) => {
    const folder = dropFolder(event);
    if (!folder) return;
    event.preventDefault();
    const values = { item: JSON.parse(event.dataTransfer.getData(ITEMS)), to: folder.dataset.folder };
    htmx.ajax("POST", "/drive/move", { values, swap: "none", target: "#content" });
  });
  document.addEventListener("dragend", () => {
    for (const row of all(".is-dragged, .drops-here")) row.classList.remove("is-dragged", "drops-here");
  });

  // What uploads.js needs of this file.
  globalThis.PennDrive = { refresh, humanSize };
  showSelection();
})();
