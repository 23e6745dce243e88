// Requests to the server, and the display of its errors.

/** Why something did not work, as `application/problem+json` has it. */
class Problem extends Error {
  constructor({ title, detail, code, list, index }, status, retryAfter = 0) {
    super(detail);
    Object.assign(this, { title, detail, code, list, index, status, retryAfter });
  }
  /** It is the server's state and not the request that is in the way: the same request may work later. */
  get passes() { return this.code === "unreachable" || [429, 503].includes(this.status); }
}

/** The key that the visitor gave, if the server asks for one. The browser forgets it with the tab. */
const KEY = "restain-key";

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "The server does not answer", detail: "It may have stopped, or the network is down. The page continues when it answers.", code: "unreachable" }, 0);
  }
  if (response.ok) return response;
  const unread = { title: `The server answered ${response.status}`, detail: response.statusText || "no explanation", code: `http_${response.status}` };
  const problem = await response.json().catch(() => unread);
  throw new Problem(problem.code ? problem : unread, response.status, Number(response.headers.get("retry-after") ?? 0));
}

/** Milliseconds by stage; `rest` is what the stages leave of the whole: reading, decoding, writing. */
function timings(response) {
  const found = { queue: 0, encode: 0, synthesise: 0, total: 0 };
  for (const [, name, ms] of (response.headers.get("server-timing") ?? "").matchAll(/(\w+);dur=([\d.]+)/g)) found[name] = Number(ms);
  return { ...found, rest: Math.max(0, found.total - found.queue - found.encode - found.synthesise) };
}

const STAGES = ["queue", "encode", "synthesise", "rest"];

/** The problem in words, with what can be done about it: pairs of a label and a function. */
function explain(problem, actions = []) {
  const buttons = actions.map(([label, action]) => make("button", { type: "button", textContent: label, onclick: action }));
  return [
    make("strong", { textContent: problem.title ?? "Something went wrong" }),
    make("span", {}, `${problem.detail ?? problem.message}`, problem.code ? make("code", { textContent: problem.code }) : null),
    buttons.length ? make("div", { class: "buttons" }, ...buttons) : null,
  ].filter(Boolean);
}

let retry = 0;

/** Shows a problem of the whole page, or none. One that passes is tried again by itself. */
function showProblem(problem) {
  clearTimeout(retry);
  $("problem").hidden = !problem;
  $("problem").classList.add("problem");
  if (!problem) return $("problem").replaceChildren();
  if (!(problem instanceof Problem)) console.error(problem);
  if (problem.code === "unreachable") {
    // The figures in the footer poll every second, and notice when it answers.
  } else if (problem.passes) {
    countDown(problem, Math.max(1, Math.ceil(problem.retryAfter)));
    return;
  }
  $("problem").replaceChildren(...explain(problem), ...(problem.status === 401 ? [keyForm()] : []));
}

function keyForm() {
  const input = make("input", { type: "password", autocomplete: "off", required: true, spellcheck: false, "aria-label": "Key" });
  const form = make("form", { class: "buttons" }, input, make("button", { textContent: "Use this key" }));
  form.onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, input.value.trim());
    showProblem(null);
    again();
    watchAgain();
  };
  return form;
}

function countDown(problem, seconds) {
  if (seconds <= 0) return again();
  $("problem").replaceChildren(...explain(problem, [[`Retry now (automatically in ${seconds} s)`, again]]));
  retry = setTimeout(countDown, 1000, problem, seconds - 1);
}
