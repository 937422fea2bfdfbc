// What each kind of incident means: #/help, and one kind at #/help/KIND, with when it was so.
import { get } from "./api.js";
import { el, table as framed } from "./dom.js";
import { table } from "./incidents.js";
import { helpOf } from "./links.js";
import { has, t } from "./text.js";
import { WORDS } from "./words.js";

const KINDS = Object.keys(WORDS).filter((word) => word.startsWith("judged.")).map((word) => word.slice("judged.".length));
const PAST = 20;

export async function showHelp(place, kind) {
  if (!kind) return place.replaceChildren(listOf());
  if (!has(`judged.${kind}`)) return place.replaceChildren(el("p", { class: "muted" }, t("help.unknown")), toAll());
  const { items } = await get(`incidents?${new URLSearchParams({ kind, limit: PAST })}`);
  const part = (title, words) => [el("h3", {}, t(title)), el("p", {}, words)];
  place.replaceChildren(el("div", { class: "help" }, ...part("help.judged", t(`judged.${kind}`)), ...part("help.advice", t(`advice.${kind}`)), el("h3", {}, t("help.past")),
    items.length ? table(items) : el("p", { class: "muted" }, t("incidents.none")), toAll()));
}

const toAll = () => el("p", { class: "ways" }, el("a", { class: "link", href: "#/help" }, t("help.all")));

function listOf() {
  const head = ["incidents.what", "help.judged", "help.advice"].map((words) => el("th", { scope: "col" }, t(words)));
  const rows = KINDS.map((kind) => el("tr", {}, el("th", { scope: "row" }, el("a", { class: "link", href: helpOf(kind) }, el("code", {}, kind))),
    el("td", {}, t(`judged.${kind}`)), el("td", {}, t(`advice.${kind}`))));
  return framed(head, rows, t("help.title"), "kinds");
}
