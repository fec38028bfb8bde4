// Pairs of unit rows, and what becomes of the gap between them. A function that needs nothing from
// outside, so that a worker can be made of its text.
//
// Two ways to close the gap, both by a vector for each modality, added before normalising again; t
// is the share of the way: 0 as trained, 1 closed. With means m of the images, k of the captions
// and g = m - k, all of the pairs that are shown:
//   shift  x' = Normalize(x - t g/2), y' = Normalize(y + t g/2)   (Mind the Gap, its lambda is t/2)
//   post   x' = Normalize(x - t m),   y' = Normalize(y - t k)     (at t = 1: I0T_post)
// The cosines of all pairs change by terms of rank one: no product of matrices at a step.
globalThis.liveGap = () => {
  "use strict";

  const dot = (a, b, ia = 0, ib = 0, n = a.length) => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += a[ia + i] * b[ib + i];
    return sum;
  };
  const length = (v) => Math.sqrt(dot(v, v));

  class Pairs {
    // x: images (n, d), y: captions (n, d), row by row; they are normalised here
    constructor(x, y, n) {
      const d = x.length / n;
      [x, y] = [x, y].map((rows) => {
        const unit = Float32Array.from(rows);
        for (let i = 0; i < n; i++) {
          const by = Math.sqrt(dot(rows, rows, i * d, i * d, d));
          for (let k = 0; k < d; k++) unit[i * d + k] /= by;
        }
        return unit;
      });
      Object.assign(this, { x, y, n, d });
      this.base = new Float32Array(n * n);
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) this.base[i * n + j] = dot(x, y, i * d, j * d, d);
      }
      const [m, k] = [this.mean(x), this.mean(y)], gap = m.map((v, i) => v - k[i]);
      this.size = length(gap);
      this.ways = {
        shift: this.way(gap.map((v) => -v / 2), gap.map((v) => v / 2)),
        post: this.way(m.map((v) => -v), k.map((v) => -v)),
      };
      this.axes = [gap.map((v) => v / this.size)];
      for (let i = 0; i < 2; i++) this.axes.push(this.principal(this.axes));
      this.flat = [x, y].map((rows) => this.axes.map((axis) => this.along(rows, axis)));
    }

    along(rows, v) {
      return Float64Array.from({ length: this.n }, (_, i) => dot(rows, v, i * this.d, 0, this.d));
    }

    // u is added to the images, w to the captions, each t times
    way(u, w) {
      const { x, y } = this;
      return {
        u, w, uu: dot(u, u), ww: dot(w, w), uw: dot(u, w),
        xu: this.along(x, u), xw: this.along(x, w), yu: this.along(y, u), yw: this.along(y, w),
      };
    }

    // Mean of the rows, each divided by its length if lengths are given
    mean(rows, lengths) {
      const out = new Float64Array(this.d);
      for (let i = 0; i < this.n; i++) {
        const by = 1 / (this.n * (lengths ? lengths[i] : 1));
        for (let k = 0; k < this.d; k++) out[k] += rows[i * this.d + k] * by;
      }
      return out;
    }

    // First principal direction of what is left without each modality's mean and these directions
    principal(without) {
      const { x, y, n, d } = this, means = [this.mean(x), this.mean(y)];
      let v = Float64Array.from({ length: d }, (_, k) => Math.cos(k + 1));
      for (let step = 0; step < 30; step++) {
        const next = new Float64Array(d);
        [x, y].forEach((rows, m) => {
          const offset = dot(means[m], v);
          for (let i = 0; i < n; i++) {
            const p = dot(rows, v, i * d, 0, d) - offset;
            for (let k = 0; k < d; k++) next[k] += p * (rows[i * d + k] - means[m][k]);
          }
        });
        for (const axis of without) {
          const part = dot(next, axis);
          for (let k = 0; k < d; k++) next[k] -= part * axis[k];
        }
        const by = length(next);
        v = next.map((a) => a / by);
      }
      return v;
    }

    // Lengths of the moved rows before they are normalised again
    lengths(name, t) {
      const way = this.ways[name];
      return {
        way,
        nx: way.xu.map((p) => Math.sqrt(1 + 2 * t * p + t * t * way.uu)),
        ny: way.yw.map((p) => Math.sqrt(1 + 2 * t * p + t * t * way.ww)),
      };
    }

    // A unit row moved as the images (or the captions) are: its coordinates on the axes, and itself
    moved(row, kind, name, t) {
      const v = kind === "image" ? this.ways[name].u : this.ways[name].w;
      const out = Float64Array.from(row, (a, k) => a + t * v[k]), by = length(out);
      const unit = out.map((a) => a / by);
      return { unit, place: this.axes.map((axis) => dot(unit, axis)) };
    }

    // Coordinates on the three axes, [gap, first, second] x n, of images and of captions
    cloud(name, t) {
      const { way, nx, ny } = this.lengths(name, t);
      const place = (flat, v, by) => flat.map((column, k) => {
        const a = t * dot(v, this.axes[k]);
        return Float32Array.from(column, (p, i) => (p + a) / by[i]);
      });
      return { image: place(this.flat[0], way.u, nx), text: place(this.flat[1], way.w, ny) };
    }

    distance(name, t) {
      const { way, nx, ny } = this.lengths(name, t);
      const centre = (rows, v, by) => {
        const total = by.reduce((a, l) => a + t / (l * this.n), 0);
        return this.mean(rows, by).map((a, k) => a + total * v[k]);
      };
      const a = centre(this.x, way.u, nx), b = centre(this.y, way.w, ny);
      return Math.hypot(...a.map((v, k) => v - b[k]));
    }

    // Cosine of image i and caption j after the move
    cosine({ way, nx, ny }, t, i, j) {
      return (this.base[i * this.n + j] + t * (way.xw[i] + way.yu[j]) + t * t * way.uw) / (nx[i] * ny[j]);
    }

    // Centroid distance, R@1 both ways, CLIP's loss at a scale, and the mean cosine of the pairs
    measure(name, t, scale) {
      const { n, base } = this, lengths = this.lengths(name, t), { way, nx, ny } = lengths;
      const column = way.yu.map((p) => t * p + t * t * way.uw);
      const own = Float64Array.from({ length: n }, (_, i) => this.cosine(lengths, t, i, i));
      const sums = new Float64Array(n), hit = new Uint8Array(n).fill(1);
      let loss = 0, i2t = 0, paired = 0;
      for (let i = 0; i < n; i++) {
        const row = t * way.xw[i], across = 1 / nx[i];
        let sum = 0, first = 1;
        for (let j = 0; j < n; j++) {
          const c = (base[i * n + j] + row + column[j]) * across / ny[j];
          const e = Math.exp(scale * (c - 1));
          sum += e;
          sums[j] += e;
          if (i === j) continue;
          if (c > own[i] || (c === own[i] && j < i)) first = 0; // ties rank in the gallery's order
          if (c > own[j] || (c === own[j] && i < j)) hit[j] = 0;
        }
        i2t += first;
        paired += own[i];
        loss += Math.log(sum) - scale * (own[i] - 1);
      }
      for (let j = 0; j < n; j++) loss += Math.log(sums[j]) - scale * (own[j] - 1);
      return {
        distance: this.distance(name, t), i2t: i2t / n, t2i: hit.reduce((p, q) => p + q, 0) / n,
        loss: loss / (2 * n), cosine: paired / n,
      };
    }

    // The share of the way at which this share of the gap is left (1 if nothing nearer is reached)
    amount(name, left) {
      const wanted = left * this.size;
      if (left >= 1) return 0;
      if (left <= 0 || this.distance(name, 1) >= wanted) return 1;
      let [low, high] = [0, 1];
      for (let step = 0; step < 24; step++) {
        const middle = (low + high) / 2;
        if (this.distance(name, middle) > wanted) low = middle;
        else high = middle;
      }
      return (low + high) / 2;
    }

    // The caption that image i finds, and the rank of its own (from 1)
    found(name, t, i) {
      const lengths = this.lengths(name, t);
      const c = Float64Array.from({ length: this.n }, (_, j) => this.cosine(lengths, t, i, j));
      let best = 0, rank = 1;
      c.forEach((v, j) => {
        if (v > c[best]) best = j;
        if (v > c[i] || (v === c[i] && j < i)) rank += 1;
      });
      return { best, rank, cosine: c[best], own: c[i] };
    }
  }

  return { Pairs, dot };
};
