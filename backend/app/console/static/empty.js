// What to do with a catalog that has nothing in it yet.
import { $, el, fill } from "./dom.js";
import { t } from "./text.js";

const CITY = '{"name": "Berlin", "latitude": 52.52, "longitude": 13.405}';

/** `cities`: how many there are; null: unknown. */
export function drawEmpty(cities, setup) {
  $("empty").hidden = cities !== 0;
  if (cities === 0) fill($("empty"), setup.adopted ? foreign() : ways(setup), `${setup.adopted} ${setup.guarded} ${t("empty")}`);
}

const title = (name) => el("h2", { id: "h-empty" }, t(name));
const foreign = () => [title("empty.foreign"), el("p", {}, t("empty.adopted")), command("citycache doctor")];
const command = (text) => el("pre", { tabindex: "0" }, text);

function ways({ guarded }) {
  const key = guarded ? " -H 'X-API-Key: …'" : "";
  const api = new URL("api/v1/cities", document.baseURI);
  const all = { demo: "citycache up --demo", import: "citycache import changes.jsonl", curl: `curl -X POST \\\n  ${api} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${CITY}'` };
  return [title("empty"), el("ul", { class: "offers" }, ...Object.entries(all).map(([name, text]) => el("li", {}, el("h3", {}, t(`empty.${name}`)), command(text))))];
}
