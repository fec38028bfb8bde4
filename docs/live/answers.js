// What the page asks for, computed: by a worker where there is one, so that the page never waits.
// A function that needs nothing from outside, so that a worker can be made of its text.
globalThis.liveAnswers = (ofClip, ofWorld, ofGap) => {
  "use strict";
  const { Clip, bytesOf, tensors } = ofClip, { Pairs, dot } = ofGap;
  const { Stream, render, read, holds, saysAnything, N } = ofWorld;
  let clip, model, world, look; // look: embeddings of the pictures that are searched
  const known = new Map(), sources = new Map(), sets = new Map();

  const bytes = (blob) => (typeof blob === "string" ? bytesOf(blob) : new Uint8Array(blob.slice().buffer));
  const text = (caption) => {
    if (known.size > 2000) known.clear();
    if (!known.has(caption)) known.set(caption, clip.encodeText(caption));
    return known.get(caption);
  };
  // What a caption says, as words to be shown
  const words = (said) => {
    const of = (thing) => ["size", "texture", "colour", "shape"].filter((k) => thing[k] !== undefined).map((k) => world[`${k}s`][thing[k]]).join(" ");
    const named = (list, index) => (index === null ? [] : [list[index]]);
    return [...said.things.map(of), ...named(world.relations, said.relation), ...named(world.backgrounds, said.background), ...named(world.styles, said.style)];
  };
  // One object, as the composer has it, in the middle
  const full = (s) => ({
    things: s.shape === null ? [] : [{ shape: s.shape, colour: s.colour, texture: s.texture, x: N / 2, y: N / 2, radius: world.radius[1], tilt: 0.02 }],
    background: s.background, style: s.style,
  });

  return {
    // The model; the bytes of the sheet of pictures come back
    open(meta) {
      [model, world] = [meta, meta.world];
      clip = new Clip(meta, bytes(meta.blob));
      look = clip.get("pairs.image").data;
      return clip.get("sheet").data.slice();
    },
    // Arrays, by the name of their script
    more(name, { tensors: index, blob }) {
      sources.set(name, tensors(index, bytes(blob)));
    },
    // A set of pairs by its name in a script; its centroid distance comes back
    pairs(name, source, n) {
      const get = sources.get(source);
      if (!sets.has(name)) sets.set(name, new Pairs(get(`${name}.image`).data, get(`${name}.text`).data, n));
      return sets.get(name).size;
    },
    text,
    image: (pixels) => clip.encodeImage(pixels),
    tokens: (caption) => clip.tokens(caption),
    pixels: (scene, seed) => render(scene, new Stream(seed), world),

    // The pictures in the order of their cosine with a caption, and of which it is true
    search(caption) {
      const started = performance.now(), row = text(caption), took = performance.now() - started;
      const scores = model.scenes.map((_, i) => dot(look, row, i * row.length, 0, row.length));
      const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
      const said = read(clip, caption), checks = saysAnything(said);
      const right = model.scenes.map((scene) => checks && holds(said, scene));
      return { row, scores, order, right, checks, words: words(said), unknown: said.unknown, took };
    },
    // A composed picture with strokes [x, y, colour] on it: its pixels and its embedding
    compose(scene, seed, strokes) {
      const pixels = render(full(scene), new Stream(seed), world);
      for (const [x, y, colour] of strokes) {
        for (let r = Math.max(0, y - 2); r < Math.min(N, y + 2); r++) {
          for (let c = Math.max(0, x - 2); c < Math.min(N, x + 2); c++) pixels.set(world.rgb[colour], 4 * (r * N + c));
        }
      }
      const started = performance.now(), row = clip.encodeImage(pixels);
      return { pixels, row, took: performance.now() - started };
    },
    // Small pictures of the choices of the composer
    thumbnails: (scenes) => scenes.map((scene) => render(full(scene), new Stream(3), world)),
    cosines: (row, captions) => captions.map((caption) => dot(text(caption), row)),

    // Places of a cloud, and of the reader's own picture and caption in it (rows, or null)
    cloud(name, way, t, picture, caption) {
      const pairs = sets.get(name), points = pairs.cloud(way, t);
      if (!picture || !caption) return points;
      const [a, b] = [pairs.moved(picture, "image", way, t), pairs.moved(caption, "text", way, t)];
      return { ...points, own: [a.place, b.place], together: dot(a.unit, b.unit) };
    },
    measure: (name, way, t, scale) => sets.get(name).measure(way, t, scale),
    found: (name, way, t, i) => sets.get(name).found(way, t, i),
    // Both ways at the same share of the gap left
    equal(name, left, scale) {
      const pairs = sets.get(name), at = (way) => pairs.measure(way, pairs.amount(way, left), scale);
      return { shift: at("shift"), post: at("post") };
    },
  };
};

// Ask by name, with plain arguments; a promise comes back. Two workers, so that words and pictures
// need not wait for measures of the gap.
globalThis.liveAsk = () => {
  "use strict";
  const { liveClip, liveWorld, liveGap, liveAnswers } = globalThis;
  const OF_GAP = new Set(["more", "pairs", "cloud", "measure", "found", "equal"]);
  const local = () => {
    const answers = liveAnswers(liveClip(), liveWorld(), liveGap());
    return async (name, ...args) => answers[name](...args);
  };
  const source = `const answers = (${liveAnswers})((${liveClip})(), (${liveWorld})(), (${liveGap})());
    onmessage = ({ data: [id, name, args] }) => {
      try { postMessage([id, answers[name](...args)]); } catch (error) { postMessage([id, null, String(error)]); }
    };`;
  // From its text: a page that is opened as a file may start no worker from another file.
  const started = () => {
    const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    const waiting = new Map();
    let last = 0;
    worker.onmessage = ({ data: [id, answer, error] }) => {
      const [resolve, reject] = waiting.get(id);
      waiting.delete(id);
      if (error) reject(new Error(error)); else resolve(answer);
    };
    return (name, ...args) => new Promise((resolve, reject) => {
      waiting.set((last += 1), [resolve, reject]);
      worker.postMessage([last, name, args]);
    });
  };
  let towers, gap;
  try { [towers, gap] = [started(), started()]; } catch { towers = gap = local(); }
  return (name, ...args) => (OF_GAP.has(name) ? gap : towers)(name, ...args);
};
