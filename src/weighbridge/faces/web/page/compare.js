// The form of Compare: one question, and a card for each answer that is asked for.
import { html } from "./vendor/htm-preact.js";
import { Combobox } from "./combobox.js";
import { Fields, Typed } from "./fields.js";
import { ASKED, kept, MOST_BESIDE, tabOf } from "./state.js";
/** @import { Form, State, Variant } from "./types.js" */

/** Settings that a card shows, by its question; others that it came with are told. */
const SHOWN = {
  fit: ["gpu"],
  load: ["gpu", "quantization"],
  infer: ["gpu", "engine", "quantization", "context", "batch_size"],
  train: ["gpu", "method", "quantization", "seq_len", "batch_size", "checkpointing"],
};

/** @param {{ form: Form, state: State, set: (change: Partial<State>) => void }} props */
export function Beside({ form, state, set }) {
  const words = form.words;
  const list = state.beside;
  /** @param {number} at @param {Variant} one */
  const put = (at, one) => set({ beside: list.map((old, i) => (i === at ? one : old)) });
  /** @param {number} at */
  const twice = (at) => set({ beside: [...list.slice(0, at + 1), ...list.slice(at, at + 1), ...list.slice(at + 1)] });
  const fresh = { model: list.at(-1)?.model ?? state.model ?? "", given: list.at(-1)?.given ?? kept(state.given, form, state.of) };
  const models = [...new Set(list.map((one) => one.model))].filter(Boolean);
  const cards = [...new Set(list.map((one) => one.given.gpu ?? ""))].filter(Boolean);
  const crossed = list.length === Math.max(1, models.length) * Math.max(1, cards.length) * Math.sign(list.length) && list.every((one) => Object.keys(one.given).every((name) => name === "gpu"));
  /** Every model on every card. @param {string[]} some @param {string[]} on */
  const cross = (some, on) => set({ beside: (some.length ? some : [""]).flatMap((model) => (on.length ? on.map((gpu) => ({ model, given: { gpu } })) : [{ model, given: {} }])).slice(0, MOST_BESIDE) });
  return html`${crossed ? html`<${Several} id="compare-models" label=${words["compare.models"]} placeholder="qwen3-8b, llama-3.1-8b, gpt-oss-20b" value=${models} set=${(/** @type {string[]} */ next) => cross(next, cards)} />
      <${Several} id="compare-cards" label=${words["compare.cards"]} placeholder="3060, 4090, h100:2" value=${cards} set=${(/** @type {string[]} */ next) => cross(models, next)} />` : null}
    <div class="field"><label for="compare-of">${words["compare.of"]}</label>
      <select id="compare-of" value=${state.of} onChange=${(/** @type {Event} */ e) => set({ of: /** @type {HTMLSelectElement} */ (e.target).value })}>
        ${ASKED.map((task) => html`<option key=${task} value=${task}>${tabOf(form, task).label}</option>`)}</select></div>
    <details class="each" open=${!crossed || list.length < 4}><summary>${words["compare.each"]}</summary><ol class="variants">${list.map((one, at) => html`<li key=${at}><${Card} form=${form} of=${state.of} one=${one} at=${at}
      put=${(/** @type {Variant} */ next) => put(at, next)} twice=${list.length < MOST_BESIDE ? () => twice(at) : null} drop=${() => set({ beside: list.filter((_, i) => i !== at) })} /></li>`)}</ol></details>
    ${list.length < MOST_BESIDE ? html`<button type="button" id="compare-add" onClick=${() => set({ beside: [...list, { model: fresh.model, given: { ...fresh.given } }] })}>${words["compare.add"]}</button>` : html`<p class="help">${words["compare.full"]}</p>`}`;
}

/** Names with commas between. @param {{ id: string, label: string | undefined, placeholder: string, value: string[], set: (next: string[]) => void }} props */
function Several({ id, label, placeholder, value, set }) {
  return html`<div class="field"><label for=${id}>${label}</label><${Typed} id=${id} type="text" autocomplete="off" spellcheck=${false} placeholder=${placeholder} value=${value.join(", ")}
    commit=${(/** @type {string} */ text) => set(text.split(/[,，、;]/).map((one) => one.trim()).filter(Boolean))} /></div>`;
}

/** @param {{ form: Form, of: string, one: Variant, at: number, put: (one: Variant) => void, twice: (() => void) | null, drop: () => void }} props */
function Card({ form, of, one, at, put, twice, drop }) {
  const words = form.words;
  const shown = SHOWN[/** @type {keyof typeof SHOWN} */ (of)];
  const more = Object.entries(kept(one.given, form, of)).filter(([name]) => !shown.includes(name));
  const id = `beside-${at}`;
  return html`<fieldset class="variant"><legend>${at + 1}</legend>
    <div class="field"><label for=${`${id}-model`}>${words["model"]}</label>
      <${Combobox} id=${`${id}-model`} label=${words["model"]} value=${one.model} options=${form.models} words=${words} placeholder=${words["model.placeholder"]} title=${(/** @type {{ name: string }} */ option) => option.name}
        commit=${(/** @type {string} */ model) => put({ ...one, model })} /></div>
    <${Fields} form=${form} task=${of} given=${one.given} effective=${{}} problem=${null} prefix=${id} only=${shown}
      set=${(/** @type {string} */ name, /** @type {string} */ value) => put({ ...one, given: { ...one.given, [name]: value } })} />
    ${more.length ? html`<p class="help more-settings">${more.map(([name, value]) => `${name.replaceAll("_", "-")} ${value}`).join(" · ")}</p>` : null}
    <div class="actions">${twice ? html`<button type="button" class="small" onClick=${twice} aria-label=${`${words["compare.twice"]}: ${at + 1}`}>${words["compare.twice"]}</button>` : null}
      <button type="button" class="small" onClick=${drop} aria-label=${`${words["compare.drop"]}: ${at + 1}`}>${words["compare.drop"]}</button></div></fieldset>`;
}
