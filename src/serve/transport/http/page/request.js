// From options to requests: the columns of the table, their requests, and sending them.
// One request per column and method, with all tiles: so every domain appears, and the timings belong to a column.

/** The columns: {key, label, style, references, variants}. */
function columns() {
  const count = state.variants;
  if (!TAKES_STYLE.includes(state.method)) return [{ key: state.method, label: state.method, style: {}, variants: count }];
  const placement = state.placement === "aligned" ? { placement: "aligned" } : {};
  const common = { ...placement, ...(state.share && { share: "request" }) };
  if (state.from === "own") return [{ key: "own", label: "own style", style: { from: "own", ...placement }, variants: count }];
  if (state.from === "batch") return [{ key: "batch", label: "another tile", style: { from: "batch", ...placement }, variants: count }];
  if (state.from === "reference") {
    return usable().map((tile) => ({ key: `tile ${tile.id}`, label: tile.name, style: { from: "reference", ...common }, references: [tile], variants: count }));
  }
  if (state.ids.length) return styleColumns();
  const share = state.share ? { share: "request" } : {};
  return chosenDomains().map((domain) => ({ key: `domain ${domain}`, label: domain, style: { domains: [domain], ...share }, variants: count }));
}

/** One for each style chosen by name; of two, what lies between them stands in the middle. */
function styleColumns() {
  const named = state.ids.map((id) => ({ key: `style ${id}`, label: id, style: { ids: [id] }, variants: 1 }));
  if (named.length !== 2) return named;
  const [a, b] = state.ids, weight = Number((1 - state.mix).toFixed(2));
  const blend = [{ id: a, weight }, { id: b, weight: Number((1 - weight).toFixed(2)) }];
  return [named[0], { key: "blend", label: "blend", style: { blend }, variants: 1 }, named[1]];
}

const chosenDomains = () => {
  const known = server.bank.map((domain) => domain.domain);
  return state.domains === null ? known : known.filter((domain) => state.domains.includes(domain));
};

const methods = () => state.compare && state.method === "vit" ? ["vit", "color-match"] : [state.method];

/** The request JSON of a column; what is the default is left out. */
function requestOf(column, method) {
  return {
    ...(state.model && { model: state.model }),
    variants: column.variants,
    seed: state.seed,
    ...(method !== "vit" && { method }),
    ...(Object.keys(column.style).length && { style: column.style }),
    ...(state.strength < 1 && { strength: state.strength }),
    ...(method === "vit" && state.detail !== "carry" && { detail: state.detail }),
    ...(method === "vit" && state.mpp !== null && { mpp: state.mpp }),
    ...(state.slide && TAKES_STYLE.includes(method) && slide.id && { slide: slide.id }),
  };
}

function formOf(job) {
  const form = new FormData();
  form.append("request", JSON.stringify(requestOf(job.column, job.method)));
  for (const tile of job.tiles) form.append("tile", tile.file, tile.name);
  for (const tile of job.column.references ?? []) form.append("reference", tile.file, tile.name);
  return form;
}

/** The slide of the loaded tiles, if the visitor says that they are of one: its id, and what it was made from. */
const slide = { id: null, of: "" };

/** Adds the slide of these tiles, once; without tissue in any of them there is none. */
async function findSlide(tiles, signal) {
  const of = JSON.stringify([state.model, tiles.map((tile) => tile.id)]);
  if (!state.slide || slide.of === of) return;
  Object.assign(slide, { id: null, of: "" });
  const form = new FormData();
  if (state.model) form.append("request", JSON.stringify({ model: state.model }));
  for (const tile of tiles) form.append("tile", tile.file, tile.name);
  const response = await ask("/v1/slides", { method: "POST", body: form, signal });
  Object.assign(slide, { id: (await response.json()).slide, of });
}

/** Why the table is about to change: the run that it awaits, the timer of the next, and how much is being prepared for one. */
let running = null, soon = 0, preparing = 0;

/** Tells whether the table is about to change; what is shown of older choices is faint until then. */
function showBusy() {
  const busy = running !== null || soon !== 0 || preparing > 0;
  $("grid").setAttribute("aria-busy", busy);
  return busy;
}

/** Does work that ends with a run; several such may overlap. */
async function prepare(work) {
  preparing++;
  showBusy();
  try {
    await work();
  } finally {
    preparing--;
    showBusy();
  }
}

/** Ends the run that is on its way: it would show earlier choices. */
function giveUp() {
  running?.abort();
  running = null;
}

/** Shortly: a slider on the move asks at most some times a second, and what it made obsolete is given up. */
function runSoon() {
  clearTimeout(retry);
  soon ||= setTimeout(run, 90);
  showBusy();
}

async function run() {
  clearTimeout(soon);
  soon = 0;
  giveUp();
  const mine = new AbortController();
  const wrong = incomplete();
  const jobs = wrong ? [] : planJobs();
  running = jobs.length ? mine : null;
  showBusy();
  layOut(wrong ? shownJobs : jobs);
  if (wrong) $("grid").classList.add("stale");
  showProblem(wrong);
  if (!jobs.length) return;
  const started = performance.now();
  $("grid").classList.add("stale");
  try {
    await findSlide(jobs[0].tiles, mine.signal);
    await Promise.all(jobs.map((job) => runJob(job, mine.signal)));
    if (mine.signal.aborted) return;
    showProblem(null);
    summarise(jobs, performance.now() - started);
    running = null;
    if (!showBusy()) $("grid").classList.remove("stale");
  } catch (problem) {
    if (mine.signal.aborted) return;
    mine.abort();
    running = null;
    $("summary").textContent = "";
    showBusy();
    showProblem(problem);
  }
}

/** All that was not checked, and then everything, once more. */
async function again() {
  clearTimeout(retry);
  if (!server.model) return start();
  return checkAll();
}

function planJobs() {
  const tiles = usable();
  return tiles.length ? columns().flatMap((column) => methods().map((method) => ({ column, method, tiles }))) : [];
}

/** What the page can say without asking. */
function incomplete() {
  for (const input of [$("variants"), $("seed"), $("mpp")]) {
    if (!input.checkValidity()) {
      return new Problem({ title: `${input.labels[0].textContent.trim()}: not a number that can be used`, detail: input.validationMessage }, 422);
    }
  }
  if (usable().length && !columns().length) {
    return new Problem({ title: "No domain is selected", detail: "Select at least one domain, or a style in the map." }, 422);
  }
  return null;
}

async function runJob(job, signal) {
  const response = await ask("/v1/augment", { method: "POST", body: formOf(job), headers: { accept: "application/json" }, signal });
  job.timings = timings(response);
  const answer = await response.json();
  if (signal.aborted) return;
  job.made = answer.tiles.map(({ tile_key, fidelity, windows = 1, warning = null, variants }) => variants.map(({ image, media_type, ...origin }) => ({
    ...origin, src: `data:${media_type};base64,${image}`, tile_key, fidelity, windows, warning, method: answer.method, detail: answer.detail, seed: answer.seed,
    model: `${answer.model}/${answer.version}`, bundle: answer.bundle,
  })));
  await paint(job, signal);
}
