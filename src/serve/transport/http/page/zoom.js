// One variant enlarged: with a slider between it and its original, closer if wanted, and its provenance.

let zoomed = null;
/** What of the picture stays in place when it is enlarged, percent of its width and height. */
let focus = [50, 50];

function openZoom(cell) {
  zoomed = cell;
  const { made, tile } = cell, stage = document.querySelector(".stage");
  stage.querySelector(".under").src = tile.url;
  stage.querySelector(".over").src = made.src;
  const from = cell.querySelector("canvas"), to = stage.querySelector("canvas");
  Object.assign(to, { width: from.width, height: from.height });
  to.getContext("2d").drawImage(from, 0, 0);
  $("zoom-title").textContent = `${tile.name} as ${made.name}`;
  document.querySelector("#zoom dl").replaceChildren(...facts(cell).flatMap(([what, value]) => [make("dt", { textContent: what }), make("dd", {}, value)]));
  Object.assign($("save"), { href: made.src, download: `${tile.name.replace(/\.\w+$/, "")}-${made.name.replaceAll(/[^\w.-]/g, "_")}.png` });
  $("pick").hidden = !server.styles.has(made.style) || state.ids.includes(made.style);
  $("before").disabled = !zoomNeighbour(-1);
  $("after").disabled = !zoomNeighbour(1);
  draw(Number($("curtain").value));
  $("zoom-difference").checked = state.view === "difference";
  if (!$("zoom").open) {
    moveTo(50, 50);
    enlarge(0);
    $("zoom").showModal();
    $("curtain").focus();
  }
}

function facts({ made, tile }) {
  const short = (digest) => make("code", { textContent: `${digest.slice(0, 12)}…`, title: digest });
  return [
    ["Style", made.style ?? "none"],
    ["Method", made.detail ? `${made.method}, detail ${made.detail}` : made.method],
    ["Seed, index", `${made.seed}, ${made.index}`],
    ["Strength", state.strength.toFixed(2)],
    ["Difference", `${made.mean.toFixed(2)} of 255 on average`],
    ...(made.clipped ? [["Clipped", `${(100 * made.clipped).toFixed(2)} % of the values, at 0 or 255`]] : []),
    ["Tile", `${tile.width} × ${tile.height} pixels${made.windows > 1 ? `, seen in ${made.windows} windows` : ""}`],
    ...(made.fidelity === null ? [] : [["Fidelity", `${made.fidelity.toFixed(1)} dB, the model's own reconstruction of the tile`]]),
    ...(made.warning ? [["Warning", made.warning]] : []),
    ["Tile key", short(made.tile_key)],
    ["Model", `${made.model}, `, short(made.bundle)],
  ].map(([what, ...value]) => [what, make("span", {}, ...value)]);
}

/** The next or previous variant of the table, row by row. */
function zoomNeighbour(step) {
  const all = [...$("grid").querySelectorAll(".variant")].filter((cell) => cell.made);
  return all[all.indexOf(zoomed) + step];
}

function draw(percent) {
  styled(document.querySelector(".stage"), { at: `${percent}%` });
  $("curtain-shown").value = `${percent} : ${100 - percent}`;
}

/** By a power of two. */
function enlarge(power) {
  const times = $("times");
  times.value = Math.min(Number(times.max), Math.max(0, power));
  styled(document.querySelector(".stage"), { zoom: 2 ** times.value });
  $("times-shown").value = `${2 ** times.value}×`;
}

function moveTo(...place) {
  focus = place.map((percent) => Math.min(100, Math.max(0, percent)));
  styled(document.querySelector(".stage"), { x: `${focus[0]}%`, y: `${focus[1]}%` });
}

/** The view is one for the whole page. */
function look(view) {
  state.view = view;
  showState();
  writeAddress();
}

function listenToZoom() {
  const stage = document.querySelector(".stage");
  const toNeighbour = (step) => { const cell = zoomNeighbour(step); if (cell) openZoom(cell); };
  const toPointer = (event) => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    const across = (event.clientX - left) / width * 100;
    $("curtain").value = Math.round(across);
    draw(Number($("curtain").value));
    moveTo(across, (event.clientY - top) / height * 100);
  };
  $("curtain").oninput = () => draw(Number($("curtain").value));
  stage.onpointermove = (event) => { if (event.pointerType === "mouse" || event.buttons) toPointer(event); };
  $("times").oninput = () => enlarge(Number($("times").value));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    toPointer(event);
    enlarge(Number($("times").value) - Math.sign(event.deltaY));
  }, { passive: false });
  stage.onkeydown = (event) => {
    const [down, right] = STEPS[event.key] ?? [];
    if (!Number.isFinite(down) || !Number.isFinite(right)) return;
    event.preventDefault();
    moveTo(focus[0] + 10 * right, focus[1] + 10 * down);
  };
  $("zoom-difference").onchange = () => look($("zoom-difference").checked ? "difference" : "picture");
  $("before").onclick = () => toNeighbour(-1);
  $("after").onclick = () => toNeighbour(1);
  $("pick").onclick = () => {
    $("zoom").close();
    toggleStyle(zoomed.made.style);
  };
  // The event follows the closing: do not move the focus if the user has moved it since.
  $("zoom").onclose = () => { if (document.activeElement.matches("body, .variant")) focusCell(zoomed); };
  for (const dialog of document.querySelectorAll("dialog")) {
    // A click outside of the box is on the backdrop.
    dialog.onclick = (event) => { if (event.target === dialog && event.detail) closeOutside(dialog, event); };
  }
}

function closeOutside(dialog, { clientX: x, clientY: y }) {
  const box = dialog.getBoundingClientRect();
  if (x < box.left || x > box.right || y < box.top || y > box.bottom) dialog.close();
}
