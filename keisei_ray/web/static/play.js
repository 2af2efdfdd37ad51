// The page play.
import { el } from "./page.js";

export async function show(root) {
  root.append(el("h1", { text: "Play" }), el("p", { text: "Nothing here yet." }));
}
