// Clearing asks twice: once what it does, once for a word typed.
import { guarded } from "./api.js";
import { $, open, toast } from "./dom.js";
import { t } from "./text.js";

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
