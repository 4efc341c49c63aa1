// What a report holds behind a picture: components under the segments, phases, questions of fit.
import { html, useState } from "./vendor/htm-preact.js";
import { Axis, extent, Picture, styled } from "./bars.js";
import { size } from "./sizes.js";
/** @import { Bar, Component, Device, Form, Instant, Question, Report, Screen, Segment, Words } from "./types.js" */

const LEAST = 0.012; // of the whole: a smaller part is among the others
const MOST = 5;
export const NEEDS = 14; // the style of a bar that has no parts
const KEPT = "activations"; // which are never among the others

/** @param {Component[]} components */
const total = (components) => components.reduce((sum, one) => sum + one.bytes.expected, 0);

/** The phase that a bar draws: of all devices, the one whose components add up to it. @param {Report} report @param {Bar} bar @param {Form} form */
export function phaseOf(report, bar, form) {
  /** @type {Instant | null} */
  let best = null;
  let least = Infinity;
  for (const phase of report.devices.flatMap((device) => device.phases)) {
    const keys = new Set(phase.components.filter((one) => one.bytes.expected).map((one) => partOf(form, one)));
    const strange = bar.segments.filter((one) => one.key !== "other" && !keys.has(one.key)).length;
    const far = Math.abs(total(phase.components) - bar.total) + strange * bar.total;
    if (far < least) [best, least] = [phase, far];
  }
  return best;
}

/** A model beside the one that is asked about is one part, whatever it holds. @param {Form} form @param {Component} component */
const partOf = (form, component) => (component.role && form.roles?.includes(component.role) ? component.role : form.parts?.[component.name] ?? component.name);

/** Components by segment; what no segment names is under "other". @param {Form} form @param {Component[]} components @param {Segment[]} segments */
function grouped(form, components, segments) {
  const known = new Set(segments.map((one) => one.key));
  /** @type {Map<string, Component[]>} */
  const found = new Map(segments.map((one) => [one.key, []]));
  const rest = known.has("other") ? "other" : segments.at(-1)?.key ?? "other";
  for (const one of components) {
    const key = partOf(form, one);
    found.get(known.has(key) ? key : rest)?.push(one);
  }
  for (const list of found.values()) list.sort((a, b) => b.bytes.expected - a.bytes.expected);
  return found;
}

/** The bar with its axis, and the table of its parts. @param {{ bar: Bar, report: Report, form: Form, unit: string }} props */
export function Weighed({ bar, report, form, unit }) {
  const words = form.words;
  const styles = styled(bar.segments.map((one) => one.key), form.styles ?? {});
  const whole = extent([bar]);
  const phase = phaseOf(report, bar, form);
  const inside = grouped(form, phase?.components ?? [], bar.segments);
  return html`<figure class="weighed">
    <figcaption>${[bar.label, bar.margin].filter(Boolean).join(" · ")}</figcaption>
    <${Picture} row=${bar} whole=${whole} styles=${styles} high=${40} />
    <${Axis} whole=${whole} unit=${unit} capacity=${bar.capacity} words=${words} />
    <table class="parts"><caption class="unseen">${words["parts.caption"]}</caption>
      <thead><tr><th scope="col">${words["parts.part"]}</th><th scope="col" class="right">${words["parts.size"]}</th><th scope="col" class="right share">${words["parts.share"]}</th><th scope="col"><span class="unseen">${words["parts.how"]}</span></th></tr></thead>
      ${bar.segments.map((segment) => html`<${Part} key=${segment.key} segment=${segment} whole=${bar.total} style=${styles.get(segment.key) ?? 6}
        inside=${inside.get(segment.key) ?? []} words=${words} unit=${unit} />`)}
    </table>
  </figure>`;
}

