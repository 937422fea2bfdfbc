// Requests to the API. Problems become errors with the problem's own words; the key lives in this tab only.
import { $, open } from "./dom.js";
import { has, t } from "./text.js";

const BASE = new URL("api/v1/", document.baseURI);
const KEY = "citycache.key";
const listeners = new Set();

export const key = () => sessionStorage.getItem(KEY) ?? "";
export const onKey = (listener) => listeners.add(listener);

function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
  for (const listener of listeners) listener();
}

/** An answer that is not good, in words. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** JSON in which integers that a number cannot hold, such as large ids, are kept as texts. */
export const exact = (text) =>
  JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g, (part) => (/^-?\d+$/.test(part) && !Number.isSafeInteger(Number(part)) ? `"${part}"` : part)));

/** A problem in the page's language, as far as its status tells it. */
const told = (status, detail) => (has(`problem.${status}`) ? t(`problem.${status}`, { detail }) : detail);

async function request(method, path, body) {
  const headers = {};
  if (key()) headers["X-API-Key"] = key();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(new URL(path, BASE), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Problem(0, t("problem.unreachable"));
  }
  const content = (answer.headers.get("content-type") ?? "").includes("json") ? exact(await answer.text()) : null;
  if (!answer.ok) throw new Problem(answer.status, told(answer.status, content?.detail ?? `${answer.status} ${answer.statusText}`));
  return content;
}

export const get = (path) => request("GET", path);

/** A request that may need the key: when it does, ask for it and try again. */
export async function guarded(method, path, body) {
  for (;;) {
    try {
      return await request(method, path, body);
    } catch (problem) {
      if (problem.status !== 401 || !(await askKey(key() ? problem.message : ""))) throw problem;
    }
  }
}

/** Ask for the key in its dialog; false when that was cancelled. */
export function askKey(complaint = "") {
  const dialog = $("key-dialog");
  const problem = $("key-problem");
  problem.hidden = !complaint;
  problem.textContent = complaint;
  $("key-input").value = "";
  $("key-forget").hidden = !key();
  open(dialog);
  return new Promise((resolve) => {
    const onSubmit = (event) => {
      event.preventDefault();
      setKey($("key-input").value.trim());
      dialog.returnValue = "use";
      dialog.close("use");
    };
    const onForget = () => {
      setKey("");
      dialog.close("forgotten");
    };
    dialog.returnValue = "";
    $("key-form").addEventListener("submit", onSubmit);
    $("key-forget").addEventListener("click", onForget);
    dialog.addEventListener("close", () => {
      $("key-form").removeEventListener("submit", onSubmit);
      $("key-forget").removeEventListener("click", onForget);
      $("key-input").value = "";
      resolve(dialog.returnValue === "use");
    }, { once: true });
  });
}
