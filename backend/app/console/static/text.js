// Words and numbers in the chosen language.
import { WORDS } from "./words.js";

export const LANGUAGES = ["en", "ru"];
export const language = () => document.documentElement.lang;

const formats = new Map(); // making one costs more than using it a thousand times

/** A formatter of the chosen language, made once. */
export function formatter(Kind, options) {
  const key = `${Kind.name} ${language()} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Kind(language(), options));
  return formats.get(key);
}

const plurals = { en: new Intl.PluralRules("en"), ru: new Intl.PluralRules("ru") };
const FORMS = { en: ["one", "other"], ru: ["one", "few", "many"] };

/** The words for a key, with values filled in. */
export function t(key, values = {}) {
  const entry = WORDS[key];
  if (!entry) return key;
  let words = entry[LANGUAGES.indexOf(language())];
  if (Array.isArray(words)) {
    const form = FORMS[language()].indexOf(plurals[language()].select(Number(values.count ?? values.n)));
    words = words[form < 0 ? words.length - 1 : form];
  }
  return words.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

export const has = (key) => key in WORDS;

/** Put the words into all elements that name a key. */
export function translate(root = document) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
}

/** A whole number, or one with so many digits. */
export const number = (value, digits = 0) =>
  formatter(Intl.NumberFormat, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);

/** A count with its noun in the right plural. */
export const plural = (key, count, values = {}) => t(key, { n: number(count), count, ...values });

/** Events a second. */
export const rate = (value) => t("per.second", { n: number(value, value > 0 && value < 10 ? 1 : 0) });

/** Milliseconds as a person says them. */
export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return seconds(value / 1000);
  return t("ms", { n: number(value, value < 10 ? 1 : 0) });
}

/** Seconds as a person says them; `fine`: with a decimal where they are few. */
export function seconds(value, fine = true) {
  if (value === null || value === undefined) return "–";
  if (fine && value > 0 && value < 0.95) return t("ms", { n: number(Math.max(1, value * 1000)) });
  if (value < 90) return t("s", { n: number(value, fine && value < 10 && value % 1 ? 1 : 0) });
  if (value < 5400) return t("min", { n: number(value / 60) });
  if (value < 129600) return t("h", { n: number(value / 3600) });
  return t("d", { n: number(value / 86400) });
}

/** How long ago, from seconds. */
export const ago = (value) => (value < 1 ? t("now") : t("ago", { time: seconds(value, false) }));

export const since = (iso) => Math.max(0, (Date.now() - Date.parse(iso)) / 1000);

/** Time of day, with the date when it is another day. */
export function clock(iso, withSeconds = true) {
  const at = new Date(iso);
  const today = at.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(withSeconds ? { second: "2-digit" } : {}) };
  return formatter(Intl.DateTimeFormat, today ? time : { day: "numeric", month: "short", ...time }).format(at);
}

/** The share of right rows, in so many digits as the nines support. */
export function percent(nines) {
  const share = 100 * (1 - 10 ** -nines);
  const digits = Math.max(0, Math.min(6, Math.ceil(nines) - 2));
  return `${number(Math.floor(share * 10 ** digits) / 10 ** digits, digits)} %`;
}
