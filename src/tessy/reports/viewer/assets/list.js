// The list: filters, order, and elements for the visible rows only.

const ROW_HEIGHT = 72; // px, as in page.css
const SORTS = [
  ["run order", (a, b) => a.position - b.position],
  ["id", (a, b) => a.id.localeCompare(b.id, "en", { numeric: true }) || a.sample - b.sample],
  ["highest teacher share", descending("share")],
  ["highest student share", ascending("share")],
  ["longest thinking", descending("thinkingTokens")],
  ["shortest thinking", ascending("thinkingTokens")],
  ["longest answer", descending("answerTokens")],
  ["shortest answer", ascending("answerTokens")],
  ["most attempts", descending("attempts")],
  ["slowest", descending("seconds")],
];

function ascending(field) {
  return (a, b) => (a[field] ?? Infinity) - (b[field] ?? Infinity) || a.position - b.position;
}

function descending(field) {
  return (a, b) => (b[field] ?? -Infinity) - (a[field] ?? -Infinity) || a.position - b.position;
}

const control = (id) => document.getElementById(id);
const scroller = control("scroller");
const spacer = control("spacer");
const list = { rows, hits: null, query: "", selected: null };
let searching = new AbortController();

function fillControls() {
  const counts = new Map();
  for (const row of rows) counts.set(row.outcome, (counts.get(row.outcome) ?? 0) + 1);
  const choices = [["", `all (${number.format(rows.length)})`]];
  const failed = rows.filter((row) => isFailure(row.outcome)).length;
  if (failed < rows.length) choices.push(["finished", `finished (${number.format(rows.length - failed)})`]);
  if (failed) choices.push(["failed", `failed (${number.format(failed)})`]);
  for (const [outcome, count] of counts)
    if (outcome !== "finished") choices.push([outcome, `– ${outcomeName(outcome)} (${number.format(count)})`]);
  control("outcome").append(...choices.map(([value, text]) => el("option", { value, text })));
  const sorts = SORTS.map(([text], value) => [text, value]).filter(([text]) => twoAuthors || !text.endsWith("share"));
  control("sort").append(...sorts.map(([text, value]) => el("option", { value, text })));
  if (!twoAuthors)
    for (const part of control("clear").parentElement.children) if (part !== control("clear")) part.hidden = true;
}

function bound(id, otherwise) {
  const value = control(id).valueAsNumber;
  return Number.isNaN(value) ? otherwise : value / 100;
}

function matchesFilters(row) {
  const outcome = control("outcome").value;
  if (outcome === "failed" || outcome === "finished" ? isFailure(row.outcome) !== (outcome === "failed") : outcome && row.outcome !== outcome) return false;
  const low = bound("share-from", 0);
  const high = bound("share-to", 1);
  if (low <= 0 && high >= 1) return true; // includes samples without thinking, which have no share
  return row.share !== null && low <= row.share && row.share <= high;
}

function applyFilters() {
  const order = SORTS[Number(control("sort").value)][1];
  list.rows = (list.hits ?? rows).filter(matchesFilters).sort(order);
  control("clear").hidden = !filtered();
  spacer.style.height = `${list.rows.length * ROW_HEIGHT}px`;
  draw(true);
}

function filtered() {
  return Boolean(list.query || control("outcome").value || bound("share-from", 0) > 0 || bound("share-to", 1) < 1);
}

function showCount(searched) {
  const progress = searched < 1 ? `, ${Math.floor(100 * searched)} % searched` : "";
  const count = `${number.format(list.rows.length)} of ${counted(rows.length, "sample")}`;
  control("found").textContent = `${count}${progress}`;
}

async function runSearch() {
  searching.abort();
  const current = (searching = new AbortController());
  list.query = control("search").value.trim();
  list.hits = null;
  if (list.query) {
    list.hits = [];
    await search(list.query, current.signal, (hits, searched) => {
      list.hits = hits;
      applyFilters();
      showCount(searched);
    });
    if (current.signal.aborted) return;
  } else {
    applyFilters();
    showCount(1);
  }
  markMatches();
}

function rowElement(row, place) {
  const facts = [twoAuthors && `teacher ${percent(row.share)}`, counted(row.thinkingTokens, "token")].filter(Boolean);
  const option = el("div", {
    class: "row", role: "option", id: `row-${row.position}`,
    "aria-selected": String(row === list.selected),
    "aria-setsize": list.rows.length, "aria-posinset": place + 1,
  },
    el("div", { class: "row-head" },
      el("bdi", { class: "row-id", text: row.id }),
      el("span", { class: "row-sample", text: row.sample ? `sample ${row.sample}` : "" }),
      row.outcome !== "finished" ? badge(row.outcome) : null),
    el("div", { class: "row-text", dir: "auto", text: row.excerpt || "no problem text" }),
    el("div", { class: "row-facts" }, twoAuthors ? bar(row.share) : "", el("span", { text: facts.join(" · ") })));
  option.style.top = `${place * ROW_HEIGHT}px`;
  option.addEventListener("click", () => { location.hash = linkTo(row); });
  return option;
}

const drawn = { first: -1, last: -1 };

function draw(force) {
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_HEIGHT) - 6);
  const fitting = Math.ceil(scroller.clientHeight / ROW_HEIGHT) + 12;
  const last = Math.min(list.rows.length, first + fitting);
  if (!force && first === drawn.first && last === drawn.last) return;
  Object.assign(drawn, { first, last });
  spacer.replaceChildren(...list.rows.slice(first, last).map((row, place) => rowElement(row, first + place)));
  const active = list.selected && list.rows.includes(list.selected);
  if (active) scroller.setAttribute("aria-activedescendant", `row-${list.selected.position}`);
  else scroller.removeAttribute("aria-activedescendant");
}

function reveal(row) {
  const place = list.rows.indexOf(row);
  if (place < 0) return;
  const top = place * ROW_HEIGHT;
  const bottom = top + ROW_HEIGHT - scroller.clientHeight;
  if (scroller.scrollTop > top) scroller.scrollTop = top;
  else if (scroller.scrollTop < bottom) scroller.scrollTop = bottom;
}

// The sample `step` rows away; the first one if the selected sample is not listed.
function neighbour(step) {
  const place = list.rows.indexOf(list.selected);
  if (place < 0) return list.rows[0] ?? null;
  return list.rows[Math.min(list.rows.length - 1, Math.max(0, place + step))];
}
