// Bytes and counts in words, and the steps of a slider.
const UNITS = { GiB: 2 ** 30, MiB: 2 ** 20, GB: 1e9, KiB: 2 ** 10 };

/** "15.3 GiB". @param {number} nbytes @param {string} unit "" is GiB, or what suits a small one */
export function size(nbytes, unit) {
  const used = unit && unit in UNITS ? unit : suited(nbytes);
  const value = nbytes / UNITS[/** @type {keyof typeof UNITS} */ (used)];
  const digits = used === "MiB" || used === "KiB" ? 0 : Math.abs(value) < 0.1 && value ? 2 : 1;
  return `${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${used}`;
}

/** @param {number} nbytes */
function suited(nbytes) {
  if (nbytes >= UNITS.GiB / 10 || nbytes === 0) return "GiB";
  return nbytes >= UNITS.MiB ? "MiB" : "KiB";
}

/** Round values on an axis up to `most`, five or so. @param {number} most @param {string} unit @returns {{ nbytes: number, text: string }[]} */
export function ticks(most, unit) {
  const used = /** @type {keyof typeof UNITS} */ (unit && unit in UNITS ? unit : suited(most));
  const whole = most / UNITS[used];
  const rough = whole / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const binary = used !== "GB" && rough >= 1;
  const nice = (binary ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512] : [1, 2, 2.5, 5, 10].map((n) => n * power));
  const step = nice.find((n) => n >= rough * 0.75) ?? 2 ** Math.ceil(Math.log2(rough));
  const found = [];
  for (let at = 0; at <= whole * 1.0001; at += step) found.push({ nbytes: at * UNITS[used], text: `${+at.toFixed(3)}` });
  const last = found.at(-1);
  if (last) last.text += ` ${used}`;
  return found;
}

/** "8K", "8k", "8192", "1M" as the program reads them; NaN is none. @param {string} text */
export function count(text) {
  const found = /^\s*([\d_,]*\.?\d+)\s*([kKmM]?)\s*$/.exec(text);
  if (!found) return Number.NaN;
  const scale = { "": 1, k: 1000, K: 1024, m: 1e6, M: 2 ** 20 }[found[2] ?? ""] ?? 1;
  return Number((found[1] ?? "").replace(/[_,]/g, "")) * scale;
}

/** The values of a slider on a log scale: every power of two, and quarters between them. @param {number} least @param {number} most */
export function steps(least, most) {
  const found = new Set([least, most]);
  for (let base = 1; base <= most; base *= 2) {
    for (const quarter of base < 256 ? [1, 1.5] : [1, 1.25, 1.5, 1.75]) {
      const value = base * quarter;
      if (Number.isInteger(value) && value >= least && value <= most) found.add(value);
    }
  }
  return [...found].sort((a, b) => a - b);
}

/** The step nearest to a value, on the log scale. @param {number[]} all @param {number} value */
export function nearest(all, value) {
  let best = 0;
  const far = (/** @type {number} */ at) => Math.abs(Math.log((all[at] ?? 1) / Math.max(value, 1e-9)));
  for (let at = 1; at < all.length; at += 1) if (far(at) < far(best)) best = at;
  return best;
}
