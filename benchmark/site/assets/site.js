// Sorting is Tablesort's; here are filters, what is remembered over a reload, and following.
"use strict";
(() => {
  const memory = {
    key: (name) => `bench ${location.pathname} ${name}`,
    get(name) { try { return JSON.parse(sessionStorage.getItem(this.key(name))); } catch { return null; } },
    set(name, value) { try { sessionStorage.setItem(this.key(name), JSON.stringify(value)); } catch { /* private window */ } },
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    new Tablesort(table);
    const heads = [...table.tHead.rows[0].cells];
    // The buttons inside are what the keyboard reaches.
    for (const head of heads) head.removeAttribute("tabindex");
    table.addEventListener("afterSort", () => {
      const place = heads.findIndex((head) => head.hasAttribute("aria-sort"));
      memory.set(`sort ${table.id}`, [place, heads[place]?.getAttribute("aria-sort")]);
    });
    const [place, order] = memory.get(`sort ${table.id}`) ?? [];
    for (let n = 0; n < 2 && heads[place] && heads[place].getAttribute("aria-sort") !== order; n++) heads[place].click();
  }

  for (const form of document.querySelectorAll("form.filters")) {
    const rows = [...document.getElementById(form.dataset.for).tBodies[0].rows];
    const fields = [...form.querySelectorAll("[data-filter]")];
    const said = form.querySelector("output");
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const apply = () => {
      let shown = 0;
      for (const row of rows) {
        row.hidden = !fields.every((field) => {
          const wanted = field.value;
          if (!wanted) return true;
          if (field.dataset.filter !== "text") return row.dataset[field.dataset.filter] === wanted;
          return wanted.toLowerCase().split(/\s+/).every((word) => texts.get(row).includes(word));
        });
        shown += row.hidden ? 0 : 1;
      }
      said.textContent = shown === rows.length ? `${shown} lines` : `${shown} of ${rows.length} lines`;
      memory.set(`filter ${form.dataset.for}`, fields.map((field) => field.value));
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    const before = memory.get(`filter ${form.dataset.for}`);
    if (before) fields.forEach((field, n) => { field.value = before[n] ?? ""; });
    if (before?.some(Boolean)) apply();
    // A link to a line that is filtered out shows it.
    const reveal = () => {
      const row = rows.find((one) => `#${one.id}` === location.hash);
      if (!row?.hidden) return;
      for (const field of fields) field.value = "";
      apply();
      row.scrollIntoView();
    };
    window.addEventListener("hashchange", reveal);
    reveal();
  }

  // A page of a watched report asks a small script whether anything changed: scripts, unlike
  // other files, may be read from a folder without a server.
  const seconds = Number(document.documentElement.dataset.follow);
  if (seconds) {
    const assets = document.querySelector("script[src$='site.js']").src.replace(/site\.js$/, "");
    let state = null;
    window.benchStamp = (found) => {
      if (state !== null && found.state !== state) { location.reload(); return; }
      state = found.state;
      const live = document.querySelector("[data-live]");
      if (!found.follow) live.textContent = "The report has ended; this page no longer changes.";
      else setTimeout(ask, 1000 * seconds);
    };
    const ask = () => {
      const script = document.createElement("script");
      script.src = `${assets}stamp.js?${Date.now()}`;
      script.onload = script.onerror = () => script.remove();
      document.head.append(script);
    };
    ask();
  }
})();
