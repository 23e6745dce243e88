// One variant enlarged: with a slider between it and its original, and its provenance.

let zoomed = null;

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
    const { left, width } = stage.getBoundingClientRect();
    $("curtain").value = Math.round((event.clientX - left) / width * 100);
    draw(Number($("curtain").value));
  };
  $("curtain").oninput = () => draw(Number($("curtain").value));
  stage.onpointermove = (event) => { if (event.pointerType === "mouse" || event.buttons) toPointer(event); };
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