/** The bar with its legend: the parts, the range, the room of the card. @param {{ bar: Bar, form: Form, unit: string, children?: any }} props */
export function Filled({ bar, form, unit, children }) {
  const words = form.words;
  const styles = styled(bar.segments.map((one) => one.key), form.styles ?? {});
  const range = bar.high > bar.low ? words["bar.range"]?.replace("{low}", () => size(bar.low, unit)).replace("{high}", () => size(bar.high, unit)) : "";
  return html`<figure class="filled"><${Picture} row=${bar} whole=${extent([bar])} styles=${styles} high=${34} />
    <figcaption class="legend">${bar.segments.filter((one) => /[1-9]/.test(one.size)).map((one) => html`<span key=${one.key}><svg class="swatch" width="12" height="12" aria-hidden="true"><rect class=${`s${styles.get(one.key) ?? 6}`} width="12" height="12" rx="3" /></svg>${one.name} <strong>${one.size}</strong></span>`)}
      <span>${range}</span>${bar.margin ? html`<span>${bar.margin}</span>` : null}${children}</figcaption></figure>`;
}

/** The verdict and its bar on one small strip, for a phone. @param {{ screen: Screen, form: Form }} props */
export function Strip({ screen, form }) {
  const blocks = screen.sections[0] ?? [];
  const head = blocks.find((block) => block.block === "headline");
  const bar = blocks.find((block) => block.block === "bar");
  const line = blocks.find((block) => block.block === "lines");
  const told = head?.block === "headline" ? { mark: head.mark, text: head.verdict, more: head.figures } : line?.block === "lines" ? { mark: line.lines[0]?.mark ?? null, text: line.lines[0]?.text ?? "", more: "" } : null;
  if (!told) return null;
  const styles = styled(bar?.block === "bar" ? bar.segments.map((one) => one.key) : [], form.styles ?? {});
  return html`<a class="strip" href="#answer" aria-hidden="true" tabindex="-1" onClick=${(/** @type {Event} */ event) => {
    event.preventDefault();
    document.getElementById("answer")?.scrollIntoView();
  }}><p><${Sign} mark=${told.mark} words=${form.words} /> <strong>${told.text}</strong> <span class="dim">${told.more}</span></p>
    ${bar?.block === "bar" ? html`<${Picture} row=${{ ...bar, low: 0, high: 0 }} whole=${extent([bar])} styles=${styles} high=${10} />` : null}</a>`;
}

/** @param {{ segment: Segment, whole: number, style: number, inside: Component[], words: Words, unit: string }} props */
function Part({ segment, whole, style, inside, words, unit }) {
  const [open, setOpen] = useState(false);
  const id = `how-${segment.key}`;
  return html`<tbody>
    <tr><th scope="row"><svg class="swatch" width="12" height="12" aria-hidden="true"><rect class=${`s${style}`} width="12" height="12" rx="3" /></svg>${segment.name}</th>
      <td class="right">${size(segment.nbytes, unit)}</td><td class="right share">${whole ? Math.round((100 * segment.nbytes) / whole) : 0} %</td>
      <td class="right">${inside.length ? html`<button type="button" class="link how" aria-expanded=${open} aria-controls=${id} aria-label=${`${words["parts.how"]}: ${segment.name}`}
        onClick=${() => setOpen(!open)}>${words["parts.how.short"]}</button>` : null}</td></tr>
    <tr id=${id} class="inside" hidden=${!open}><td colspan="4">${open ? html`<dl>${inside.map((one, at) => html`<${Told} key=${at} one=${one} words=${words} unit=${unit} />`)}</dl>` : null}</td></tr>
  </tbody>`;
}

/** How one number is known. @param {{ one: Component, words: Words, unit: string }} props */
function Told({ one, words, unit }) {
  const { low, expected, high } = one.bytes;
  const range = low === high ? "" : ` (${size(low, unit)} – ${size(high, unit)})`;
  return html`<div class="told"><dt>${[one.name.replaceAll("_", " "), one.detail].filter(Boolean).join(", ")} <strong>${size(expected, unit)}</strong>${range}
      <span class=${`basis ${one.basis}`}>${words[`basis.${one.basis}`] ?? one.basis}</span></dt>
    ${one.formula ? html`<dd class="formula">${one.formula}</dd>` : null}
    ${one.source ? html`<dd class="source">${words["parts.source"]} ${linked(one.source)}</dd>` : null}</div>`;
}

