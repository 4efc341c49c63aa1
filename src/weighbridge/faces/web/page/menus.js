// What stands in the head of the page and beside an answer: language, light, share, export, token, post.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { linked } from "./parts.js";
import { copyText } from "./result.js";
/** @import { Ask, Draft, Engine, Posting, State, Words } from "./types.js" */

const THEMES = ["system", "light", "dark"];
export const KEPT = "weighbridge-token"; // in this browser's storage, where the user asked for it
const THEME = "weighbridge-theme";
const FORMS = ["markdown", "json", "svg", "csv", "html", "command"];

/** What this browser keeps; "" where it keeps nothing, or must not. @param {string} name */
export function remembered(name) {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} name @param {string} value "" forgets it */
export function remember(name, value) {
  try {
    if (value) localStorage.setItem(name, value);
    else localStorage.removeItem(name);
  } catch {
    // a browser that keeps nothing
  }
}

/** @param {{ words: Words }} props */
export function Theme({ words }) {
  const [theme, setTheme] = useState(THEMES.includes(remembered(THEME)) ? remembered(THEME) : "system");
  useEffect(() => {
    if (theme === "system") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", theme);
    remember(THEME, theme === "system" ? "" : theme);
  }, [theme]);
  return html`<label class="choice"><span class="unseen">${words["theme"]}</span>
    <select id="theme" value=${theme} onChange=${(/** @type {Event} */ e) => setTheme(/** @type {HTMLSelectElement} */ (e.target).value)}>
      ${THEMES.map((one) => html`<option key=${one} value=${one}>${words[`theme.${one}`]}</option>`)}</select></label>`;
}

/** @param {{ words: Words, state: State, set: (change: Partial<State>) => void }} props */
export function Choices({ words, state, set }) {
  return html`<label class="choice"><span class="unseen">Language / 语言</span>
    <select id="lang" value=${state.lang} onChange=${(/** @type {Event} */ e) => set({ lang: /** @type {State["lang"]} */ (/** @type {HTMLSelectElement} */ (e.target).value) })}>
      <option value="en" lang="en">English</option><option value="zh" lang="zh">中文</option></select></label>
    <${Theme} words=${words} />`;
}

/** Unit and details of an answer. @param {{ words: Words, state: State, set: (change: Partial<State>) => void }} props */
export function Looks({ words, state, set }) {
  return html`<label class="choice"><span class="unseen">${words["unit"]}</span>
      <select id="unit" value=${state.unit} onChange=${(/** @type {Event} */ e) => set({ unit: /** @type {HTMLSelectElement} */ (e.target).value })}>
        <option value="">${words["unit.auto"]}</option>${["GiB", "GB", "MiB"].map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>
    <label class="tick"><input type="checkbox" id="details" checked=${state.details}
      onChange=${(/** @type {Event} */ e) => set({ details: /** @type {HTMLInputElement} */ (e.target).checked })} /><span>${words["details"]}</span></label>`;
}

/** Copies the address. @param {{ words: Words, engine: Engine, say: (text: string) => void }} props */
export function Share({ words, engine, say }) {
  const share = async () => {
    const copied = await copyText(location.href);
    const done = words[engine.kind === "served" ? "share.served" : "share.done"] ?? "";
    say(copied ? done : (words["share.by_hand"] ?? ""));
  };
  return html`<button type="button" id="share" onClick=${share}>${words["share"]}</button>`;
}

/** @param {{ words: Words, of: Ask, ask: (ask: Ask) => Promise<any>, say: (text: string) => void }} props */
export function Export({ words, of, ask, say }) {
  const [open, setOpen] = useState(false);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (!open) return undefined;
    /** @param {Event} event */
    const away = (event) => {
      if (!box.current?.contains(/** @type {Node} */ (event.target))) setOpen(false);
    };
    document.addEventListener("pointerdown", away);
    document.addEventListener("focusin", away);
    return () => {
      document.removeEventListener("pointerdown", away);
      document.removeEventListener("focusin", away);
    };
  }, [open]);
  /** @param {string} form */
  const get = async (form) => {
    setOpen(false);
    box.current?.querySelector("button")?.focus();
    const file = await ask({ task: "export", of, form });
    if (file.error) say(file.error.message);
    else if (form === "command") say((await copyText(file.text)) ? `${words["export.copied"]} ${file.text}` : file.text);
    else save(file, say, words);
  };
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    if (event.key !== "Escape" || !open) return;
    setOpen(false);
    box.current?.querySelector("button")?.focus();
  };
  return html`<div class="menu" ref=${box} onKeyDown=${key}>
    <button type="button" id="export" aria-expanded=${open} aria-controls="export-forms" onClick=${() => setOpen(!open)}>${words["export"]}</button>
    <ul id="export-forms" hidden=${!open}>${FORMS.map((form) => html`<li key=${form}><button type="button" data-form=${form} onClick=${() => get(form)}>${words[`export.${form}`]}</button></li>`)}</ul></div>`;
}

