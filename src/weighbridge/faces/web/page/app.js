// The page: a form, an answer, and the address that holds both.
import { html, render, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/htm-preact.js";
import { Combobox } from "./combobox.js";
import { Beside } from "./compare.js";
import { answered, bare, engine as made, Lane } from "./engine.js";
import { Fields, QUICK, Typed } from "./fields.js";
import { opened, pastedFile, told } from "./files.js";
import { Choices, Export, KEPT, Looks, Post, remembered, Share, Token } from "./menus.js";
import { Strip } from "./parts.js";
import { Registry } from "./registry.js";
import { Pasted, Result } from "./result.js";
import { ASKED, changed, commandIn, isMessage, isQuestion, isRun, isText, joined, kept, LISTS, modelOn, MOST_BESIDE, OOM, pastedConfig, question, read, REGISTRY, settingsOf, ofPipelines, strangers, tabFor, write } from "./state.js";
/** @import { Answer, Ask, Change, Dropped, Form, Lang, Pasted as Log, Shown, State, Values } from "./types.js" */

const GESTURE = 1500; // milliseconds between moves of a slider that are one step back
const REST = 300; // milliseconds without a change after which what helps is looked for
const SLOW = 250; // milliseconds: an answer that takes longer is first asked for without remedies
const SLOW_TASKS = ["train", "image", "train_image"]; // that are known to take longer
const WHOLE = ["fit"]; // tasks whose verdict is not known before what helps is: no part of them comes first
const EXAMPLES = [["llama-3.1-8b", "4090"], ["qwen3-0.6b", "3060"], ["gpt-oss-20b", "rtx 5090"], ["llama-3.1-70b", "h100:4"]];
const PICTURED = [["flux.1-dev", "3060"], ["sdxl", "4060"], ["wan2.2-t2v-a14b", "4090"], ["qwen-image", "rtx 5090"]];
/** Before the form has come there are no words: @type {Record<Lang, { start: string, gone: string, away: string, broken: string, again: string }>} */
const FIRST_WORDS = {
  en: { start: "Starting…", gone: "Nobody answers. Is `weighbridge web` still running? Start it again, and open the address that it prints.", away: "This Space does not answer. It may be starting: try again in a minute.", broken: "Python could not start in this browser:", again: "Try again" },
  zh: { start: "正在启动……", gone: "没有应答。`weighbridge web` 还在运行吗？请重新启动，并打开它给出的地址。", away: "这个 Space 没有应答，可能正在启动：请一分钟后再试。", broken: "Python 无法在这个浏览器里启动：", again: "重试" },
};

/** Where one goes: tasks that are zooms of one question, or lists. @type {Record<string, string[]>} */
const PLACES = { fit: ["fit", "load", "infer", "train", "image", "train_image"], oom: [OOM], compare: ["compare"], explore: ["gpus", "models", "accuracy", REGISTRY] };

/** @param {string} task */
const placeOf = (task) => Object.keys(PLACES).find((name) => PLACES[name]?.includes(task)) ?? "fit";

const GGML = ["llama.cpp", "ik_llama.cpp", "ollama"]; // engines that read a .gguf

/** The question about a dropped file: nothing trains a .gguf. @param {string} task @param {boolean} ggml */
function fileTask(task, ggml) {
  if (!ASKED.includes(task)) return task === OOM ? OOM : "fit";
  return ggml && task === "train" ? "fit" : task;
}

function App() {
  const [state, setState] = useState(() => read(location.hash));
  const [form, setForm] = useState(/** @type {{ lang: Lang, is: Form, bare: boolean } | null} */ (null));
  const [progress, setProgress] = useState({ text: "", share: 0 });
  const [gone, setGone] = useState("");
  const [tries, setTries] = useState(0);
  const engine = useMemo(() => made((text, share) => setProgress({ text, share })), [tries]);

  const alone = state.task === REGISTRY && engine.kind === "static"; // no Python is needed

  useEffect(() => {
    // the event's own address: the question before may have been written over location.hash since
    const moved = (/** @type {HashChangeEvent} */ event) => setState(read(new URL(event.newURL).hash));
    addEventListener("hashchange", moved);
    setState(read(location.hash)); // it may have moved before anybody listened
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    document.documentElement.lang = state.lang === "zh" ? "zh-CN" : "en";
    setGone("");
    if (form?.lang === state.lang && (alone || !form.bare)) return;
    const asked = () => engine.ask({ task: "form", view: { lang: state.lang } });
    const found = alone ? bare(state.lang).then((is) => ({ is, bare: true })) : asked().then((is) => ({ is, bare: false }));
    found.then(
      (one) => ("error" in one.is ? setGone(/** @type {any} */ (one.is).error.message) : setForm({ lang: state.lang, ...one })),
      (error) => setGone(noAnswer(engine, state.lang, error)),
    );
  }, [state.lang, engine, alone]);

  if (form && (alone || !form.bare)) return html`<${Page} form=${form.is} formLang=${form.lang} state=${state} setState=${setState} engine=${engine} progress=${progress} />`;
  const words = FIRST_WORDS[state.lang];
  return html`<main class="starting"><h1>weighbridge</h1>
    ${gone ? html`<p role="alert" class="problem">${gone}</p><button type="button" onClick=${() => setTries(tries + 1)}>${words.again}</button>` : html`<div role="status"><p>${progress.text || words.start}</p><progress max="1" value=${progress.share || undefined} aria-label=${words.start}></progress></div>`}
  </main>`;
}

/** Why nobody answers. @param {import("./types.js").Engine} engine @param {Lang} lang @param {Error} error */
function noAnswer(engine, lang, error) {
  const words = FIRST_WORDS[lang];
  if (engine.kind === "static") return `${words.broken} ${error.message}`;
  return engine.kind === "space" ? words.away : words.gone;
}

/**
 * @param {{ form: Form, formLang: Lang, state: State, setState: (next: State | ((old: State) => State)) => void,
 *   engine: import("./types.js").Engine, progress: { text: string, share: number } }} props
 */
function Page({ form, formLang, state, setState, engine, progress }) {
  const words = form.words;
  const [held, setDropped] = useState(/** @type {Dropped | null} */ (null));
  const dropped = held?.name === state.file ? held : null;
  const [log, setLog] = useState(/** @type {Log} */ ({ name: "", text: "" }));
  const [token, setToken] = useState(engine.kind === "space" ? "" : remembered(KEPT));
  const [said, setSaid] = useState("");
  const [fileError, setFileError] = useState("");
  const [fileNotes, setFileNotes] = useState(/** @type {string[]} */ ([]));
  const [unfolded, setUnfolded] = useState(false);
  const [over, setOver] = useState(false); // a file is held over the page
  const { shown, busy, old, seeking, settled, none, gone, again, clear, hurry } = useAnswers({ form, formLang, state, engine, dropped, log: log.text, token, words });

  const step = useRef({ name: "", at: 0, moved: false });
  /** Each change is a step that Back takes back; a slider that moves on is one. @param {State | ((old: State) => State)} next @param {string} [slider] */
  const change = (next, slider = "") => {
    const { name, at } = step.current;
    const on = Boolean(slider) && slider === name && performance.now() - at < GESTURE;
    step.current = { name: slider, at: performance.now(), moved: !on };
    setState(next);
  };
  /** @param {Partial<State>} part */
  const set = (part) => change((old) => ({ ...old, strange: [], ...part }));
  /** @param {string} name @param {string} value @param {boolean} [live] */
  const setting = (name, value, live) => {
    hurry(); // before anything is drawn
    change((old) => ({ ...old, strange: [], given: { ...old.given, [name]: value } }), live ? name : "");
  };
  /** Filters of the dataset; what is typed on is one step back. @param {Values} values */
  const filter = (values) => change((old) => ({ ...old, strange: [], given: { ...old.given, ...values } }), "id" in values ? "id" : "");
  const ours = tabFor(state.task, state.model, form);
  useLayoutEffect(() => { // a link may name a pipeline on a tab of language models
    if (ours !== state.task) setState((old) => ({ ...old, task: ours }));
  }, [ours, state.task]);
  const address = write(state, form);
  useLayoutEffect(() => { // what is drawn and the address never tell two questions
    if (address === location.hash) return;
    history[step.current.moved ? "pushState" : "replaceState"](null, "", address);
    step.current.moved = false;
  }, [address]);
  useEffect(() => {
    const title = shown?.answer.screen?.title;
    document.title = title ? `${title} · weighbridge` : "weighbridge";
  }, [shown]);

  const toAnswer = () => requestAnimationFrame(() => document.getElementById("answer")?.focus({ preventScroll: true }));
  /** @param {Change} wanted */
  const apply = (wanted) => {
    change((old) => changed(old, wanted));
    toAnswer();
  };
  /** @param {string} to @param {Change} wanted */
  const open = (to, wanted) => {
    change((old) => changed({ ...old, task: to, given: { ...old.given, command: "" } }, wanted));
    scrollTo({ top: 0 });
  };
  /** @param {File | undefined} file */
  const take = async (file) => {
    if (!file) return;
    setFileError("");
    setFileNotes([]);
    clear();
    const found = await opened(file, words, (ask) => engine.ask(ask)).catch((error) => ({ error: noAnswer(engine, state.lang, error) }));
    setFileError("error" in found ? found.error : "");
    if ("dropped" in found) {
      const ggml = /\.gguf$/i.test(found.dropped.name);
      setDropped(found.dropped);
      change((old) => ({
        ...old, task: fileTask(old.task, ggml), model: "", file: found.dropped.name,
        given: { ...old.given, command: "", ...(ggml && !GGML.includes(old.given.engine ?? "") ? { engine: "llama.cpp" } : {}) },
      }));
    } else if ("log" in found) {
      explain(found.log);
    } else if ("state" in found) {
      setDropped(null);
      setFileNotes(found.notes ?? []);
      change((old) => ({ ...old, file: "", ...found.state, given: found.state.given ? { ...hardware(old.given), ...found.state.given } : old.given }));
    }
  };
  /** A message or a log is the question. @param {Log} one */
  const explain = (one) => {
    setLog(one);
    set({ task: OOM });
  };
  const compare = () => change((old) => ({
    ...old, task: "compare", of: old.task,
    beside: [...(old.of === old.task ? old.beside : []), { model: old.model, given: kept(old.given, form, old.task) }].slice(-MOST_BESIDE),
  }));

  const error = gone ? { code: 3, message: noAnswer(engine, state.lang, gone) } : shown?.answer.error;
  const problem = error?.setting ? { name: error.setting, message: error.message } : null;
  const wanted = error?.wants ? { name: error.wants, message: error.message } : null;
  const wantsToken = error?.code === 3 && /gated|token|401|403/i.test(error.message);
  const strange = strangers(state, form);
  const asked = ASKED.includes(state.task);
  const listing = LISTS.includes(state.task);
  const about = asked || state.task === OOM; // a question about a model
  const only = state.task === "infer" && state.given.command ? ["gpu", "gpu_memory", "headroom", "ram"] : undefined;
  const fields = { form, task: state.task, given: state.given, effective: effective(shown, state.task), problem, wanted, prefix: "set", set: setting, parameters: ofPipelines(state.task) ? null : (shown?.answer.report?.model?.parameters ?? null) };
  const folds = about && Boolean(shown) && !error; // on a phone, where the answer comes first
  const zooms = (PLACES[placeOf(state.task)]?.length ?? 0) > 1;
  /** @param {string} to */
  const go = (to) => set({ task: to, model: modelOn(to, state.model, form) });
  return html`<div class=${`page${over ? " over" : ""}`} onDragOver=${(/** @type {DragEvent} */ e) => {
    e.preventDefault();
    setOver(true);
  }} onDragLeave=${(/** @type {DragEvent} */ e) => setOver(e.relatedTarget !== null)} onDrop=${(/** @type {DragEvent} */ e) => {
    e.preventDefault();
    setOver(false);
    void take(e.dataTransfer?.files[0]);
  }}>
    <header class="top"><div class="brand"><img src="icon.svg" alt="" width="30" height="30" /><h1>weighbridge</h1></div>
      <${Places} form=${form} task=${state.task} go=${go} />
      <div class="choices"><${Choices} words=${words} state=${state} set=${set} /></div></header>
    <main class="desk"><${Tabs} form=${form} task=${state.task} go=${go} />
    <div id="panel" role=${zooms ? "tabpanel" : undefined} aria-labelledby=${zooms ? `tab-${state.task}` : undefined} class=${listing ? "listing" : asked ? "asked" : ""}>
      ${state.task === REGISTRY ? html`<${Registry} words=${words} unit=${state.unit} given=${state.given} set=${filter} />` : html`${listing && !settingsOf(form, state.task).length ? null : html`${folds ? html`<button type="button" class="fold" aria-expanded=${unfolded} aria-controls="form" onClick=${() => setUnfolded(!unfolded)}>
          <span>${state.model || state.file || state.given.command}${state.given.gpu ? ` · ${state.given.gpu}` : ""}</span> <span class="do">${unfolded ? words["form.fold"] : words["form.unfold"]}</span></button>` : null}
      <form id="form" class=${`form${folds && !unfolded ? " folded" : ""}`} aria-label=${words["form"]} onSubmit=${(/** @type {Event} */ e) => e.preventDefault()}>
        ${about ? html`<div class="quick"><${Model} pasted=${explain} form=${form} state=${state} set=${set} dropped=${dropped} drop=${() => { setDropped(null); set({ file: "" }); }} problem=${problem} take=${take} />
          <div class="chips"><${Fields} ...${fields} brief=${true} only=${QUICK[state.task]?.filter((name) => !only || only.includes(name))} /></div></div>` : null}
        <${Rest} folds=${asked} words=${words} changed=${asked ? unseen(state, form) : 0} opens=${Boolean(fileError || fileNotes.length || only || wantsToken || (problem && !QUICK[state.task]?.includes(problem.name)))}>
          ${state.task === OOM ? html`<${Message} words=${words} log=${log} set=${explain} take=${take} fileError=${fileError} />` : null}
          ${asked ? html`<${Given} form=${form} state=${state} take=${take} fileError=${fileError} fileNotes=${fileNotes} setting=${setting} />` : null}
          ${state.task === "compare" ? html`<${Beside} form=${form} state=${state} set=${set} />` : html`<${Fields} ...${fields} only=${only} without=${about ? QUICK[state.task] : []} />`}
          ${listing ? null : html`<${Token} words=${words} token=${token} set=${setToken} space=${engine.kind === "space"} wanted=${wantsToken} />`}
        <//>
      </form>`}
      <section class="answers" aria-label=${words["answer"]} aria-busy=${busy ? "true" : "false"} data-settled=${settled}>
        <div class=${`progress${busy ? " on" : ""}`}>${busy && progress.share < 1 && progress.text ? html`<p>${progress.text}</p>` : null}<div class="line"></div></div>
        <p class="said" role="status">${said}</p>
        <p class="unseen" role="status" id="live">${busy ? "" : spoken(shown, words)}</p>
        ${strange ? html`<p class="strange" role="status">${words["link.strange"]?.replace("{names}", () => strange)}</p>` : null}
        ${wanted ? html`<div class=${`welcome wanted${busy ? " stale" : ""}`}><h2>${wanted.message}</h2></div>` : error ? html`<div class=${`problem${busy ? " stale" : ""}`} role="alert"><p>${error.message}</p>${gone ? html`<button type="button" onClick=${again}>${words["again"]}</button>` : null}</div>` : null}
        ${none ? html`<${Welcome} words=${words} state=${state} set=${set} dropped=${dropped} />` : null}
        ${shown && !error ? html`<div class=${old ? "stale" : ""}><${Result} shown=${shown} form=${form} unit=${state.unit} apply=${apply} open=${open} seeking=${seeking} />
          ${shown.answer.command ? html`<${Pasted} block=${{ heading: words["command"] ?? "", text: shown.answer.command }} words=${words} />` : null}
          ${engine.kind === "space" && asked && shown.answer.report?.model?.revision ? html`<${Post} key=${shown.key} words=${words} of=${shown.ask} token=${token} ask=${(/** @type {Ask} */ ask) => engine.ask(ask)} />` : null}</div>` : null}
        ${shown && !error ? html`<div class="tools">${state.task === "models" || state.task === "accuracy" ? null : html`<${Looks} words=${words} state=${state} set=${set} />`}
          <span class="gap"></span>${asked && !dropped ? html`<button type="button" id="compare-this" onClick=${compare}>${words["compare.this"]}</button>` : null}
          <${Share} words=${words} engine=${engine} say=${setSaid} />
          ${listing || state.task === OOM ? null : html`<${Export} words=${words} of=${shown.ask} ask=${(/** @type {Ask} */ ask) => answered(engine, ask, asked ? dropped : null)} say=${setSaid} />`}</div>` : null}
      </section>`}
    </div></main>
    ${shown?.answer.screen && !error ? html`<${Strip} screen=${shown.answer.screen} form=${form} />` : null}
    <footer class="bottom"><p>weighbridge ${form.version} · ${words[`engine.${engine.kind}`]}</p></footer>
  </div>`;
}

/** Settings that were given and stand where they are folded. @param {State} state @param {Form} form */
function unseen(state, form) {
  return Object.keys(kept(state.given, form, state.task)).filter((name) => !QUICK[state.task]?.includes(name)).length;
}

/** What stands below the first row: folded where there is a question in it. @param {{ folds: boolean, words: Record<string, string>, changed: number, opens: boolean, children?: any }} props */
function Rest({ folds, words, changed: count, opens, children }) {
  if (!folds) return html`<div class="rest">${children}</div>`;
  return html`<details class="rest more" open=${opens || undefined}><summary>${words["form.more"]}${count ? html` <span class="badge">${count}</span>` : null}</summary>${children}</details>`;
}

/** The four places of the page. @param {{ form: Form, task: string, go: (task: string) => void }} props */
function Places({ form, task, go }) {
  const here = placeOf(task);
  return html`<nav class="places" aria-label=${form.words["places"]}>${Object.entries(PLACES).map(([name, [first = name]]) => html`<button key=${name} type="button" id=${`place-${name}`}
    aria-current=${name === here ? "page" : undefined} onClick=${() => go(first)}>${form.words[`place.${name}`] ?? form.tabs.find((tab) => tab.name === first)?.label}</button>`)}</nav>`;
}

/** Zooms of the question, or the lists. @param {{ form: Form, task: string, go: (task: string) => void }} props */
function Tabs({ form, task, go }) {
  const tabs = form.tabs.filter((tab) => PLACES[placeOf(task)]?.includes(tab.name));
  const names = tabs.map((tab) => tab.name);
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    const at = names.indexOf(task);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const name = names[(next + names.length) % names.length] ?? "fit";
    go(name);
    document.getElementById(`tab-${name}`)?.focus();
  };
  const row = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const tab = document.getElementById(`tab-${task}`); // scrollIntoView would move where Tab starts
    if (row.current && tab) row.current.scrollLeft = tab.offsetLeft - row.current.clientWidth / 2 + tab.clientWidth / 2;
  }, [task]);
  if (names.length < 2) return null;
  return html`<nav class="tabs" ref=${row}><div role="tablist" aria-label=${form.words["tabs"]} onKeyDown=${key}>
    ${tabs.map((tab) => html`<button key=${tab.name} type="button" role="tab" id=${`tab-${tab.name}`} aria-selected=${tab.name === task} aria-controls="panel"
      tabindex=${tab.name === task ? 0 : -1} onClick=${() => go(tab.name)}>${tab.label}</button>`)}</div></nav>`;
}

