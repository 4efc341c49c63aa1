"""The page: a model and a card above, tabs below, the answer beside each form.

Every setting is in the address, so that a link gives the same answer; the token never is. What is
shown of an answer is the view model, drawn by render.html, which escapes what strangers wrote.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import parse_count
from weighbridge.base.words import LANGUAGES, Words, words_in
from weighbridge.faces.web.space import forms

Answer = dict[str, Any]
Ask = Callable[[Mapping[str, Any]], Answer]
QUIET: Mapping[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
LIVE: Mapping[str, Any] = {**QUIET, "trigger_mode": "always_last"}
SHOWN = "<section aria-live='polite' class='answer'>${value}</section>"
KEEP = "(query) => { if (query) history.replaceState(null, '', query) }"
FRAGMENT = "() => [location.hash]"  # which no browser sends to a server
LONGEST = 16_384  # characters of an address that are read
# Gradio's own theme with more contrast, and fonts of the system: nothing comes from elsewhere.
FONT = ["system-ui", "sans-serif"]
CONTRAST: Mapping[str, str] = {
    **dict.fromkeys(("block_info_text_color", "input_placeholder_color"), "*neutral_600"),
    **dict.fromkeys(("block_info_text_color_dark", "input_placeholder_color_dark"), "*neutral_300"),
    **dict.fromkeys(("color_accent", "button_primary_background_fill"), "*primary_700"),
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_text_color": "white",
}
MOST_NAME = 400  # characters of a model in an address
FIRST = {"model": "llama-3.1-8b", "gpu": "4090"}  # what a first visit is answered with
CSS = text_beside(__file__, "page.css")


class Top(NamedTuple):
    """Inputs that all tabs share."""

    model: Any
    gpu: Any
    lang: Any
    details: Any
    token: Any
    current: Any  # hidden: the name of the tab that is open
    address: Any  # hidden: what the browser's address becomes
    draft: Any  # of the last answer
    previewed: Any  # the draft that was looked at

    @property
    def asked(self) -> list[Any]:
        return [self.model, self.gpu, self.lang, self.details, self.token]


class SharedChoices(NamedTuple):
    """The values of what all tabs share."""

    model: str
    gpu: str
    lang: str
    details: bool
    token: str


class AnswerOutputs(NamedTuple):
    """Outputs in which the answer of one tab stands."""

    tab: forms.SpaceTab
    answer: Any
    command: Any = None
    markdown: Any = None

    @property
    def outputs(self) -> list[Any]:
        return [self.answer, *([self.command, self.markdown] if self.command else [])]


class PageAnswer(NamedTuple):
    """Texts that an answer puts onto the page."""

    html: str
    command: str = ""
    markdown: str = ""
    draft: dict[str, str] | None = None
    address: str = ""

    def values(self, shown: AnswerOutputs) -> tuple[str, ...]:
        """Return HTML, command and Markdown of an answer, as many as the tab has outputs for."""
        return (self.html, self.command, self.markdown)[: len(shown.outputs)]


def page(ask: Ask) -> tuple[gr.Blocks, gr.I18n]:
    """The whole page, and its words."""
    say = gr.I18n(**forms.translations())
    with gr.Blocks(title="weighbridge", analytics_enabled=False, fill_width=True) as blocks:
        top = _top(say)
        with gr.Tabs() as tabs:
            shown_tabs = [_tab(name, say, top, ask) for name in (*forms.ASKED, *forms.LISTED)]
        _posting(say, top, ask)
        _opening(blocks, top, tabs, shown_tabs, ask)
    return blocks, say


def theme() -> Any:
    return gr.themes.Default(primary_hue="blue", font=FONT, font_mono=["monospace"]).set(**CONTRAST)


def _top(say: gr.I18n) -> Top:
    gr.HTML("<h1>weighbridge</h1>")
    gr.Markdown(say("about"))
    with gr.Row():
        model, gpu = (
            _named(name, kind, say) for name, kind in (("model", "models"), ("gpu", "gpus"))
        )
    with gr.Row():
        languages = [("English", "en"), ("中文", "zh")]
        lang = gr.Radio(languages, value="en", label=say("lang"), elem_id="lang")
        details = gr.Checkbox(label=say("details"), elem_id="details")
        token = gr.Textbox(
            type="password",
            label=say("token"),
            info=say("help.token"),
            max_length=1024,
            elem_id="token",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        )
    current = gr.Textbox(forms.ASKED[0], visible=False)
    address = gr.Textbox("", visible="hidden", label="address")
    address.change(None, address, None, js=KEEP, **QUIET)
    return Top(model, gpu, lang, details, token, current, address, gr.State(None), gr.State(None))


def _named(name: str, kind: str, say: gr.I18n) -> Any:
    """A box that completes names of a catalogue, and takes others."""
    return gr.Dropdown(
        [forms.NONE, *forms.names(kind)],
        value=FIRST[name],
        label=say(name),
        info=say(f"help.{name}"),
        allow_custom_value=True,
        elem_id=name,
    )


def _tab(name: str, say: gr.I18n, top: Top, ask: Ask) -> AnswerOutputs:
    buttons: list[Any] = []

    def button() -> None:
        label = say("weigh" if name in forms.ASKED else "list")
        buttons.append(gr.Button(label, variant="primary", elem_id=f"{name}-ask"))

    with gr.Tab(say(f"{name}.tab"), id=name) as tab, gr.Row():
        with gr.Column(scale=1, min_width=300):
            fields = forms.SpaceTab(name, tuple(forms.sections(name, say, button)))
        with gr.Column(scale=2, min_width=320):
            shown = _shown(fields, say)
    _events(shown, top, ask, [one.click for one in buttons], tab.select)
    return shown


def _shown(tab: forms.SpaceTab, say: gr.I18n) -> AnswerOutputs:
    answer = gr.HTML("", html_template=SHOWN, elem_id=f"{tab.name}-answer")
    if tab.name in forms.LISTED:
        return AnswerOutputs(tab, answer)
    command = gr.Textbox(
        label=say("command"), buttons=["copy"], interactive=False, elem_id=f"{tab.name}-command"
    )
    with gr.Accordion(say("markdown"), open=False):
        markdown = gr.Textbox(
            label=say("markdown"), buttons=["copy"], lines=6, max_lines=20, interactive=False
        )
    return AnswerOutputs(tab, answer, command, markdown)


def _events(shown: AnswerOutputs, top: Top, ask: Ask, asked: list[Any], opened: Any) -> None:
    """Answer anew after a button, a change of a setting, and when the tab is opened."""
    tab = shown.tab
    inputs = [*top.asked, *tab.components]
    outputs = [*shown.outputs, top.draft, top.address]
    answer = partial(_answered, ask, shown)

    for field in tab.fields:
        asked += _changed(field)
    gr.on(asked, answer, inputs, outputs, **LIVE)
    shared = [part.input for part in (top.model, top.gpu, top.lang, top.details)]
    gr.on(shared, partial(_where, tab.name, answer), [top.current, *inputs], outputs, **LIVE)
    turned = partial(_turned, tab.name, answer)
    opened(turned, [top.current, *inputs], [*outputs, top.current], **LIVE)
    if tab.deciding:
        parts = list(tab.shown({}))
        changed = [field.component.change for field in tab.deciding]
        gr.on(changed, partial(_visible, tab), tab.components, parts, **LIVE)


def _changed(field: forms.FormField) -> list[Any]:
    """Return the events that ask again: text asks once it is whole, all else at once."""
    part = field.component
    return [part.submit, part.blur] if field.typed else [part.input]


def _visible(tab: forms.SpaceTab, *values: Any) -> dict[Any, Any]:
    return tab.shown(tab.said(values))


def _where(name: str, answer: Callable[..., Any], current: str, *values: Any) -> Any:
    """Answer the tab that is open anew, when what all tabs share has changed."""
    return answer(*values) if current == name else gr.skip()


def _turned(name: str, answer: Callable[..., Any], current: str, *values: Any) -> Any:
    """A tab was opened. The first one is, when the page is, and has its answer."""
    return gr.skip() if current == name else (*answer(*values), name)


def _answered(ask: Ask, shown: AnswerOutputs, *values: Any) -> tuple[Any, ...]:
    count = len(SharedChoices._fields)
    choices = SharedChoices(*values[:count])
    if choices.lang not in LANGUAGES:
        choices = choices._replace(lang="en")
    answer = _told(ask, shown.tab, choices, shown.tab.said(values[count:]))
    return (*answer.values(shown), answer.draft, answer.address)


def _told(
    ask: Ask, tab: forms.SpaceTab, choices: SharedChoices, settings: Mapping[str, Any]
) -> PageAnswer:
    """The answer to what was filled in, and the address that gives it again."""
    typed = tab.given(settings)
    address = _address(tab.name, choices, typed)
    if tab.name in forms.ASKED and not (choices.model or "").strip():
        return PageAnswer(_refused(_words(choices.lang)("answer.empty")), address=address)
    reply = ask(request(tab.name, choices, typed))
    if "error" in reply:
        return PageAnswer(_refused(reply["error"]["message"]), address=address)
    answer = (reply["html"], reply.get("command", ""), reply["markdown"], reply.get("draft"))
    return PageAnswer(*answer, address)


def request(tab: str, choices: SharedChoices, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is asked of the office: task, settings, view, and the model where the tab has
    one."""
    asked: dict[str, Any] = {"task": tab, "workload": dict(settings)}
    asked["view"] = {"lang": choices.lang, "details": bool(choices.details)}
    if tab in forms.ASKED:
        asked |= {"model": model_of(choices.model), "token": choices.token or None}
        if choices.gpu:
            asked["workload"]["gpu"] = choices.gpu
    return asked


