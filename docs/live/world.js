// The embedded world: its renderer, and a reader of captions that says of a scene whether they hold.
// A function that needs nothing from outside, so that a worker can be made of its text.
globalThis.liveWorld = () => {
  "use strict";

  // The renderer: mini/world/render.py, line by line -------------------------------------------------

  const N = 48;

  // The same interface as mini.world's Stream, from a small generator (mulberry32).
  class Stream {
    constructor(seed) { this.state = seed >>> 0; }
    word() {
      let t = (this.state = (this.state + 0x6d2b79f5) >>> 0);
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (t ^ (t >>> 14)) >>> 0;
    }
    unit() { return this.word() / 4294967296; }
    between(low, high) { return low + (high - low) * this.unit(); }
    below(n) { return Math.floor(this.unit() * n); }
    bytes(n) { return Uint8Array.from({ length: n }, () => this.word() & 255); }
  }

  const { abs, max, min, floor, hypot } = Math;
  const clip = (v, low, high) => (v < low ? low : v > high ? high : v);
  const mod = (a, b) => a - b * floor(a / b);
  const wave = (t) => abs(t - floor(t) - 0.5) * 4 - 1;
  const PENTAGRAM = [[0, 1], [0.9510565, 0.309017], [0.5877853, -0.809017], [-0.5877853, -0.809017], [-0.9510565, 0.309017]];

  const DISTANCE = {
    circle: (x, y) => hypot(x, y) - 0.92,
    square: (x, y) => max(abs(x), abs(y)) - 0.8,
    triangle: (x, y) => max(y - 0.66, 0.867 * abs(x) - 0.498 * (y + 1)),
    diamond: (x, y) => (abs(x) * 1.7 + abs(y) - 1.05) * 0.507,
    star: (x, y) => PENTAGRAM.map(([a, b]) => a * x + b * y).sort((a, b) => b - a)[1] - 0.36,
    cross: (x, y) => min(max(abs(x) - 0.3, abs(y) - 0.95), max(abs(x) - 0.95, abs(y) - 0.3)),
    ring: (x, y) => abs(hypot(x, y) - 0.72) - 0.22,
    heart: (x, y) => {
      const u = abs(x), v = y - 0.12;
      return min((u + abs(v) - 0.74) * 0.7071, hypot(u - 0.37, v + 0.37) - 0.523);
    },
    crescent: (x, y) => max(hypot(x, y) - 0.95, 0.78 - hypot(x - 0.5, y + 0.1)),
    arrow: (x, y) => {
      const v = abs(y);
      return min(max((x + v - 1) * 0.7071, -x), max(v - 0.24, x - 0.1, -x - 0.95));
    },
    bar: (x, y) => max(abs(x) - 1.05, abs(y) - 0.28),
    hourglass: (x, y) => max(abs(y) - 0.88, (abs(x) - 0.8 * abs(y) - 0.07) * 0.78),
  };

  const PATTERN = {
    solid: () => false,
    striped: (x) => mod(x + 100, 5.5) < 2.4,
    dotted: (x, y) => (mod(x + 100, 5.5) - 2.75) ** 2 + (mod(y + 100, 5.5) - 2.75) ** 2 < 2.9,
    checked: (x, y) => mod(floor((x + 100) / 4.2) + floor((y + 100) / 4.2), 2) < 1,
  };

  const clouds = (draw, cells) => {
    const grid = Float32Array.from(draw.bytes((cells + 1) ** 2), (b) => b / 255), out = new Float32Array(N * N);
    for (let r = 0; r < N; r++) {
      for (let c = 0; c < N; c++) {
        const v = (r + 0.5) * cells / N, u = (c + 0.5) * cells / N, i = floor(v), j = floor(u), f = v - i, g = u - j;
        const at = (a, b) => grid[a * (cells + 1) + b];
        out[r * N + c] = (at(i, j) * (1 - f) + at(i + 1, j) * f) * (1 - g) + (at(i, j + 1) * (1 - f) + at(i + 1, j + 1) * f) * g;
      }
    }
    return out;
  };
  const noise = (draw, channels) => Float32Array.from(draw.bytes(N * N * channels), (b) => (b - 127.5) / 127.5);

  const FLAT = {
    plain: [0, 0, 0], grass: [0.36, 0.62, 0.24], sand: [0.88, 0.78, 0.54], night: [0.05, 0.06, 0.2],
    water: [0.15, 0.45, 0.68], brick: [0.66, 0.3, 0.24], wood: [0.6, 0.43, 0.27],
  };

  // at(x, y, pixel) -> what the three channels become, from what they are
  const paint = (image, at) => {
    for (let p = 0; p < N * N; p++) {
      const change = at((p % N) + 0.5, floor(p / N) + 0.5, p);
      if (change) for (let c = 0; c < 3; c++) image[3 * p + c] = change(image[3 * p + c], c);
    }
  };

  const background = (image, name, draw) => {
    const tint = [0, 1, 2].map(() => draw.between(-0.06, 0.06));
    if (name === "sky") {
      const low = [0.82, 0.9, 0.98], high = [0.4, 0.64, 0.95], cover = clouds(draw, 5);
      return paint(image, (x, y, p) => {
        const v = y / N, cloud = clip(cover[p] - 0.55, 0, 1) * 2.2;
        return (_, c) => {
          const sky = high[c] * (1 - v) + low[c] * v + tint[c];
          return sky + cloud * (1 - sky);
        };
      });
    }
    const base = FLAT[name].map((v, c) => v + tint[c]);
    const by = (factor) => paint(image, (x, y, p) => { const f = factor(x, y, p); return (_, c) => base[c] * f; });
    if (name === "plain") { const light = draw.between(0.6, 0.9); return paint(image, () => (_, c) => base[c] + light); }
    if (name === "grass") { const n = noise(draw, 1); return by((x, y, p) => 1 + 0.3 * n[p]); }
    if (name === "sand") { const r = clouds(draw, 12), n = noise(draw, 1); return by((x, y, p) => 0.82 + 0.3 * r[p] + 0.05 * n[p]); }
    if (name === "night") {
      by(() => 1);
      for (let k = 10 + draw.below(12); k > 0; k--) {
        const light = draw.between(0.6, 1), at = 3 * (draw.below(N) * N + draw.below(N));
        image.fill(light, at, at + 3);
      }
      return;
    }
    if (name === "water") {
      const phase = draw.unit();
      return paint(image, (x, y) => { const w = 0.1 * wave(y * 0.15 + 0.35 * wave(x * 0.045 + phase)); return (_, c) => base[c] + w; });
    }
    if (name === "brick") {
      const down = draw.below(8), along = draw.below(12), n = noise(draw, 1);
      return paint(image, (x, y, p) => {
        const row = floor((y + down) / 8), joint = mod(y - row * 8, 8) < 1.5 || mod(x + along + 6 * mod(row, 2), 12) < 1.5;
        return (_, c) => (joint ? 0.78 : base[c] * (1 + 0.1 * n[p]));
      });
    }
    const c3 = clouds(draw, 3); // wood
    by((x, y, p) => 1 + 0.16 * wave(x * 0.13 + 1.2 * c3[p]));
  };

  const thingOn = (image, thing, style, draw, world) => {
    const t = thing.tilt ?? 0, cos = (1 - t * t) / (1 + t * t), sin = (2 * t) / (1 + t * t), r = thing.radius;
    const shade = draw.between(0.92, 1.08), jitter = [0, 1, 2].map(() => draw.between(-0.03, 0.03));
    const colour = world.rgb[thing.colour].map((v, c) => clip((v / 255) * shade + jitter[c], 0, 1));
    const dark = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] < 0.35;
    const second = colour.map((v) => (dark ? v * 0.4 + 0.6 : v * 0.3));
    const distanceOf = DISTANCE[world.shapes[thing.shape]], patternOf = PATTERN[world.textures[thing.texture]];
    paint(image, (X, Y) => {
      const dx = X - thing.x, dy = Y - thing.y, px = cos * dx + sin * dy, py = cos * dy - sin * dx, x = px / r, y = py / r;
      const distance = distanceOf(x, y) * r, inside = clip(0.5 - distance, 0, 1), pattern = patternOf(px, py);
      if (style === "sketch") {
        const line = max(clip(1.7 - abs(distance), 0, 1), pattern ? 0.8 * inside : 0);
        return (v, c) => (v + (colour[c] - v) * inside * 0.4) * (1 - line) + colour[c] * 0.75 * line;
      }
      const lit = style === "photo" || style === "grainy";
      const rim = clip(1.2 - abs(distance + 0.6), 0, 1) * 0.75;
      const shadow = lit ? clip(1 - (hypot(dx - 2, dy - 3) / r - 0.8) * 3, 0, 1) : 0;
      const light = lit ? clip(1 - 0.22 * (x + y), 0.6, 1.3) : 1;
      const gloss = lit ? 0.22 / (1 + 9 * ((x + 0.35) ** 2 + (y + 0.4) ** 2)) ** 2 : 0;
      return (v, c) => {
        let fill = (pattern ? second : colour)[c];
        fill = fill * (1 - rim) + (dark ? 0.62 : 0.22 * colour[c]) * rim;
        if (lit) fill = clip(fill * light + gloss, 0, 1);
        return v * (1 - 0.25 * shadow) * (1 - inside) + fill * inside;
      };
    });
  };

  // A scene as RGBA bytes. scene: {things: [{shape, colour, texture, x, y, radius, tilt}], background, style}
  const render = (scene, draw, world) => {
    const image = new Float32Array(3 * N * N), style = world.styles[scene.style];
    background(image, world.backgrounds[scene.background], draw);
    if (style === "sketch") paint(image, () => (v) => 0.5 + 0.5 * v);
    for (const thing of scene.things) thingOn(image, thing, style, draw, world);
    if (style === "photo") {
      const light = draw.between(0.85, 1.1), n = noise(draw, 1);
      paint(image, (x, y, p) => (v) => v * light + 0.03 * n[p]);
    } else if (style === "grainy") {
      const n = noise(draw, 3);
      paint(image, (x, y, p) => (v, c) => v * 0.8 + 0.1 + 0.17 * n[3 * p + c]);
    }
    const out = new Uint8ClampedArray(4 * N * N).fill(255);
    for (let p = 0; p < N * N; p++) for (let c = 0; c < 3; c++) out[4 * p + c] = floor(clip(image[3 * p + c], 0, 1) * 255 + 0.5);
    return out;
  };

  // What a caption says, in the world's terms -------------------------------------------------------

  // {things: [{shape, colour, texture, size}], background, style, relation, unknown: [words]}
  const read = (clipModel, caption) => {
    const { world } = clipModel.meta, words = clipModel.words(caption);
    const phrases = [];
    const learn = (table, kind, names) => {
      for (const [name, list] of Object.entries(table)) {
        for (const phrase of list) phrases.push([phrase.split(" "), kind, names.indexOf(name)]);
      }
    };
    learn(world.places, "background", world.backgrounds);
    const last = (list) => list.map((phrase) => phrase.split(" ").at(-1)).filter((word) => word !== "behind");
    learn(Object.fromEntries(Object.entries(world.places).map(([name, list]) => [name, last(list)])), "background", world.backgrounds);
    learn(world.media, "style", world.styles);
    learn(world.relation, "relation", world.relations);
    for (const [kind, names] of [["shape", world.shapes], ["colour", world.colours], ["texture", world.textures], ["size", world.sizes]]) {
      for (const name of names) for (const word of world.synonyms[name]) phrases.push([[word], kind, names.indexOf(name)]);
    }
    const what = world.media;
    for (const [name, list] of Object.entries(what)) for (const p of list) phrases.push([["in", ...p.replace(/ of$/, "").split(" ")], "style", world.styles.indexOf(name)]);
    phrases.sort((a, b) => b[0].length - a[0].length);
    const said = { things: [], background: null, style: null, relation: null, loose: {} };
    let thing = {};
    for (let i = 0; i < words.length; ) {
      const found = phrases.find(([p]) => p.every((word, k) => words[i + k] === word));
      if (!found) { i += 1; continue; }
      const [phrase, kind, index] = found;
      if (kind === "background" || kind === "style") said[kind] = index;
      else if (kind === "relation") said.relation = said.things.length === 1 ? index : said.relation;
      else thing[kind] = index;
      if (kind === "shape") { said.things.push(thing); thing = {}; }
      i += phrase.length;
    }
    if (Object.keys(thing).length) said.things.push(thing); // "red": an object without a shape
    said.unknown = words.filter((word) => !clipModel.ids.has(word) || word.startsWith("<"));
    return said;
  };

  // Whether a scene is as said: the objects named are there, each another one.
  const KINDS = ["shape", "colour", "texture", "size"];
  const holds = (said, scene) => {
    if (said.background !== null && said.background !== scene.background) return false;
    if (said.style !== null && said.style !== scene.style) return false;
    const fits = (t, k) => KINDS.every((kind, a) => t[kind] === undefined || t[kind] === scene.things[k][a]);
    const opposite = [1, 0, 3, 2];
    const place = (k, used) => {
      if (k === said.things.length) {
        if (said.relation === null || used.length < 2) return true;
        const pair = `${used[0]}${used[1]}`;
        return (pair === "01" && said.relation === scene.relation) || (pair === "10" && said.relation === opposite[scene.relation]);
      }
      return scene.things.some((_, s) => !used.includes(s) && fits(said.things[k], s) && place(k + 1, [...used, s]));
    };
    return said.things.length <= scene.things.length && place(0, []);
  };
  const saysAnything = (said) => said.things.length > 0 || said.background !== null || said.style !== null;

  return { Stream, render, read, holds, saysAnything, N };
};
