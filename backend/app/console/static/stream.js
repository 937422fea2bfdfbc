// The stream of what changes. Comes back by itself, whatever happens to the API or the net.
import { exact } from "./api.js";

const SILENT_SECONDS = 6; // the state comes each second

/** Listen; `on` has hello(), state(sections), cities(delta) and link(isLive, secondsSinceNews). */
export function listen(on) {
  const url = new URL("api/v1/console/stream", document.baseURI);
  let source = null;
  let heard = performance.now();
  let opened = performance.now();

  const note = (handler) => (message) => {
    heard = performance.now();
    handler(exact(message.data));
  };
  const start = () => {
    source?.close();
    opened = performance.now();
    source = new EventSource(url);
    source.addEventListener("hello", note(on.hello));
    source.addEventListener("state", note(on.state));
    source.addEventListener("cities", note(on.cities));
  };
  start();
  setInterval(() => {
    const silent = (performance.now() - heard) / 1000;
    on.link(source.readyState === EventSource.OPEN && silent < SILENT_SECONDS, silent);
    const closed = source.readyState === EventSource.CLOSED || silent > 2 * SILENT_SECONDS;
    if (closed && performance.now() - opened > 3000) start();
  }, 500);
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) start(); });
}
