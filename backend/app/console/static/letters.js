// Dead letters with addresses: #/letters, those of one reason, and one letter at #/letters/ID.
import { guarded } from "./api.js";
import { el, facts, icon } from "./dom.js";
import { link, ofSubject } from "./links.js";
import { letter, requeueButton } from "./records.js";
import { ago, clock, number, plural, since, t } from "./text.js";

const PAGE = 50;
const DECIMAL = /^\d{1,18}$/;
const times = (one) => ["buried_at", "requeued_at", "closed_at"].filter((name) => one[name]).map((name) => [t(`letter.${name}`), el("time", { datetime: one[name] }, clock(one[name]))]);

/** Open letters, by reason and then one by one; of one reason where the address names its group. */
export async function showLetters(place, query) {
  const group = query.get("group");
  const reasons = await guarded("GET", "events/dead-letters/reasons");
  const list = el("div", {});
  const more = el("button", { type: "button", hidden: true }, t("more"));
  const load = async (before) => {
    const asked = new URLSearchParams([["limit", PAGE], ...(group ? [["group", group]] : []), ...(before ? [["before", before]] : [])]);
    const { items, next } = await guarded("GET", `events/dead-letters?${asked}`);
    list.append(...items.map(letter));
    more.hidden = next === null;
    more.onclick = () => load(items.at(-1).id);
  };
  await load();
  const shown = reasons.filter((one) => !group || one.group === group);
  const whole = group ? [el("p", {}, el("a", { class: "link", href: "#/letters" }, t("filter.none")))] : [];
  const none = list.childElementCount ? [] : [el("p", { class: "good" }, icon("ok"), t("letters.none"))];
  place.replaceChildren(...whole, el("ul", { class: "plain" }, ...shown.map(reasonOf)), ...none, list, more);
}

function reasonOf(found) {
  const count = `${plural("letters.count", found.letters)}, ${t("letters.last", { ago: ago(since(found.last)) })}`;
  return el("li", { class: "reason" }, el("div", {}, el("strong", {}, t(`letters.kind.${found.kind}`)), el("span", { class: "muted" }, ` ${count}`)),
    el("p", { class: "quote" }, el("a", { class: "link", href: `#/letters?group=${found.group}` }, found.reason)), el("div", { class: "buttons start" }, requeueButton(found)));
}

/** One letter, open or closed. */
export async function showLetter(place, id) {
  const [one] = DECIMAL.test(id) ? (await guarded("GET", `events/dead-letters?state=all&limit=1&before=${BigInt(id) + 1n}`)).items : [];
  if (!one || String(one.id) !== id) return place.replaceChildren(el("p", { class: "muted" }, t("letter.unknown")));
  const told = [
    [t("letter.kind"), t(`letters.kind.${one.kind}`)], one.subject && [t("event.of"), ofSubject(one.subject)],
    one.event_id && [t("explain.event"), link("events", one.event_id)], one.event_type && [t("letter.type"), one.event_type],
    one.task_id && [t("explain.run"), link("runs", one.task_id)], [t("letter.attempts"), number(one.attempts)], ...times(one),
    one.closed_because && [t("letter.because"), one.closed_because], one.closed_by && [t("letter.by"), link("runs", one.closed_by)],
  ];
  place.replaceChildren(...[el("p", { class: "problem" }, one.reason), facts(told.filter(Boolean)),
    one.headers && el("pre", { tabindex: "0" }, JSON.stringify(one.headers, null, 2)), one.payload && el("pre", { tabindex: "0" }, one.payload),
    one.closed_at ? null : el("p", { class: "ways" }, requeueButton(one))].filter(Boolean));
}
