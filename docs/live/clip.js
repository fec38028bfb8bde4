// A CLIP of open_clip's plain kind (ViT, causal text tower). A function that needs nothing from
// outside, so that a worker can be made of its text.
globalThis.liveClip = () => {
  "use strict";

  // Arrays from bytes ---------------------------------------------------------------------------

  const bytesOf = (base64) => {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  };

  const fromHalf = (bits) => {
    const out = new Float32Array(bits.length);
    for (let i = 0; i < bits.length; i++) {
      const h = bits[i], sign = h & 0x8000 ? -1 : 1, e = (h >> 10) & 31, f = h & 1023;
      out[i] = e === 0 ? sign * f * 2 ** -24
        : e === 31 ? (f ? NaN : sign * Infinity) : sign * (1024 + f) * 2 ** (e - 25);
    }
    return out;
  };

  // name -> {data, shape}; half precision becomes float32 at the first use
  const tensors = (index, bytes) => {
    const kept = new Map();
    return (name) => {
      if (!kept.has(name)) {
        const [kind, shape, offset] = index[name];
        const n = shape.reduce((a, b) => a * b, 1), at = bytes.byteOffset + offset;
        const data = kind === "f16" ? fromHalf(new Uint16Array(bytes.buffer, at, n))
          : kind === "f32" ? new Float32Array(bytes.buffer, at, n)
          : new Uint8Array(bytes.buffer, at, n);
        kept.set(name, { data, shape });
      }
      return kept.get(name);
    };
  };

  // Layers: x is (rows, width), row by row --------------------------------------------------------

  // y = x W^T + b, W (out, in): two rows and four outputs at a time, for which a processor has
  // room; that is twice as fast as one by one. The number of outputs is a multiple of four.
  const linear = (x, rows, weight, bias) => {
    const [out, n] = weight.shape, w = weight.data, y = new Float32Array(rows * out);
    for (let r = 0; r < rows; r += 2) {
      const p = r * n, q = r + 1 < rows ? p + n : p; // the last of an odd number, twice
      for (let o = 0; o < out; o += 4) {
        let i1 = o * n, i2 = i1 + n, i3 = i2 + n, i4 = i3 + n;
        let a1 = 0.0, a2 = 0.0, a3 = 0.0, a4 = 0.0, b1 = 0.0, b2 = 0.0, b3 = 0.0, b4 = 0.0;
        for (let i = 0; i < n; i++) {
          const a = x[p + i], b = x[q + i], w1 = w[i1++], w2 = w[i2++], w3 = w[i3++], w4 = w[i4++];
          a1 += a * w1; a2 += a * w2; a3 += a * w3; a4 += a * w4;
          b1 += b * w1; b2 += b * w2; b3 += b * w3; b4 += b * w4;
        }
        const t = r * out + o;
        y[t] = a1; y[t + 1] = a2; y[t + 2] = a3; y[t + 3] = a4;
        if (q === p) continue;
        y[t + out] = b1; y[t + out + 1] = b2; y[t + out + 2] = b3; y[t + out + 3] = b4;
      }
    }
    if (bias) for (let i = 0, o = 0; i < y.length; i++, o = o + 1 === out ? 0 : o + 1) y[i] += bias.data[o];
    return y;
  };

  const transposed = ({ data, shape: [n, m] }) => {
    const out = new Float32Array(n * m);
    for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) out[j * n + i] = data[i * m + j];
    return { data: out, shape: [m, n] };
  };

  const layerNorm = (x, rows, { data: w }, { data: b }) => {
    const n = w.length, y = new Float32Array(x.length);
    for (let r = 0; r < rows; r++) {
      let mean = 0, square = 0;
      for (let i = 0; i < n; i++) mean += x[r * n + i];
      mean /= n;
      for (let i = 0; i < n; i++) square += (x[r * n + i] - mean) ** 2;
      const scale = 1 / Math.sqrt(square / n + 1e-5);
      for (let i = 0; i < n; i++) y[r * n + i] = (x[r * n + i] - mean) * scale * w[i] + b[i];
    }
    return y;
  };

  // Abramowitz and Stegun 7.1.26: within 1.5e-7
  const erf = (x) => {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - p * Math.exp(-x * x));
  };
  const gelu = (x) => {
    for (let i = 0; i < x.length; i++) x[i] *= 0.5 * (1 + erf(x[i] * Math.SQRT1_2));
    return x;
  };

  // Rows `first` to `last` of the attention's output; in a causal tower row r sees the rows up to r.
  const attention = (qkv, rows, width, heads, causal, first, last) => {
    const d = width / heads, scale = 1 / Math.sqrt(d), step = 3 * width;
    const out = new Float32Array((last - first + 1) * width), p = new Float64Array(rows);
    for (let h = 0; h < heads; h++) {
      for (let r = first; r <= last; r++) {
        const seen = causal ? r + 1 : rows, q = r * step + h * d, to = (r - first) * width + h * d;
        let top = -Infinity, sum = 0;
        for (let s = 0; s < seen; s++) {
          const k = s * step + width + h * d;
          let dot = 0;
          for (let i = 0; i < d; i++) dot += qkv[q + i] * qkv[k + i];
          p[s] = dot * scale;
          if (p[s] > top) top = p[s];
        }
        for (let s = 0; s < seen; s++) sum += p[s] = Math.exp(p[s] - top);
        for (let s = 0; s < seen; s++) {
          const share = p[s] / sum, v = s * step + 2 * width + h * d;
          for (let i = 0; i < d; i++) out[to + i] += share * qkv[v + i];
        }
      }
    }
    return out;
  };

  // What becomes of row `pooled`; of the last layer nothing else is computed.
  const transformer = (x, rows, get, prefix, layers, heads, causal, pooled) => {
    const width = x.length / rows;
    for (let layer = 0; layer < layers; layer++) {
      const of = (name) => get(`${prefix}transformer.resblocks.${layer}.${name}`);
      const both = (name) => [of(`${name}.weight`), of(`${name}.bias`)];
      const [first, last] = layer === layers - 1 ? [pooled, pooled] : [0, rows - 1], n = last - first + 1;
      const qkv = linear(layerNorm(x, rows, ...both("ln_1")), rows, of("attn.in_proj_weight"), of("attn.in_proj_bias"));
      const seen = linear(attention(qkv, rows, width, heads, causal, first, last), n, ...both("attn.out_proj"));
      x = x.slice(first * width, (last + 1) * width);
      for (let i = 0; i < x.length; i++) x[i] += seen[i];
      const inner = gelu(linear(layerNorm(x, n, ...both("ln_2")), n, ...both("mlp.c_fc")));
      const add = linear(inner, n, ...both("mlp.c_proj"));
      for (let i = 0; i < x.length; i++) x[i] += add[i];
    }
    return x;
  };

  const unit = (x) => {
    let square = 0;
    for (const v of x) square += v * v;
    const length = Math.sqrt(square);
    for (let i = 0; i < x.length; i++) x[i] /= length;
    return x;
  };

  class Clip {
    constructor(meta, bytes) {
      this.meta = meta;
      this.get = tensors(meta.tensors, bytes);
      const { vision_cfg: v, text_cfg: t } = meta.config.model_cfg;
      if (t.width % 4 || v.width % 4 || meta.config.model_cfg.embed_dim % 4) throw new Error("a width is no multiple of four");
      Object.assign(this, { vision: v, text: t, context: t.context_length });
      this.ids = new Map(meta.vocabulary.map((word, id) => [word, id]));
      this.textProjection = transposed(this.get("text_projection"));
      this.imageProjection = transposed(this.get("visual.proj"));
      const conv = this.get("visual.conv1.weight");
      this.patches = { data: conv.data, shape: [v.width, 3 * v.patch_size ** 2] };
    }

    // Words and punctuation marks, in lower case, as tokenizer.json says
    words(caption) {
      return caption.toLowerCase().match(/[!-\/:-@[-`{-~\p{P}]|[^\s!-\/:-@[-`{-~\p{P}]+/gu) ?? [];
    }

    tokens(caption) {
      const words = this.words(caption).slice(0, this.context - 2);
      const of = (word) => this.ids.get(word) ?? this.ids.get("<unk>");
      return [this.ids.get("<start>"), ...words.map(of), this.ids.get("<end>")];
    }

    encodeText(caption) {
      const ids = this.tokens(caption), n = ids.length, { width, layers, heads } = this.text;
      const table = this.get("token_embedding.weight").data, place = this.get("positional_embedding").data;
      const x = new Float32Array(n * width);
      ids.forEach((id, r) => {
        for (let i = 0; i < width; i++) x[r * width + i] = table[id * width + i] + place[r * width + i];
      });
      const last = transformer(x, n, this.get, "", layers, heads, true, n - 1);
      const end = layerNorm(last, 1, this.get("ln_final.weight"), this.get("ln_final.bias"));
      return unit(linear(end, 1, this.textProjection));
    }

    // pixels: RGBA bytes of the model's size, as a canvas gives them
    encodeImage(pixels) {
      const { image_size: size, patch_size: side, width, layers, head_width } = this.vision;
      const { mean, std } = this.meta.config.preprocess_cfg;
      const across = size / side, n = across * across, length = 3 * side * side;
      const patches = new Float32Array(n * length);
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          const patch = Math.floor(y / side) * across + Math.floor(x / side);
          for (let c = 0; c < 3; c++) {
            const at = patch * length + c * side * side + (y % side) * side + (x % side);
            patches[at] = (pixels[4 * (y * size + x) + c] / 255 - mean[c]) / std[c];
          }
        }
      }
      const rows = n + 1, x = new Float32Array(rows * width);
      x.set(this.get("visual.class_embedding").data);
      x.set(linear(patches, n, this.patches), width);
      const place = this.get("visual.positional_embedding").data;
      for (let i = 0; i < x.length; i++) x[i] += place[i];
      const norm = (name, v, r) => layerNorm(v, r, this.get(`visual.${name}.weight`), this.get(`visual.${name}.bias`));
      const out = transformer(norm("ln_pre", x, rows), rows, this.get, "visual.", layers, width / head_width, false, 0);
      return unit(linear(norm("ln_post", out, 1), 1, this.imageProjection));
    }
  }

  return { Clip, bytesOf, tensors };
};
