// What the parts of the page share: elements, motion, and charts on canvas in the style sheet's
// colours. Every chart has a text for those who do not see it.
globalThis.liveCharts = (() => {
  "use strict";

  const h = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  };
  const number = (v, digits = 2) => {
    const text = v.toFixed(digits);
    return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
  };
  const percent = (v) => `${Math.round(100 * v)} %`;

  // Work that was asked for while it was under way is done once more, not as often as asked.
  const latest = (work) => {
    let busy = false, again = false;
    return async () => {
      if (busy) { again = true; return; }
      busy = true;
      try {
        do {
          again = false;
          await work();
        } while (again);
      } finally { busy = false; }
    };
  };
  const perFrame = (work) => {
    let asked = 0;
    return () => { asked ||= requestAnimationFrame(() => { asked = 0; work(); }); };
  };

  const still = matchMedia("(prefers-reduced-motion: reduce)");
  // Children glide from where they were to where they are put.
  const glide = (parent, children) => {
    if (children.length === parent.children.length && children.every((c, k) => parent.children[k] === c)) return;
    const focused = document.activeElement, before = new Map([...parent.children].map((c) => [c, c.getBoundingClientRect()]));
    parent.replaceChildren(...children);
    if (parent.contains(focused)) focused.focus({ preventScroll: true });
    if (still.matches) return;
    for (const child of children) {
      const was = before.get(child), is = child.getBoundingClientRect();
      if (!was) child.animate([{ opacity: 0, scale: 0.8 }, { opacity: 1, scale: 1 }], 200);
      else if (was.x !== is.x || was.y !== is.y) {
        child.animate([{ translate: `${was.x - is.x}px ${was.y - is.y}px` }, { translate: "0 0" }], { duration: 260, easing: "ease-out" });
      }
    }
  };
  // Values from one to another within a second; at once where motion is not wanted.
  const glideTo = (from, to, show) => {
    const started = performance.now();
    const step = (now) => {
      const f = still.matches ? 1 : Math.min(1, Math.max(0, (now - started) / 1000)), ease = f * f * (3 - 2 * f);
      show(f === 1 ? to : from + (to - from) * ease);
      if (f < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  };

  const prepared = (canvas) => {
    const { clientWidth: w, clientHeight: height } = canvas, dpr = devicePixelRatio || 1;
    if (canvas.width !== Math.round(w * dpr) || canvas.height !== Math.round(height * dpr)) {
      canvas.width = Math.round(w * dpr);
      canvas.height = Math.round(height * dpr);
    }
    const g = canvas.getContext("2d"), style = getComputedStyle(canvas);
    g.setTransform(dpr, 0, 0, dpr, 0, 0);
    g.clearRect(0, 0, w, height);
    g.font = `${w < 380 ? 12 : 13}px ${style.fontFamily}`;
    return { g, w, h: height, ink: (name) => style.getPropertyValue(`--${name}`).trim() };
  };
  const dotAt = (g, [x, y], colour, r, ring, width = 2) => {
    g.beginPath();
    g.arc(x, y, r, 0, 7);
    g.fillStyle = colour;
    g.fill();
    g.lineWidth = width;
    g.strokeStyle = ring;
    g.stroke();
  };

  // points: {image, text}, each [gap, first, second] x n; own: two places; followed: a row
  const cloud = (canvas, points, turn, { own, followed = null } = {}) => {
    const { g, w, h: height, ink } = prepared(canvas);
    if (!w || !points) return;
    const { image, text } = points, n = image[0].length, step = Math.ceil(n / 200);
    const size = Math.min(w / 1.35, height / 1.45), cos = Math.cos(turn), sin = Math.sin(turn);
    const place = ([a, b, c]) => [w / 2 + (a * cos + c * sin) * size, height / 2 - b * size];
    const at = (columns, i) => place(columns.map((column) => column[i]));
    const middle = (columns) => place(columns.map((column) => column.reduce((a, v) => a + v / n, 0)));
    const line = (from, to, colour, width) => {
      [g.strokeStyle, g.lineWidth] = [colour, width];
      g.beginPath(); g.moveTo(...from); g.lineTo(...to); g.stroke();
    };
    g.globalAlpha = 0.18;
    for (let i = 0; i < n; i += step) line(at(image, i), at(text, i), ink("pair"), 1);
    g.globalAlpha = 0.5;
    for (const [columns, name] of [[image, "image"], [text, "text"]]) {
      g.fillStyle = ink(name);
      g.beginPath();
      for (let i = 0; i < n; i++) { const [x, y] = at(columns, i); g.moveTo(x + 2, y); g.arc(x, y, 2, 0, 7); }
      g.fill();
    }
    g.globalAlpha = 1;
    const [a, b] = [middle(image), middle(text)];
    line(b, a, ink("gap"), 3);
    dotAt(g, a, ink("image"), 6, ink("page"));
    dotAt(g, b, ink("text"), 6, ink("page"));
    if (followed !== null) {
      const pair = [at(image, followed), at(text, followed)];
      line(...pair, ink("pair-ink"), 2);
      pair.forEach((spot, k) => dotAt(g, spot, ink(k ? "text" : "image"), 5, ink("ink")));
    }
    ["your picture", "your caption"].forEach((what, k) => {
      if (!own) return;
      const [x, y] = place(own[k]), colour = ink(k ? "text" : "image"), half = g.measureText(what).width / 2 + 6;
      dotAt(g, [x, y], ink("page"), 7, colour);
      dotAt(g, [x, y], colour, 3, colour);
      const to = [Math.min(Math.max(x, half), w - half), y + (k ? 22 : -12)];
      [g.textAlign, g.lineWidth, g.strokeStyle, g.lineJoin, g.fillStyle] = ["center", 4, ink("page"), "round", ink("ink")];
      g.strokeText(what, ...to);
      g.fillText(what, ...to);
    });
  };

  // lines: [{label, colour, dash, dots, points: [[x, y from 0 to 1]], mark: y or null}]
  // at: where the marks are; ticks: [[x, label, align]]; ends: labels of 0 and 1 on the left
  const lines = (canvas, every, [min, max], at, ticks, ends = []) => {
    const { g, w, h: height, ink } = prepared(canvas);
    if (!w) return;
    const [left, right, top, bottom] = [ends.length ? 34 : 10, w - 10, 30, height - 24];
    const x = (v) => left + ((v - min) / (max - min)) * (right - left), y = (v) => bottom - v * (bottom - top);
    const path = (points, colour, dash, width = 2) => {
      [g.strokeStyle, g.lineWidth] = [colour, width];
      g.setLineDash(dash);
      g.beginPath();
      points.forEach((p, i) => g[i ? "lineTo" : "moveTo"](...p));
      g.stroke();
      g.setLineDash([]);
    };
    path([[left, bottom], [right, bottom]], ink("line"), [], 1);
    if (at !== null) path([[x(at), top], [x(at), bottom]], ink("line"), [], 1);
    g.fillStyle = ink("soft");
    for (const [v, label, align] of ticks) {
      g.textAlign = align ?? "center";
      g.fillText(label, x(v), bottom + 17);
    }
    g.textAlign = "right";
    ends.forEach((label, v) => g.fillText(label, left - 6, y(v) + 5));
    let from = 10;
    for (const { label, colour, text = colour, dash = [], dots, points, mark = null } of every) {
      path(points.map(([a, b]) => [x(a), y(b)]), ink(colour), dash);
      if (dots) for (const [a, b] of points) dotAt(g, [x(a), y(b)], ink(colour), a === at ? 7 : 4, ink("page"));
      if (mark !== null) dotAt(g, [x(at), y(mark)], ink(colour), 4.5, ink("page"), 1.5);
      path([[from, 10], [from + 16, 10]], ink(colour), dash);
      [g.textAlign, g.fillStyle] = ["left", ink(text)];
      g.fillText(label, from + 20, 14);
      from += 20 + g.measureText(label).width + 12;
    }
  };

  // Turned by dragging, and by the arrow keys
  const turnable = (canvas, state, turned) => {
    const by = (angle) => {
      state.turn = ((state.turn + angle) % (2 * Math.PI) + 2 * Math.PI) % (2 * Math.PI);
      turned();
    };
    canvas.addEventListener("pointerdown", (e) => canvas.setPointerCapture(e.pointerId));
    canvas.addEventListener("pointermove", (e) => { if (e.buttons & 1) by(e.movementX / 150); });
    canvas.addEventListener("keydown", (e) => {
      const angle = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1, Home: -state.turn }[e.key];
      if (angle === undefined) return;
      e.preventDefault();
      by(angle);
    });
  };

  return { h, number, percent, latest, perFrame, glide, glideTo, cloud, lines, turnable };
})();
