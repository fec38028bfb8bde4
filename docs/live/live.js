// The live page: liveMount(element, {data, load, address}). No library, no network.
//   data     {data: the model, ...}: what the data scripts set
//   load     name -> promise of one more of them; more: the names that there are
//   address  whether the page's address keeps what the reader sets
globalThis.liveMount = async (root, given) => {
  "use strict";
  const { data, load, more = [], address = false } = given;
  const { h, number } = globalThis.liveCharts, { liveAsk, liveSearch, liveCompose, liveClose } = globalThis;
  const meta = data.data, { world } = meta, ask = liveAsk();
  root.classList.add("live");

  // What the reader sets: name -> [as it is at first, to text, from text (undefined if it is none)]
  const integer = (low, high) => (text) => (/^\d+$/.test(text) && +text >= low && +text <= high ? +text : undefined);
  const real = (low, high) => (text) => (text !== "" && +text >= low && +text <= high ? +text : undefined);
  const one = (...words) => (text) => (words.includes(text) ? text : undefined);
  const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const KINDS = { shape: world.shapes, colour: world.colours, texture: world.textures, background: world.backgrounds, style: world.styles };
  const scene = (text) => {
    const parts = text.split("-"), found = Object.entries(KINDS).map(([kind, names], k) => [kind, names.indexOf(parts[k])]);
    return found.every(([, index]) => index >= 0) ? Object.fromEntries(found) : undefined;
  };
  const strokes = (text) => {
    const found = [...text].map((c) => DIGITS.indexOf(c)).reduce((all, v, i) => (i % 3 ? all.at(-1).push(v) : all.push([v]), all), []);
    return found.every(([x, y, c]) => x >= 0 && x < world.resolution && y >= 0 && y < world.resolution && c >= 0 && c < world.colours.length) ? found.slice(0, 600) : undefined;
  };
  const plain = (text) => text.slice(0, 300), rounded = (v) => String(Math.round(1000 * v) / 1000);
  const KEPT = {
    caption: ["a heart at sea", String, plain],
    scene: ["heart-red-solid-water-photo", (s) => Object.entries(KINDS).map(([kind, names]) => names[s[kind]]).join("-"), scene],
    grain: ["7", String, integer(0, 999)],
    strokes: ["", (all) => all.flat().map((v) => DIGITS[v]).join(""), strokes],
    tab: ["shape", String, one("shape", "colour", "texture", "background", "style", "own")],
    own: ["a heart at sea\na crimson valentine\na photo of something\na blue star on the sand", (lines) => lines.join("\n"), (text) => text.slice(0, 1200).split("\n").filter((l) => l.trim()).slice(0, 12)],
    scale: ["trained", (v) => (v === meta.scale ? "trained" : rounded(v)), (text) => (text === "trained" ? meta.scale : real(1, 200)(text))],
    way: ["shift", String, one("shift", "post")],
    amount: ["0", rounded, real(-0.4, 1.6)],
    left: ["0", rounded, real(0, 1)],
    turn: ["0.5", rounded, real(0, 7)],
    pair: ["1", String, integer(1, meta.scenes.length)],
    photo: ["1", String, integer(1, 500)],
    trained: ["t10", String, one("t1", "t10", "t20", "t30", "t50", "t100")],
  };
  const state = { row: null, picture: null };
  const restore = () => {
    const kept = address ? new URLSearchParams(location.hash.slice(1)) : new URLSearchParams();
    for (const [name, [first, , read]] of Object.entries(KEPT)) state[name] = (kept.has(name) ? read(kept.get(name)) : undefined) ?? read(first);
  };
  let written = null, waiting = 0;
  const keep = () => {
    if (!address) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const kept = new URLSearchParams();
      for (const [name, [first, write]] of Object.entries(KEPT)) if (write(state[name]) !== first) kept.set(name, write(state[name]));
      written = `#${kept}`;
      try { history.replaceState(null, "", kept.size ? written : `${location.pathname}${location.search}`); } catch { /* an address that cannot be changed */ }
    }, 250);
  };
  restore();

  // What the parts share
  const sheet = URL.createObjectURL(new Blob([await ask("open", meta)], { type: "image/webp" }));
  const speed = h("span"), took = {};
  const scales = [], loaded = {};
  const page = {
    ask, state, meta, data,
    has: (name) => name in data || more.includes(name),
    more: (name) => (loaded[name] ??= (async () => {
      if (!(name in data)) await load(name);
      await ask("more", name, { tensors: data[name].tensors, blob: data[name].blob });
      return data[name];
    })()),
    picture: (i) => {
      const rows = Math.ceil(meta.scenes.length / meta.columns), x = (i % meta.columns) / (meta.columns - 1), y = Math.floor(i / meta.columns) / (rows - 1);
      return h("span", { class: "picture", role: "img", "aria-label": meta.captions[i], style: `background-image:url(${sheet});background-size:${100 * meta.columns}% auto;background-position:${100 * x}% ${100 * y}%` });
    },
    took: (kind, ms) => {
      if (ms > 0.3) took[kind] = ms;
      speed.textContent = [["text", "the last caption"], ["image", "the last picture"]].filter(([k]) => took[k]).map(([k, what]) => `${what} ${number(took[k], 0)} ms`).join(", ");
    },
    // One temperature for the page, a slider in two places
    temperature: (id) => {
      const out = h("output", { for: id }), range = h("input", { id, type: "range", min: 0, max: 2.3, step: 0.01, oninput: () => {
        state.scale = Math.min(200, 10 ** range.value);
        if (Math.abs(range.value - Math.log10(meta.scale)) < 0.03) state.scale = meta.scale;
        scaled();
        keep();
      } });
      scales.push([range, out]);
      return h("div", { class: "slider" }, h("label", { for: id }, "Temperature of the softmax"), range, out);
    },
    changed: (what) => {
      if (what === "own") closing.own();
      keep();
    },
  };
  const showScale = () => {
    for (const [range, out] of scales) {
      range.value = Math.log10(state.scale);
      const t = 1 / state.scale;
      out.textContent = `${t < 0.1 ? t.toFixed(3) : t.toFixed(2)} = 1 / ${state.scale.toFixed(state.scale < 10 ? 1 : 0)}${state.scale === meta.scale ? ", as trained" : ""}`;
      range.setAttribute("aria-valuetext", out.textContent);
    }
  };
  const scaled = () => { showScale(); composing.judge(); closing.scaled(); };
  const searching = liveSearch(page), composing = liveCompose(page), closing = liveClose(page);

  root.replaceChildren(searching.section, composing.section, ...closing.sections,
    h("p", { class: "note foot" }, `${meta.name}: ${meta.parameters.toLocaleString("en")} weights in half precision, computed in this page in plain JavaScript: `, speed, `. Nothing that you type or draw leaves it.${address ? " Its address keeps what you set: copy it to share." : ""}`));
  showScale();
  searching.refresh();
  composing.refresh();
  closing.begin();

  new ResizeObserver(closing.redraw).observe(root);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", closing.redraw);
  new MutationObserver(closing.redraw).observe(document.body, { attributes: true });
  if (address) addEventListener("hashchange", () => {
    if (location.hash === written) return;
    restore();
    showScale();
    searching.refresh();
    composing.refresh();
    closing.restored();
  });
  root.live = { ask, state, meta, data, page };
};
