// The page games.
import { el } from "./page.js";

export async function show(root) {
  root.append(el("h1", { text: "Games" }), el("p", { text: "Nothing here yet." }));
}
