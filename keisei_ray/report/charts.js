"use strict";
// Shows the numbers of a chart under the pointer, or under a cursor that the arrow keys move.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
  const figures = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 4 });

  function spell(value, data) {
    if (value === null || value === undefined) return "-";
    if (data.isShare) return (100 * value).toFixed(1) + "%";
    if (Math.abs(value) > 0 && Math.abs(value) < 1e-3) return value.toPrecision(4);
    return (Math.abs(value) >= 1000 ? whole : figures).format(value);
  }

  function attach(figure) {
    const source = figure.querySelector("script.data");
    if (!source) return;
    const data = JSON.parse(source.textContent);
    const { axis } = data;
    const plot = figure.querySelector(".plot");
    const picture = plot.querySelector("svg");
    const swatches = [...figure.querySelectorAll(".legend .swatch")];
    const stops = [...new Set(data.series.flatMap((series) => series.x))].sort((a, b) => a - b);
    const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    tip.setAttribute("role", "status");
    const cursor = document.createElementNS(SVG, "path");
    cursor.setAttribute("class", "cursor");
    plot.append(tip);
    let place = -1;

    const position = (x) =>
      axis.left + ((x - axis.range[0]) / (axis.range[1] - axis.range[0])) * (axis.right - axis.left);

    function row(series, number, index) {
      const line = document.createElement("div");
      if (swatches[number]) line.append(swatches[number].cloneNode(true));
      let text = `${series.name} ${spell(series.y[index], data)}`;
      if (series.low) text += ` (${spell(series.low[index], data)} to ${spell(series.high[index], data)})`;
      line.append(text);
      return line;
    }

    function show(index) {
      place = Math.max(0, Math.min(stops.length - 1, index));
      const x = stops[place];
      const head = Object.assign(document.createElement("b"), { textContent: `${axis.unit} ${whole.format(x)}` });
      const rows = data.series.flatMap((series, number) => {
        const at = series.x.indexOf(x);
        return at < 0 ? [] : [row(series, number, at)];
      });
      tip.replaceChildren(head, ...rows);
      tip.hidden = false;
      cursor.setAttribute("d", `M${position(x)} ${axis.top}V${axis.bottom}`);
      picture.append(cursor);
      const at = (position(x) / axis.width) * plot.clientWidth;
      const isRight = at > plot.clientWidth / 2;
      tip.style.left = isRight ? "" : `${at + 12}px`;
      tip.style.right = isRight ? `${plot.clientWidth - at + 12}px` : "";
      tip.style.top = "8px";
    }

    function hide() {
      tip.hidden = true;
      cursor.remove();
    }

    function nearest(event) {
      const box = picture.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * axis.width;
      let best = 0;
      stops.forEach((stop, i) => {
        if (Math.abs(position(stop) - x) < Math.abs(position(stops[best]) - x)) best = i;
      });
      return best;
    }

    // A chart over the moves of a game goes with the board, see replay.js.
    if (axis.unit === "move") {
      const here = document.createElementNS(SVG, "path");
      here.setAttribute("class", "here");
      picture.append(here);
      plot.addEventListener("click", (event) =>
        document.dispatchEvent(new CustomEvent("move-chosen", { detail: stops[nearest(event)] })));
      document.addEventListener("move-shown", (event) =>
        here.setAttribute("d", `M${position(event.detail)} ${axis.top}V${axis.bottom}`));
    }

    plot.addEventListener("pointermove", (event) => show(nearest(event)));
    plot.addEventListener("pointerdown", (event) => show(nearest(event)));
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const far = Math.max(1, Math.round(stops.length / 20));
      const moves = {
        ArrowLeft: place - 1, ArrowRight: place + 1, PageUp: place - far, PageDown: place + far,
        Home: 0, End: stops.length - 1,
      };
      if (event.key === "Escape") hide();
      if (!(event.key in moves)) return;
      event.preventDefault();
      show(place < 0 && event.key === "ArrowLeft" ? stops.length - 1 : moves[event.key]);
    });
  }

  document.querySelectorAll("figure.chart").forEach(attach);
})();
