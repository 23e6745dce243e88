// The style bank: its domains, each with the colours of its styles, and a map of all styles by mean colour.
// Selecting styles in the map overrides the selection of domains.

/** The map's size in its own units, and the margin that axis labels take. */
const MAP = { width: 288, height: 190, left: 12, right: 12, top: 20, bottom: 22 };
let active = 0; // the place on the map that the arrow keys have moved to

const css = (mean) => `rgb(${mean.map((value) => Math.round(value * 255)).join(" ")})`;

/** CIE L* and b* of an sRGB colour with channels in 0..1 (IEC 61966-2-1, CIE 15; D65): how light, and how blue or yellow. */
function lightnessAndBlue(rgb) {
  const linear = rgb.map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  const z = (0.0193 * linear[0] + 0.1192 * linear[1] + 0.9505 * linear[2]) / 1.089;
  const root = (value) => value > 216 / 24389 ? Math.cbrt(value) : (24389 / 27 * value + 16) / 116;
  return [116 * root(y) - 16, 200 * (root(y) - root(z))];
}

async function loadBank() {
  const { name, version } = server.model;
  const { domains } = await (await ask(`/v1/styles?${new URLSearchParams({ model: `${name}/${version}` })}`)).json();
  server.bank = domains;
  server.styles = new Map(domains.flatMap(({ domain, styles }) => styles.map((style) => [style.id, { ...style, domain }])));
  const known = state.ids.filter((id) => server.styles.has(id));
  if (known.length < state.ids.length) state.ids = known;
  showDomains();
  showMap();
  noteChosen();
}

function showDomains() {
  const chosen = chosenDomains();
  $("domains").replaceChildren(...server.bank.map(({ domain, origin, styles }) => {
    const box = make("input", { type: "checkbox", value: domain, checked: chosen.includes(domain) });
    const colours = styles.map((style) => style.source_mean).sort((a, b) => lightnessAndBlue(a)[0] - lightnessAndBlue(b)[0]).map(css);
    const stops = colours.map((colour, place) => `${colour} ${place / colours.length * 100}% ${(place + 1) / colours.length * 100}%`);
    const strip = make("span", { class: "strip", "aria-hidden": "true" });
    if (stops.length) strip.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    const title = `${domain}: ${styles.length} styles${origin === "bundle" ? "" : ", added"}`;
    return make("label", { title }, box, make("span", { class: "domain", textContent: domain }), strip, make("small", { textContent: styles.length, "aria-hidden": "true" }));
  }));
}

/** Positions on the map, spread over what the bank has. */
function positions() {
  const all = [...server.styles.values()].map((style) => ({ ...style, lab: lightnessAndBlue(style.source_mean) }));
  const scale = (of, from, to) => {
    const values = all.map(of), low = Math.min(...values), span = Math.max(...values) - low || 1;
    return (style) => from + (of(style) - low) / span * (to - from);
  };
  const x = scale((style) => style.lab[1], MAP.left + 6, MAP.width - MAP.right - 6);
  const y = scale((style) => style.lab[0], MAP.height - MAP.bottom - 6, MAP.top + 6);
  return all.map((style) => ({ ...style, x: x(style), y: y(style) }));
}

