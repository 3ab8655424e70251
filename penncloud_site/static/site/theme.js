// Light, dark or as the system wishes. Loaded before the style sheet so that the first paint is right.
(() => {
  "use strict";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      const choice = localStorage.getItem("penncloud-theme");
      return choice === "light" || choice === "dark" ? choice : "auto";
    } catch {
      return "auto"; // storage may be forbidden; then the system decides
    }
  };
  const show = () => {
    const choice = chosen();
    const theme = choice === "auto" ? (system.matches ? "dark" : "light") : choice;
    document.documentElement.dataset.bsTheme = theme;
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
    }
  };
  show();
  system.addEventListener("change", show);
  addEventListener("storage", show);
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-theme-choice]");
    if (!button) return;
    try {
      localStorage.setItem("penncloud-theme", button.dataset.themeChoice);
    } catch {
      document.documentElement.dataset.bsTheme = button.dataset.themeChoice;
      return;
    }
    show();
  });
})();
