// The page as a whole: totals, what is selected, keys.

function figure(label, value, note, ...more) {
  return el("div", { class: "figure" }, el("dt", { text: label }), el("dd", null,
    el("span", { class: "value", text: value }), ...more, note ? el("span", { class: "note", text: note }) : null));
}

function lengthNote(lengths) {
  if (lengths.mean === null) return "";
  return `median ${number.format(lengths.median)}, p80 ${number.format(lengths.p80)}, longest ${number.format(lengths.max)}`;
}

const mean = (lengths) => (lengths.mean === null ? "–" : number.format(Math.round(lengths.mean)));

function rolledBack(kept, drafted) {
  return percent(drafted ? Math.max(0, 1 - kept / drafted) : null);
}

function totals() {
  const { samples, tokens: counts, lengths, failures, forced, glued } = head.summary;
  const thinking = counts.student + counts.teacher;
  const reasons = Object.entries(failures).map(([reason, count]) => `${number.format(count)} ${outcomeName(reason)}`);
  const each = (values) => AUTHORS.map((author) => `${author}\u00a0${values[author]}`).join(", ");
  const all = drafted.student + drafted.teacher;
  const perAuthor = Object.fromEntries(AUTHORS.map((author) =>
    [author, rolledBack(counts[author], drafted[author])]));
  const forcedSaid = each({ student: number.format(forced.student), teacher: number.format(forced.teacher) });
  const shared = !together ? [] : [
    figure("Thinking by the teacher", percent(counts.share.teacher),
      each({ student: number.format(counts.student), teacher: number.format(counts.teacher) }), bar(counts.share.teacher)),
    figure("Drafted but not kept", rolledBack(thinking, all),
      `${each(perAuthor)}: tokens that were generated and dropped, most of them after a boundary`),
  ];
  const disagreed = !together ? [] : [
    figure("Forced units", number.format(forced.student + forced.teacher),
      `${forcedSaid}: words that neither author would write, kept so that the text continues`),
    figure("Hand-overs in a word", number.format(glued), "the next author continued inside a word"),
  ];
  control("figures").append(el("dl", { class: "figures" },
    figure("Samples finished", number.format(samples.finished), ""),
    figure("Failed", number.format(samples.failed), reasons.join(", ")),
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
  const left = [finished && counted(finished, "finished sample"), failed && counted(failed, "failed sample")];
  control("notice").textContent =
    `Left out, to keep this page usable: ${left.filter(Boolean).join(" and ")}. The page holds the first ` +
    `${number.format(rows.length)}, which search and filters see; totals are of all, and the run's files hold all.`;
  control("notice").hidden = false;
}

const pane = control("sample");

async function show(row) {
  list.selected = row;
  document.body.classList.toggle("reading", row !== null);
  draw(true);
  if (row === null) {
    const text = rows.length ? "Choose a sample." : "This run has no samples yet.";
    pane.replaceChildren(el("p", { class: "empty big", text }));
    return;
  }
  reveal(row);
  draw(true);
  const sample = await details(row);
  if (list.selected !== row) return; // another one was chosen meanwhile
  pane.replaceChildren(...sampleView(row, sample, turnButtons()));
  pane.scrollTop = 0;
  markMatches();
}

// Where there is room for one pane only, these do what the list and the keys do elsewhere.
function turnButtons() {
  const button = (text, act) => {
    const made = el("button", { type: "button", text });
    made.addEventListener("click", act);
    return made;
  };
  return el("div", { class: "turns" }, button("‹ Samples", () => { location.hash = ""; }),
    button("Previous", () => move(-1)), button("Next", () => move(1)));
}

// Matches are marked without touching the document, so text stays the pieces it was built from.
const matches = { ranges: [], current: -1 };

function markMatches() {
  if (!CSS.highlights) return;
  CSS.highlights.clear();
  const wanted = list.query && pattern(list.query, "giu");
  matches.ranges = wanted ? [...pane.querySelectorAll(".prose")].flatMap((box) => rangesIn(box, wanted)) : [];
  matches.current = -1;
  if (matches.ranges.length) CSS.highlights.set("match", new Highlight(...matches.ranges));
}

function rangesIn(box, wanted) {
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
  return [...text.matchAll(wanted)].slice(0, 1000).map((match) => {
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
  // A step is no entry of the history: Back leads to where reading began.
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
    // A search field is emptied by the browser first.
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

// Enter in a filter: go to the first sample it lists, with the keys free for reading.
async function enter() {
  document.activeElement.blur();
  if (control("search").value.trim() !== list.query) await research();
  if (list.rows.length && !list.rows.includes(list.selected)) move(1);
}

function clear() {
  control("controls").reset();
  research();
}

function start() {
  totals();
  configuration();
  notice();
  fillControls();
  let pause = 0;
  control("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(research, 150);
  });
  control("controls").addEventListener("submit", (event) => { event.preventDefault(); });
  for (const id of ["outcome", "sort", "share-from", "share-to"])
    control(id).addEventListener("input", () => { scroller.scrollTop = 0; refilter(); say(1); });
  control("clear").addEventListener("click", clear);
  scroller.addEventListener("scroll", () => draw(false), { passive: true });
  new ResizeObserver(() => draw(true)).observe(scroller);
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => show(rowOfLink(location.hash)));
  research();
  const linked = rowOfLink(location.hash);
  const wide = matchMedia("(min-width: 900px)").matches;
  show(linked ?? (wide ? rows[0] ?? null : null));
}

start();