/**
 * What is weighed: a name, a file, or a command.
 * @param {{ form: Form, state: State, set: (change: Partial<State>) => void, dropped: Dropped | null, drop: () => void,
 *   problem: { name: string, message: string } | null, pasted: (log: Log) => void, take: (file?: File) => void }} props
 */
function Model({ form, state, set, dropped, drop, problem, pasted, take }) {
  const words = form.words;
  const wrong = problem?.name === "model" ? problem.message : "";
  const pictures = ofPipelines(state.task);
  const options = useMemo(() => (pictures ? form.models.filter((one) => one.makes) : form.models), [form, pictures]);
  /** A command or a message where a name was expected. @param {string} text */
  const other = (text) => {
    const command = commandIn(text, form.launches);
    const config = pastedConfig(text);
    if (config) take(config);
    else if (command) set({ task: "infer", model: "", given: { ...state.given, command } });
    else if (isRun(text)) take(pastedFile(text));
    else if (isQuestion(text)) take(pastedFile(text));
    else if (isMessage(text)) pasted({ name: "", text });
    else if (isText(text)) take(pastedFile(text));
    else return false;
    return true;
  };
  const command = state.task === "infer" ? (state.given.command ?? "") : "";
  return html`<div class="field model"><label for="model">${words["model"]}</label>
      ${state.file ? html`<p class="chip"><span>${state.file}</span><button type="button" class="small" onClick=${drop} aria-label=${`${words["file.remove"]}: ${state.file}`}>${words["file.remove"]}</button></p>
        ${dropped ? null : html`<p class="error">${told(words["file.again"], state.file)}</p>`}`
        : html`<div class="ask"><${Combobox} id="model" label=${words["model"]} value=${command ? "" : state.model} options=${options} words=${words} placeholder=${pictures ? "flux.1-dev, sdxl, wan2.2-t2v-a14b" : words["model.placeholder"]}
          described=${`model-help${wrong ? " model-error" : ""}`} invalid=${Boolean(wrong)} note=${parameters} title=${named} pasted=${(/** @type {string} */ text) => other(text)} commit=${(/** @type {string} */ model) => {
            if (!other(model)) set({ task: tabFor(state.task, model, form), model, given: { ...state.given, command: "" } });
          }} /><button type="submit" class="weigh">${words["weigh"]}</button></div>`}
      <p class="help" id="model-help">${words["model.help"]}</p>
      ${wrong ? html`<p class="error" id="model-error">${wrong}</p>` : null}</div>`;
}

