// Commands that make the pictures of the table: for a shell with curl, and for Python without further packages.

/** For a POSIX shell. */
const quoted = (text) => /^[\w.,:/@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
const fileName = (text) => text.replaceAll(/[^\w.-]+/g, "_");

function asCurl(jobs) {
  // curl needs quotes round names with commas and semicolons.
  const upload = (part) => (tile) => `-F ${quoted(`${part}=@"${tile.name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`)}`;
  return jobs.map(({ column, method, tiles }) => {
    const one = tiles.length * column.variants === 1, to = outputName(column, method, jobs);
    const parts = [
      `curl -sS --fail-with-body ${quoted(`${location.origin}/v1/augment`)}`,
      ...(sessionStorage.getItem(KEY) ? ['-H "authorization: Bearer $RESTAIN_KEY"'] : []),
      `-H 'accept: ${one ? "image/png" : "application/x-tar"}' -o ${quoted(`${to}.${one ? "png" : "tar"}`)}`,
      `--form-string ${quoted(`request=${JSON.stringify(requestOf(column, method))}`)}`,
      ...tiles.map(upload("tile")),
      ...(column.references ?? []).map(upload("reference")),
    ];
    return parts.join(" \\\n  ");
  }).join("\n\n") + "\n";
}

const outputName = (column, method, jobs) => fileName(column.label) + (jobs.some((job) => job.method !== method) ? `-${method}` : "");

function asPython(jobs) {
  const [{ tiles }] = jobs, references = jobs.some((job) => job.column.references);
  const entries = jobs.map((job) => {
    const request = python(requestOf(job.column, job.method));
    const names = references ? `, ${python((job.column.references ?? []).map((tile) => tile.name))}` : "";
    return `    ${python(outputName(job.column, job.method, jobs))}: ${references ? `(${request}${names})` : request},`;
  });
  const key = sessionStorage.getItem(KEY);
  const headers = `{"Content-Type": "application/json"${key ? ', "Authorization": f"Bearer {os.environ[\'RESTAIN_KEY\']}"' : ""}}`;
  return `import base64
import json${key ? "\nimport os" : ""}
import urllib.request
from pathlib import Path

URL = "${location.origin}/v1/augment"
TILES = ${python(tiles.map((tile) => tile.name))}
REQUESTS = {
${entries.join("\n")}
}


def read(names):
    return [base64.b64encode(Path(name).read_bytes()).decode() for name in names]


for label, ${references ? "(request, references)" : "request"} in REQUESTS.items():
    body = {"request": request, "tiles": read(TILES)${references ? ', "references": read(references)' : ""}}
    call = urllib.request.Request(URL, json.dumps(body).encode(), ${headers})
    with urllib.request.urlopen(call) as response:
        answer = json.load(response)
    for name, tile in zip(TILES, answer["tiles"]):
        for variant in tile["variants"]:
            to = f"{Path(name).stem}-{label}-{variant['index']}.png"
            Path(to).write_bytes(base64.b64decode(variant["image"]))
            print(to, variant["style"])
`;
}

/** A value of JSON as Python writes it. */
function python(value) {
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "object") return `{${Object.entries(value).map(([name, inner]) => `${python(name)}: ${python(inner)}`).join(", ")}}`;
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

async function copyCode(title, write) {
  if (!shownJobs.length) return;
  const text = write(shownJobs), copied = await copy(text);
  $("code-title").textContent = copied ? `${title}, copied` : title;
  $("code-text").textContent = text;
  const files = [...new Set(shownJobs.flatMap((job) => [...job.tiles, ...(job.column.references ?? [])]))];
  const missing = files.filter((tile) => tile.sample);
  const links = missing.flatMap((tile, place) => [place ? ", " : "", make("a", { href: tile.url, download: tile.name, textContent: tile.name })]);
  $("code-files").replaceChildren(
    `It reads ${files.length === 1 ? "the tile" : "the tiles"} from the current folder. `,
    ...(missing.length ? ["Save these samples there: ", ...links, "."] : []),
  );
  if (!$("code").open) $("code").showModal();
}

/** Returns whether it worked: browsers allow the clipboard only on localhost and over https. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

async function copyLink() {
  writeAddress();
  const copied = await copy(location.href);
  $("link").textContent = copied ? "copied" : "see address bar";
  setTimeout(() => { $("link").textContent = "link"; }, 1500);
}

/** Copies the text of the dialog, or selects it if the browser forbids that. */
async function copyShown() {
  const done = await copy($("code-text").textContent);
  if (!done) getSelection().selectAllChildren($("code-text"));
  $("code-copy").textContent = done ? "Copied" : "Selected: copy it";
  setTimeout(() => { $("code-copy").textContent = "Copy"; }, 1500);
}
