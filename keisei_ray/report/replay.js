// Draws the chosen games, position by position. Positions and notation come with the page.
(() => {
  const source = document.getElementById("games-data");
  if (!source) return;
  const games = JSON.parse(source.textContent);
  const root = document.getElementById("replay");
  const SVG = "http://www.w3.org/2000/svg";
  const KANJI = {
    P: "\u6b69", L: "\u9999", N: "\u6842", S: "\u9280", G: "\u91d1", B: "\u89d2", R: "\u98db", K: "\u7389",
    "+P": "\u3068", "+L": "\u674f", "+N": "\u572d", "+S": "\u5168", "+B": "\u99ac", "+R": "\u9f8d",
  };
  const RANKS = "\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d";
  const BLACK_MARK = "\u2617";
  const WHITE_MARK = "\u2616";
  const HAND_ORDER = "RBGSNLP";
  const W = 50, H = 54, LEFT = 14, TOP = 82, TEMPO_MS = 700;
  const view = { game: 0, ply: 0, isFlipped: false, isLatin: false, timer: null };

  // Elements.
  function svg(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    return element;
  }
  function html(name, attributes, ...children) {
    const element = document.createElement(name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    element.append(...children);
    return element;
  }

  // An SFEN as 9 rows of 9 cells ("P", "+p", or "") and two hands.
  function parse(sfen) {
    const [board, turn, hands] = sfen.split(" ");
    const rows = board.split("/").map((row) =>
      (row.match(/\+?[A-Za-z]|[1-9]/g) || []).flatMap((token) =>
        /[1-9]/.test(token) ? Array(Number(token)).fill("") : [token]));
    const counts = {};
    for (const [, count, piece] of hands.matchAll(/(\d*)([A-Za-z])/g)) counts[piece] = Number(count || 1);
    return { rows, counts, isBlack: turn === "b" };
  }
  const square = (text) => [text.charCodeAt(1) - 97, 9 - Number(text[0])];

  function piece(token, x, y, isUp) {
    const kind = token.toUpperCase();
    const group = svg("g", { transform: `translate(${x} ${y})${isUp ? "" : " rotate(180)"}` });
    group.append(svg("path", { class: "shape", d: "M0 -23L13 -17L19 22H-19L-13 -17Z" }));
    const classes = ["glyph", kind[0] === "+" ? "promoted" : "", view.isLatin ? "latin" : ""];
    const isBlackKing = token === "K";
    const text = view.isLatin ? kind : isBlackKing ? "\u7389" : kind === "K" ? "\u738b" : KANJI[kind];
    group.append(svg("text", {
      class: classes.join(" ").trim(), y: view.isLatin ? 11 : 13, "font-size": view.isLatin ? 22 : 29, lang: "ja",
    }, text));
    return group;
  }

  function hand(position, isBlack, isUp) {
    const y = isUp ? TOP + 9 * H + 38 : 32;
    const group = svg("g", {});
    const next = position.isBlack === isBlack;
    group.append(svg("text", { class: `owner${next ? " moves-next" : ""}`, x: LEFT, y: y + 5 },
      `${isBlack ? `${BLACK_MARK} Black` : `${WHITE_MARK} White`}${next ? " to move" : ""}`));
    let x = LEFT + 150;
    for (const kind of HAND_ORDER) {
      const token = isBlack ? kind : kind.toLowerCase();
      if (!position.counts[token]) continue;
      group.append(piece(token, x, y, isUp));
      if (position.counts[token] > 1) {
        group.append(svg("text", { class: "count", x: x + 20, y: y + 6 }, position.counts[token]));
      }
      x += position.counts[token] > 1 ? 56 : 46;
    }
    return group;
  }

  function draw(board, game) {
    const position = parse(game.sfens[view.ply]);
    const turned = view.isFlipped;
    const corner = (row, column) => [LEFT + (turned ? 8 - column : column) * W, TOP + (turned ? 8 - row : row) * H];
    board.replaceChildren(svg("rect", { class: "wood", x: LEFT, y: TOP, width: 9 * W, height: 9 * H }));
    const usi = game.moves[view.ply - 1];
    if (usi) {
      const [x, y] = corner(...square(usi.slice(2, 4)));
      board.append(svg("rect", { class: "to", x, y, width: W, height: H }));
      if (usi[1] !== "*") {
        const [fx, fy] = corner(...square(usi.slice(0, 2)));
        board.append(svg("rect", { class: "from", x: fx + 4, y: fy + 4, width: W - 8, height: H - 8 }));
      }
    }
    let lines = "";
    for (let i = 1; i < 9; i++) lines += `M${LEFT + i * W} ${TOP}v${9 * H}M${LEFT} ${TOP + i * H}h${9 * W}`;
    board.append(svg("path", { class: "lines", d: lines }));
    board.append(svg("rect", { class: "rim", x: LEFT, y: TOP, width: 9 * W, height: 9 * H }));
    for (const i of [3, 6]) for (const j of [3, 6]) {
      board.append(svg("circle", { class: "star", cx: LEFT + i * W, cy: TOP + j * H, r: 3 }));
    }
    for (let i = 0; i < 9; i++) {
      const [x, y] = corner(i, i);
      board.append(svg("text", { class: "coordinate", x: x + W / 2, y: TOP - 7 }, 9 - i));
      board.append(svg("text", { class: "coordinate", x: LEFT + 9 * W + 13, y: y + H / 2 + 5, lang: "ja" },
        view.isLatin ? "abcdefghi"[i] : RANKS[i]));
    }
    position.rows.forEach((row, r) => row.forEach((token, c) => {
      if (!token) return;
      const [x, y] = corner(r, c);
      const isBlack = token === token.toUpperCase();
      board.append(piece(token, x + W / 2, y + H / 2 + 1, isBlack !== turned));
    }));
    board.append(hand(position, true, !turned), hand(position, false, turned));
  }

  // Words.
  const mover = (game, ply) => (game.sfens[ply].split(" ")[1] === "b" ? "Black" : "White");
  const mark = (game, ply) => (mover(game, ply) === "Black" ? BLACK_MARK : WHITE_MARK);
  function sentence(game) {
    const { ply } = view;
    const last = game.moves.length;
    if (ply === 0) return `Start. ${mover(game, 0)} to move. ${last} moves follow.`;
    const parts = [`Move ${ply} of ${last}: ${mover(game, ply - 1)} ${game.western[ply - 1]}, ${mark(game, ply - 1)}${game.japanese[ply - 1]}.`];
    if (ply <= game.opening) parts.push("A random opening move.");
    if (game.checks.includes(ply)) parts.push(`${mover(game, ply)} is in check.`);
    if (ply === last) parts.push(`${game.title}.`);
    return parts.join(" ");
  }

  // The place in which a game is shown.
  const board = svg("svg", { class: "board", viewBox: `0 0 ${LEFT + 9 * W + 26} ${TOP + 9 * H + 68}`, role: "img" });
  const status = html("p", { class: "status", "aria-live": "polite" });
  const list = html("ol", { class: "moves", "aria-label": "Moves" });
  const slider = html("input", { type: "range", min: 0, step: 1, "aria-label": "Move" });
  const button = (text, label, act) => {
    const made = html("button", { type: "button", "aria-label": label, title: label }, text);
    made.addEventListener("click", act);
    return made;
  };
  const last = () => games[view.game].moves.length;
  const controls = {
    first: button("\u00ab", "First position", () => go(0)),
    back: button("\u2039", "One move back", () => go(view.ply - 1)),
    play: button("Play", "Play the game", () => (view.timer ? pause() : play())),
    forth: button("\u203a", "One move on", () => go(view.ply + 1)),
    last: button("\u00bb", "Last position", () => go(last())),
  };
  const flip = button("Turn board", "Turn the board", () => { view.isFlipped = !view.isFlipped; show(); });
  const script = button("Letters", "Letters instead of kanji", () => { view.isLatin = !view.isLatin; show(); });
  // Copies a text and says so on the button; without the clipboard, by a selection.
  const copier = (label, text) => {
    const made = button(label, `${label} to the clipboard`, async () => {
      const area = html("textarea", { class: "hidden" });
      try {
        await navigator.clipboard.writeText(text());
      } catch {
        area.value = text();
        made.after(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      made.textContent = "Copied";
      setTimeout(() => { made.textContent = label; }, 1500);
    });
    return made;
  };
  const copies = {
    sfen: copier("Copy SFEN", () => games[view.game].sfens[view.ply]),
    usi: copier("Copy USI", () => `position sfen ${games[view.game].sfens[0]} moves ${games[view.game].moves.join(" ")}`),
    kif: copier("Copy KIF", () => games[view.game].kif),
  };
  slider.addEventListener("input", () => go(Number(slider.value)));
  const title = html("h3", {});
  const notes = html("div", { class: "notes", "aria-live": "polite" });
  root.append(html("div", { class: "table" },
    html("div", { class: "stage" }, board, html("div", { class: "controls" }, ...Object.values(controls), slider, flip, script), status),
    html("div", { class: "side" }, title, notes, list,
      html("div", { class: "controls copies" }, ...Object.values(copies)),
      html("p", { class: "hint" }, "Left and right arrow keys step through the game, Home and End jump. "
        + "K king, R rook, B bishop, G gold, S silver, N knight, L lance, P pawn, + promoted; x captures, * drops, "
        + "= does not promote. Moves in italics are the random opening, which no player chose."))));

  // What an analysis says about the position: a sentence, and a table of moves.
  function showNotes(note) {
    if (!note) return notes.replaceChildren();
    const cells = (name, texts) => texts.map((text, i) =>
      html(name, note.numbers.includes(i) ? { class: "number" } : {}, text));
    const rows = note.rows.map((texts) => html("tr", {}, ...cells("td", texts)));
    const table = html("table", { class: "lines-of-play" }, html("thead", {}, html("tr", {}, ...cells("th", note.head))), html("tbody", {}, ...rows));
    notes.replaceChildren(...note.sentences.map((text) => html("p", {}, text)),
      ...(rows.length ? [html("div", { class: "scroll", tabindex: 0 }, table)] : []));
  }

  function show() {
    const game = games[view.game];
    draw(board, game);
    showNotes(game.notes?.[view.ply]);
    document.dispatchEvent(new CustomEvent("move-shown", { detail: view.ply }));
    const words = sentence(game);
    board.setAttribute("aria-label", `Shogi board. ${words}`);
    status.textContent = words;
    slider.value = view.ply;
    slider.setAttribute("aria-valuetext", words);
    controls.first.disabled = controls.back.disabled = view.ply === 0;
    controls.forth.disabled = controls.last.disabled = view.ply === last();
    controls.play.textContent = view.timer ? "Pause" : "Play";
    flip.setAttribute("aria-pressed", view.isFlipped);
    script.setAttribute("aria-pressed", view.isLatin);
    list.querySelector("[aria-current]")?.removeAttribute("aria-current");
    const current = list.children[view.ply]?.firstChild;
    if (current) {
      current.setAttribute("aria-current", "true");
      const row = current.parentElement;
      if (row.offsetTop < list.scrollTop || row.offsetTop + row.offsetHeight > list.scrollTop + list.clientHeight) {
        list.scrollTop = row.offsetTop - list.clientHeight / 2;
      }
    }
  }

  function go(ply) {
    view.ply = Math.max(0, Math.min(last(), ply));
    if (view.ply === last()) pause();
    show();
  }
  function pause() {
    clearInterval(view.timer);
    view.timer = null;
    show();
  }
  function play() {
    if (view.ply === last()) view.ply = 0;
    view.timer = setInterval(() => go(view.ply + 1), TEMPO_MS);
    show();
  }

  function choose(index) {
    clearInterval(view.timer);
    Object.assign(view, { game: index, ply: 0, timer: null });
    const game = games[index];
    slider.max = game.moves.length;
    title.textContent = game.title;
    copies.kif.hidden = !game.kif;
    list.replaceChildren(...["Start", ...game.western].map((move, ply) => {
      const made = html("button", { type: "button", tabindex: -1 }, html("i", {}, ply || ""));
      if (ply > 0 && ply <= game.opening) made.className = "random";
      made.append(ply ? `${mark(game, ply - 1)} ${move}` : move);
      if (ply) made.append(html("span", { lang: "ja" }, game.japanese[ply - 1]));
      made.addEventListener("click", () => go(ply));
      return html("li", {}, made);
    }));
    root.querySelectorAll("[data-game]").forEach((choice, i) => choice.setAttribute("aria-pressed", i === index));
    list.scrollTop = 0;
    show();
  }

  root.querySelectorAll("[data-game]").forEach((choice, i) => choice.addEventListener("click", () => choose(i)));
  document.addEventListener("move-chosen", (event) => go(event.detail));
  document.querySelectorAll("[data-ply]").forEach((link) => link.addEventListener("click", () => {
    go(Number(link.dataset.ply));
    root.scrollIntoView();
  }));
  let isInView = false;
  new IntersectionObserver((entries) => { isInView = entries[0].isIntersecting; }).observe(board);
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const isOurs = root.contains(event.target) || (event.target === document.body && isInView);
    const targets = { ArrowLeft: view.ply - 1, ArrowRight: view.ply + 1, Home: 0, End: last() };
    if (!isOurs || !(event.key in targets)) return;
    event.preventDefault();
    go(targets[event.key]);
  });
  choose(0);
})();
