// The table: a row for each tile, the original first, then columns of variants under the timings of their requests.
// It updates existing elements instead of replacing them, to keep the focus and avoid flicker.

/** By tile, column, method and index. */
let cells = new Map();
let laid = "", shownJobs = [], at = null;

const keyOf = (tile, column, method, index) => [tile.id, column.key, method, index].join("|");

/** The groups of one row: what stands side by side, each with the track that it begins on. A narrow track lies before it. */
function groupsOf(jobs) {
  let track = 2;
  return [...new Set(jobs.map((job) => job.column))].map((column) => {
    const own = jobs.filter((job) => job.column === column);
    const group = { column, jobs: own, count: column.variants * own.length, track: track + 1 };
    track += 1 + group.count;
    return group;
  });
}

/** The smallest and the largest side of a picture: five domains by two methods fit a screen 1,366 px wide. */
const LEAST = 76;
const SIDE = `minmax(${LEAST}px, 212px)`;

function layOut(jobs = planJobs()) {
  shownJobs = jobs;
  $("empty").hidden = tiles.length > 0;
  for (const id of ["tools", "keys"]) $(id).hidden = !tiles.length;
  if (!jobs.length) $("summary").textContent = "";
  $("stages").hidden = !jobs.length;
  const groups = groupsOf(jobs);
  const signature = JSON.stringify([
    tiles.map((tile) => [tile.id, tile.name, tile.url, tile.problem?.detail]),
    groups.map(({ column, jobs }) => [column.key, column.label, column.variants, jobs.map((job) => job.method)]),
  ]);
  if (signature === laid) return;
  laid = signature;
  const before = cells;
  cells = new Map();
  const rows = tiles.map((tile) => make("div", { role: "row", class: "row" }, originalCell(tile), ...variantCells(tile, groups, before)));
  const head = make("div", { role: "row", class: "row head" }, make("div", { role: "columnheader", textContent: "Original" }), ...groups.map(groupHead));
  const count = groups.reduce((sum, group) => sum + group.count, 0);
  const tracks = ["minmax(92px, 220px)", ...groups.map((group) => `2px repeat(${group.count}, ${SIDE})`)];
  const least = `${100 + groups.length * 8 + count * (LEAST + 6)}px`;
  styled($("grid"), { tracks: groups.length ? tracks.join(" ") : `${tracks} 2px minmax(0, 1fr)`, least: groups.length ? least : "0" });
  $("grid").replaceChildren(...(tiles.length ? [head, ...rows] : []));
  if (!at?.isConnected) at = cells.values().next().value ?? null;
  if (at) at.tabIndex = 0;
}

function originalCell(tile) {
  const picture = tile.url
    ? styled(make("div", { class: "picture" }, make("img", { src: tile.url, alt: `Original ${tile.name}`, draggable: false })), { aspect: tile.width / tile.height })
    : make("div", { class: "picture nothing" }, make("span", { textContent: "cannot be displayed" }));
  const name = make("a", { href: tile.url ?? "", download: tile.name, textContent: tile.name, title: `Save ${tile.name}` });
  // Uploaded tiles are on the user's disk already; samples are not.
  if (!tile.sample) name.removeAttribute("href");
  const size = tile.width ? `, ${tile.width} × ${tile.height}` : "";
  const gone = make("button", { type: "button", class: "link", textContent: "×", title: `Remove ${tile.name}`, "aria-label": `Remove ${tile.name}`, onclick: () => remove(tile) });
  name.title = `${tile.name}${size}`;
  return make("div", { role: "rowheader", class: "cell original" }, picture, make("div", { class: "caption" }, make("span", {}, name), gone));
}

function variantCells(tile, groups, before) {
  if (tile.problem) {
    return [make("div", { role: "gridcell", class: "problem" }, ...explain(tile.problem))];
  }
  return groups.flatMap(({ column, jobs, track }) => Array.from({ length: column.variants }, (_, index) => jobs.map(({ method }, place) => {
    const key = keyOf(tile, column, method, index);
    const cell = before.get(key) ?? variantCell();
    Object.assign(cell, { tile, column, tabIndex: -1, className: "cell variant" });
    styled(cell, { track: track + index * jobs.length + place });
    styled(cell.firstChild, { aspect: tile.width / tile.height });
    cell.querySelector(".was").src = tile.url ?? "";
    cell.beside = jobs.length > 1;
    cells.set(key, cell);
    return cell;
  })).flat());
}

const DELTA = "Mean difference from the original (0 to 255)";

function variantCell() {
  const picture = make("div", { class: "picture" }, make("img", { class: "is", alt: "", draggable: false }), make("canvas", { width: 1, height: 1 }), make("img", { class: "was", alt: "", draggable: false }));
  const caption = make("div", { class: "caption" }, make("span", { class: "of" }), make("span", { class: "style" }), make("span", { class: "delta", title: DELTA }));
  return make("div", { role: "gridcell" }, picture, caption);
}

function groupHead({ column, jobs, count, track }) {
  const bar = make("div", { class: "bar", "aria-hidden": "true" }, ...STAGES.map((stage) => make("i", { class: stage })));
  const label = make("div", { class: "label" }, make("span", { textContent: column.label, title: column.label }), make("small"));
  const names = jobs.length > 1 ? make("div", { class: "methods" }, ...jobs.map((job) => make("span", { textContent: job.method }))) : null;
  const head = make("div", { role: "columnheader", class: "group" }, label, bar, names);
  styled(head, { track: `${track} / span ${count}` });
  head.column = column.key;
  return head;
}

