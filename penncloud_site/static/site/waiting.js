// On the page "Reconnecting…": asks for the page again until the store answers, then shows it.
(() => {
  "use strict";
  const LONGEST_WAIT = 5000; // ms
  let wait = 500;
  async function ask() {
    try {
      const answer = await fetch(location.href, { cache: "no-store", redirect: "manual" });
      if (answer.status < 500) return location.reload(); // 0 is a redirect: the page answers
    } catch {
      // No connection at all; the next attempt tells.
    }
    wait = Math.min(LONGEST_WAIT, wait * 1.5);
    setTimeout(ask, wait);
  }
  setTimeout(ask, wait);
})();
