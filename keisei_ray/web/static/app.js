// Shows the page that the address names: #/runs, #/games or #/play, with parts and a query behind.
//
// A page is a module with `show(root, parts, query, signal)`: it fills `root`, and stops what it
// has begun (timers, streams, listeners outside `root`) when `signal` is aborted.
import { say } from "./page.js";
import * as games from "./games.js";
import * as play from "./play.js";
import * as runs from "./runs.js";

const PAGES = { runs, games, play };
const TITLES = { runs: "Runs", games: "Games", play: "Play" };
let leaving = new AbortController();

async function route(event = null) {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...parts] = path.split("/").map(decoded);
  const page = PAGES[name] ? name : "runs";
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  say("");
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const root = document.createElement("div");
  const content = document.getElementById("content");
  content.replaceChildren(root);
  document.title = `${TITLES[page]} - Keisei Ray`;
  // A link that was followed is gone: a keyboard goes on at the top of the new page.
  if (event && document.activeElement === document.body) content.focus({ preventScroll: true });
  try {
    await PAGES[page].show(root, parts, new URLSearchParams(query), signal);
  } catch (error) {
    if (!signal.aborted) say(error.message, "bad");
  }
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// The link past the navigation must not count as a page.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("content").focus();
});
addEventListener("hashchange", route);
route();