/**
 * A file, or a command, in place of a name.
 * @param {{ form: Form, state: State, take: (file?: File) => void, fileError: string, fileNotes: string[], setting: (name: string, value: string) => void }} props
 */
function Given({ form, state, take, fileError, fileNotes, setting }) {
  const words = form.words;
  const command = state.task === "infer" ? (state.given.command ?? "") : "";
  return html`<div class="field files">
      <label class="file"><input id="file" type="file" accept=".json,.jsonl,.safetensors,.gguf,.yaml,.yml,.toml,.sh,.bash,.slurm,.py,.ipynb,.md" aria-describedby="file-help" onChange=${(/** @type {Event} */ e) => {
        const box = /** @type {HTMLInputElement} */ (e.target);
        take(box.files?.[0]);
        box.value = "";
      }} /><span>${words["file.open"]}</span></label><p class="help" id="file-help">${words["file.help"]}</p>
      ${fileError ? html`<p class="error" role="alert">${fileError}</p>` : null}
      ${fileNotes.length ? html`<div class="help" id="file-notes" role="status">${words["file.notes"]}<ul>${fileNotes.map((note) => html`<li>${note}</li>`)}</ul></div>` : null}</div>
    ${state.task === "infer" ? html`<details class="command" open=${Boolean(command) || undefined}><summary>${words["command.paste"]}</summary>
      <div class="field"><label for="command">${words["command.label"]}</label>
        <${Typed} tag="textarea" id="command" rows="3" spellcheck=${false} aria-describedby="command-help" value=${command} placeholder="vllm serve Qwen/Qwen3-8B --max-model-len 32k"
          commit=${(/** @type {string} */ text) => setting("command", joined(text))} />
        <p class="help" id="command-help">${words["command.help"]}</p>
        ${command ? html`<button type="button" class="small" id="command-clear" onClick=${() => setting("command", "")}>${words["command.clear"]}</button>` : null}</div></details>` : null}`;
}

