// The page: totals, selection and keys.

function figure(label, value, note, ...more) {
  return el("div", { class: "figure" }, el("dt", { text: label }), el("dd", null,
    el("span", { class: "value", text: value }), ...more, note ? el("span", { class: "note", text: note }) : null));
}

function meaning(label, text) {
  return el("div", { class: "meaning" }, el("dt", { text: label }), el("dd", { text }));
}

function lengthNote(lengths) {
  if (lengths.mean === null) return "";
  return `median ${number.format(lengths.median)}, p80 ${number.format(lengths.p80)}, longest ${number.format(lengths.max)}`;
}

const mean = (lengths) => (lengths.mean === null ? "–" : number.format(Math.round(lengths.mean)));

function dropped(kept, drafted) {
  return percent(drafted ? Math.max(0, 1 - kept / drafted) : null);
}

function totals() {
  const { samples, tokens: counts, lengths, failures, forced, glued, outcomes } = head.summary;
  const thinking = counts.student + counts.teacher;
  const reasons = Object.entries(failures).map(([reason, count]) => `${number.format(count)} ${outcomeName(reason)}`);
  const each = (values) => AUTHORS.map((author) => `${author}\u00a0${values[author]}`).join(", ");
  const allDrafted = drafted.student + drafted.teacher;
  const perAuthor = Object.fromEntries(AUTHORS.map((author) =>
    [author, dropped(counts[author], drafted[author])]));
  const forcedByAuthor = each({ student: number.format(forced.student), teacher: number.format(forced.teacher) });
  const shared = !twoAuthors ? [] : [
    figure("Teacher's share of thinking", percent(counts.share.teacher),
      each({ student: number.format(counts.student), teacher: number.format(counts.teacher) }), bar(counts.share.teacher)),
    figure("Drafted but not kept", dropped(thinking, allDrafted),
      each(perAuthor)),
  ];
  const disagreed = !twoAuthors ? [] : [
    figure("Forced units", number.format(forced.student + forced.teacher),
      forcedByAuthor),
    figure("Mid-word hand-overs", number.format(glued), ""),
    meaning("Drafted but not kept", MEANINGS.dropped),
    meaning("Forced units", MEANINGS.forced),
    meaning("Mid-word hand-overs", MEANINGS.midWord),
  ];
  const others = Object.entries(outcomes ?? {}).filter(([outcome]) => outcome !== "correct")
    .map(([outcome, count]) => `${number.format(count)} ${outcomeName(outcome)}`);
  const judged = outcomes ? [figure("Correct", number.format(outcomes.correct ?? 0), others.join(", "))] : [];
  control("figures").append(el("dl", { class: "figures" },
    ...judged,
    figure("Finished samples", number.format(samples.finished), ""),
    figure("Failed samples", number.format(samples.failed), reasons.join(", ")),
    ...shared,
    figure("Thinking tokens, mean", mean(lengths.thinking), lengthNote(lengths.thinking)),
    figure("Answer tokens, mean", mean(lengths.answer), lengthNote(lengths.answer)),
    ...disagreed));
  control("totals").open = matchMedia("(min-width: 900px)").matches;
}

function configuration() {
  if (!head.config.length) return;
  control("config-fields").append(fieldList(head.config));
  control("show-config").hidden = false;
  control("show-config").addEventListener("click", () => control("config").showModal());
  control("hide-config").addEventListener("click", () => control("config").close());
}

function notice() {
  const { finished, failed } = head.leftOut;
  if (!finished && !failed) return;
  const omitted = [finished && counted(finished, "finished sample"), failed && counted(failed, "failed sample")];
  control("notice").textContent =
    `Not in this page, to keep it usable: ${omitted.filter(Boolean).join(" and ")}. Search and filters cover the ` +
    `first ${counted(rows.length, "sample")}; totals cover the whole run, and its files contain all samples.`;
  control("notice").hidden = false;
}

const pane = control("sample");

async function show(row) {
  list.selected = row;
  document.body.classList.toggle("reading", row !== null);
  draw(true);
  if (row === null) {
    const text = rows.length ? "Select a sample." : "This run has no samples yet.";
    pane.replaceChildren(el("p", { class: "empty big", text }));
    return;
  }
  reveal(row);
  draw(true);
  const sample = await details(row);
  if (list.selected !== row) return; // another sample was selected in the meantime
  pane.replaceChildren(...sampleView(row, sample, turnButtons()));
  pane.scrollTop = 0;
  markMatches();
}