/** @param {{ name: string, type: string, text: string }} file @param {(text: string) => void} say @param {Words} words */
function save(file, say, words) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([file.text], { type: file.type }));
  link.download = file.name;
  link.click();
  URL.revokeObjectURL(link.href);
  say((words["export.saved"] ?? "").replace("{name}", file.name));
}

/**
 * Posts an answer as a discussion on the page of its model: a preview first, and nothing before the press.
 * @param {{ words: Words, of: Ask, token: string, ask: (ask: Ask) => Promise<Posting> }} props
 */
export function Post({ words, of, token, ask }) {
  const [draft, setDraft] = useState(/** @type {Draft | null} */ (null));
  const [reply, setReply] = useState(/** @type {Posting} */ ({}));
  const [busy, setBusy] = useState(false);
  /** @param {Ask} own */
  const send = async (own) => {
    setBusy(true);
    /** @type {Posting} */
    const found = await ask({ ...own, ...(token ? { token } : {}) }).catch((error) => ({ error: { code: 3, message: String(error.message) } }));
    setBusy(false);
    setReply(found);
    return found;
  };
  const look = async () => setDraft((await send({ task: "draft", of })).draft ?? null);
  const post = async () => {
    if ((await send({ task: "post", draft })).posted) setDraft(null);
  };
  return html`<details class="post paste" id="post"><summary>${words["post"]}</summary><p class="help">${words["post.help"]}</p>
    <p><button type="button" id="preview" disabled=${busy} onClick=${look}>${words["post.preview"]}</button></p>
    ${draft ? html`<pre id="draft" tabindex="0" aria-label=${words["post.label"]}><code>${`${draft.repo_id}\n${draft.title}\n\n${draft.text}`}</code></pre>
      <p><button type="button" id="send" disabled=${busy} onClick=${post}>${words["post.send"]}</button></p>` : null}
    ${reply.error ? html`<p class="error" role="alert">${reply.error.message}</p>` : null}
    ${reply.posted ? html`<p role="status">${reply.posted.already ? words["post.already"] : words["post.done"]} ${linked(reply.posted.url)}</p>` : null}</details>`;
}

/**
 * A token for gated repositories: in memory, and in this browser only where the user says so, which no Space offers.
 * @param {{ words: Words, token: string, set: (token: string) => void, wanted: boolean, space: boolean }} props
 */
export function Token({ words, token, set, wanted, space }) {
  const [kept, setKept] = useState(!space && Boolean(remembered(KEPT)));
  const [typed, setTyped] = useState(token);
  /** @param {boolean} keep @param {string} value */
  const store = (keep, value) => remember(KEPT, keep ? value : "");
  const use = () => {
    if (!space) store(kept, typed.trim());
    set(typed.trim());
  };
  return html`<details class="token" open=${wanted || undefined}><summary>${words["token"]}${token ? html` <span class="badge">✓</span>` : null}</summary>
    <div class="field"><label for="token">${words["token.label"]}</label>
      <input id="token" type="password" autocomplete="off" spellcheck=${false} aria-describedby="token-help" value=${typed} placeholder="hf_…"
        onInput=${(/** @type {Event} */ e) => setTyped(/** @type {HTMLInputElement} */ (e.target).value)} onChange=${use}
        onKeyDown=${(/** @type {KeyboardEvent} */ e) => { if (e.key === "Enter") use(); }} />
      <p class="help" id="token-help">${space ? words["token.space"] : words["token.help"]}</p>
      ${space ? null : html`<label class="tick"><input type="checkbox" id="token-keep" checked=${kept} aria-describedby="token-kept" onChange=${(/** @type {Event} */ e) => {
        const keep = /** @type {HTMLInputElement} */ (e.target).checked;
        setKept(keep);
        store(keep, typed.trim());
      }} /><span>${words["token.keep"]}</span></label>
      <p class="help" id="token-kept">${words["token.kept"]}</p>`}</div></details>`;
}
