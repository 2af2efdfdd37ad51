// The form with which a game begins. What was chosen goes along in the address of the game, so that
// another one begins with the same, against the same opponent or the next one in turn.
import { el, getJson, postJson, runChoice, say } from "./page.js";

const CUSTOM = "custom";
const CLOCKS = [ // Name, minutes for all moves, seconds for each one after that.
  ["no clock", 0, 0], ["10 seconds a move", 0, 10], ["30 seconds a move", 0, 30],
  ["5 minutes, then 10 seconds a move", 5, 10], ["15 minutes, then 60 seconds a move", 15, 60], ["10 minutes in all", 10, 0],
];

const option = (value, text, isDisabled = false) => el("option", { value, text, disabled: isDisabled });
const field = (label, input, isWide = false) =>
  el("label", { class: isWide ? "field wide" : "field" }, el("span", { text: label }), input);

function opponentText(found) {
  const elo = found.elo === null ? "" : `, Elo ${Math.round(found.elo)}`;
  const timestep = found.timestep === null ? "" : ` (timestep ${found.timestep.toLocaleString("en")})`;
  return `${found.label}${elo}${timestep}${found.problem ? ", damaged" : ""}`;
}

// The opponents of a game's address, and which of them plays: [names, index].
export function inTurn(query) {
  const names = [...new Set((query.get("opponents") ?? "").split(",").filter(Boolean))];
  return [names, Math.max(0, names.indexOf(query.get("checkpoint")))];
}

// Begins a game as the query of an address says, and goes to its page.
export async function begin(run, query, signal) {
  const [, minutes, seconds] = CLOCKS[query.get("clock")] ?? CLOCKS[0];
  const state = await postJson(`api/runs/${encodeURIComponent(run)}/play`, {
    checkpoint: query.get("checkpoint"), human: query.get("human"), sfen: query.get("sfen"),
    simulations: Number(query.get("simulations")), temperature: Number(query.get("temperature")),
    main_s: 60 * minutes, move_s: seconds,
  }, signal);
  location.hash = `#/play/${encodeURIComponent(run)}/${state.game}?${query}`;
}

