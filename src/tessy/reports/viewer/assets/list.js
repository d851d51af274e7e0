// The list: filters, order, and only as many elements as fit on the screen.

const ROW_HEIGHT = 72; // px; page.css gives a row the same height
const SORTS = [
  ["order of the run", (a, b) => a.position - b.position],
  ["id", (a, b) => a.id.localeCompare(b.id, "en", { numeric: true }) || a.sample - b.sample],
  ["most by the teacher", descending("share")],
  ["most by the student", ascending("share")],
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
  const failed = rows.length - (counts.get("finished") ?? 0);
  if (counts.has("finished")) choices.push(["finished", `finished (${number.format(counts.get("finished"))})`]);
  if (failed) choices.push(["failed", `failed (${number.format(failed)})`]);
  for (const [outcome, count] of counts)
    if (outcome !== "finished") choices.push([outcome, `– ${outcomeName(outcome)} (${number.format(count)})`]);
  control("outcome").append(...choices.map(([value, text]) => el("option", { value, text })));
  const sorts = SORTS.map(([text], value) => [text, value]).filter(([text]) => together || !text.startsWith("most by"));
  control("sort").append(...sorts.map(([text, value]) => el("option", { value, text })));
  if (!together)
    for (const part of control("clear").parentElement.children) if (part !== control("clear")) part.hidden = true;
}

function bound(id, otherwise) {
  const value = control(id).valueAsNumber;
  return Number.isNaN(value) ? otherwise : value / 100;
}

function chosen(row) {
  const outcome = control("outcome").value;
  if (outcome === "failed" ? row.outcome === "finished" : outcome && row.outcome !== outcome) return false;
  const low = bound("share-from", 0);
  const high = bound("share-to", 1);
  if (low <= 0 && high >= 1) return true; // samples without any thinking have no share
  return row.share !== null && low <= row.share && row.share <= high;
}

function refilter() {
  const order = SORTS[Number(control("sort").value)][1];
  list.rows = (list.hits ?? rows).filter(chosen).sort(order);
  control("clear").hidden = !filtered();
  spacer.style.height = `${list.rows.length * ROW_HEIGHT}px`;
  draw(true);
}

function filtered() {
  return Boolean(list.query || control("outcome").value || bound("share-from", 0) > 0 || bound("share-to", 1) < 1);
}

function say(searched) {
  const progress = searched < 1 ? `, ${Math.floor(100 * searched)} % searched` : "";
  const count = `${number.format(list.rows.length)} of ${number.format(rows.length)} samples`;
  control("found").textContent = `${count}${progress}`;
}

async function research() {
  searching.abort();
  const mine = (searching = new AbortController());
  list.query = control("search").value.trim();
  list.hits = null;
  if (list.query) {
    list.hits = [];
    await search(list.query, mine.signal, (hits, searched) => {
      list.hits = hits;
      refilter();
      say(searched);
    });
    if (mine.signal.aborted) return;
  } else {
    refilter();
    say(1);
  }
  markMatches();
}

function rowElement(row, place) {
  const failed = row.outcome !== "finished";
  const facts = [together && `teacher ${percent(row.share)}`, tokens(row.thinkingTokens)].filter(Boolean);
  const option = el("div", {
    class: "row", role: "option", id: `row-${row.position}`,
    "aria-selected": String(row === list.selected),
    "aria-setsize": list.rows.length, "aria-posinset": place + 1,
  },
    el("div", { class: "row-head" },
      el("bdi", { class: "row-id", text: row.id }),
      el("span", { class: "row-sample", text: row.sample ? `sample ${row.sample}` : "" }),
      failed ? badge(row.outcome) : null),
    el("div", { class: "row-text", dir: "auto", text: row.excerpt || "no question" }),
    el("div", { class: "row-facts" }, together ? bar(row.share) : "", el("span", { text: facts.join(" · ") })));
  option.style.top = `${place * ROW_HEIGHT}px`;
  option.addEventListener("click", () => { location.hash = linkTo(row); });
  return option;
}

const drawn = { first: -1, last: -1 };

function draw(anew) {
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_HEIGHT) - 6);
  const fitting = Math.ceil(scroller.clientHeight / ROW_HEIGHT) + 12;
  const last = Math.min(list.rows.length, first + fitting);
  if (!anew && first === drawn.first && last === drawn.last) return;
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

// The sample `step` places on; the first one if none is selected or the selected one is not listed.
function neighbour(step) {
  const place = list.rows.indexOf(list.selected);
  if (place < 0) return list.rows[0] ?? null;
  return list.rows[Math.min(list.rows.length - 1, Math.max(0, place + step))];
}