/** Text whose https addresses are links; all else is text. @param {string} text */
export function linked(text) {
  return text.split(/(https:\/\/[^\s,;()<>"']+)/).map((part, at) =>
    at % 2 ? html`<a href=${part} rel="noopener noreferrer" target="_blank">${part}</a>` : part);
}

/** At most MOST parts of a phase. @param {Form} form @param {Instant} phase @param {Set<string>} [only] @returns {Segment[]} */
export function segments(form, phase, only) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const one of phase.components) {
    const key = partOf(form, one);
    sums.set(key, (sums.get(key) ?? 0) + one.bytes.expected);
  }
  const whole = [...sums.values()].reduce((a, b) => a + b, 0);
  let rest = 0;
  /** @type {Segment[]} */
  const found = [];
  for (const [key, nbytes] of [...sums].sort((a, b) => b[1] - a[1])) {
    const large = only ? only.has(key) : (found.length < MOST || key === KEPT) && nbytes >= whole * LEAST;
    if (key !== "other" && large) found.push({ key, name: form.words[`part.${key}`] ?? key, nbytes, size: size(nbytes, "") });
    else rest += nbytes;
  }
  const order = [...new Set(Object.values(form.parts ?? {})), ...(form.roles ?? [])];
  if (only) found.sort((a, b) => order.indexOf(a.key) - order.indexOf(b.key));
  if (rest) found.push({ key: "other", name: form.words["part.other"] ?? "other", nbytes: rest, size: size(rest, "") });
  return found;
}

/** The fullest accelerator of a report at its peak; the first device where there is none. @param {Report} report @returns {Device | undefined} */
export function fullest(report) {
  const cards = report.devices.filter((one) => one.kind === "gpu");
  const peak = (/** @type {Device} */ device) => device.phases.find((p) => p.name === device.peak_phase)?.bytes.expected ?? 0;
  return cards.sort((a, b) => peak(b) - peak(a))[0] ?? report.devices[0];
}

/** The phase that an answer is about, as view/shown.py has it: the allocator keeps what it has taken, so of those that are as full the one with most allocated, and then the one whose bound decides. @param {Device} device @param {boolean} lower whether it does not fit */
function deciding(device, lower) {
  const most = Math.max(...device.phases.map((phase) => phase.bytes.expected));
  const full = device.phases.filter((phase) => phase.bytes.expected >= most * 0.99);
  const allocated = (/** @type {Instant} */ phase) => total(phase.components.filter((one) => one.level === "allocated"));
  const bound = (/** @type {Instant} */ phase) => (lower ? phase.bytes.low : phase.bytes.high);
  return full.sort((a, b) => allocated(b) - allocated(a) || bound(b) - bound(a))[0];
}

/** Parts that are large in any of some phases, so that rows of one picture have the same ones. @param {Form} form @param {Instant[]} phases */
export function common(form, phases) {
  /** @type {Map<string, number>} */
  const most = new Map();
  for (const phase of phases) {
    for (const one of segments(form, phase)) most.set(one.key, Math.max(most.get(one.key) ?? 0, one.nbytes));
  }
  most.delete("other");
  const rank = (/** @type {[string, number]} */ [key, nbytes]) => (key === KEPT ? Infinity : nbytes);
  return new Set([...most].sort((a, b) => rank(b) - rank(a)).slice(0, 7).map(([key]) => key));
}

/** The colours of several rows, once. @param {{ rows: { segments: Segment[] }[], styles: Map<string, number> }} props */
export function Legend({ rows, styles }) {
  const named = new Map(rows.flatMap((row) => row.segments).map((one) => [one.key, one.name]));
  const sorted = [...named].sort(([a], [b]) => Number(a === "other") - Number(b === "other"));
  return html`<ul class="legend">${sorted.map(([key, name]) => html`<li key=${key}><svg class="swatch" width="12" height="12" aria-hidden="true"><rect class=${`s${styles.get(key) ?? 6}`} width="12" height="12" rx="3" /></svg>${name}</li>`)}</ul>`;
}

