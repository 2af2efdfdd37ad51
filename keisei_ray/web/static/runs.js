// The page of the runs.
import { el, getJson } from "./page.js";

export async function show(root, parts, query, signal) {
  const { runs } = await getJson("api/runs", signal);
  root.append(
    el("h1", { text: "Runs" }),
    el("ul", {}, runs.map((run) => el("li", { text: run.path }))),
  );
}
