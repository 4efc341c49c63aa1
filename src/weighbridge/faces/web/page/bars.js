// Pictures: rows of segments to scale, with a line where the memory ends. Geometry is attributes.
import { html } from "./vendor/htm-preact.js";
import { size, ticks } from "./sizes.js";
/** @import { Segment, Words } from "./types.js" */

const HIGH = 30;
const OTHER = 6; // the style of "other"
const FAR = 2.6; // memories that a row may be long before it is cut
const GAP = 0.15; // percent between segments

/**
 * @typedef {{ label?: string, segments: Segment[], total: number, capacity: number | null, low?: number, high?: number, words: string, told?: string }} Row
 */

/** A style for each key, the same in every picture; keys without one, as those of a message, have what is left. @param {string[]} keys @param {Record<string, number>} usual @returns {Map<string, number>} */
export function styled(keys, usual) {
  const taken = new Set(keys.map((key) => usual[key]));
  const free = [0, 1, 2, 3, 4, 5].filter((style) => !taken.has(style));
  const found = new Map([["other", OTHER]]);
  for (const key of keys) if (!found.has(key)) found.set(key, usual[key] ?? free.shift() ?? OTHER);
  return found;
}

/** Bytes at the right end of rows. @param {Row[]} rows */
export function extent(rows) {
  const most = Math.max(1, ...rows.map((row) => Math.max(row.total, row.high ?? 0, row.capacity ?? 0)));
  const room = Math.max(0, ...rows.map((row) => row.capacity ?? 0));
  return room ? Math.min(most, room * FAR) : most;
}

/** The width of the label of a bar that is cut. @param {string} text */
const told = (text) => 12 + 7.5 * text.length;

/** One row. @param {{ row: Row, whole: number, styles: Map<string, number>, high?: number }} props */
export function Picture({ row, whole, styles, high = HIGH }) {
  const share = (/** @type {number} */ nbytes) => Math.min(100, (100 * nbytes) / whole);
  let done = 0;
  const placed = row.segments.map((segment) => {
    const from = share(done);
    done += segment.nbytes;
    return { segment, from, wide: Math.max(0, share(done) - from - GAP) };
  });
  const line = row.capacity === null ? null : share(row.capacity);
  const cut = row.total > whole * 1.0001;
  const range = row.low !== undefined && row.high !== undefined && row.high > row.low;
  return html`<svg class="picture" role="img" aria-label=${row.words} width="100%" height=${high + 12}>
    <rect class="trough" x="0" y="3" width="100%" height=${high} rx="4" />
    ${line !== null && line < 100 ? html`<rect class="beyond" x=${`${line}%`} y="3" width=${`${100 - line}%`} height=${high} rx="4" />` : null}
    ${placed.map(({ segment, from, wide }) => html`<rect key=${segment.key} class=${`s${styles.get(segment.key) ?? OTHER}`} x=${`${from}%`} y="3" width=${`${wide}%`} height=${high}><title>${segment.name} ${segment.size}</title></rect>`)}
    ${cut ? html`<svg x="100%" overflow="visible"><path class="cut" d=${`M-24 ${high + 5}l8 ${-high - 4}M-16 ${high + 5}l8 ${-high - 4}`} />${row.told ? html`<g class="cut-told"><rect x=${-32 - told(row.told)} y=${high / 2 - 7} width=${told(row.told)} height="20" rx="4" /><text x=${-32 - told(row.told) / 2} y=${high / 2 + 7} text-anchor="middle">${row.told}</text></g>` : null}</svg>` : null}
    ${range ? html`<g class="range"><line x1=${`${share(row.low ?? 0)}%`} x2=${`${share(row.high ?? 0)}%`} y1=${high + 8} y2=${high + 8} />
      <line x1=${`${share(row.low ?? 0)}%`} x2=${`${share(row.low ?? 0)}%`} y1=${high + 5} y2=${high + 11} /><line x1=${`${share(row.high ?? 0)}%`} x2=${`${share(row.high ?? 0)}%`} y1=${high + 5} y2=${high + 11} /></g>` : null}
    ${line !== null ? html`<line class="limit-edge" x1=${`${line}%`} x2=${`${line}%`} y1="0" y2=${high + 6} /><line class="limit" x1=${`${line}%`} x2=${`${line}%`} y1="0" y2=${high + 6} />` : null}
  </svg>`;
}

/** The axis below rows. @param {{ whole: number, unit: string, capacity: number | null, words: Words }} props */
export function Axis({ whole, unit, capacity, words }) {
  const marks = ticks(whole, unit);
  return html`<svg class="axis" aria-hidden="true" width="100%" height="20">
    ${marks.map(({ nbytes, text }) => {
      const at = (100 * nbytes) / whole;
      const anchor = at < 4 ? "start" : at > 93 ? "end" : "middle";
      return html`<g key=${nbytes}><line x1=${`${at}%`} x2=${`${at}%`} y1="0" y2="4" /><text x=${`${at}%`} y="16" text-anchor=${anchor}>${text}</text></g>`;
    })}
  </svg>${capacity === null ? null : html`<p class="limit-key"><svg width="14" height="12" aria-hidden="true"><line class="limit" x1="7" x2="7" y1="0" y2="12" /></svg>
    ${words["bar.capacity"]?.replace("{size}", size(capacity, unit))}</p>`}`;
}