/** A step of training or the stages of a pipeline, phase by phase. @param {{ report: Report, title?: string, form: Form, unit: string, capacity: number | null, peak: string, table?: any }} props */
export function Phases({ report, title = "", form, unit, capacity, peak, table = null }) {
  const device = fullest(report);
  if (!device || device.phases.length < 3) return null;
  const keys = common(form, device.phases);
  const rows = device.phases.map((phase) => {
    const parts = segments(form, phase, keys);
    const label = form.words[`phase.${phase.name}`] ?? phase.name;
    const whole = phase.bytes.expected;
    return { label, peak: phase.name === peak, segments: parts, total: whole, capacity, words: `${label}: ${size(whole, unit)}; ${parts.map((p) => `${p.name} ${size(p.nbytes, unit)}`).join(", ")}` };
  });
  const whole = extent(rows);
  const styles = styled([...keys], form.styles ?? {});
  return html`<figure class="rows"><figcaption><h3>${title}</h3></figcaption>
    ${rows.map((row) => html`<div key=${row.label} class=${`row${row.peak ? " peak" : ""}`}><span class="row-label">${row.label}</span>
      <${Picture} row=${row} whole=${whole} styles=${styles} high=${18} /><span class="row-told">${size(row.total, unit)}</span></div>`)}
    <div class="row"><span></span><div><${Axis} whole=${whole} unit=${unit} capacity=${capacity} words=${form.words} /></div><span></span></div>
    <${Legend} rows=${rows} styles=${styles} />${table}</figure>`;
}

/** @typedef {{ label: string, mark: string, report: Report | null, capacity: number | null, told: string, key: string, needs?: number | null }} Side */

/** Rows of several answers on one scale. @param {{ sides: Side[], form: Form, unit: string }} props */
export function Sides({ sides, form, unit }) {
  const peaks = sides.map((side) => {
    const device = side.report ? fullest(side.report) : undefined;
    return device && deciding(device, side.mark === "no");
  });
  const keys = common(form, peaks.filter((one) => one !== undefined));
  const rows = sides.map((side, at) => {
    const phase = peaks[at];
    const needs = side.needs ?? 0; // of what has no phases here
    const parts = phase ? segments(form, phase, keys) : needs ? [{ key: "needs", name: side.told, nbytes: needs, size: side.told }] : [];
    return { segments: parts, total: phase ? total(phase.components) : needs, capacity: side.capacity,
      low: phase?.bytes.low, high: phase?.bytes.high, told: phase ? size(total(phase.components), unit) : "",
      words: `${side.label}: ${side.told}; ${parts.map((p) => `${p.name} ${size(p.nbytes, unit)}`).join(", ")}` };
  });
  const whole = extent(rows);
  const styles = styled([...keys], form.styles ?? {}).set("needs", NEEDS);
  const rooms = new Set(sides.map((side) => side.capacity));
  return html`<div class="sides">
    ${sides.map((side, at) => html`<section key=${side.key} class=${`side ${side.mark}`} data-question=${side.key}>
      <h3><${Sign} mark=${side.mark} words=${form.words} /> ${side.label}<span class="row-told">${side.told}</span></h3>
      ${rows[at]?.segments.length ? html`<${Picture} row=${rows[at]} whole=${whole} styles=${styles} high=${20} />` : null}
    </section>`)}
    <${Axis} whole=${whole} unit=${unit} capacity=${rooms.size === 1 ? [...rooms][0] : null} words=${form.words} />
    <${Legend} rows=${rows.map((row) => ({ segments: row.segments.filter((one) => one.key !== "needs") }))} styles=${styles} />
  </div>`;
}

const SIGNS = { yes: "✓", tight: "✓", no: "✗", unknown: "?" };

/** A verdict as a sign with its word. @param {{ mark: string | null, words: Words }} props */
export function Sign({ mark, words }) {
  if (!mark) return null;
  const sign = SIGNS[/** @type {keyof typeof SIGNS} */ (mark)] ?? "";
  return html`<span class=${`sign ${mark}`} role="img" aria-label=${words[`verdict.${mark}`] ?? mark}>${sign}</span>`;
}

/** @param {{ verdict: { fits: string, tight?: boolean } | null }} of */
export function markOf({ verdict }) {
  if (!verdict) return "unknown";
  return verdict.fits === "yes" && verdict.tight ? "tight" : verdict.fits;
}

/** The remedies of a question that stand on the first screen: the first, and the first of another kind. @param {Question} question */
export function offered(question) {
  const usable = question.remedies.filter((one) => one.fits !== "no");
  const other = usable.find((one) => one.kind !== usable[0]?.kind);
  return [usable[0], other].flatMap((one) => (one ? [{ one, at: question.remedies.indexOf(one) }] : []));
}
