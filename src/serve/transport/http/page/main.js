// Event handlers, and the start of the page.

/** Shown before the visitor has brought anything: what the page is for is seen at once. */
const FIRST = ["hospital_0_normal", "hospital_2_tumour", "hospital_4_normal"];

async function start() {
  try {
    await prepare(loadModels);
    showProblem(null);
    await putFirst();
  } catch (problem) {
    showProblem(problem);
  }
}

async function loadModels() {
  const { models } = await (await ask("/v1/models")).json();
  // While the server reloads a bundle, the older one serves under the same name.
  server.models = models.filter((model) => model.geometry);
  await useModel();
}

async function useModel() {
  const nameOf = (model) => `${model.name}/${model.version}`;
  const named = server.models.find((model) => nameOf(model) === state.model);
  const model = named ?? server.models.find((model) => model.default) ?? server.models[0];
  if (!model) throw new Problem({ title: "No model is ready", detail: "The server is running, but has loaded no model yet.", code: "not_ready" }, 503);
  server.model = model;
  state.model = named && !model.default ? nameOf(model) : "";
  const { image_size: side } = model.geometry;
  $("model-choice").hidden = server.models.length < 2;
  $("model").replaceChildren(...server.models.map((each) => make("option", { value: nameOf(each), textContent: nameOf(each), selected: each === model })));
  const name = server.models.length < 2 ? `${nameOf(model)}: ` : "";
  $("model-facts").textContent = `${name}${side} × ${side} px, ${model.precision} on ${model.provider}`;
  await loadBank();
}

async function putFirst() {
  const wanted = state.samples ?? FIRST;
  const there = new Set(tiles.map((tile) => tile.sample));
  untouched = state.samples === null && !tiles.some((tile) => !tile.sample);
  const missing = samples.filter((sample) => wanted.includes(sample.name) && !there.has(sample.name));
  const unasked = untouched;
  if (state.samples !== null || unasked) await putSamples(missing, () => untouched === unasked);
  // Meanwhile a visitor's own tiles may be shown: their variants stay.
  layOut();
  await checkAll();
}

const changeModel = () => prepare(async () => {
  giveUp();
  state.model = $("model").value;
  try {
    await useModel();
    await recutSamples();
    writeAddress();
    await checkAll();
  } catch (problem) {
    showProblem(problem);
  }
});

function changed(event) {
  if (["model", "file"].includes(event.target.id)) return;
  if ($("domains").contains(event.target)) {
    return chooseDomains([...$("domains").querySelectorAll(":checked")].map((box) => box.value));
  }
  readForm();
  writeAddress();
  // A change of the view sends no request.
  if (event.target.name === "view") return;
  runSoon();
}

function listenToFiles() {
  $("file").onchange = async () => {
    await addFiles($("file").files);
    $("file").value = "";
  };
  // Anywhere on the page: otherwise the browser would open a file that is dropped elsewhere.
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  };
  document.ondragleave = (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); };
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    addFiles(event.dataTransfer.files);
  };
  document.onpaste = (event) => addFiles(event.clipboardData.files);
}

function listen() {
  listenToFiles();
  listenToGrid();
  listenToZoom();
  $("form").oninput = $("tools").oninput = changed;
  $("form").onsubmit = (event) => {
    event.preventDefault();
    state.seed = $("seed").value = drawSeed();
    writeAddress();
    run();
  };
  $("model").onchange = changeModel;
  $("all").onclick = () => chooseDomains(server.bank.map(({ domain }) => domain));
  $("none").onclick = () => chooseDomains([]);
  $("clear").onclick = clearStyles;
  $("curl").onclick = () => copyCode("curl", asCurl);
  $("python").onclick = () => copyCode("Python", asPython);
  $("link").onclick = copyLink;
  $("code-copy").onclick = copyShown;
  window.onhashchange = () => {
    readAddress();
    showState();
    start();
  };
}

// On narrow screens the pictures come first. Collapsed options still apply.
const narrow = matchMedia("(max-width: 820px)");
const fold = () => { $("more").open = !narrow.matches; };
narrow.onchange = fold;
fold();
readAddress();
showState();
offerSamples();
drawLegend();
showLive();
listen();
start();
watch();
