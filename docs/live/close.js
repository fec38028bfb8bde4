// Parts three to five: the gap of mini-clip and of real CLIP, closed in two ways; the two ways at
// the same gap; and the gap that a temperature of training leaves.
globalThis.liveClose = (page) => {
  "use strict";
  const { h, number, percent, latest, perFrame, glideTo, cloud, lines, turnable } = globalThis.liveCharts;
  const { ask, state, meta } = page;
  const WAYS = { shift: "Shift along the gap", post: "Subtract each mean (I0T_post)" };
  const MEASURES = {
    distance: ["Centroid distance", "Length of the vector from the mean caption to the mean image"],
    i2t: ["R@1, image → caption", "Share of images whose own caption is the nearest"],
    t2i: ["R@1, caption → image", "Share of captions whose own image is the nearest"],
    loss: ["Contrastive loss", "CLIP's loss over all pairs at this temperature"],
    cosine: ["Cosine of pairs", "Mean cosine of an image and its own caption"],
  };
  const [MIN, MAX] = [-0.4, 1.6]; // of the slider, in shares of the way
  const thousands = (n) => n.toLocaleString("en");
  const recall = (m) => (m.i2t + m.t2i) / 2;
  // Part of a page that comes near, once
  const near = (section, work) => new IntersectionObserver((seen, observer) => {
    if (seen.some((one) => one.isIntersecting)) { observer.disconnect(); work(); }
  }, { rootMargin: "700px" }).observe(section);
  const pressed = (group, key, value) => { for (const b of group.children) b.setAttribute("aria-pressed", b.dataset[key] === value); };
  const cloudOf = (title, turned) => {
    const canvas = h("canvas", { class: "cloud", tabindex: 0, role: "slider", "aria-label": `Images and captions of ${title}; the arrow keys turn the cloud`, "aria-valuemin": 0, "aria-valuemax": 360, "aria-valuenow": 0 });
    turnable(canvas, state, turned);
    return canvas;
  };
  const tell = (canvas, what) => {
    const angle = Math.round((state.turn * 180) / Math.PI);
    canvas.setAttribute("aria-valuenow", angle);
    canvas.setAttribute("aria-valuetext", `turned by ${angle} degrees. ${what}`);
  };
  const legend = () => h("p", { class: "legend" }, h("span", { class: "image" }, "images"), h("span", { class: "text" }, "captions"), h("span", { class: "gap" }, "the gap between their means"), h("span", { class: "pair" }, "an image and its own caption"));

  // Three: close the gap --------------------------------------------------------------------------

  const subject = ({ name, source, title, note, captions, pictures, key }) => {
    const n = captions.length, last = pictures ?? n, curves = new Map();
    const canvas = cloudOf(title, () => { for (const s of subjects) s.draw(); page.changed("turn"); });
    const curve = h("canvas", { class: "curve", role: "img" }), together = h("p", { class: "summary together" });
    const cells = Object.fromEntries(["distance", "i2t", "t2i", "loss"].map((m) => [m, [h("dd", {}), h("dd", { class: "was" })]]));
    const row = h("input", { type: "number", min: 1, max: last, id: `live-${name}-pair`, oninput: () => follow(Math.round(+row.value)) });
    const said = h("div", { class: "followed", "aria-live": "polite" });
    let ready = null, points, measured, trained, line = [], job = 0;

    const follow = (i) => {
      if (!(i >= 1 && i <= last)) return;
      state[key] = i;
      if (+row.value !== i) row.value = i;
      refresh();
      page.changed("address");
    };
    const draw = perFrame(() => {
      cloud(canvas, points, state.turn, { own: points?.own, followed: state[key] - 1 });
      const top = Math.max(0.1, ...line.map(([, m]) => m.loss), measured?.loss ?? 0), at = Math.min(MAX, Math.max(MIN, state.amount));
      const of = (f) => ({ points: line.map(([t, m]) => [t, f(m)]), mark: measured ? f(measured) : null });
      lines(curve, [
        { label: `loss, 0 to ${number(top, 1)}`, colour: "ink", ...of((m) => m.loss / top) },
        { label: "R@1, 0 to 1", colour: "pair", text: "pair-ink", dash: [5, 4], ...of(recall) },
        { label: "distance, 0 to 2", colour: "gap", text: "gap-ink", dash: [2, 3], ...of((m) => m.distance / 2) },
      ], [MIN, MAX], at, [[0, "as trained"], [1, "closed"]]);
      if (!measured) return;
      const words = `centroid distance ${number(measured.distance, 3)}, R@1 ${number(measured.i2t, 3)} from image to caption and ${number(measured.t2i, 3)} from caption to image, loss ${number(measured.loss, 3)}`;
      tell(canvas, words);
      curve.setAttribute("aria-label", `Loss, recall and distance along the slider. Now: ${words}.`);
    });
    // The caption that an image finds, in words
    const show = ({ best, rank }, i) => {
      const right = rank === 1;
      said.replaceChildren(...(pictures ? [page.picture(i)] : []), h("p", {},
        h("span", { class: "soft" }, "Its own caption: "), captions[i], h("br"),
        h("span", { class: "soft" }, "The caption it finds: "),
        right ? h("b", { class: "yes" }, "✓ its own") : h("span", {}, captions[best], h("b", { class: "no" }, ` ✗ its own ranks ${rank}`))));
    };
    const refresh = latest(async () => {
      if (!ready) return;
      await ready;
      const { way, amount, scale } = state, i = state[key] - 1, own = name === "pairs" ? [state.picture, state.row] : [null, null];
      points = await ask("cloud", name, way, amount, ...own);
      draw();
      measured = await ask("measure", name, way, amount, scale);
      trained = await ask("measure", name, way, 0, scale);
      for (const [m, [value, was]] of Object.entries(cells)) {
        value.textContent = number(measured[m], 3);
        was.textContent = `as trained ${number(trained[m], 3)}`;
      }
      if (points.together !== undefined) together.textContent = `Your picture and your caption: cosine ${number(points.together)}.`;
      show(await ask("found", name, way, amount, i), i);
      root.measured = { way, amount, scale, ...measured };
      draw();
    });
    // Measures along the slider, one after the other, behind everything else
    const trace = async () => {
      const mine = ++job, { way, scale } = state, known = `${way} ${scale}`;
      line = curves.get(known) ?? [];
      draw();
      if (line.length || !ready) return;
      await ready;
      await new Promise((resolve) => setTimeout(resolve, 300));
      const found = [];
      for (let k = 0; k <= 30 && mine === job; k++) {
        const t = MIN + ((MAX - MIN) * k) / 30;
        found.push([t, await ask("measure", name, way, t, scale)]);
        if (mine === job) { line = found; draw(); }
      }
      if (found.length === 31) curves.set(known, found);
    };
    const open = () => (ready ??= (async () => {
      await page.more(source);
      return ask("pairs", name, source, n);
    })());

    const step = (by, what) => h("button", { type: "button", class: "quiet", "aria-label": what, onclick: () => follow(state[key] + by) }, by < 0 ? "‹" : "›");
    const root = h("div", { class: "subject", "data-subject": name }, h("h3", {}, title), h("p", { class: "soft" }, note), canvas, together,
      h("dl", { class: "metrics" }, ...Object.entries(cells).map(([m, two]) => h("div", { title: MEASURES[m][1] }, h("dt", {}, MEASURES[m][0]), ...two))), curve,
      h("div", { class: "follow" }, h("label", { for: `live-${name}-pair` }, "Follow image"), step(-1, "The image before"), row, step(1, "The next image"), h("span", { class: "soft" }, `of ${last}`)), said);
    return { name, title, source, open, root, draw, trace, refresh, n, restored: () => { row.value = state[key]; } };
  };

  const subjects = [subject({ name: "pairs", source: "data", title: meta.name, captions: meta.captions, pictures: meta.scenes.length, key: "pair",
    note: `${thousands(meta.captions.length)} pairs of drawn (synthetic) scenes and their full captions.` })];
  const real = h("div", { class: "subject" });
  const missing = () => h("div", {}, h("h3", {}, "Real CLIP"), h("p", { class: "soft" }, "Real CLIP is not on this page: its published embeddings and captions were not there when the page was built."));

  const out = h("output", { for: "live-amount" });
  const amount = h("input", { id: "live-amount", type: "range", step: 0.01, min: MIN, max: MAX, oninput: () => to(+amount.value) });
  const to = (t) => { state.amount = t; moved(); page.changed("address"); };
  const ways = h("div", { class: "tabs", role: "group", "aria-label": "How the gap is closed" },
    ...Object.entries(WAYS).map(([way, title]) => h("button", { type: "button", "data-way": way, onclick: () => { state.way = way; moved(); trace(); page.changed("address"); } }, title)));
  const jump = (t, what) => h("button", { type: "button", onclick: () => glideTo(state.amount, t, to) }, what);
  const moved = () => {
    pressed(ways, "way", state.way);
    amount.value = state.amount;
    const share = percent(state.amount).replace("-", "−");
    out.textContent = state.way === "shift" ? `δ = ${share} of the gap` : state.amount === 1 ? "the whole mean: I0T_post" : `${share} of the mean`;
    amount.setAttribute("aria-valuetext", out.textContent);
    for (const s of subjects) s.refresh();
  };
  const trace = () => { for (const s of subjects) s.trace(); };

  const third = h("section", { "aria-label": "Close the gap" }, h("h2", {}, "Close the gap"),
    h("p", { class: "note" }, "Images and captions in three dimensions: that of the gap, and the two in which they differ most within a modality. Drag a cloud to turn it, or use the arrow keys on it. The means are those of the pairs that are shown, as in the papers. R@1 depends on how many pairs are searched: compare before with after, not one model with the other."),
    h("div", { class: "controls" }, ways, page.temperature("live-t2")), legend(), h("div", { class: "two" }, subjects[0].root, real),
    h("div", { class: "hand" }, h("p", { class: "chips" }, jump(0, "as trained"), jump(1, "close it")), h("div", { class: "slider" }, h("label", { for: "live-amount" }, "How far"), amount, out)));

  // Four: two ways, the same gap ------------------------------------------------------------------

  const tables = h("div", { class: "two" });
  const leftOut = h("output", { for: "live-left" });
  const left = h("input", { id: "live-left", type: "range", step: 0.01, min: 0, max: 1, oninput: () => { state.left = +left.value; levelled(); page.changed("address"); } });
  const equals = [];
  const equal = ({ name, title, open }) => {
    const canvas = h("canvas", { class: "curve tall", role: "img" }), cells = {}, sentence = h("p", { class: "cost", "aria-live": "polite" });
    const points = { shift: [], post: [] };
    let now;
    const body = Object.entries(MEASURES).filter(([m]) => m !== "loss").map(([m, [label]]) => h("tr", {}, h("th", { scope: "row" }, label), ...(cells[m] = [0, 1, 2].map(() => h("td", {})))));
    const draw = perFrame(() => {
      const low = Math.min(1, ...points.shift.concat(points.post).map(([, r]) => r)), floor = Math.floor(10 * low) / 10, scaled = (r) => (r - floor) / (1 - floor || 1);
      const of = (way) => ({ points: points[way].map(([x, r]) => [1 - x, scaled(r)]), mark: now ? scaled(recall(now[way])) : null });
      lines(canvas, [{ label: "R@1, shift", colour: "gap", text: "gap-ink", dash: [2, 3], ...of("shift") }, { label: "R@1, I0T_post", colour: "pair", text: "pair-ink", ...of("post") }],
        [0, 1], 1 - state.left, [[0, "as trained", "left"], [1, "closed", "right"]], [number(floor, 1), "1"]);
    });
    const refresh = latest(async () => {
      await open();
      now = await ask("equal", name, state.left, state.scale);
      const trained = await ask("measure", name, "shift", 0, state.scale);
      for (const [m, [a, b, c]] of Object.entries(cells)) [a.textContent, b.textContent, c.textContent] = [trained, now.shift, now.post].map((each) => number(each[m], 3));
      const cost = (way) => 100 * (trained.i2t - now[way].i2t), word = (v) => (v > -0.05 ? `costs ${number(v, 1)} points` : `gains ${number(-v, 1)} points`);
      sentence.textContent = `${state.left ? `With ${percent(state.left)} of the gap left` : "Taken to its end"}, the shift ${word(cost("shift"))} of R@1 from image to caption, I0T_post ${word(cost("post"))}.`;
      canvas.setAttribute("aria-label", `R@1, the mean of both directions, along the gap that is left. Now: shift ${number(recall(now.shift), 3)}, I0T_post ${number(recall(now.post), 3)}.`);
      root.equal = { left: state.left, trained, ...now };
      draw();
    });
    const root = h("div", { class: "subject", "data-equal": name }, h("h3", {}, title), sentence,
      h("table", { class: "level" }, h("thead", {}, h("tr", {}, h("td", {}), ...["as trained", "shift", "I0T_post"].map((c) => h("th", { scope: "col" }, c)))), h("tbody", {}, ...body)), canvas);
    const start = async () => {
      await refresh();
      for (let k = 0; k <= 20; k++) {
        const at = await ask("equal", name, 1 - k / 20, meta.scale);
        for (const way of Object.keys(points)) points[way].push([1 - k / 20, recall(at[way])]);
        draw();
      }
    };
    tables.append(root);
    equals.push({ refresh, draw });
    return start;
  };
  const levelled = () => {
    left.value = state.left;
    leftOut.textContent = percent(state.left);
    for (const e of equals) e.refresh();
  };
  const fourth = h("section", { "aria-label": "Two ways at the same gap" }, h("h2", {}, "Two ways to the same gap"),
    h("p", { class: "note" }, "The shift moves all images by one vector, and all captions by its opposite. I0T_post subtracts from each modality its own mean. Here both leave the same distance between the means; at 0 % each is taken to its end, which leaves a little. What do they cost?"),
    tables, h("div", { class: "hand" }, h("div", { class: "slider" }, h("label", { for: "live-left" }, "Gap left"), left, leftOut)));

  // Five: temperature in training -----------------------------------------------------------------

  const fifth = h("section", { "aria-label": "The temperature of training" }, h("h2", {}, "Train at another temperature"));
  const temperatures = () => {
    const data = page.data.temperature, roles = Object.keys(data.scales), all = {}, n = data.captions.length;
    const label = (role) => (role === "t1" ? "1" : `1 / ${Math.round(data.scales[role])}`);
    const canvas = cloudOf("the model trained at this temperature", () => { draw(); page.changed("turn"); });
    const chart = h("canvas", { class: "curve tall", role: "img" }), metrics = h("dl", { class: "metrics" }), words = h("p", { class: "cost", "aria-live": "polite" });
    const choose = h("div", { class: "tabs", role: "group", "aria-label": "Temperature of training" }, ...roles.map((role) => h("button", { type: "button", "data-role": role, onclick: () => { state.trained = role; refresh(); page.changed("address"); } }, label(role))));
    let points;
    const draw = perFrame(() => {
      cloud(canvas, points, state.turn);
      const x = (role) => Math.log10(data.scales[role]), known = roles.filter((role) => all[role]);
      const of = (f) => known.map((role) => [x(role), f(all[role])]);
      lines(chart, [{ label: "distance, 0 to 2", colour: "gap", text: "gap-ink", dots: true, points: of((m) => m.distance / 2) }, { label: "R@1, 0 to 1", colour: "pair", text: "pair-ink", dash: [5, 4], dots: true, points: of(recall) }],
        [0, Math.max(...roles.map(x))], x(state.trained), roles.filter((r) => !["t20", "t50"].includes(r)).map((role, k, some) => [x(role), label(role), k === 0 ? "left" : k === some.length - 1 ? "right" : "center"]));
      const m = all[state.trained];
      if (m) tell(canvas, `centroid distance ${number(m.distance, 3)}`);
      chart.setAttribute("aria-label", known.map((role) => `temperature ${label(role)}: distance ${number(all[role].distance, 3)}, R@1 ${number(recall(all[role]), 3)}`).join("; "));
    });
    const refresh = latest(async () => {
      const role = state.trained;
      pressed(choose, "role", role);
      await ask("pairs", role, "temperature", n);
      points = await ask("cloud", role, "shift", 0, null, null);
      const m = (all[role] ??= await ask("measure", role, "shift", 0, data.scales[role]));
      metrics.replaceChildren(...["distance", "cosine", "i2t", "t2i"].map((key) => h("div", { title: MEASURES[key][1] }, h("dt", {}, MEASURES[key][0]), h("dd", {}, number(m[key], 3)))));
      words.textContent = `Trained at temperature ${label(role)}: centroid distance ${number(m.distance, 2)}.`;
      fifth.measured = { role, ...m };
      draw();
    });
    fifth.append(
      h("p", { class: "note" }, `Six copies of ${meta.name} were trained on for ${data.steps} steps, each at a fixed temperature. A low temperature lets the loss fall while the clouds are far apart; a high one makes it pay for every degree. Choose one and see the gap that it leaves, in ${n} pairs of drawn scenes.`),
      choose, words, h("div", { class: "two" }, h("div", {}, legend(), canvas), h("div", {}, metrics, chart)));
    redraws.push(draw);
    later.push(refresh);
    return (async () => {
      await refresh();
      for (const role of roles) {
        await ask("pairs", role, "temperature", n);
        all[role] ??= await ask("measure", role, "shift", 0, data.scales[role]);
        draw();
      }
    })();
  };

  const redraws = [], later = [];
  const start = async (one) => {
    await one.open();
    one.restored();
    one.refresh();
    one.trace();
  };
  const begin = () => {
    moved();
    levelled();
    start(subjects[0]);
    if (page.has("real")) {
      near(third, async () => {
        const data = await page.more("real");
        const one = subject({ name: "real", source: "real", title: "Real CLIP", captions: data.captions, key: "photo",
          note: `OpenAI's ViT-B/16 on ${data.captions.length} photographs of COCO and human captions. Only the embeddings are here; the photographs have licences of their own.` });
        subjects.push(one);
        real.replaceWith(one.root);
        await start(one);
        near(fourth, equal(one));
      });
    } else real.replaceChildren(missing());
    near(fourth, equal(subjects[0]));
    if (page.has("temperature")) near(fifth, async () => { await page.more("temperature"); await temperatures(); });
    else fifth.hidden = true;
  };
  return {
    sections: [third, fourth, fifth],
    begin,
    own: () => subjects[0].refresh(),
    scaled: () => { for (const s of subjects) s.refresh(); trace(); for (const e of equals) e.refresh(); },
    restored: () => { moved(); trace(); levelled(); for (const s of subjects) s.restored(); for (const f of later) f(); },
    redraw: () => { for (const f of [...subjects.map((s) => s.draw), ...equals.map((e) => e.draw), ...redraws]) f(); },
  };
};