/** Puts the pictures of an answer into their places, each when it is decoded. */
async function paint(job, signal) {
  const each = job.tiles.flatMap((tile, row) => job.made[row].map(async (made) => {
    const cell = cells.get(keyOf(tile, job.column, job.method, made.index));
    const picture = new Image();
    picture.src = made.src;
    const was = cell?.querySelector(".was");
    await Promise.all([picture.decode(), was?.decode()]);
    if (signal.aborted || !cell) return;
    cell.querySelector(".is").src = made.src;
    const mean = drawDifference(cell.querySelector("canvas"), picture, was);
    const name = nameOf(made), beside = cell.beside ? `, ${made.method}` : "";
    cell.made = { ...made, mean, name };
    // A column's head names the domain, so the caption omits it; without a head it has the full name.
    cell.querySelector(".style").textContent = name.startsWith(`${job.column.label}/`) ? `#${name.slice(job.column.label.length + 1)}` : name;
    cell.querySelector(".style").title = name;
    cell.querySelector(".of").textContent = (name.startsWith("patch") ? `${job.column.label}, ${name}` : name) + beside;
    cell.querySelector(".delta").textContent = `${made.warning ? "⚠ " : ""}Δ ${mean.toFixed(1)}`;
    cell.querySelector(".delta").title = made.warning ?? DELTA;
    cell.setAttribute("aria-label", `${tile.name} as ${name}${beside}; differs by ${mean.toFixed(1)} of 255`);
  }));
  await Promise.all(each);
}

/** Of a reference the column says which tile it is; what is left is the patch, when it is one. */
function nameOf({ style, method }) {
  if (!style) return method;
  return style.replace(/^(reference|tile)\/0#/, "patch ").replace(/^reference\/0$/, "patch by patch");
}

function summarise(jobs, took) {
  const variants = jobs.reduce((sum, job) => sum + job.made.flat().length, 0);
  const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const left = skipped ? ` ${count(skipped, "file")} left out: ${MAX_TILES} at once are what a table holds; restain augment does folders.` : "";
  $("summary").textContent = `${count(variants, "variant")} of ${count(jobs[0].tiles.length, "tile")} in ${Math.round(took)} ms.${left}`;
  const slowest = Math.max(...jobs.map((job) => job.timings.total), 0.001);
  for (const head of $("grid").querySelectorAll(".group")) {
    const own = jobs.filter((job) => job.column.key === head.column).map((job) => job.timings);
    if (!own.length) continue;
    const spent = own.reduce((worst, timing) => timing.total > worst.total ? timing : worst);
    const bar = styled(head.querySelector(".bar"), { share: spent.total / slowest });
    STAGES.forEach((stage, place) => styled(bar.children[place], { part: spent[stage] }));
    head.querySelector("small").textContent = `${spent.total.toFixed(spent.total < 10 ? 1 : 0)} ms`;
    head.title = STAGES.map((stage) => `${stage === "rest" ? "decode and write" : stage} ${spent[stage].toFixed(1)} ms`).join(", ");
  }
  markShown(new Set(jobs.flatMap((job) => job.made.flat().map((made) => made.style))));
}

function focusCell(cell) {
  if (!cell) return;
  if (at) at.tabIndex = -1;
  at = cell;
  cell.tabIndex = 0;
  cell.focus();
}

/** The cell so many rows and columns from here; rows with a problem have none and are passed over. */
function neighbour(cell, down, right) {
  const rows = [...$("grid").querySelectorAll(".row")].map((row) => [...row.querySelectorAll(".variant")]).filter((row) => row.length);
  const row = rows.findIndex((row) => row.includes(cell)), place = rows[row]?.indexOf(cell) ?? -1;
  const target = rows[row + down];
  return target?.[Math.min(target.length - 1, Math.max(0, place + right))];
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -Infinity], End: [0, Infinity] };

function listenToGrid() {
  const grid = $("grid");
  let pressed = null, timer = 0;
  const release = () => {
    clearTimeout(timer);
    pressed = null;
    for (const cell of grid.querySelectorAll(".held")) cell.classList.remove("held");
  };
  const hold = (cell) => cell.classList.add("held");
  grid.addEventListener("pointerdown", (event) => {
    const cell = event.target.closest(".picture")?.closest(".variant");
    if (!cell?.made || event.button > 0) return;
    pressed = cell;
    timer = setTimeout(hold, 180, cell);
  });
  grid.addEventListener("pointerup", (event) => {
    // A short press enlarges the variant, a long press shows the original.
    const cell = event.target.closest(".variant"), brief = cell && cell === pressed && !cell.classList.contains("held");
    release();
    if (brief) openZoom(cell);
  });
  grid.addEventListener("pointerout", (event) => { if (pressed && !pressed.contains(event.relatedTarget)) release(); });
  for (const name of ["pointercancel", "focusout"]) grid.addEventListener(name, release);
  grid.addEventListener("contextmenu", (event) => { if (event.pointerType === "touch") event.preventDefault(); });
  grid.addEventListener("focusin", (event) => {
    if (!event.target.matches(".variant")) return;
    if (at) at.tabIndex = -1;
    at = event.target;
    at.tabIndex = 0;
  });
  grid.addEventListener("keydown", (event) => {
    if (!event.target.matches(".variant") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (STEPS[event.key]) focusCell(neighbour(event.target, ...STEPS[event.key]));
    else if (event.key === " " && event.target.made) hold(event.target);
    else if (event.key === "Enter" && event.target.made) openZoom(event.target);
    else return;
    event.preventDefault();
  });
  grid.addEventListener("keyup", (event) => { if (event.key === " ") release(); });
}
