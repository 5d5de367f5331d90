// What the page does by itself: busy states, asking for explanations and closest sentences, folding.
// Everything that comes from the server as HTML was escaped there.
window.mretrieve = (() => {
  "use strict";
  const LONG_WAIT_MS = 1500;
  const SENTENCES_AT_ONCE = 2; // passages

  const panel = (id) => document.getElementById(id);

  function busy(id) {
    const element = panel(id);
    if (!element) return;
    element.classList.remove("failed");
    element.classList.add("busy");
    element.setAttribute("aria-busy", "true");
    clearTimeout(element.mrWait);
    element.mrWait = setTimeout(() => wait(element), LONG_WAIT_MS);
  }

  // Say that it takes long, or that nobody is there to answer.
  async function wait(element) {
    element.classList.add("slow");
    try {
      await fetch("gradio_api/app_id", { cache: "no-store" });
      element.classList.remove("gone");
    } catch {
      element.classList.add("gone");
    }
    if (element.classList.contains("busy")) element.mrWait = setTimeout(() => wait(element), LONG_WAIT_MS);
    else element.classList.remove("slow", "gone");
  }

  function idle(id) {
    const element = panel(id);
    if (!element) return;
    clearTimeout(element.mrWait);
    element.classList.remove("busy", "slow", "gone");
    element.removeAttribute("aria-busy");
    refresh(element);
  }

  function failed(id) {
    idle(id);
    panel(id)?.classList.add("failed");
  }

  // "Show all" is offered only where a passage does not fit.
  function fold(root) {
    for (const passage of root.querySelectorAll(".mr-results .passage")) {
      const more = passage.parentElement.querySelector("[data-more]");
      if (more && !passage.classList.contains("whole"))
        more.hidden = passage.scrollHeight <= passage.clientHeight + 2;
    }
  }

  // A few passages at a time, best first: sentences take the model longer than the question did.
  async function markSentences(root, server) {
    const results = root.querySelector(".mr-results");
    if (!results || !server || !server.sentences_of) return;
    const { index, query, mode } = results.dataset;
    const passages = [...results.querySelectorAll(".passage[data-sentence]")];
    passages.forEach((one) => one.removeAttribute("data-sentence"));
    const rowOf = (passage) => Number(passage.closest(".hit")?.dataset.row);
    const waiting = passages.map((one) => [one, rowOf(one)]);
    // A newer search puts other hits here, for which these marks are not.
    const isCurrent = () => results.isConnected && results.dataset.query === query && results.dataset.mode === mode;
    while (waiting.length && isCurrent()) {
      const some = waiting.splice(0, SENTENCES_AT_ONCE);
      try {
        const found = await server.sentences_of({ index, query, rows: some.map(([, row]) => row) });
        for (const [passage, row] of some)
          if (found?.[row] && isCurrent() && rowOf(passage) === row) passage.innerHTML = found[row];
      } catch {
        return; // marks are an extra: without them the passages are as they were
      }
    }
    fold(root);
  }

  async function explain(button, server) {
    const card = button.closest(".hit");
    const body = card.querySelector(".explanation");
    const results = button.closest(".mr-results");
    body.hidden = !body.hidden;
    button.setAttribute("aria-expanded", String(!body.hidden));
    const key = card.dataset.row + results.dataset.query + results.dataset.mode;
    if (body.hidden || body.dataset.of === key) return;
    body.dataset.of = key;
    body.textContent = "Reading …";
    try {
      const html = await server.explanation_of({
        ...results.dataset,
        row: Number(card.dataset.row),
        doc_id: card.dataset.id,
      });
      if (typeof html !== "string") throw new Error("no answer"); // what Gradio makes of a lost connection
      body.innerHTML = html;
    } catch {
      body.textContent = "The server does not answer. Is `mretrieve ui` still running?";
      delete body.dataset.of;
    }
  }

  function refresh(element) {
    const root = element.mrRoot || element;
    fold(root);
    markSentences(root, element.mrServer);
  }

  // Called once for each panel of hits, by its component.
  function attach(element, trigger, server, watch) {
    const outer = element.closest("[id]") || element;
    outer.mrRoot = element;
    outer.mrServer = server;
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const toTop = "pick" in button.dataset || "back" in button.dataset || "similar" in button.dataset;
      if (toTop && outer.getBoundingClientRect().top < 0) outer.scrollIntoView({ block: "start" });
      const card = button.closest(".hit");
      if (button.dataset.pick !== undefined) trigger("pick", { query: button.dataset.pick });
      else if (button.dataset.back !== undefined) trigger("back", {});
      else if (button.dataset.explain !== undefined) explain(button, server);
      else if (button.dataset.similar !== undefined)
        trigger("similar", { row: Number(card.dataset.row), doc_id: card.dataset.id });
      else if (button.dataset.more !== undefined) {
        const whole = card.querySelector(".passage").classList.toggle("whole");
        button.textContent = whole ? "Show less" : "Show all";
      }
    });
    const pair = (event, on) => {
      const key = event.target.closest?.("[data-key]")?.dataset.key;
      if (key === undefined) return;
      for (const one of element.querySelectorAll("[data-key]"))
        one.classList.toggle("paired", on && one.dataset.key === key);
    };
    element.addEventListener("mouseover", (event) => pair(event, true));
    element.addEventListener("mouseout", (event) => pair(event, false));
    watch("value", () => refresh(outer));
  }

  return { attach, busy, failed, idle };
})();
