// Clearing asks twice: once what it does, once for a word typed.
import { get, guarded } from "./api.js";
import { $, open, toast } from "./dom.js";
import { number, seconds, t } from "./text.js";

const WORD = "clear";

export function startClear() {
  $("clear-next").addEventListener("click", () => {
    $("clear-second").hidden = false;
    $("clear-next").hidden = true;
    $("clear-go").hidden = false;
    $("clear-word").focus();
  });
  $("clear-word").addEventListener("input", () => { $("clear-go").disabled = !typed(); });
  $("clear-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (typed()) clear();
  });
}

const typed = () => $("clear-word").value.trim().toLowerCase() === WORD;

export function askClear() {
  $("clear-second").hidden = true;
  $("clear-next").hidden = false;
  $("clear-go").hidden = true;
  $("clear-go").disabled = true;
  $("clear-word").value = "";
  $("clear-problem").hidden = true;
  open($("clear-dialog"));
  preview();
}

/** What would be gone, and how long the last rebuild of everything took. */
async function preview() {
  $("clear-preview").textContent = "…";
  const [goods, companies, runs] = await Promise.all([
    get("caches/active-cities/products"), get("caches/active-cities/companies"), get("celery/tasks?task=refresh_all_caches&state=SUCCESS&limit=1"),
  ].map((one) => one.catch(() => null)));
  const last = runs?.items[0];
  $("clear-preview").textContent = [
    goods && companies ? t("clear.gone", { goods: number(goods.total_products), companies: number(companies.total_companies), cities: number(Math.max(goods.total_cities, companies.total_cities)) }) : t("clear.gone.unknown"),
    last ? t("clear.back", { time: seconds((Date.parse(last.finished_at) - Date.parse(last.started_at)) / 1000) }) : t("clear.back.unknown"),
  ].join(" ");
}

async function clear() {
  $("clear-go").disabled = true;
  try {
    await guarded("POST", "celery/tasks/clear-all-caches");
    $("clear-dialog").close();
    toast(t("run.queued", { task: t("task.clear_all_caches") }));
  } catch (problem) {
    $("clear-problem").textContent = problem.message;
    $("clear-problem").hidden = false;
    $("clear-go").disabled = false;
  }
}