// Buttons for small screens, which show one pane at a time.
function turnButtons() {
  const button = (text, act) => {
    const element = el("button", { type: "button", text });
    element.addEventListener("click", act);
    return element;
  };
  return el("div", { class: "turns" }, button("‹ Samples", () => { location.hash = ""; }),
    button("Previous", () => move(-1)), button("Next", () => move(1)));
}

// Matches are marked with the CSS Custom Highlight API, which does not change the document.
const matches = { ranges: [], current: -1 };

function markMatches() {
  if (!CSS.highlights) return;
  CSS.highlights.clear();
  const regex = list.query && pattern(list.query, "giu");
  matches.ranges = regex ? [...pane.querySelectorAll(".prose")].flatMap((box) => rangesIn(box, regex)) : [];
  matches.current = -1;
  if (matches.ranges.length) CSS.highlights.set("match", new Highlight(...matches.ranges));
}

function rangesIn(box, regex) {
  const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
  const nodes = [];
  let text = "";
  while (walker.nextNode()) {
    nodes.push([text.length, walker.currentNode]);
    text += walker.currentNode.data;
  }
  const locate = (offset) => {
    const [start, node] = nodes[nodes.findLastIndex(([from]) => from <= offset)];
    return [node, offset - start];
  };
  return [...text.matchAll(regex)].slice(0, 1000).map((match) => {
    const range = new Range();
    range.setStart(...locate(match.index));
    const [node, offset] = locate(match.index + match[0].length - 1);
    range.setEnd(node, offset + 1);
    return range;
  });
}

function nextMatch(step) {
  const count = matches.ranges.length;
  if (!count) return;
  matches.current = (matches.current + step + count) % count;
  const range = matches.ranges[matches.current];
  range.startContainer.parentElement.closest("details:not([open])")?.setAttribute("open", "");
  CSS.highlights.set("current", new Highlight(range));
  range.startContainer.parentElement.scrollIntoView({ block: "center" });
}

function move(step) {
  const row = neighbour(step);
  // Replace the history entry, so that Back skips the samples in between.
  if (row && row !== list.selected) location.replace(linkTo(row));
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  n: () => nextMatch(1),
  N: () => nextMatch(-1),
  "/": () => { control("search").focus(); control("search").select(); },
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || control("config").open) return;
  if (event.key === "Escape") {
    // The browser clears a search field first.
    if (event.target.closest("#controls")) event.target.value || event.target.blur();
    else if (matchMedia("(max-width: 899px)").matches && list.selected) location.hash = "";
    return;
  }
  if (event.target.closest("input, select")) {
    if (event.key === "Enter" && event.target.matches("input")) enter();
    return;
  }
  const inList = event.target.closest("#scroller");
  const arrows = inList ? { ArrowDown: KEYS.j, ArrowUp: KEYS.k } : {};
  const act = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : arrows[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

// Enter in a filter: select the first listed sample and leave the field.
async function enter() {
  document.activeElement.blur();
  if (control("search").value.trim() !== list.query) await runSearch();
  if (list.rows.length && !list.rows.includes(list.selected)) move(1);
}

function clear() {
  control("controls").reset();
  runSearch();
}

function start() {
  totals();
  configuration();
  notice();
  fillControls();
  let pause = 0;
  control("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(runSearch, 150);
  });
  control("controls").addEventListener("submit", (event) => { event.preventDefault(); });
  for (const id of ["outcome", "sort", "share-from", "share-to"])
    control(id).addEventListener("input", () => { scroller.scrollTop = 0; applyFilters(); showCount(1); });
  control("clear").addEventListener("click", clear);
  scroller.addEventListener("scroll", () => draw(false), { passive: true });
  new ResizeObserver(() => draw(true)).observe(scroller);
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => show(rowOfLink(location.hash)));
  runSearch();
  const linked = rowOfLink(location.hash);
  const wide = matchMedia("(min-width: 900px)").matches;
  show(linked ?? (wide ? rows[0] ?? null : null));
}

start();
