// The load of the server, from /metrics, while the page is visible: current figures, and lines of the last minute.

const SECOND = 1000, KEPT = 60;
const readings = [];
let polling = 0;

const decimal = (value) => value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value && value < 10 ? 1 : 0);
const bytes = (value) => {
  const step = value < 1024 ? 0 : Math.min(3, Math.floor(Math.log2(value) / 10));
  return `${decimal(value / 1024 ** step)} ${["B", "KiB", "MiB", "GiB"][step]}`;
};

/** Each: what it is called, its value from a reading and the one before, and how it is written. */
const FIGURES = [
  ["tiles encoded / s", (now, before) => rate(now, before, "tiles_total"), decimal],
  ["variants / s", (now, before) => rate(now, before, "variants_total"), decimal],
  ["tiles in the queue", (now) => now.queue_tiles, decimal],
  ["memory in flight", (now) => now.inflight_bytes, bytes],
  ["cache hits", hits, (value) => value === null ? "–" : `${Math.round(value * 100)} %`],
  ["cache size", (now) => now.encodings_cache_bytes, bytes],
];

function rate(now, before, name) {
  return before ? Math.max(0, now[name] - before[name]) / ((now.at - before.at) / SECOND) : 0;
}

/** Of the tiles asked for since the reading before; where none were, of all there ever were. */
function hits(now, before) {
  const share = (hit, missed) => hit + missed > 0 ? hit / (hit + missed) : null;
  const [hit, missed] = ["encodings_cache_hits_total", "encodings_cache_misses_total"].map((name) => [now[name], before?.[name] ?? 0]);
  return share(hit[0] - hit[1], missed[0] - missed[1]) ?? share(hit[0], missed[0]);
}

async function read() {
  const text = await (await ask("/metrics")).text();
  const found = { at: performance.now() };
  for (const [, name, value] of text.matchAll(/^restain_(\w+) (\S+)$/gm)) found[name] = Number(value);
  return found;
}

function showLive() {
  $("live").replaceChildren(...FIGURES.map(([name]) => {
    const box = make("div", {}, make("small", { textContent: name }), make("b", { textContent: "–" }));
    box.insertAdjacentHTML("beforeend", '<svg viewBox="0 0 59 20" preserveAspectRatio="none" aria-hidden="true"><polygon/><polyline/></svg>');
    return box;
  }));
}

function drawLive() {
  FIGURES.forEach(([, value, write], place) => {
    const values = readings.map((reading, at) => value(reading, readings[at - 1]) ?? 0);
    const box = $("live").children[place], top = Math.max(...values, 1e-9);
    box.querySelector("b").textContent = write(value(readings.at(-1), readings.at(-2)));
    const points = values.map((value, at) => `${KEPT - values.length + at},${(19 - value / top * 18).toFixed(2)}`);
    box.querySelector("polyline").setAttribute("points", points.join(" "));
    box.querySelector("polygon").setAttribute("points", `${KEPT - values.length},20 ${points.join(" ")} ${KEPT - 1},20`);
  });
}

let gone = false;
/** The key is not for figures: it is not asked every second whether it is by now. */
let shut = false;

async function poll() {
  try {
    readings.push(await read());
    if (readings.length > KEPT) readings.shift();
    drawLive();
    $("live").classList.remove("gone");
    if (gone) again();
    gone = false;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    shut = [401, 403].includes(problem.status);
    $("live").hidden = shut;
    gone = !shut;
    // After a restart the counters begin anew, so differences are meaningless.
    readings.length = 0;
    $("live").classList.add("gone");
    for (const value of $("live").querySelectorAll("b")) value.textContent = "–";
  } finally {
    polling = document.hidden || shut ? 0 : setTimeout(poll, SECOND);
  }
}

function watch() {
  document.addEventListener("visibilitychange", () => {
    clearTimeout(polling);
    polling = 0;
    if (!document.hidden) poll();
  });
  poll();
}

/** With another key. */
function watchAgain() {
  if (!shut) return;
  shut = false;
  $("live").hidden = false;
  poll();
}
