// The live part of a console page. htmx fetches it every two seconds; here stands when not to, what must survive the
// swap (focus, sideways scrolling, a selection), and how old what one sees is when no answer comes.
(() => {
  "use strict";

  const OLD = 5000; // ms without a refresh after which the page says how old it is
  const body = document.body;
  const live = () => document.getElementById("live");
  const isLive = (event) => event.detail.elt?.id === "live";

  let refreshed = Date.now();
  let ended = ""; // why there is no use in asking again
  let kept = null;

  function selecting() {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && live()?.contains(selection.anchorNode);
  }

  // --- When not to ask, and when not to swap ----------------------------------------------------------------------

  body.addEventListener("htmx:beforeRequest", (event) => {
    if (isLive(event) && (document.hidden || ended)) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && live()) globalThis.htmx.trigger(live(), "console:refresh");
  });
  body.addEventListener("htmx:responseError", (event) => {
    // Logged out, no operator any more, or the node is gone: asking again would not help.
    if (isLive(event) && [403, 404].includes(event.detail.xhr.status)) {
      ended = "This page is gone, or you are not logged in as an operator any more. Reload it to see.";
      showAge();
    }
  });

  // --- What survives a swap ---------------------------------------------------------------------------------------

  const linksLike = (link) => [...live().querySelectorAll("a[href]")].filter((other) => other.href === link.href);
  const scrollers = () => [...(live()?.querySelectorAll("[data-keep-scroll]") ?? [])];

  body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target?.id !== "live") return;
    if (selecting()) {
      event.detail.shouldSwap = false; // somebody is copying from it
      return;
    }
    const focused = document.activeElement;
    kept = { scrolls: scrollers().map((element) => element.scrollLeft), link: null, place: 0, scroller: -1 };
    if (!live().contains(focused)) return;
    kept.scroller = scrollers().indexOf(focused);
    if (focused.matches("a[href]")) {
      kept.link = focused;
      kept.place = linksLike(focused).indexOf(focused);
    }
  });
  body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target?.id !== "live") return;
    refreshed = Date.now();
    showAge();
    announce();
    scrollers().forEach((element, index) => { element.scrollLeft = kept?.scrolls[index] ?? 0; });
    const link = kept?.link && linksLike(kept.link)[kept.place];
    (link || scrollers()[kept?.scroller])?.focus({ preventScroll: true });
    kept = null;
  });

  // --- How old it is ----------------------------------------------------------------------------------------------

  function showAge() {
    const line = document.getElementById("freshness");
    if (!line || !live()) return;
    const old = Date.now() - refreshed;
    const stale = Boolean(ended) || old > OLD;
    const words = selecting() ? "not refreshed while text is selected" : "reconnecting…";
    line.hidden = !stale;
    line.textContent = ended || `What you see is from ${Math.round(old / 1000)} s ago, ${words}`;
  }
  setInterval(() => { if (!document.hidden) showAge(); }, 1000);

  // A screen reader hears of a change of state, not of every second that passes.
  const gist = () => (document.getElementById("health-sentence")?.textContent ?? "").replace(/[\d.,]+/g, "#");
  let told = gist();
  function announce() {
    if (gist() === told) return;
    told = gist();
    document.getElementById("announcement").textContent = document.getElementById("health-sentence").textContent;
  }

  // Another page of the console was swapped in: its live part is fresh.
  body.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target?.id !== "content") return;
    refreshed = Date.now();
    ended = "";
    told = gist();
  });
})();
