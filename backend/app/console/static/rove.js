// A list is one stop of the tab key; arrow keys go through it.

/** Texts come and go each second; only elements can be items. */
const movesElements = ({ addedNodes, removedNodes }) => [...addedNodes, ...removedNodes].some((node) => node.nodeType === Node.ELEMENT_NODE);

/** Items are what `selector` finds in the container, now and later. */
export function rove(container, selector) {
  const items = () => [...container.querySelectorAll(selector)].filter((item) => item.checkVisibility?.() ?? true);
  let current = null;
  const tidy = () => {
    const all = items();
    if (!all.includes(current)) current = all[0] ?? null;
    for (const item of all) item.tabIndex = item === current ? 0 : -1;
  };
  container.addEventListener("focusin", (event) => {
    const item = event.target.closest(selector);
    if (item) current = item;
    tidy();
  });
  container.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(event.target.closest(selector));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined || !all[to]) return;
    event.preventDefault();
    all[to].focus();
  });
  new MutationObserver((changes) => { if (changes.some(movesElements)) tidy(); }).observe(container, { childList: true, subtree: true });
  tidy();
}
