// What all pages use. Text from a run becomes text of the page and never markup: `el` sets
// attributes and appends strings as text nodes, and nothing here or elsewhere sets innerHTML.

// Returns an element. Attributes: `class`, `text`, `on<event>` functions, booleans, data-*, aria-*.
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// A choice of the run that a page is about: another one opens the same page for it.
export function runChoice(page, runs, run) {
  const choice = el("select", { "aria-label": "Run", onchange: () => {
    location.hash = `#/${page}/${encodeURIComponent(choice.value)}`;
  } }, runs.map((each) => el("option", { value: each.run, text: each.run })));
  choice.value = run;
  return el("div", {}, choice);
}

// Shows one line above the page; an empty text takes it away. kind: "" or "bad".
export function say(text, kind = "") {
  const line = document.getElementById("message");
  line.hidden = !text;
  line.className = kind;
  line.textContent = text;
}

export const getJson = (path, signal) => answer(fetch(path, { signal }));

export const postJson = (path, body, signal) =>
  answer(
    fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal,
    }),
  );

// Returns the answer's JSON; throws an Error with the server's line, and its status as `status`.
async function answer(request) {
  let response;
  try {
    response = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: it has ended, or the connection is lost");
  }
  const data = await response.json().catch(() => ({}));
  if (response.ok) return data;
  throw Object.assign(new Error(data.error ?? `the server answers ${response.status}`), {
    status: response.status,
  });
}

// Calls `take` with each change that the server sends, until `signal` is aborted. While the
// connection is lost the browser tries again, and a line says so.
//
// A page that is not seen has no connection: a browser opens six to one server, for all its tabs
// together. The server sends everything anew to a new one, but not what is gone by then: `again` is
// called when the page is seen again.
export function listen(path, take, signal, again = () => {}) {
  let source = null;
  let isLost = false;

  function open() {
    source = new EventSource(path);
    source.addEventListener("message", (event) => take(JSON.parse(event.data)));
    source.addEventListener("error", ({ target }) => {
      if (target.readyState === EventSource.CLOSED) return; // Refused: what else the page asks says why.
      isLost = true;
      say("The connection to the server is lost; what is shown stands still.", "bad");
    });
    source.addEventListener("open", () => {
      if (isLost) say("");
      isLost = false;
    });
  }

  function close() {
    source?.close();
    source = null;
  }

  if (!document.hidden) open();
  document.addEventListener("visibilitychange", () => {
    close();
    if (document.hidden) return;
    open();
    again();
  }, { signal });
  signal.addEventListener("abort", close);
}
