// The selected options, and their form in the address: a link to the page contains the options.
// It does not contain tiles, except for samples.

const $ = (id) => document.getElementById(id);

/** An element with its fields and children; `class`, `aria-…`, `role` and `data-…` are attributes. */
function make(tag, fields = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (name in element && !name.startsWith("aria")) element[name] = value;
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** An element with custom properties for the style sheet. */
function styled(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(`--${name}`, value);
  return element;
}

const METHODS = ["vit", "color-match", "hed-jitter", "identity"];
const TAKES_STYLE = ["vit", "color-match"];
const SOURCES = ["bank", "reference", "batch", "own"];
const drawSeed = () => Math.floor(Math.random() * 2 ** 31);

const DEFAULTS = {
  model: "", // NAME/VERSION, empty for the server's default
  from: "bank",
  domains: null, // all of them
  ids: [], // styles by name, which overrule the domains
  mix: 0.5, // the second style's share of a blend of two
  share: true,
  placement: "broadcast",
  method: "vit",
  strength: 1,
  variants: 1,
  detail: "carry",
  mpp: null, // the size of a pixel, µm, if the visitor says it
  slide: false, // whether the loaded tiles are of one slide
  compare: false,
  view: "picture",
  samples: null, // as the page likes
};

const state = { ...DEFAULTS, seed: drawSeed() };
/** The models that are ready, and the style bank of the one in use. */
const server = { models: [], model: null, bank: [], styles: new Map() };

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const list = (name) => said.has(name) ? said.get(name).split(",").filter(Boolean) : null;
  const among = (name, known) => known.includes(said.get(name)) ? said.get(name) : DEFAULTS[name];
  const number = (name, low, high, otherwise) => {
    const value = Number(said.get(name));
    return said.has(name) && value >= low && value <= high ? value : otherwise;
  };
  const flag = (name) => said.has(name) ? said.get(name) === "1" : DEFAULTS[name];
  Object.assign(state, {
    model: said.get("model") ?? "",
    from: among("from", SOURCES),
    domains: list("domains"),
    ids: list("ids") ?? [],
    mix: number("mix", 0.05, 0.95, DEFAULTS.mix),
    share: flag("share"),
    placement: among("placement", ["broadcast", "aligned"]),
    method: among("method", METHODS),
    strength: number("strength", 0, 1, DEFAULTS.strength),
    variants: Math.floor(number("variants", 1, 1e6, DEFAULTS.variants)),
    seed: Math.floor(number("seed", 0, Number.MAX_SAFE_INTEGER, state.seed)),
    detail: among("detail", ["carry", "model"]),
    mpp: number("mpp", 0.01, 100, DEFAULTS.mpp),
    slide: flag("slide"),
    compare: flag("compare"),
    view: among("view", ["picture", "difference"]),
    samples: list("samples"),
  });
}

function writeAddress() {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    const same = name !== "seed" && JSON.stringify(value) === JSON.stringify(DEFAULTS[name]);
    if (!same) said.set(name, value === true ? "1" : value === false ? "0" : String(value));
  }
  // Commas and slashes stay readable, and are allowed in a fragment.
  history.replaceState(null, "", `#${said.toString().replaceAll("%2C", ",").replaceAll("%2F", "/")}`);
}

/** Puts the state into the form. */
function showState() {
  $("strength").value = state.strength;
  $("from").value = state.from;
  $("mix").value = state.mix;
  $("share").checked = state.share;
  $("variants").value = state.variants;
  $("seed").value = state.seed;
  $("mpp").value = state.mpp ?? "";
  $("slide").checked = state.slide;
  $("compare").checked = state.compare;
  for (const [name, value] of [["placement", state.placement], ["method", state.method], ["detail", state.detail], ["view", state.view]]) {
    document.querySelector(`[name=${name}][value=${value}]`).checked = true;
  }
  showDependents();
}

/** What follows from other choices: words beside sliders, and what makes no sense and is not shown. */
function showDependents() {
  $("strength-shown").value = state.strength.toFixed(2);
  $("mix-shown").value = `${Math.round((1 - state.mix) * 100)} : ${Math.round(state.mix * 100)}`;
  $("styles").disabled = !TAKES_STYLE.includes(state.method);
  $("bank").hidden = state.from !== "bank";
  $("placement").hidden = state.from === "bank";
  $("mix-row").hidden = state.ids.length !== 2;
  $("compare").disabled = state.method !== "vit";
  $("detail").disabled = state.method !== "vit";
  $("mpp").disabled = state.method !== "vit";
  $("slide").disabled = !TAKES_STYLE.includes(state.method);
  $("legend").hidden = state.view !== "difference";
  document.body.dataset.view = state.view;
}

/** Takes the form into the state; a number that cannot be read is left for the server to judge. */
function readForm() {
  const chosen = (name) => document.querySelector(`[name=${name}]:checked`).value;
  Object.assign(state, {
    strength: $("strength").valueAsNumber,
    from: $("from").value,
    mix: $("mix").valueAsNumber,
    share: $("share").checked,
    placement: chosen("placement"),
    method: chosen("method"),
    view: chosen("view"),
    variants: $("variants").valueAsNumber,
    seed: $("seed").valueAsNumber,
    detail: chosen("detail"),
    mpp: $("mpp").value === "" ? null : $("mpp").valueAsNumber,
    slide: $("slide").checked,
    compare: $("compare").checked,
  });
  showDependents();
}