/** A message or a log of a run that was out of memory. @param {{ words: Record<string, string>, log: Log, set: (log: Log) => void, take: (file?: File) => void, fileError: string }} props */
function Message({ words, log, set, take, fileError }) {
  return html`<div class="field message"><label for="log">${words["oom.log"]}</label>
    <textarea id="log" rows="7" spellcheck=${false} aria-describedby="log-help" value=${log.text} placeholder="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. …"
      onInput=${(/** @type {Event} */ e) => set({ name: "", text: /** @type {HTMLTextAreaElement} */ (e.target).value })}></textarea>
    <p class="help" id="log-help">${words["oom.help"]}</p>
    <label class="file"><input id="log-file" type="file" accept=".log,.txt,.out,.err" aria-describedby="log-help" onChange=${(/** @type {Event} */ e) => {
      const box = /** @type {HTMLInputElement} */ (e.target);
      take(box.files?.[0]);
      box.value = "";
    }} /><span>${log.name || words["file.open"]}</span></label>
    ${fileError ? html`<p class="error" role="alert">${fileError}</p>` : null}</div>`;
}

/** The card and the memory that were named: a file seldom says them. @param {Values} given @returns {Values} */
function hardware(given) {
  return Object.fromEntries(Object.entries(given).filter(([name]) => ["gpu", "gpu_memory", "headroom", "ram"].includes(name)));
}