def first(lang: str) -> dict[str, Any]:
    """Return the request of a first visit."""
    return request(forms.ASKED[0], SharedChoices(FIRST["model"], FIRST["gpu"], lang, False, ""), {})


def model_of(text: str) -> Any:
    """Return the reference that was typed, or the config that was pasted in its place."""
    if not text.lstrip().startswith("{"):
        return text.strip()
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()
    return {"config": config}


def _words(lang: str) -> Words:
    return words_in(lang if lang in LANGUAGES else "en", "space")


def _refused(message: str) -> str:
    return f'<p role="alert" class="refused">{escape(message)}</p>'


def _address(tab: str, choices: SharedChoices, settings: Mapping[str, Any]) -> str:
    """The address that gives the same answer, here and on the page of `weighbridge web`; never
    with a token, nor with a whole config."""
    query = {"task": tab}
    if tab in forms.ASKED:
        query |= {"model": choices.model or "", "gpu": choices.gpu or ""}
        if len(query["model"]) > MOST_NAME:
            del query["model"]
    query |= {name: "true" if value is True else str(value) for name, value in settings.items()}
    query |= {"lang": choices.lang, **({"details": "1"} if choices.details else {})}
    return f"#{urlencode(query)}"


def _opening(
    blocks: gr.Blocks, top: Top, tabs: gr.Tabs, tab_outputs: Sequence[AnswerOutputs], ask: Ask
) -> None:
    """Fill the fields with what the address of the page says, and answer it when it opens."""
    outputs: list[Any] = [tabs, top.model, top.gpu, top.lang, top.details, top.current, top.draft]
    for shown in tab_outputs:
        fields = shown.tab.fields
        outputs += [*shown.outputs, *shown.tab.components, *shown.tab.shown({})]
        outputs += [f.slider for f in fields if f.slider is not None]
    outputs = list(dict.fromkeys(outputs))

    def opened(fragment: str, request: gr.Request) -> dict[Any, Any]:
        query = _query(fragment, request.query_params)
        shown = next(
            (one for one in tab_outputs if one.tab.name == query.get("task")), tab_outputs[0]
        )
        choices = _said(query, request.headers.get("accept-language", ""))
        settings = dict(_settings(shown.tab, query))
        answer = _told(ask, shown.tab, choices, settings)
        return {
            tabs: gr.Tabs(selected=shown.tab.name),
            top.current: shown.tab.name,
            **dict(zip((top.model, top.gpu, top.lang, top.details), choices, strict=False)),
            **_filled(shown.tab, settings),
            **dict(zip(shown.outputs, answer.values(shown), strict=True)),
            top.draft: answer.draft,
        }

    blocks.load(opened, top.address, outputs, js=FRAGMENT, **QUIET)


