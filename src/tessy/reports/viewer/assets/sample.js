// One sample: problem, thinking by author, answer, counts. Text of models and users is inserted as
// text nodes only.

const AUTHORS = ["student", "teacher"];
const { drafted, drafted_in_failures: draftedInFailures } = head.summary.tokens;
const activeAuthors = AUTHORS.filter((author) => drafted[author] || draftedInFailures[author]);
const twoAuthors = activeAuthors.length !== 1; // a run of one author needs no shares
const number = new Intl.NumberFormat("en");
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)}\u00a0%`);
const counted = (count, noun) => `${number.format(count)} ${noun}${count === 1 ? "" : "s"}`;
const MEANINGS = {
  dropped: "share of generated thinking tokens that are not kept, such as text after a hand-over; drafted tokens are " +
    "counted with each model's own tokenizer, kept tokens with the student's",
  forced: "words that the predictor assigned to the other author, kept because neither author would continue",
  midWord: "hand-overs where the next author continues inside a word",
};
const outcomeName = (outcome) => head.reasons[outcome] ?? head.outcomes[outcome] ?? outcome;
const isFailure = (outcome) => outcome in head.reasons;

function el(tag, options, ...children) {
  const { text, ...attributes } = options ?? {};
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  element.append(...children.filter((child) => child !== null));
  return element;
}

const shareOf = (part, total) => (total ? part / total : null);

function bar(teacherShare) {
  const box = el("span", { class: "bar", "aria-hidden": "true" });
  if (teacherShare === null) return box;
  const student = el("span", { class: "bar-student" });
  student.style.width = `${100 * (1 - teacherShare)}%`;
  box.append(student, el("span", { class: "bar-teacher" }));
  return box;
}

function section(title, note, ...children) {
  return el("section", { class: "part" }, el("h3", { text: title }, note ?? ""), ...children);
}

function prose(text, kind) {
  return text
    ? el("div", { class: `prose ${kind}`, dir: "auto", text })
    : el("p", { class: "empty", text: "empty" });
}

function problemPart(sample) {
  const turns = sample.turns.map(([role, content], position) => {
    const last = position === sample.turns.length - 1;
    const body = prose(content, "problem");
    return last && role === "user"
      ? body
      : el("details", { class: "turn" }, el("summary", { text: `${role} turn` }), body);
  });
  return section("Problem", null, ...turns);
}

function legend(row, sample) {
  if (!twoAuthors)
    return el("span", { class: "legend" }, el("span", { class: `word ${activeAuthors[0]}`, text: activeAuthors[0] }));
  const total = sample.tokens[0] + sample.tokens[1];
  const box = el("span", { class: "legend", role: "group", "aria-label": "Authors to show" });
  AUTHORS.forEach((author, position) => {
    const share = percent(shareOf(sample.tokens[position], total));
    const button = el("button", { type: "button", "aria-pressed": "true", "data-author": author });
    button.append(el("span", { class: `word ${author}`, text: author }), ` ${share}`);
    button.title = `Show or fade the words of the ${author}`;
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!shown));
      document.getElementById("thinking").classList.toggle(`fade-${author}`, shown);
    });
    box.append(button);
  });
  return box;
}

// Overview of the authors: one rectangle per piece of the student, as wide as its text.
function ribbon(sample, target) {
  const SVG = "http://www.w3.org/2000/svg";
  const total = thinkingOf(sample).length;
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "ribbon");
  picture.setAttribute("viewBox", `0 0 ${total} 1`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("aria-hidden", "true");
  const starts = [];
  let start = 0;
  for (const [author, words] of sample.pieces) {
    if (author === 0) {
      const mark = document.createElementNS(SVG, "rect");
      for (const [name, value] of Object.entries({ x: start, y: 0, width: words.length, height: 1 }))
        mark.setAttribute(name, value);
      picture.append(mark);
    }
    starts.push(start);
    start += words.length;
  }
  picture.addEventListener("click", (event) => {
    const edge = picture.getBoundingClientRect();
    const position = ((event.clientX - edge.left) / edge.width) * total;
    const piece = target.children[Math.max(0, starts.findLastIndex((from) => from <= position))];
    piece.scrollIntoView({ block: "center" });
    piece.classList.add("flash");
    setTimeout(() => piece.classList.remove("flash"), 1200);
  });
  return picture;
}

function thinkingPart(row, sample) {
  if (!sample.pieces.length) return section("Thinking", null, prose("", "thinking"));
  const text = el("div", { class: "prose thinking", id: "thinking", dir: "auto" });
  for (const [author, words] of sample.pieces)
    text.append(el("span", { class: `word ${AUTHORS[author]}`, text: words }));
  return section("Thinking", legend(row, sample), twoAuthors ? ribbon(sample, text) : "", text);
}

function table(label, columns, lines) {
  const heads = columns.map((name) => el("th", { scope: "col", text: name }));
  const body = lines.map(([name, ...values]) =>
    el("tr", null, el("th", { scope: "row", text: name }),
      ...values.map((value) => el("td", { text: value }))));
  return el("table", { "aria-label": label },
    el("thead", null, el("tr", null, el("td"), ...heads)), el("tbody", null, ...body));
}

function countsPart(row, sample) {
  const total = sample.tokens[0] + sample.tokens[1];
  const count = (pair) => pair.map((value) => number.format(value));
  const spans = [0, 1].map((author) => sample.pieces.filter((piece) => piece[0] === author).length);
  const lines = [
    ["kept tokens (student's tokenizer)", ...count(sample.tokens)],
    ["share", ...sample.tokens.map((part) => percent(shareOf(part, total)))],
    ["drafted tokens (each model's own)", ...count(sample.drafted)],
    ["spans", ...count(spans)],
    ["forced units", ...count(sample.forced)],
    ["requests", ...count(sample.requests)],
  ];
  const tables = twoAuthors ? [table("Authors", AUTHORS, lines)] : [];
  if (sample.parts.length) {
    const lines = sample.parts.map(([part, seconds]) => [part, seconds.toFixed(2)]);
    tables.push(table("Time", ["seconds"], [...lines, ["wall clock", row.seconds.toFixed(1)]]));
  }
  const meaning = twoAuthors ? el("p", { class: "note", text: `Forced units: ${MEANINGS.forced}.` }) : "";
  return section("Counts", null, el("div", { class: "tables" }, ...tables), meaning);
}

function fieldList(fields) {
  const list = el("dl", { class: "fields" });
  for (const [name, value] of fields)
    list.append(el("dt", null, el("bdi", { text: name })), el("dd", { dir: "auto", text: value }));
  return list;
}

function facts(row, sample) {
  const texts = [
    sample.strategy,
    `${counted(row.thinkingTokens, "token")} of thinking`,
    `${counted(row.answerTokens, "token")} of answer` +
      (sample.answerBy === "teacher" ? " by the teacher" : ""),
    ...sample.choices.map(([name, value]) => `${name}: ${value}`),
    sample.endedBy && `thinking ended by the ${sample.endedBy}`,
    counted(row.attempts, "attempt"),
    `${number.format(row.seconds)} s`,
    sample.glued ? `${counted(sample.glued, "hand-over")} inside a word` : null,
  ];
  return el("p", { class: "facts", text: texts.filter(Boolean).join(" · ") });
}

function badge(outcome) {
  const look = outcome === "finished" || outcome === "correct" ? "good" : "bad";
  return el("span", { class: `badge ${look}`, text: outcomeName(outcome) });
}

function sampleView(row, sample, buttons) {
  const title = el("h2", { tabindex: "-1" }, el("bdi", { text: row.id }),
    el("span", { class: "dim", text: ` sample ${row.sample}` }));
  const link = el("a", { class: "permalink", href: linkTo(row), text: "link" });
  link.title = "Link to this sample";
  const heading = el("div", { class: "heading" }, buttons, title, badge(row.outcome), link);
  const why = sample.detail ? el("p", { class: "why", dir: "auto", text: sample.detail }) : null;
  const parts = [
    heading, facts(row, sample), why, problemPart(sample),
    sample.reference
      ? section("Teacher's answer shown to the student", null, prose(sample.reference, "answer"))
      : null,
    thinkingPart(row, sample),
    section("Answer", null, prose(sample.answer, "answer")),
    sample.verdict.length ? section("Verdict", null, fieldList(sample.verdict)) : null, countsPart(row, sample),
    sample.problem.length ? section("Other fields of the problem", null, fieldList(sample.problem)) : null,
  ];
  return parts.filter((part) => part !== null);
}

const linkTo = (row) => `#sample=${encodeURIComponent(row.id)}/${row.sample}`;

function rowOfLink(hash) {
  const found = /^#sample=(.*)\/(\d+)$/su.exec(hash);
  if (!found) return null;
  try {
    return byKey.get(`${decodeURIComponent(found[1])}/${found[2]}`) ?? null;
  } catch {
    return null; // not a link of this page
  }
}