/** "8.03 B". @param {{ parameters?: number | null }} option */
function parameters({ parameters: count }) {
  if (!count) return "";
  const [scale, letter] = count >= 1e9 ? [1e9, "B"] : [1e6, "M"];
  return `${(count / scale).toLocaleString("en", { maximumSignificantDigits: 3 })} ${letter}`;
}

/** @param {{ name: string }} option */
const named = (option) => option.name;

/** What to do first. @param {{ words: Record<string, string>, state: State, set: (change: Partial<State>) => void, dropped: Dropped | null }} props */
function Welcome({ words, state, set, dropped }) {
  if (state.task === "compare") return html`<div class="welcome"><h2>${words["welcome.compare"]}</h2><p>${words["welcome.compare.how"]}</p></div>`;
  if (state.task === OOM) return html`<div class="welcome"><h2>${words["welcome.oom"]}</h2><p>${words["welcome.oom.how"]}</p></div>`;
  const pictures = ofPipelines(state.task);
  if (state.file && !dropped) return html`<div class="welcome"><p>${told(words["file.again"], state.file)}</p></div>`;
  return html`<div class="welcome"><h2>${pictures ? words["welcome.pictures"] : words["welcome"]}</h2><p>${pictures ? words["welcome.pictures.how"] : words["welcome.how"]}</p><ul class="examples">
    ${(pictures ? PICTURED : EXAMPLES).map(([model = "", gpu = ""]) => html`<li key=${model}><button type="button" onClick=${() => set({ model, given: { ...state.given, gpu } })}>${model}<small>${gpu}</small></button></li>`)}</ul></div>`;
}

