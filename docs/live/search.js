// Part one: a caption finds pictures.
globalThis.liveSearch = (page) => {
  "use strict";
  const { h, number, latest, glide } = globalThis.liveCharts, { ask, state, meta } = page;
  const EXAMPLES = ["a heart at sea", "a crescent at night", "something on a brick wall", "a sketch of a ring", "a grainy photo of a cross", "a red crescent right of a white bar", "a red crescent left of a white bar", "a zebra"];
  const SHOWN = 16, n = meta.scenes.length;

  const say = (what) => { state.caption = what; refresh(); };
  const field = h("input", { type: "text", class: "caption", "aria-label": "A caption", spellcheck: "false", autocomplete: "off", autocapitalize: "off", maxlength: 300, oninput: () => say(field.value) });
  const said = h("p", { class: "said" }), summary = h("p", { class: "summary", "aria-live": "polite" }), grid = h("ul", { class: "grid" });
  const tiles = meta.scenes.map((_, i) => h("li", {},
    h("button", { type: "button", title: meta.captions[i], onclick: () => say(meta.captions[i]) }, page.picture(i), h("span", { class: "value" }))));

  const refresh = latest(async () => {
    if (field.value !== state.caption) field.value = state.caption;
    const { row, scores, order, right, checks, words, unknown, took } = await ask("search", state.caption);
    const first = order.slice(0, SHOWN), total = right.filter(Boolean).length, k = Math.min(total, SHOWN);
    for (const i of first) {
      tiles[i].classList.toggle("right", right[i]);
      tiles[i].querySelector(".value").textContent = `${right[i] ? "✓ " : ""}${number(scores[i])}`;
    }
    glide(grid, first.map((i) => tiles[i]));
    said.replaceChildren(...words.map((w) => h("span", { class: "tag" }, w)),
      ...unknown.map((w) => h("span", { class: "tag unknown", title: "The model has never seen this word" }, `${w}: unknown word`)));
    const found = first.slice(0, k).filter((i) => right[i]).length;
    summary.textContent = !checks ? "The caption names nothing that can be checked."
      : total ? `${total} of ${n} test pictures match; of the ${k} nearest, ${found} do.`
        : `None of the ${n} test pictures is like that; these are the nearest.`;
    page.took("text", took);
    state.row = row;
    page.changed("own");
  });

  const section = h("section", { "aria-label": "Find pictures by words" }, h("h2", {}, "Find pictures by words"),
    h("p", { class: "note" }, `Type a caption. The page ranks ${n} drawn (synthetic) test pictures by the cosine of their embeddings with the caption's. A green frame says that the caption is true of the picture. Choose a picture to search with its own caption.`),
    field, h("p", { class: "chips" }, ...EXAMPLES.map((e) => h("button", { type: "button", onclick: () => say(e) }, e))), said, grid, summary);
  return { section, refresh };
};
