// Shows the page that the address names: #/runs, #/games or #/play, with parts and a query behind.
//
// A page is a module with `show(root, parts, query, signal)`: it fills `root`, and stops what it
// has begun (timers, streams, listeners outside `root`) when `signal` is aborted.
import { say } from "./page.js";
import * as games from "./games.js";
import * as play from "./play.js";
import * as runs from "./runs.js";

const PAGES = { runs, games, play };
let leaving = new AbortController();

async function route() {
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
  document.getElementById("content").replaceChildren(root);
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