/** What is read aloud once an answer stands. @param {Shown | null} shown @param {Record<string, string>} words */
function spoken(shown, words) {
  const screen = shown?.answer.screen;
  if (!screen) return "";
  const block = screen.sections[0]?.[0];
  if (block?.block === "headline") return `${words[`verdict.${block.mark}`] ?? ""}: ${block.verdict}. ${block.figures}`;
  if (block?.block === "lines") return block.lines.map((line) => line.text).join(" ");
  return screen.title;
}

/** What holds where the form says nothing: the workload that the report is of. @param {Shown | null} shown @param {string} task @returns {Record<string, unknown>} */
function effective(shown, task) {
  const report = shown?.task === task ? shown.answer.report : null;
  return (ofPipelines(task) && report?.questions ? report.questions[0].report : report)?.workload ?? {};
}

/** Whether anything does not fit, so that what helps is worth a search. @param {any} report */
function lacking(report) {
  const verdicts = report?.questions ? report.questions.map((/** @type {any} */ one) => one.verdict) : [report?.verdict];
  return verdicts.some((/** @type {any} */ verdict) => verdict && verdict.fits !== "yes");
}

/**
 * Asks whenever something changes; the newest question is answered last.
 * @param {{ form: Form, formLang: Lang, state: State, engine: import("./types.js").Engine, dropped: Dropped | null, log: string, token: string, words: Record<string, string> }} props
 */
