// Composing: the dock, autosave, Send. The form works without this file as a page of its own (/mail/compose).
//
// The server keeps the draft and decides what may be saved over what (mail/drafts.py). Here: one form saves one thing at
// a time (hx-sync), numbers its saves, and never has the fields swapped under the hands of who types.
(() => {
  "use strict";

  const PAUSE = 1200; // ms without a key before the draft is saved
  const KEEPALIVE = 60_000; // bytes that a page may still send while it goes away
  const OPEN = "penncloud-mail-dock"; // the draft in the dock, so that a reload brings the dock back

  const form = () => document.querySelector("[data-compose-form]");
  const dock = () => document.getElementById("compose-dock");
  const status = () => document.getElementById("compose-status");
  const body = document.body;

  let timer = 0;
  let dirty = false; // something was typed that the server does not have
  let sending = false;
  let saved = false; // the server has this draft
  let underWay = false; // a request of the form is not answered yet
  let kept = false; // the request under way saved what it carried, whatever else came of it
  let closing = null; // called when the save under way is done

  // --- The dock -------------------------------------------------------------------------------------------------

  function makeDock() {
    const section = document.createElement("section");
    section.id = "compose-dock";
    section.className = "mail-dock";
    section.setAttribute("aria-label", "Compose");
    body.append(section);
    return section;
  }

  function openDock(href, { focus = true } = {}) {
    const target = dock() ?? makeDock();
    reset();
    target.dataset.focus = focus ? "1" : "";
    // Asked by the dock itself: requests of one element wait for each other, and the page may be asking for its list.
    htmx.ajax("GET", href, { source: target, target, swap: "innerHTML" });
  }

  body.addEventListener("htmx:responseError", (event) => {
    if (event.detail.target?.id !== "compose-dock" || event.detail.xhr.status !== 404 || form()) return;
    removeDock(); // there is no such draft any more
  });

  function reset() {
    clearTimeout(timer);
    dirty = sending = saved = underWay = kept = false;
    closing = null;
  }

  function removeDock() {
    reset();
    forget();
    dock()?.remove();
  }

  const forget = () => sessionStorage.removeItem(OPEN);

  function fold(folded) {
    dock().classList.toggle("is-folded", folded);
    const button = dock().querySelector('[data-dock="fold"]');
    button.setAttribute("aria-expanded", String(!folded));
    button.setAttribute("aria-label", folded ? "Show" : "Minimise");
    if (!folded) focusField();
  }

  function focusField() {
    const field = form().querySelector("[data-focus]") ?? form().elements.body;
    field.focus();
    if (field.name === "body") field.setSelectionRange(0, 0); // an answer is written above what it quotes
  }

  const refreshContent = () =>
    htmx.ajax("GET", location.pathname + location.search, { source: "#content", target: "#content", swap: "innerHTML" });

  // --- Saving ---------------------------------------------------------------------------------------------------

  function saveNow() {
    clearTimeout(timer);
    if (dirty && !sending && form()) htmx.trigger(form(), "autosave");
  }

  function say(text, classes = "text-secondary") {
    const line = document.createElement("span");
    line.className = classes;
    line.textContent = text;
    status().replaceChildren(line);
  }

  /** Save what is not saved, then go on. */
  function saveThen(next) {
    if (!form() || (!dirty && !underWay)) return next();
    closing = next;
    saveNow();
  }

  document.addEventListener("input", (event) => {
    if (event.target.form !== form() || !form()) return;
    dirty = true;
    clearTimeout(timer);
    timer = setTimeout(saveNow, PAUSE);
    if (!status().querySelector(".mail-problem")) say("Not saved yet");
    if (event.target.name === "subject") {
      document.getElementById("compose-title").textContent = event.target.value.trim() || "New message";
    }
  });

  body.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.elt !== form()) return;
    const data = event.detail.parameters;
    // By the event itself: htmx's own guess is the button clicked last, which may have been Send a while ago.
    const cause = event.detail.triggeringEvent;
    data.action = cause?.type === "submit" ? (cause.submitter?.value ?? "send") : "save";
    // Numbered here, when the request goes out, so that a save is never taken for an earlier one.
    const count = form().elements.n;
    data.n = count.value;
    count.value = Number(count.value) + 1;
    underWay = true;
    dirty = kept = false; // what is typed from now on is not in this request
    if (data.action === "send") setSending(true);
  });

  function setSending(now) {
    sending = now;
    const button = form()?.querySelector("[data-send]");
    if (!button) return;
    button.classList.toggle("btn-loading", now);
    button.toggleAttribute("disabled", now);
    if (now) say("Sending…");
  }

  // A second Send while the first is under way would only find out that it was sent; it is not even asked.
  document.addEventListener(
    "submit",
    (event) => {
      if (event.target !== form() || !sending) return;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    true,
  );

  body.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.elt !== form()) return;
    if (sending) setSending(false);
    const code = event.detail.xhr?.status ?? 0;
    const next = closing;
    closing = null;
    underWay = false;
    if (code >= 200 && code < 300) {
      if (next) saveThen(next); // at once, unless something was typed meanwhile
    } else {
      if (!kept) dirty = true;
      if (code !== 422) {
        say("Not saved: no answer. Your text is kept here; trying again…", "mail-wrong");
        clearTimeout(timer);
        timer = setTimeout(saveNow, 2 * PAUSE);
      }
    }
  });

  body.addEventListener("mail:saved", (event) => {
    saved = kept = true;
    if (dock()) sessionStorage.setItem(OPEN, event.detail.uid);
  });

  body.addEventListener("mail:closed", () => {
    removeDock();
    if (document.querySelector("[data-mail-list], [data-mail-message]")) refreshContent();
  });

  // In the same step as the swap: later it would take the cursor from under the hands of who types already.
  body.addEventListener("htmx:afterSwap", (event) => {
    const target = event.detail.target;
    if (target?.id === "compose-dock" && form() && target.dataset.focus) focusField();
  });

  body.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target?.id === "compose-status") showAnswer();
  });

  function showAnswer() {
    for (const line of status().querySelectorAll("[data-clock]")) {
      const time = new Date(line.dataset.clock).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      if (line.matches("time")) line.textContent = time;
      else line.title = `At ${time}`;
    }
    let first = null;
    for (const place of form().querySelectorAll("[data-error]")) {
      const field = form().elements[place.dataset.error];
      const wrong = place.childElementCount > 0;
      if (wrong) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
      first ??= wrong ? field : null;
    }
    first?.closest("details")?.setAttribute("open", "");
    if (first && document.activeElement?.form !== form()) first.focus();
  }

  // --- Clicks and keys ------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-compose]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    if (form() && !dock()) return; // on the page of its own, a link is a link
    event.preventDefault();
    const go = () => openDock(link.href);
    if (link.dataset.compose === "replace") go();
    else saveThen(go);
  });

  function close() {
    saveThen(() => {
      if (saved) htmx.trigger(body, "toast", { message: "Draft saved.", undo: null, level: "success" });
      removeDock();
      if (document.querySelector('[data-mail-list] input[name="folder"][value="drafts"]')) refreshContent();
    });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-dock]");
    if (button?.dataset.dock === "close") close();
    else if (button?.dataset.dock === "fold") fold(!dock().classList.contains("is-folded"));
  });

  document.addEventListener("keydown", (event) => {
    if (!form()?.contains(event.target)) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form().requestSubmit(form().querySelector("[data-send]"));
    } else if (event.key === "Enter" && event.target.matches("input")) {
      event.preventDefault(); // it would send; here it goes on to the next field, as on an envelope
      const fields = [...form().elements].filter((field) => field.matches(".form-control") && field.checkVisibility());
      fields[fields.indexOf(event.target) + 1]?.focus();
    } else if (event.key === "Escape" && dock()) {
      event.preventDefault();
      close();
    }
  });

  // --- Leaving the page -----------------------------------------------------------------------------------------

  function lastWords() {
    if (!dirty || sending || !form()) return;
    const data = new URLSearchParams(new FormData(form()));
    data.set("action", "save");
    if (data.toString().length > KEEPALIVE) return;
    dirty = false;
    // (`form().action` would be the buttons of that name.)
    const headers = { "HX-Request": "true", "HX-Target": "compose-status" };
    fetch(form().getAttribute("action"), { method: "POST", body: data, keepalive: true, headers });
    if (dock()) sessionStorage.setItem(OPEN, form().elements.uid.value);
    form().elements.n.value = Number(form().elements.n.value) + 1;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") saveNow();
  });
  addEventListener("pagehide", lastWords);
  addEventListener("beforeunload", (event) => {
    if (dirty && form()?.elements.body.value.length > KEEPALIVE / 3) event.preventDefault();
  });

  /** Bring back the dock that was open before a reload. The last save may still be on its way: then ask once more. */
  async function reopen(uid, again = true) {
    const href = `/mail/compose?draft=${uid}`;
    const answer = await fetch(href, { headers: { "HX-Request": "true", "HX-Target": "compose-dock" } });
    if (form()) return; // another was opened meanwhile
    if (answer.ok) openDock(href, { focus: false });
    else if (answer.status !== 404) return; // failing over: the next page tries again
    else if (again) setTimeout(() => reopen(uid, false), 1000);
    else forget();
  }

  const open = sessionStorage.getItem(OPEN);
  if (open && /^[0-9a-f]{24}$/.test(open) && !form()) reopen(open);
})();