def _query(fragment: str, older: Mapping[str, str]) -> dict[str, str]:
    """Return what an address says: behind its #, or in the query of an older link."""
    fields = dict(parse_qsl(fragment.removeprefix("#")[:LONGEST]))
    return fields or {"task": older.get("tab", ""), **older}


def _said(query: Mapping[str, str], accepted: str) -> SharedChoices:
    """Return what an address says for all tabs; the first visit has an example."""
    known = FIRST if not query.keys() & FIRST.keys() else {}
    lang = query.get("lang") or ("zh" if accepted.lower().startswith("zh") else "en")
    return SharedChoices(
        model=query.get("model", known.get("model", "")),
        gpu=query.get("gpu", known.get("gpu", "")),
        lang=lang if lang in LANGUAGES else "en",
        details=query.get("details") in ("1", "true"),
        token="",
    )


def _settings(tab: forms.SpaceTab, query: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """The settings of an address, those alone that the form can show."""
    for field in tab.fields:
        value = query.get(field.name)
        if not value:
            continue
        if field.setting["kind"] == "flag":
            if value == "true":
                yield field.name, True
        elif not field.setting["choices"] or value in field.setting["choices"]:
            yield field.name, value


def _filled(tab: forms.SpaceTab, settings: Mapping[str, Any]) -> dict[Any, Any]:
    """The components with these settings in them, those shown that have a meaning."""
    updates = tab.shown(settings)
    for field in tab.fields:
        if field.name not in settings or not forms.meant(field, settings):
            continue
        updates[field.component] = gr.update(value=settings[field.name], visible=True)
        if field.slider is not None:
            with suppress(UsageError):
                updates[field.slider] = str(parse_count(settings[field.name]))
    return updates


def _posting(say: gr.I18n, top: Top, ask: Ask) -> None:
    """A preview first, then a button; nothing is posted that was not looked at."""
    with gr.Accordion(say("post"), open=False, elem_id="posting"):
        gr.Markdown(say("help.post"))
        look = gr.Button(say("preview"), elem_id="preview")
        text = gr.Textbox(
            label=say("preview_label"),
            lines=8,
            max_lines=24,
            interactive=False,
            visible=False,
            elem_id="previewed",
        )
        send = gr.Button(say("send"), visible=False, variant="stop", elem_id="send")
        posted = gr.HTML("", html_template=SHOWN, elem_id="posted")
    look.click(_preview, [top.draft, top.lang], [top.previewed, text, send, posted], **QUIET)
    sent = partial(_sent, ask)
    inputs = [top.previewed, top.token, top.lang]
    send.click(sent, inputs, [top.previewed, send, posted], trigger_mode="once", **QUIET)


def _preview(draft: dict[str, str] | None, lang: str) -> tuple[Any, ...]:
    words = _words(lang)
    if draft is None:
        return (
            None,
            gr.update(visible=False),
            gr.update(visible=False),
            _refused(words("answer.no_draft")),
        )
    shown = f"{draft['repo_id']}\n{draft['title']}\n\n{draft['text']}"
    return draft, gr.update(value=shown, visible=True), gr.update(visible=True), ""


def _sent(ask: Ask, draft: dict[str, str] | None, token: str, lang: str) -> tuple[Any, ...]:
    words = _words(lang)
    if draft is None or not (token or "").strip():
        why = words("answer.no_preview" if draft is None else "answer.no_token")
        return draft, gr.update(visible=draft is not None), _refused(why)
    reply = ask({"task": "post", "draft": draft, "token": token})
    if "error" in reply:
        return draft, gr.update(visible=True), _refused(reply["error"]["message"])
    url = str(reply["posted"]["url"])
    link = f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{escape(url)}</a>'
    line = words("answer.already" if reply["posted"]["already"] else "answer.posted")
    return None, gr.update(visible=False), f'<p role="status">{escape(line)} {link}</p>'
