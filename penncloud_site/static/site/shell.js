// The shell's behaviour: toasts with undo, progress, reconnecting, focus after a swap. No product knows this file;
// they send the events `toast` (server: HX-Trigger, see penncloud_site/pages.py; script: document.body).
(() => {
  "use strict";

  const byId = (id) => document.getElementById(id);
  const body = document.body;

  // --- Toasts ---------------------------------------------------------------------------------------------------

  const SHOWN = 6000; // ms; twice as long with an undo
  const KEPT = 3; // the oldest goes when there are more

  function startSnack(snack) {
    const undo = snack.querySelector("[data-undo]:not([hidden])");
    let timer = 0;
    const start = () => {
      clearTimeout(timer);
      timer = setTimeout(() => snack.remove(), undo ? 2 * SHOWN : SHOWN);
    };
    const stop = () => clearTimeout(timer);
    snack.dataset.snack = "started";
    snack.addEventListener("mouseenter", stop);
    snack.addEventListener("focusin", stop);
    snack.addEventListener("mouseleave", start);
    snack.addEventListener("focusout", start);
    // An error stays until it is dismissed: whoever looked away must still find it.
    if (!snack.classList.contains("snack-error")) start();
    const snacks = byId("toasts").children;
    while (snacks.length > KEPT) snacks[0].remove();
  }

  function toast({ message, undo = null, level = "success" }) {
    const snack = byId("snack-template").content.firstElementChild.cloneNode(true);
    snack.classList.add(`snack-${level}`);
    snack.querySelector(".snack-text").textContent = message;
    if (undo) {
      const form = snack.querySelector("[data-undo]");
      form.action = undo;
      form.hidden = false;
    }
    byId("toasts").append(snack);
    startSnack(snack);
  }

  const startNewSnacks = () => document.querySelectorAll('[data-snack=""]').forEach(startSnack);

  async function undo(form) {
    const path = new URL(form.action).pathname + new URL(form.action).search;
    form.closest("[data-snack]")?.remove();
    // An element of its own asks: requests of one element wait for each other, and the toast is gone by now.
    const source = document.createElement("span");
    source.hidden = true;
    source.addEventListener("htmx:afterRequest", ({ detail: { successful, xhr } }) => {
      // An empty answer: the page as it is now shows what was undone.
      if (successful && xhr.status === 204) fetchContent();
    });
    body.append(source);
    await htmx.ajax("POST", path, { source, target: "#content", swap: "innerHTML" });
    source.remove();
  }

  const fetchContent = () =>
    htmx.ajax("GET", location.pathname + location.search, { source: "#content", target: "#content", swap: "innerHTML" });

  body.addEventListener("toast", (event) => toast(event.detail));
  document.addEventListener("click", (event) => {
    event.target.closest("[data-snack-close]")?.closest("[data-snack]").remove();
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-undo]") || !byId("content")) return;
    event.preventDefault();
    undo(event.target);
  });

  // --- A request is under way -----------------------------------------------------------------------------------

  const isPolling = (element) => /\bevery\b/.test(element?.getAttribute?.("hx-trigger") ?? "");
  let underWay = 0;

  function progress(change) {
    underWay = Math.max(0, underWay + change);
    byId("progress")?.classList.toggle("is-running", underWay > 0);
  }

  // `requestConfig.elt` is the element that asked. (`detail.elt` is where the event was sent: another one if the
  // answer replaced the asking element.)
  body.addEventListener("htmx:beforeRequest", (event) => {
    if (!isPolling(event.detail.requestConfig.elt)) progress(+1);
  });
  body.addEventListener("htmx:afterRequest", (event) => {
    if (!isPolling(event.detail.requestConfig.elt)) progress(-1);
  });

  // A plain form says at once that it was sent, and is not sent twice.
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (event.defaultPrevented || !button?.matches("[data-busy]")) return;
    button.classList.add("btn-loading");
    button.setAttribute("aria-disabled", "true");
    event.target.addEventListener("submit", (again) => again.preventDefault());
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // out of the back-forward cache: the buttons above would stay busy
  });

  // --- Reconnecting ---------------------------------------------------------------------------------------------

  const FIRST_WAIT = 500; // ms; doubled after each failure
  const LONGEST_WAIT = 5000;
  const TRANSIENT = new Set([502, 503, 504]);
  const waits = new Map(); // element whose request is to be repeated -> how long it waited last

  const showReconnecting = (shown) => {
    const banner = byId("reconnecting");
    if (banner) banner.hidden = !shown;
  };

  function repeatLater({ requestConfig: { elt }, target, pathInfo }) {
    const wait = Math.min(LONGEST_WAIT, (waits.get(elt) ?? FIRST_WAIT / 2) * 2);
    waits.set(elt, wait);
    setTimeout(() => {
      if (!document.contains(elt)) {
        waits.delete(elt);
        showReconnecting(waits.size > 0);
        return;
      }
      htmx.ajax("GET", pathInfo.requestPath, { source: elt, target: document.contains(target) ? target : undefined });
    }, wait * (0.8 + 0.4 * Math.random()));
  }

  function lost(detail) {
    showReconnecting(true);
    if (detail.requestConfig.verb === "get") {
      if (!isPolling(detail.requestConfig.elt)) repeatLater(detail); // a poll comes again by itself
    } else if (!detail.xhr.getResponseHeader("HX-Trigger")) {
      toast({ message: "Not sent: there is no connection. What you typed is kept; try again.", level: "error" });
    }
  }

  body.addEventListener("htmx:sendError", (event) => lost(event.detail));
  body.addEventListener("htmx:timeout", (event) => lost(event.detail));
  body.addEventListener("htmx:responseError", (event) => {
    const { xhr } = event.detail;
    if (TRANSIENT.has(xhr.status)) {
      lost(event.detail);
    } else if (!xhr.getResponseHeader("HX-Trigger")) {
      const words = xhr.status === 404 ? "That is not here any more." : "That did not work. Nothing was changed.";
      toast({ message: words, level: "error" });
    }
  });
  body.addEventListener("htmx:afterRequest", (event) => {
    if (!event.detail.successful) return;
    waits.delete(event.detail.requestConfig.elt);
    showReconnecting(waits.size > 0);
  });

  // --- After a swap ---------------------------------------------------------------------------------------------

  body.addEventListener("htmx:afterSettle", (event) => {
    startNewSnacks();
    if (event.detail.target?.id !== "content") return;
    closeRail();
    // The focus was on something that is gone: keyboard and screen reader go on at the new content.
    if (document.activeElement === body) byId("content").focus({ preventScroll: true });
  });

  function closeRail() {
    const rail = byId("rail");
    if (rail?.classList.contains("show")) globalThis.tabler.Offcanvas.getOrCreateInstance(rail).hide();
  }

  startNewSnacks();
})();
