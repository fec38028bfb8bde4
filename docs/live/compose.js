// Part two: a picture that the reader makes, and the words that the model prefers for it.
globalThis.liveCompose = (page) => {
  "use strict";
  const { h, number, latest, perFrame, glide } = globalThis.liveCharts, { ask, state, meta } = page;
  const { world } = meta, N = world.resolution;
  const NAMES = { shape: world.shapes, colour: world.colours, texture: world.textures, background: world.backgrounds, style: world.styles };
  const TITLES = { shape: "Shape", colour: "Colour", texture: "Texture", background: "Place", style: "Style" };
  const TABS = { shape: "shape", colour: "colour", texture: "texture", background: "place", style: "style", own: "my own" };
  const draw = (canvas, pixels) => canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels), N, N), 0, 0);

  // Captions that differ in one thing, as the world's grammar has them
  const article = (phrase) => (/^(a|e|i|o|hour)/.test(phrase) ? "an " : "a ") + phrase;
  const caption = (scene, vary) => {
    const word = (kind) => NAMES[kind][scene[kind]];
    const thing = (...kinds) => article(kinds.map(word).join(" "));
    if (vary === "texture") return thing("texture", "colour", "shape");
    if (vary === "style") return `${world.media[word("style")][0]} ${thing("colour", "shape")}`;
    return `${thing("colour", "shape")} ${world.places[word("background")][0]}`;
  };

  // The easel: drawn on with the pointer, or with a brush that the arrow keys move
  const easel = h("canvas", { class: "easel", width: N, height: N, tabindex: 0, role: "application",
    "aria-label": "Your picture. Draw on it with the pointer, or move the brush with the arrow keys and press space.", "aria-describedby": "live-brush" });
  const brush = h("span", { class: "brush", hidden: true }), where = h("span", { id: "live-brush", class: "unseen", "aria-live": "polite" });
  const at = { x: N / 2, y: N / 2 };
  const stroke = (x, y) => {
    if (state.strokes.length < 600) state.strokes.push([x, y, state.scene.colour].map((v, k) => (k < 2 ? Math.min(N - 1, Math.max(0, v)) : v)));
  };
  const pointed = (event) => {
    if (!(event.buttons & 1)) return;
    const box = easel.getBoundingClientRect(), last = event.type === "pointermove" ? state.strokes.at(-1) : null;
    const [x, y] = [(event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height].map((v) => Math.round(v * N));
    const steps = last ? Math.max(1, Math.ceil(Math.max(Math.abs(x - last[0]), Math.abs(y - last[1])) / 2)) : 1;
    for (let k = 1; k <= steps; k++) stroke(...(last ? [last[0] + (x - last[0]) * k / steps, last[1] + (y - last[1]) * k / steps].map(Math.round) : [x, y]));
    paint();
  };
  easel.addEventListener("pointerdown", (e) => { easel.setPointerCapture(e.pointerId); pointed(e); });
  easel.addEventListener("pointermove", pointed);
  easel.addEventListener("keydown", (e) => {
    const move = { ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2] }[e.key];
    if (!move && e.key !== " ") return;
    e.preventDefault();
    if (move) [at.x, at.y] = [at.x + move[0], at.y + move[1]].map((v) => Math.min(N - 2, Math.max(2, v)));
    if (e.key === " " || e.shiftKey) { stroke(at.x, at.y); paint(); }
    brush.hidden = false;
    brush.style.left = `${100 * at.x / N}%`;
    brush.style.top = `${100 * at.y / N}%`;
    where.textContent = `Brush at column ${at.x}, row ${at.y}`;
  });
  easel.addEventListener("blur", () => { brush.hidden = true; });

  // Choices
  const buttons = {}, thumbnails = [];
  const pick = (kind, index) => { state.scene[kind] = index; refresh(); };
  const choice = (kind) => {
    buttons[kind] = NAMES[kind].map((name, index) => {
      const canvas = kind === "colour" ? null : h("canvas", { width: N, height: N, "aria-hidden": "true" });
      if (canvas) thumbnails.push([canvas, kind, index]);
      return h("button", { type: "button", title: name, "aria-label": name, onclick: () => pick(kind, index) },
        canvas ?? h("span", { style: `background:rgb(${world.rgb[index]})` }));
    });
    return h("div", { class: "choice", role: "group", "aria-label": TITLES[kind] }, h("span", { class: "label" }, TITLES[kind]), h("div", {}, ...buttons[kind]));
  };
  const small = latest(async () => {
    const scenes = thumbnails.map(([, kind, index]) => {
      const plain = { background: 0, style: 1 }, bare = kind === "background" ? { shape: null, style: 1 } : {};
      return { ...state.scene, ...plain, ...bare, [kind]: index };
    });
    (await ask("thumbnails", scenes)).forEach((pixels, k) => draw(thumbnails[k][0], pixels));
  });

  const unseen = h("p", { class: "tag unknown" }, "Training never showed a thing of this shape in this colour.");
  const clear = h("button", { type: "button", class: "quiet", onclick: () => { state.strokes = []; paint(); easel.focus({ preventScroll: true }); } }, "Wipe off the strokes");
  const grain = h("button", { type: "button", class: "quiet", onclick: () => { state.grain = (state.grain + 1) % 1000; paint(); } }, "Another grain");
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "What the captions differ in" },
    ...Object.entries(TABS).map(([tab, title]) => h("button", { type: "button", "data-tab": tab, onclick: () => { state.tab = tab; judge(); page.changed("address"); } }, title)));
  const own = h("textarea", { rows: 4, "aria-label": "Your own captions, one a line", spellcheck: "false", maxlength: 1200, oninput: () => {
    state.own = own.value.split("\n").filter((line) => line.trim()).slice(0, 12);
    judge();
    page.changed("address");
  } });
  const bars = h("ol", { class: "bars" }), best = h("p", { class: "unseen", "aria-live": "polite" }), rows = new Map();

  const judge = latest(async () => {
    if (!state.picture) return;
    for (const b of tabs.children) b.setAttribute("aria-pressed", b.dataset.tab === state.tab);
    own.hidden = state.tab !== "own";
    const varied = state.tab === "own" ? state.own : NAMES[state.tab].map((_, i) => caption({ ...state.scene, [state.tab]: i }, state.tab));
    const captions = [...new Set(varied)], truth = state.tab === "own" ? null : caption(state.scene, state.tab);
    const cosines = await ask("cosines", state.picture, captions), top = Math.max(...cosines);
    const weights = cosines.map((c) => Math.exp(state.scale * (c - top))), total = weights.reduce((a, b) => a + b, 0);
    const order = captions.map((_, i) => i).sort((a, b) => cosines[b] - cosines[a]);
    state.judged = order.map((i) => ({ caption: captions[i], cosine: cosines[i], share: weights[i] / total }));
    glide(bars, order.map((i) => {
      const key = `${state.tab} ${i}`, p = weights[i] / total;
      if (!rows.has(key)) rows.set(key, h("li", {}, h("span", { class: "words" }), h("span", { class: "cosine" }), h("span", { class: "bar" }, h("span")), h("span", { class: "share" })));
      const li = rows.get(key), [words, cosine, bar, share] = li.children;
      li.classList.toggle("right", captions[i] === truth);
      words.textContent = captions[i];
      cosine.textContent = number(cosines[i]);
      bar.firstChild.style.width = `${100 * p}%`;
      share.textContent = p < 0.0005 ? "< 0.1 %" : p > 0.9995 ? "100 %" : `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`;
      return li;
    }));
    if (order.length) best.textContent = `Preferred: ${captions[order[0]]}`;
  });

  const compose = latest(async () => {
    const { pixels, row, took } = await ask("compose", state.scene, state.grain, state.strokes);
    draw(easel, pixels);
    state.picture = row;
    page.took("image", took);
    judge();
    page.changed("own");
  });
  const paint = perFrame(() => { clear.hidden = !state.strokes.length; compose(); });
  const refresh = () => {
    for (const [kind, all] of Object.entries(buttons)) all.forEach((b, i) => b.setAttribute("aria-pressed", i === state.scene[kind]));
    unseen.hidden = !world.unseen.some(([a, b]) => a === state.scene.shape && b === state.scene.colour);
    if (document.activeElement !== own) own.value = state.own.join("\n");
    paint();
    small();
  };

  const section = h("section", { "aria-label": "Make a picture" }, h("h2", {}, "Make a picture, and see which words the model prefers"),
    h("p", { class: "note" }, "The model compares your picture with each caption. The softmax of the cosines, divided by the temperature, says how it would share one vote among them. A green caption is the true one."),
    h("div", { class: "two work" },
      h("div", { class: "studio" }, h("div", {}, h("div", { class: "frame" }, easel, brush), where, h("p", { class: "under" }, "Draw on it, too. ", clear, grain), unseen), h("div", { class: "choices" }, ...Object.keys(NAMES).map(choice))),
      h("div", { class: "words-side" }, tabs, own, h("div", { class: "head", "aria-hidden": "true" }, h("span", {}, "caption"), h("span", {}, "cosine"), h("span", {}, "softmax")), bars, best, page.temperature("live-t1"))));
  return { section, refresh, judge };
};