function useAnswers({ form, formLang, state, engine, dropped, log, token }) {
  const [shown, setShown] = useState(/** @type {Shown | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [seeking, setSeeking] = useState(false);
  const [gone, setGone] = useState(/** @type {Error | null} */ (null));
  const [tries, setTries] = useState(0);
  const lane = useRef(/** @type {Lane | null} */ (null));
  lane.current ??= new Lane();
  const took = useRef(/** @type {Values & Record<string, any>} */ ({}));
  const newest = useRef("");
  const newestTask = useRef("");
  const later = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));

  const file = [...ASKED, OOM].includes(state.task) ? dropped : null;
  const ask = file || !state.file || !ASKED.includes(state.task) ? question(state, form, Boolean(file), log) : null;
  const key = ask ? JSON.stringify(ask) + (file ? `${file.name} ${file.file?.size ?? ""} ${file.file?.lastModified ?? ""}` : "") : "";

  useLayoutEffect(() => { // what is under way hears of a newer question before it is drawn
    newest.current = key;
    newestTask.current = state.task;
    clearTimeout(later.current);
    setSeeking(false);
    if (!ask) {
      lane.current?.leave();
      setShown(null);
      setBusy(false);
      return;
    }
    if (shown && shown.task !== state.task) setShown(null);
    const kind = `${ask.task} ${state.task === "compare" ? state.of : ""}`;
    const brief = ASKED.includes(ask.task) && !WHOLE.includes(ask.task) && (took.current[kind] ?? Number(SLOW_TASKS.includes(ask.task)) * 2 * SLOW) > SLOW;
    setBusy(true);
    lane.current?.put((signal) => put(brief ? { ...ask, remedies: false } : ask, kind, brief, signal));
  }, [key, token, formLang, tries]);

  /** @param {Ask} own @param {string} kind @param {boolean} brief @param {AbortSignal} signal */
  async function put(own, kind, brief, signal) {
    const begun = performance.now();
    const parts = ASKED.includes(own.task) ? { view: { ...Object(own.view), parts: true } } : {};
    const whole = { ...own, ...parts, ...(token ? { token } : {}) };
    /** What is known before the answer. @param {Answer} part */
    const known = (part) => {
      if (newest.current === key && !signal.aborted) setShown({ key, task: state.task, lang: state.lang, answer: part, ask: /** @type {Ask} */ (ask) });
    };
    /** @type {Answer} */
    let answer;
    try {
      answer = await answered(engine, whole, file, signal, known);
      setGone(null);
    } catch (error) {
      if (signal.aborted) return; // a newer question is on its way
      if (newest.current === key) {
        setGone(error instanceof Error ? error : new Error(String(error)));
        setBusy(false);
      }
      return;
    }
    if (!brief) took.current[kind] = performance.now() - begun;
    const current = newest.current === key;
    if (!current && (answer.error || newestTask.current !== state.task)) return;
    setShown({ key, task: state.task, lang: state.lang, answer, ask: /** @type {Ask} */ (ask) });
    if (!current) return;
    setBusy(false);
    if (!brief || answer.error) return setSeeking(false);
    if (!lacking(answer.report)) return;
    setSeeking(true);
    later.current = setTimeout(look, REST, kind);
  }

  /** @param {string} kind */
  function look(kind) {
    lane.current?.put((signal) => seek(kind, signal), true);
  }

  /** What would make it fit, once nothing moves any more. @param {string} kind @param {AbortSignal} signal */
  async function seek(kind, signal) {
    await put(/** @type {Ask} */ (ask), kind, false, signal);
    if (newest.current !== key) return;
    if (signal.aborted) later.current = setTimeout(look, REST, kind); // until the newer one is here, if it comes
    else setSeeking(false);
  }

  const settled = !busy && !seeking && (Boolean(gone) || !key || shown?.key === key);
  const old = Boolean(key && !gone && shown?.key !== key); // what stands is no part of the answer
  return { shown, busy: busy || old, old, seeking, settled, none: !key, gone, again: () => setTries(tries + 1), clear: () => setShown(null), hurry: () => lane.current?.hurry() };
}

const place = document.getElementById("app");
if (place) {
  place.textContent = "";
  render(html`<${App} />`, place);
}