export async function setUp(root, runs, run, query, signal) {
  const at = `api/runs/${encodeURIComponent(run)}`;
  const [choices, { opponents }, played] = await Promise.all([
    getJson("api/play/choices", signal), getJson(`${at}/opponents`, signal), getJson(`${at}/games?kind=human&limit=1&least=2`, signal)]);
  root.append(el("div", { class: "page-head" }, el("h1", { text: "Play against" }), runChoice("play", runs, run)));
  if (!opponents.length) {
    root.append(el("p", { text: "This run has no checkpoint yet. Train for longer first." }));
    return;
  }

  // A field takes what the address says, if it has such a choice.
  const choose = (input, value) => {
    if (value !== null && (!input.options || [...input.options].some((each) => each.value === value))) input.value = value;
  };
  const remembered = (input) => {
    choose(input, query.get(input.id));
    return input;
  };

  // Opponents, one or several in turn.
  const rivals = el("div", { class: "rivals" });
  const selects = () => [...rivals.querySelectorAll("select")];
  function addRival(name) {
    const select = el("select", {}, opponents.map((found) => option(found.name, opponentText(found), found.problem !== null)));
    choose(select, name);
    const remove = el("button", { type: "button", text: "\u00d7", onclick: () => {
      select.closest(".rival").remove();
      label();
    } });
    rivals.append(el("div", { class: "rival" }, field("", select, true), remove));
    label();
  }
  function label() {
    const all = [...rivals.children];
    another.hidden = all.length >= usable.length;
    all.forEach((rival, i) => {
      rival.querySelector("span").textContent = i ? "Then, when you have won" : "Opponent";
      rival.querySelector("button").hidden = all.length === 1;
      rival.querySelector("button").setAttribute("aria-label", `Remove opponent ${i + 1}`);
    });
  }
  const usable = opponents.filter((found) => found.problem === null).map(({ name }) => name);
  const another = el("button", { type: "button", id: "another", text: "Another opponent in turn", onclick: () => {
    // The one trained next longer than the last, if there is one; the newest comes first.
    const chosen = selects().map(({ value }) => value);
    const isFree = (name) => !chosen.includes(name);
    addRival(usable.slice(0, usable.indexOf(chosen.at(-1))).findLast(isFree) ?? usable.find(isFree));
    selects().at(-1).focus();
  } });
  const [wanted] = inTurn(query);
  (wanted.length ? wanted : [query.get("checkpoint") ?? usable[0] ?? null]).forEach(addRival);

  const strength = el("select", { id: "strength" },
    choices.strengths.map((each, i) => option(String(i), each.simulations ? `${each.name} (${each.simulations} simulations)` : each.name)),
    option(CUSTOM, "as below"));
  const simulations = el("input", { type: "number", id: "simulations", min: 0, max: choices.max_simulations, step: 1 });
  const temperature = el("input", { type: "number", id: "temperature", min: 0, max: choices.max_temperature, step: 0.05 });
  const fill = () => {
    const chosen = choices.strengths[Number(strength.value)];
    if (chosen) [simulations.value, temperature.value] = [chosen.simulations, chosen.temperature];
  };
  strength.value = "3";
  fill();
  remembered(simulations);
  remembered(temperature);
  const same = choices.strengths.findIndex((each) =>
    each.simulations === Number(simulations.value) && each.temperature === Number(temperature.value));
  strength.value = same < 0 ? CUSTOM : String(same);
  strength.addEventListener("change", fill);
  for (const input of [simulations, temperature]) {
    input.addEventListener("input", () => { strength.value = CUSTOM; });
  }

  const human = remembered(el("select", { id: "human" }, option("black", "Black (Sente, below)"),
    option("white", "White (Gote)"), option("random", "by lot")));
  const start = el("select", { id: "handicap" },
    choices.handicaps.map(({ name, japanese, sfen }) => option(sfen, `${name} (${japanese})`)), option(CUSTOM, "the position below"));
  const sfen = el("input", { type: "text", id: "sfen", spellcheck: "false", autocomplete: "off", maxlength: 4000, value: choices.handicaps[0].sfen });
  remembered(sfen);
  start.value = CUSTOM;
  choose(start, sfen.value);
  start.addEventListener("change", () => { if (start.value !== CUSTOM) sfen.value = start.value; });
  sfen.addEventListener("input", () => { start.value = CUSTOM; });
  const clock = remembered(el("select", { id: "clock" }, CLOCKS.map(([name], i) => option(String(i), name))));
  const submit = el("button", { type: "submit", class: "main", text: "Begin" });
  const form = el("form", { class: "panel" },
    rivals, el("div", { class: "bar-of-buttons" }, another),
    el("div", { class: "form" },
      field("Strength", strength), field("You play", human),
      field("Start", start), field("Start as SFEN or USI", sfen),
      field("Simulations a move (0: no search)", simulations),
      field("Temperature (0: the best move)", temperature), field("Your clock", clock)),
    el("p", { class: "hint", text: "In a handicap game White gives the handicap and moves first. "
      + "A simulation is one position that the network looks at before it moves; bare, it plays what first comes to mind, "
      + "and varied now and then something else." }),
    el("div", { class: "bar-of-buttons" }, submit,
      played.total ? el("a", { href: `${at}/opening-book`, download: "", text: "Opening book of the games played here",
        title: "A file for evaluate --openings" }) : null));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    const names = selects().map(({ value }) => value);
    const settings = new URLSearchParams({ checkpoint: names[0] });
    if (names.length > 1) settings.set("opponents", names.join(","));
    for (const input of [simulations, temperature, human, sfen, clock]) settings.set(input.id, input.value);
    try {
      await begin(run, settings, signal);
    } catch (error) {
      if (!signal.aborted) say(error.message, "bad");
    } finally {
      submit.disabled = false;
    }
  });
  root.append(form);
}
