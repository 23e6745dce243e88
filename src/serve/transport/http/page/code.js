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

/** With the package `restain`: one call for each column. */
function asPython(jobs) {
  const [{ tiles }] = jobs, references = jobs.some((job) => job.column.references), names = python(tiles.map((tile) => tile.name));
  const calls = jobs.map(({ column, method }) => `    ${python(outputName(column, method, jobs))}: client.augment(tiles, ${asArguments(requestOf(column, method), column.references)}),`);
  const key = sessionStorage.getItem(KEY);
  return `from pathlib import Path

import numpy as np${key ? "  # The client reads the key from RESTAIN_KEY." : ""}
import restain
from PIL import Image

NAMES = ${names}


def read(name):
    return np.asarray(Image.open(name).convert("RGB"))


client = restain.Client("${location.origin}")
tiles = [read(name) for name in NAMES]
made = {
${calls.join("\n")}
}
for label, augmented in made.items():
    for name, variants in zip(NAMES, augmented.variants):
        for index, variant in enumerate(variants):
            Image.fromarray(variant).save(f"{Path(name).stem}-{label}-{index}.png")
`;
}

/** The fields of a request as arguments of `Client.augment`. */
function asArguments({ style, ...fields }, references) {
  const part = ({ weight, ...of }) => `restain.Part(${asKeywords({ weight, ...of })})`;
  const given = { ...style };
  const parts = [
    ...(given.from && !references ? [`source=${python(given.from)}`] : []),
    ...(given.blend ? [`blend=[${given.blend.map(part).join(", ")}]`] : []),
    ...(references ? [`references=np.stack([${references.map((tile) => `read(${python(tile.name)})`).join(", ")}])`] : []),
  ];
  for (const handled of ["from", "blend"]) delete given[handled];
  if (Object.keys(given).length) parts.push(asKeywords(given));
  return [asKeywords(fields), ...(parts.length ? [`style=restain.Style(${parts.join(", ")})`] : [])].join(", ");
}

const asKeywords = (fields) => Object.entries(fields).map(([name, value]) => `${name}=${python(value)}`).join(", ");

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
