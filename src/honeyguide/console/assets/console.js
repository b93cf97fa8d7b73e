// What must happen in the browser at once: the theme, the keyboard in a list of suggestions, colours for charts.
(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("honeyguide-theme"); } catch { return null; } };
  const store = (theme) => { try { localStorage.setItem("honeyguide-theme", theme); } catch { /* private window */ } };
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  if (stored()) root.dataset.theme = stored();

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme]") || event.target === root || !event.target.closest("button")) return;
    root.dataset.theme = isDark() ? "light" : "dark";
    store(root.dataset.theme);
    if (window.emitEvent) emitEvent("theme");
  });

  // Suggestions: the box keeps the focus, the arrows walk the list.
  const optionsOf = (box) => [...box.closest(".combo").querySelectorAll("[role=option]")];
  const mark = (box, chosen) => {
    for (const option of optionsOf(box)) option.setAttribute("aria-selected", String(option === chosen));
    if (chosen) box.setAttribute("aria-activedescendant", chosen.id); else box.removeAttribute("aria-activedescendant");
  };
  const isBox = (target) => target instanceof HTMLInputElement && target.closest(".combo");
  document.addEventListener("keydown", (event) => {
    if (!isBox(event.target)) return;
    const box = event.target, combo = box.closest(".combo"), options = optionsOf(box);
    const at = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!options.length) return;
      event.preventDefault();
      combo.classList.remove("shut");
      const step = event.key === "ArrowDown" ? 1 : -1;
      const next = at < 0 ? (step > 0 ? 0 : options.length - 1) : at + step;
      mark(box, options[next] ?? null);
    } else if (event.key === "Enter") {
      if (at >= 0 && !combo.classList.contains("shut")) { event.preventDefault(); options[at].click(); }
      combo.classList.add("shut");
      mark(box, null);
    } else if (event.key === "Escape") {
      combo.classList.add("shut");
      mark(box, null);
    }
  }, true);
  document.addEventListener("input", (event) => {
    if (!isBox(event.target)) return;
    event.target.closest(".combo").classList.remove("shut");
    mark(event.target, null);
  }, true);
  document.addEventListener("mousedown", (event) => { if (event.target.closest(".options")) event.preventDefault(); });
  new MutationObserver(() => {
    for (const box of document.querySelectorAll(".combo input"))
      box.setAttribute("aria-expanded", String(optionsOf(box).length > 0 && !box.closest(".combo").classList.contains("shut")));
  }).observe(document.body, { childList: true, subtree: true });

  window.honeyguide = {
    setText(id, text) { const box = document.querySelector(`#${id} input`); if (box) { box.value = text; } },
    colour(name) {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = `var(${name})`;
      const colour = getComputedStyle(probe).color;
      probe.remove();
      return colour;
    },
    intervalText(point) {
      const [, estimate, low, high] = point.value;
      const text = (x) => Number(x).toFixed(3);
      const ends = low == null || high == null ? "no interval" : `95% between ${text(low)} and ${text(high)}`;
      return `${point.seriesName}, ${point.name}\n${text(estimate)}, ${ends}`;
    },
  };
})();
