// Uploads: chosen or dropped files go to the server one request each, two at a time, and are shown in a tray that lives
// beside the content, so that it stays while the folders change.
//
// Every try has a uid of its own. When a try ended without an answer, the next one names it (`instead`), and the server either
// answers with the file that has become visible after all, or makes sure that it never will. So nothing is there twice.
(() => {
  "use strict";
  const AT_ONCE = 2;
  const TRIES = 6; // for failures that pass: no connection, a front end or the store failing over
  const PASSING = new Set([0, 502, 503, 504]);
  const { refresh, humanSize } = globalThis.PennDrive;

  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const page = () => document.querySelector("[data-drive]");
  const say = (message, level = "error") =>
    document.body.dispatchEvent(new CustomEvent("toast", { detail: { message, level } }));

  function newUid() {
    const random = crypto.getRandomValues(new Uint8Array(10));
    const tail = [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return Date.now().toString(16).padStart(12, "0") + tail;
  }

  // --- The tray -------------------------------------------------------------------------------------------------

  const title = element("h2", { class: "drive-tray-title", id: "drive-tray-title" });
  const fold = element("button", { class: "btn drive-tool", type: "button", "aria-expanded": "true" }, "Hide");
  const close = element("button", { class: "btn drive-tool", type: "button" }, "Close");
  const items = element("ul", { class: "drive-tray-items", tabindex: "0", "aria-label": "Uploads" });
  const news = element("div", { class: "visually-hidden", role: "status" });
  const tray = element(
    "section",
    { class: "drive-tray", "aria-labelledby": "drive-tray-title", hidden: "" },
    element("div", { class: "drive-tray-head" }, title, fold, close), items, news,
  );
  document.body.append(tray);

  const uploads = [];
  const count = (...states) => uploads.filter((upload) => states.includes(upload.state)).length;

  fold.addEventListener("click", () => {
    const folded = tray.classList.toggle("is-folded");
    fold.textContent = folded ? "Show" : "Hide";
    fold.setAttribute("aria-expanded", String(!folded));
  });
  close.addEventListener("click", () => {
    if (count("waiting", "sending", "pausing") && !confirm("Cancel the uploads that are not finished?")) return;
    for (const upload of [...uploads]) cancel(upload);
    uploads.length = 0;
    items.replaceChildren();
    tray.hidden = true;
  });

  function showTray() {
    const running = count("waiting", "sending", "pausing");
    const failed = count("failed");
    const finished = count("done");
    tray.hidden = uploads.length === 0;
    if (running) title.textContent = `Uploading ${running} file${running === 1 ? "" : "s"}`;
    else if (failed) title.textContent = `${failed} upload${failed === 1 ? "" : "s"} failed`;
    else title.textContent = `${finished} upload${finished === 1 ? "" : "s"} complete`;
    if (!running && news.textContent !== title.textContent) news.textContent = title.textContent;
    // Another product is another document, and would end the uploads: it opens beside this one meanwhile.
    for (const link of document.querySelectorAll(".shell-products a, .shell-brand")) {
      if (running) link.target = "_blank";
      else link.removeAttribute("target");
    }
  }

  function draw(upload) {
    const { bar, words, action, row } = upload.parts;
    row.className = `drive-tray-item is-${upload.state}`;
    bar.value = upload.file.size ? upload.sent / upload.file.size : upload.state === "done" ? 1 : 0;
    words.textContent = {
      waiting: "Waiting",
      sending:
        upload.sent < upload.file.size ? `${humanSize(upload.sent)} of ${humanSize(upload.file.size)}` : "Saving…",
      pausing: "No connection. Trying again by itself…",
      failed: upload.error,
      cancelled: "Cancelled",
      done: upload.savedAs && upload.savedAs !== upload.file.name ? `Saved as “${upload.savedAs}”` : "Done",
    }[upload.state];
    const offer = { waiting: "Cancel", sending: "Cancel", pausing: "Cancel", failed: "Retry", cancelled: "Retry" };
    action.hidden = !offer[upload.state] || upload.final;
    action.textContent = offer[upload.state] ?? "";
    action.setAttribute("aria-label", `${action.textContent} ${upload.file.name}`);
  }

  function addRow(upload) {
    const bar = element("progress", { class: "drive-progress", max: "1", value: "0", "aria-label": upload.file.name });
    const words = element("span", { class: "drive-tray-words" });
    const action = element("button", { class: "btn drive-tool", type: "button" });
    const name = element("bdi", { class: "drive-tray-name", title: upload.file.name }, upload.file.name);
    const row = element("li", {}, element("div", { class: "drive-tray-line" }, name, action), bar, words);
    upload.parts = { bar, words, action, row };
    action.addEventListener("click", () => (["failed", "cancelled"].includes(upload.state) ? again(upload) : cancel(upload)));
    items.append(row);
  }

  // --- Sending --------------------------------------------------------------------------------------------------

  function set(upload, state, more = {}) {
    Object.assign(upload, { state }, more);
    draw(upload);
    showTray();
  }

  function next() {
    for (const upload of uploads) {
      if (count("sending", "pausing") >= AT_ONCE) return;
      if (upload.state === "waiting") send(upload);
    }
  }

  function send(upload) {
    const query = new URLSearchParams({ name: upload.file.name, type: upload.file.type, uid: newUid() });
    if (upload.unanswered) query.set("instead", upload.unanswered);
    upload.unanswered = query.get("uid");
    const request = new XMLHttpRequest();
    upload.request = request;
    set(upload, "sending", { sent: 0, tries: upload.tries + 1 });
    request.open("PUT", `${upload.address}?${query}`);
    for (const [name, value] of Object.entries(JSON.parse(document.body.getAttribute("hx-headers") ?? "{}"))) {
      request.setRequestHeader(name, value);
    }
    request.setRequestHeader("Content-Type", "application/octet-stream");
    let drawn = 0;
    request.upload.addEventListener("progress", (event) => {
      upload.sent = event.loaded;
      if (performance.now() - drawn < 100 && event.loaded < event.total) return;
      drawn = performance.now();
      draw(upload);
    });
    request.addEventListener("loadend", () => {
      if (upload.request === request) answered(upload, request);
    });
    request.send(upload.file);
  }

  function answered(upload, request) {
    let answer = {};
    try {
      answer = JSON.parse(request.responseText);
    } catch {
      // Not from the drive's view: a page, or nothing. The status says enough.
    }
    if (request.status === 201) {
      upload.unanswered = null;
      set(upload, "done", { sent: upload.file.size, savedAs: answer.name });
      listChanged(upload);
    } else if (PASSING.has(request.status) && upload.tries < TRIES) {
      set(upload, "pausing");
      const wait = Math.min(10_000, 500 * 2 ** upload.tries) * (0.8 + 0.4 * Math.random());
      upload.timer = setTimeout(() => upload.state === "pausing" && send(upload), wait);
    } else {
      set(upload, "failed", { error: answer.error ?? explain(request) });
    }
    next();
  }

  function explain(request) {
    if (request.status === 0) return "The connection was lost. Nothing of the file was kept.";
    if (request.responseURL.includes("/accounts/") || request.status === 403) {
      return "You are not logged in any more. Log in in another tab, then retry.";
    }
    return "The upload did not work. Nothing of the file was kept.";
  }

  function again(upload) {
    set(upload, "waiting", { tries: 0, sent: 0, error: "" });
    next();
  }

  function cancel(upload) {
    if (!["waiting", "sending", "pausing"].includes(upload.state)) return;
    clearTimeout(upload.timer);
    const { request } = upload;
    upload.request = null;
    set(upload, "cancelled");
    request?.abort();
    next();
  }

  let refreshing = 0;
  function listChanged(upload) {
    clearTimeout(refreshing);
    if (page()?.dataset.uploadTo !== upload.folder) return;
    // Several that end together are one change of the list.
    refreshing = setTimeout(() => document.querySelector("dialog[open]") || refresh(), count("sending", "waiting") ? 800 : 50);
  }

  // --- Where files come from ------------------------------------------------------------------------------------

  function add(files, folder) {
    const limit = Number(page()?.dataset.maxSize ?? Infinity);
    const address = `/drive/upload/${folder}`;
    for (const file of files) {
      const upload = { file, folder, address, state: "waiting", sent: 0, tries: 0, unanswered: null, error: "" };
      if (file.size > limit) {
        Object.assign(upload, { state: "failed", final: true, error: `Larger than the limit of ${humanSize(limit)}` });
      }
      uploads.push(upload);
      addRow(upload);
      draw(upload);
    }
    tray.classList.remove("is-folded");
    showTray();
    uploads.at(-files.length)?.parts.row.scrollIntoView({ block: "nearest" });
    next();
  }

  const picker = element("input", { type: "file", multiple: "", hidden: "", "aria-hidden": "true", tabindex: "-1", id: "drive-picker" });
  document.body.append(picker);
  let pickedFor = "root";
  picker.addEventListener("change", () => {
    add([...picker.files], pickedFor);
    picker.value = "";
  });
  // Capturing, so that the link does not first navigate.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-upload]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    pickedFor = link.getAttribute("href").split("/").pop();
    picker.click();
  }, true);

  const veil = element("div", { class: "drive-veil", hidden: "", "aria-hidden": "true" });
  document.body.append(veil);
  const bringsFiles = (event) => page() && event.dataTransfer?.types.includes("Files");
  let depth = 0; // dragenter and dragleave come for every element that is passed

  function showVeil(shown) {
    veil.hidden = !shown;
    if (shown) veil.replaceChildren(element("p", {}, "Drop to upload to ", element("bdi", {}, `“${page().dataset.uploadName}”`)));
    else depth = 0;
  }
  addEventListener("dragenter", (event) => {
    if (!bringsFiles(event)) return;
    depth += 1;
    showVeil(true);
  });
  addEventListener("dragleave", (event) => {
    if (bringsFiles(event) && --depth <= 0) showVeil(false);
  });
  addEventListener("dragover", (event) => {
    if (bringsFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    showVeil(false);
    const entries = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const isFolder = (item) => item.webkitGetAsEntry?.()?.isDirectory;
    const files = entries.filter((item) => !isFolder(item)).map((item) => item.getAsFile());
    if (files.length < entries.length) say("A folder cannot be uploaded as a whole. Make the folder here, and drop its files into it.");
    if (files.length) add(files, page().dataset.uploadTo);
  });

  addEventListener("beforeunload", (event) => {
    if (count("waiting", "sending", "pausing")) event.preventDefault();
  });
})();
