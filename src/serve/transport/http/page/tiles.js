// The tiles of the table: dropped, pasted, chosen, or samples. The page first sends each tile by itself, so that a tile that
// is rejected shows the error in its own row and the others work.

/** The most tiles of a table; for folders there is `restain augment`. */
const MAX_TILES = 24;
const samples = JSON.parse($("sample-data").textContent);
/** {id, name, file, url, width, height, problem, sample, checked, asked} in the order of the rows. */
let tiles = [];
let nextTile = 0;

const usable = () => tiles.filter((tile) => tile.url && tile.checked && !tile.problem);
const mediaType = (file) => file.type.startsWith("image/") ? file.type : "image/png";

async function addFiles(files) {
  const free = MAX_TILES - tiles.filter((tile) => !(tile.sample && untouched)).length;
  const taken = [...files].slice(0, Math.max(0, free));
  if (!taken.length && !files.length) return;
  // Uploaded tiles replace the samples that the page loaded by itself.
  if (untouched) for (const tile of tiles.filter((tile) => tile.sample)) remove(tile, false);
  untouched = false;
  const added = taken.map((file) => ({ id: nextTile++, name: nameFor(file.name || "pasted.png"), file }));
  tiles.push(...added);
  noteSamples();
  skipped = files.length - taken.length;
  await checkAll();
}

let untouched = true, skipped = 0;

/** File names identify tiles, in the table and in what is copied. */
function nameFor(name) {
  const taken = new Set(tiles.map((tile) => tile.name));
  if (!taken.has(name)) return name;
  const dot = name.lastIndexOf("."), [stem, end] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
  let number = 2;
  while (taken.has(`${stem}-${number}${end}`)) number++;
  return `${stem}-${number}${end}`;
}

function remove(tile, render = true) {
  if (tile.url) URL.revokeObjectURL(tile.url);
  tiles = tiles.filter((other) => other !== tile);
  if (tile.sample) untouched = false;
  skipped = 0;
  if (render) {
    noteSamples();
    run();
  }
}

/** Asks the server about every tile that it was not asked about under the present model. */
const checkAll = () => prepare(async () => {
  if (!server.model) return;
  giveUp();
  const under = `of ${state.model}`;
  const asked = tiles.filter((tile) => tile.checked !== under);
  try {
    await Promise.all(asked.map((tile) => checkOnce(tile, under)));
  } catch (problem) {
    layOut();
    return showProblem(problem);
  }
  run();
});

/** A tile that is being checked already is not sent again. */
function checkOnce(tile, under) {
  if (tile.asked?.under !== under || tile.asked.file !== tile.file) {
    const answer = check(tile, under).finally(() => { tile.asked = null; });
    tile.asked = { under, file: tile.file, answer };
  }
  return tile.asked.answer;
}

/** `identity` gives the tile back as a PNG: the proof that it can be read, and a picture of kinds that browsers cannot show. */
async function check(tile, under) {
  const query = new URLSearchParams({ method: "identity", ...(state.model && { model: state.model }) });
  let picture = null;
  try {
    const response = await ask(`/v1/augment?${query}`, { method: "POST", body: tile.file, headers: { "content-type": mediaType(tile.file), accept: "image/png" } });
    picture = await response.blob();
    tile.problem = null;
  } catch (problem) {
    // An unavailable server says nothing about the tile.
    if (problem.passes || !(problem instanceof Problem)) throw problem;
    tile.problem = problem;
    // Each tile was sent alone, so its index 0 has no meaning here.
    problem.detail = problem.detail.replace(/^tile 0: /, "").replace(/^tile 0 /, "This tile ").replace(/^./, (letter) => letter.toUpperCase());
  }
  const shown = await sizeOf(picture ?? tile.file);
  if (tile.url) URL.revokeObjectURL(tile.url);
  Object.assign(tile, { ...shown, checked: under });
}

async function sizeOf(blob) {
  try {
    const bitmap = await createImageBitmap(blob);
    return { url: URL.createObjectURL(blob), width: bitmap.width, height: bitmap.height };
  } catch {
    return { url: null, width: 0, height: 0 };
  }
}

/** Of samples that are drawn at a model's size; larger ones show what becomes of a tile of their own size. */
const SMALL = 96;

/** A sample as a file: small ones of the model's size, the others as they are. */
async function sampleFile(sample) {
  const side = server.model.geometry.image_size;
  const bytes = Uint8Array.from(atob(sample.image), (letter) => letter.charCodeAt(0));
  const drawn = new Blob([bytes], { type: "image/jpeg" });
  const { width } = await createImageBitmap(drawn);
  if (width === side || width > SMALL) return new File([drawn], `${sample.name}.jpg`, { type: "image/jpeg" });
  const bitmap = await createImageBitmap(drawn, { resizeWidth: side, resizeHeight: side, resizeQuality: "high" });
  const canvas = make("canvas", { width: side, height: side });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve));
  return new File([blob], `${sample.name}.png`, { type: "image/png" });
}

async function toggleSample(sample) {
  const there = tiles.find((tile) => tile.sample === sample.name);
  untouched = false;
  if (there) return remove(there);
  await prepare(async () => {
    await putSamples([sample]);
    await checkAll();
  });
}

/** `wanted` is asked once they are cut: meanwhile a visitor may have brought tiles in their stead. */
async function putSamples(chosen, wanted = () => true) {
  const files = await Promise.all(chosen.map(sampleFile));
  if (!wanted()) return;
  files.forEach((file, place) => tiles.push({ id: nextTile++, name: nameFor(file.name), file, sample: chosen[place].name }));
  noteSamples();
}

/** Of another model's size: the samples are cut anew, in their places. */
async function recutSamples() {
  for (const tile of tiles.filter((tile) => tile.sample)) {
    tile.file = await sampleFile(samples.find((sample) => sample.name === tile.sample));
    Object.assign(tile, { name: tile.file.name, checked: null });
  }
}

function noteSamples() {
  const there = tiles.map((tile) => tile.sample).filter(Boolean);
  state.samples = untouched ? null : there;
  for (const button of $("samples").children) button.setAttribute("aria-pressed", there.includes(button.value));
  writeAddress();
}

function offerSamples() {
  $("samples").replaceChildren(...samples.map((sample) => {
    const [, name, side] = sample.name.replaceAll("_", " ").match(/^(.*?)(?: (\d{3,}))?$/);
    const label = side ? `${name}, ${side} px` : name;
    return make("button", {
      type: "button", value: sample.name, "aria-pressed": "false", title: `${label}, drawn`, onclick: () => toggleSample(sample),
    }, make("img", { src: `data:image/jpeg;base64,${sample.image}`, alt: label }), side ? make("small", { textContent: side, "aria-hidden": "true" }) : null);
  }));
}