function showMap() {
  const escape = (text) => make("i", { textContent: text }).innerHTML.replaceAll('"', "&quot;");
  const size = server.styles.size > 150 ? 4 : 6;
  const marks = positions().map(({ id, source_mean, x, y }, place) =>
    `<circle id="style-${place}" role="option" aria-selected="false" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${size}" fill="${css(source_mean)}" data-style="${escape(id)}" aria-label="${escape(id)}"><title>${escape(id)}</title></circle>`);
  // Parsed as HTML, so that the elements are those of SVG without naming its namespace.
  $("map").innerHTML = `<svg viewBox="0 0 ${MAP.width} ${MAP.height}" role="listbox" aria-multiselectable="true" aria-labelledby="map-name" tabindex="0">
    <text x="${MAP.left}" y="14">light</text><text x="${MAP.left}" y="${MAP.height - 7}">dark, bluer</text>
    <text x="${MAP.width - MAP.right}" y="${MAP.height - 7}" text-anchor="end">redder</text>${marks.join("")}</svg>`;
  active = Math.min(active, Math.max(0, server.styles.size - 1));
  const svg = $("map").firstElementChild;
  svg.onclick = (event) => { if (event.target.dataset.style) toggleStyle(event.target.dataset.style); };
  svg.onpointerover = (event) => hint(event.target.dataset?.style);
  svg.onpointerleave = () => hint();
  svg.onfocus = () => { if (svg.matches(":focus-visible")) activate(active); };
  svg.onblur = () => { svg.querySelector(".active")?.classList.remove("active"); hint(); };
  svg.onkeydown = moveOnMap;
}

function moveOnMap(event) {
  const marks = [...$("map").querySelectorAll("circle")];
  if (!marks.length) return;
  if (event.key === " " || event.key === "Enter") toggleStyle(marks[active].dataset.style);
  else if (event.key === "Escape") clearStyles();
  else if (STEPS[event.key] && event.key.startsWith("Arrow")) activate(nearest(marks, ...STEPS[event.key]));
  else return;
  event.preventDefault();
}

/** The nearest mark in a direction; what lies aside counts double. */
function nearest(marks, down, right) {
  const at = (mark) => [Number(mark.getAttribute("cx")), Number(mark.getAttribute("cy"))];
  const [x, y] = at(marks[active]);
  let best = active, least = Infinity;
  marks.forEach((mark, place) => {
    const [dx, dy] = [at(mark)[0] - x, at(mark)[1] - y];
    const ahead = dx * right + dy * down, aside = Math.abs(dx * down) + Math.abs(dy * right);
    if (place !== active && ahead > 0 && ahead + 2 * aside < least) [best, least] = [place, ahead + 2 * aside];
  });
  return best;
}

function activate(place) {
  const svg = $("map").firstElementChild;
  active = place;
  svg.querySelector(".active")?.classList.remove("active");
  const mark = $(`style-${place}`);
  if (!mark) return;
  mark.classList.add("active");
  svg.setAttribute("aria-activedescendant", mark.id);
  hint(mark.dataset.style);
}

/** What is under the pointer, or what the map is for. */
function hint(id) {
  const few = state.ids.length ? `Selected: ${state.ids.join(", ")}.` : "Press one style to use it alone, two to blend them.";
  $("map-hint").textContent = id ?? few;
}

function toggleStyle(id) {
  state.ids = state.ids.includes(id) ? state.ids.filter((other) => other !== id) : [...state.ids, id];
  if (state.from !== "bank") {
    state.from = "bank";
    showState();
  }
  changedStyles();
}

function clearStyles() {
  state.ids = [];
  changedStyles();
}

function changedStyles() {
  noteChosen();
  showDependents();
  writeAddress();
  runSoon();
}

function noteChosen() {
  const domains = chosenDomains();
  for (const mark of $("map").querySelectorAll("circle")) {
    const { style } = mark.dataset;
    mark.setAttribute("aria-selected", state.ids.includes(style));
    mark.classList.toggle("apart", !state.ids.includes(style) && !domains.includes(server.styles.get(style).domain));
  }
  $("clear").hidden = !state.ids.length;
  $("domains").classList.toggle("overruled", state.ids.length > 0);
  hint();
}

/** Rings around the styles that the table shows. */
function markShown(ids) {
  for (const mark of $("map").querySelectorAll("circle")) mark.classList.toggle("shown", ids.has(mark.dataset.style));
}

function chooseDomains(domains) {
  const all = server.bank.every(({ domain }) => domains.includes(domain));
  Object.assign(state, { domains: all ? null : domains, ids: [] });
  showDomains();
  changedStyles();
}
