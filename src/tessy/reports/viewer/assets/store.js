// Data of the page: the index, and the texts of samples, unpacked block by block.

const head = JSON.parse(document.getElementById("head").textContent);

// Order of the values as in pack.index_entry.
const rows = head.index.map((entry, position) => ({
  id: entry[0],
  sample: entry[1],
  outcome: entry[2],
  share: entry[3],
  thinkingTokens: entry[4],
  answerTokens: entry[5],
  seconds: entry[6],
  attempts: entry[7],
  excerpt: entry[8],
  block: entry[9],
  place: entry[10],
  position,
  key: `${entry[0]}/${entry[1]}`,
}));
const byKey = new Map(rows.map((row) => [row.key, row]));

const blocks = new Map(); // block number -> promise of its samples, most recently used last
const UNPACKED_CHARS = 64e6; // cache size; older blocks are unpacked again when needed
let unpackedChars = 0;

function block(number) {
  let samples = blocks.get(number);
  if (samples) {
    blocks.delete(number);
  } else {
    samples = unpack(number);
    unpackedChars += head.blockChars[number];
  }
  blocks.set(number, samples);
  for (const old of blocks.keys()) {
    if (unpackedChars <= UNPACKED_CHARS || old === number) break;
    blocks.delete(old);
    unpackedChars -= head.blockChars[old];
  }
  return samples;
}

async function unpack(number) {
  const packed = atob(document.getElementById(`block-${number}`).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let at = 0; at < packed.length; at++) bytes[at] = packed.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

async function details(row) {
  return (await block(row.block))[row.place];
}

const thinkingOf = (sample) => sample.pieces.map((piece) => piece[1]).join("");

// Return a pattern for the words of a query, ignoring case and the amount of white space.
function pattern(query, flags) {
  const words = query.trim().split(/\s+/u).filter(Boolean);
  if (!words.length) return null;
  const escaped = words.map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/gu, "\\$&"));
  return new RegExp(escaped.join("\\s+"), flags);
}

function contains(row, sample, regex) {
  return (
    regex.test(row.id) ||
    sample.turns.some((turn) => regex.test(turn[1])) ||
    regex.test(thinkingOf(sample)) ||
    regex.test(sample.answer)
  );
}

// Call found(rows so far, share of blocks searched) repeatedly; stop when `signal` is aborted.
async function search(query, signal, found) {
  const regex = pattern(query, "iu");
  const hits = [];
  const count = head.blockChars.length;
  let shown = performance.now();
  for (let number = 0, next = 0; number < count; number++) {
    const samples = await block(number);
    if (signal.aborted) return;
    for (; next < rows.length && rows[next].block === number; next++) {
      if (contains(rows[next], samples[rows[next].place], regex)) hits.push(rows[next]);
    }
    if (performance.now() - shown > 200) {
      found(hits, (number + 1) / count);
      await new Promise((resume) => setTimeout(resume));
      if (signal.aborted) return;
      shown = performance.now();
    }
  }
  found(hits, 1);
}
