// The status of a run (what `status --json` writes) in words and small pictures.
import { duration } from "../shared/charts.js";
import { el } from "./page.js";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const number = (value) => (Number.isFinite(value) ? whole.format(value) : "-");
export const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)}%` : "-");

export function stateBadge(status) {
  const isTroubled = status.faults > 0 && ["running", "starting"].includes(status.state);
  const text = isTroubled ? `${status.state}, ${plural(status.faults, "warning")}` : status.state;
  return el("span", { class: `state ${status.state}${isTroubled ? " troubled" : ""}`, text });
}

export function progress(status) {
  const text = `${percent(status.share)} of ${number(status.total_timesteps)}`;
  if (status.share === null) return `${number(status.timestep)} plies`;
  return el("span", { class: "progress" },
    el("progress", { value: status.share, max: 1, "aria-label": `Progress: ${text} plies` }),
    el("span", { text: percent(status.share), title: `${number(status.timestep)} of ${number(status.total_timesteps)} plies` }));
}

export const timeLeft = (status) =>
  status.remaining_s === null ? "-" : duration(status.remaining_s);

// The newest rating and its interval, or else the newest score, or that nothing was measured.
export function strength(status) {
  const rating = status.ratings.findLast((r) => r.elo !== null && /^v\d/.test(r.name));
  if (rating) return [`Elo ${signed(rating.elo)}`, interval(rating)];
  const match = status.evaluations.at(-1);
  return match ? [percent(match.score), `against ${match.opponent}`] : ["not measured", ""];
}

const signed = (value) => (value >= 0 ? "+" : "") + whole.format(value);

function interval({ low, high }) {
  if (low === null && high === null) return "";
  return `${low === null ? "no lower bound" : signed(low)} to ${high === null ? "no upper bound" : signed(high)}`;
}

export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

// The sentence behind a state: why it failed, or since when it is silent.
export function explanation(status) {
  if (status.state === "failed") return status.cause ?? "no cause on record";
  if (status.state === "silent") {
    return `Nothing was written for ${duration(status.silent_s)}, expected within ${duration(status.patience_s)}. It may be dead; continue it with --resume latest.`;
  }
  if (status.idle_s !== null) return `No update for ${duration(status.idle_s)}.`;
  return "";
}

// Figures of a run, whose directory or URI is `path`: [name, value, note].
export function facts(status, path) {
  const results = `black ${number(status.black_wins)}, white ${number(status.white_wins)}, drawn ${number(status.draws)}, cut ${number(status.truncated)}`;
  const saved = status.checkpoint;
  return [
    ["Plies", number(status.timestep), status.total_timesteps ? `${percent(status.share)} of ${number(status.total_timesteps)}` : ""],
    ["Time", status.wall_time_s === null ? "-" : duration(status.wall_time_s), status.remaining_s === null ? "" : `${duration(status.remaining_s)} left`],
    ["Speed", number(status.sps), `plies a second, ${number(status.sps_total)} over all`],
    ["Updates", number(status.update), ""],
    ["Games finished", number(status.games_total), results],
    ["Actors", status.actors_alive === null ? number(status.num_actors) : `${number(status.actors_alive)} of ${number(status.num_actors)}`, plural(status.actor_restarts, "restart")],
    ["Checkpoint", saved ? number(saved.timestep) : path?.includes("://") ? "at the URI" : "none", saved ? `${duration(saved.age_s)} ago` : ""],
    ["Strength", ...strength(status)],
  ];
}
