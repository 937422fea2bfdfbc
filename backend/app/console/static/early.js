// Runs before the first paint: the remembered theme and language. ?lang=ru or ?lang=en wins and is remembered.
(() => {
  document.documentElement.classList.add("filling"); // until there is something to show, so that nothing jumps
  const read = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const asked = new URLSearchParams(location.search).get("lang");
  const known = ["en", "ru"];
  const spoken = (navigator.languages || []).map((tag) => tag.slice(0, 2)).find((tag) => known.includes(tag));
  const language = [asked, read("citycache.lang"), spoken, "en"].find((tag) => known.includes(tag));
  document.documentElement.lang = language;
  if (asked === language) { try { localStorage.setItem("citycache.lang", language); } catch { /* not allowed */ } }
  const theme = read("citycache.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
