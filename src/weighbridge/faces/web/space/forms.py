"""The form as components of Gradio, made from web.form: no setting is named here but the model and
the card, which all tabs share."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.words import LANGUAGES, words_in
from weighbridge.faces.web.form import form

Setting = Mapping[str, Any]
SHARED = ("gpu",)  # stands above the tabs
CLOSED = ("exact",)  # not for strangers (answering.py)
NONE = ("-", "")  # of a list: nothing is said, and the default rules
ASKED = ("fit", "load", "infer", "train")
LISTED = ("gpus", "models")
# A slider from 2^least to 2^most in steps of a quarter of a doubling. It types into the box beside
# it, three times a second at most, and goes where that box says.
SLIDE = text_beside(__file__, "slide.js")


class FormField(NamedTuple):
    """A setting and the component that holds its value; with a slider both stand in a frame."""

    setting: Setting
    component: Any
    slider: Any = None
    frame: Any = None

    @property
    def name(self) -> str:
        return str(self.setting["name"])

    @property
    def whole(self) -> Any:
        """Return the component that is shown or hidden: its frame where it has one."""
        return self.component if self.frame is None else self.frame

    @property
    def typed(self) -> bool:
        return isinstance(self.component, gr.Textbox)


class Section(NamedTuple):
    """Fields that belong together; the first section of a tab has no frame that can be closed."""

    fields: tuple[FormField, ...]
    frame: Any = None


class SpaceTab(NamedTuple):
    """A tab of the form, in the order of the table."""

    name: str
    sections: tuple[Section, ...]

    @property
    def fields(self) -> tuple[FormField, ...]:
        return tuple(field for section in self.sections for field in section.fields)

    @property
    def components(self) -> list[Any]:
        return [field.component for field in self.fields]

    def said(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return the settings that somebody filled in, by name."""
        return {f.name: v for f, v in zip(self.fields, values, strict=True) if told(v)}

    def given(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of those settings that have a meaning beside the others."""
        return {
            f.name: settings[f.name]
            for f in self.fields
            if f.name in settings and meant(f, settings)
        }

    def shown(self, settings: Mapping[str, Any]) -> dict[Any, Any]:
        """Return which fields that may be without a meaning are there, and which frames."""
        updates: dict[Any, Any] = {}
        for section in self.sections:
            there = [conditional(f) is False or meant(f, settings) for f in section.fields]
            for field, visible in zip(section.fields, there, strict=True):
                if conditional(field):
                    updates[field.whole] = gr.update(visible=visible)
            if section.frame is not None and not all(map(unconditional, section.fields)):
                updates[section.frame] = gr.update(visible=any(there))
        return updates

    @property
    def deciding(self) -> tuple[FormField, ...]:
        """Return the fields on whose values it depends which other fields are shown."""
        names = {"engine", *(n for f in self.fields for n in f.setting["when"] or ())}
        return tuple(f for f in self.fields if f.name in names)


def told(value: Any) -> bool:
    return value not in (None, "", False, [])


def conditional(field: FormField) -> bool:
    return bool(field.setting["engines"] or field.setting["when"])


def unconditional(field: FormField) -> bool:
    return not conditional(field)


def meant(field: FormField, settings: Mapping[str, Any]) -> bool:
    """Tell whether a setting has a meaning beside those that were said (web.form says how)."""
    engines, when = field.setting["engines"], field.setting["when"]
    if engines and settings.get("engine", "transformers") not in engines:
        return False
    if not when:
        return True
    return any(
        n in settings and (not values or settings[n] in values) for n, values in when.items()
    )


def tables() -> Mapping[str, Mapping[str, Any]]:
    """The tabs by their names, in English: components hold keys, words come from `translations`."""
    return {tab["name"]: tab for tab in form("en")["tabs"]}


def translations() -> dict[str, dict[str, str]]:
    """Every word of the page, by its key, in each language."""
    words = {lang: dict(_own_words(lang)) | dict(_words(lang)) for lang in LANGUAGES}
    return {"en": words["en"], "zh": words["zh"], "zh-CN": words["zh"]}


def _own_words(lang: str) -> Iterator[tuple[str, str]]:
    """The words of the page around the forms; those of answers are chosen with the answer."""
    for key, text in words_in(lang, "space").sentences.items():
        if not key.startswith("answer."):
            yield key, text


def _words(lang: str) -> Iterator[tuple[str, str]]:
    for tab in form(lang)["tabs"]:
        name = tab["name"]
        yield f"{name}.tab", tab["label"]
        for section in tab["sections"]:
            yield f"{name}.section.{section['name']}", section["label"]
            for setting in section["settings"]:
                yield f"{name}.{setting['name']}", setting["label"]
                yield f"{name}.{setting['name']}.help", setting["help"]


def names(kind: str) -> list[tuple[str, str]]:
    """(what is shown, what it is) of every model or card, for completion."""
    rows: Iterable[Mapping[str, Any]] = form("en")[kind]
    return [(f"{one['name']} ({one['label']})", one["name"]) for one in rows]


def sections(tab: str, say: gr.I18n, between: Callable[[], None]) -> Iterator[Section]:
    """The components of a tab, drawn where this is called: the first settings open, then what
    `between` draws, the others in a section each."""
    for number, section in enumerate(tables()[tab]["sections"]):
        shown = [s for s in section["settings"] if _here(s, tab)]
        if not number:
            yield Section(tuple(_field(s, tab, say) for s in shown))
            between()
        elif shown:
            key = f"{tab}.section.{section['name']}"
            there = any(meant(FormField(s, None), {}) for s in shown)
            place = f"{tab}-{section['name'].replace(' ', '-')}"
            with gr.Accordion(say(key), open=False, visible=there, elem_id=place) as frame:
                fields = tuple(_field(s, tab, say) for s in shown)
            yield Section(fields, frame)


def _here(setting: Setting, tab: str) -> bool:
    return setting["name"] not in CLOSED and not (tab in ASKED and setting["name"] in SHARED)


def _field(setting: Setting, tab: str, say: gr.I18n) -> FormField:
    key = f"{tab}.{setting['name']}"
    look = {"label": say(key), "info": say(f"{key}.help"), "elem_id": key.replace(".", "-")}
    visible = meant(FormField(setting, None), {})
    if setting["slider"] is None:
        return FormField(setting, _component(setting, look | {"visible": visible}))
    with gr.Group(visible=visible, elem_classes="slid") as frame:
        component = _component(setting, look)
        slider = _slider(setting, key)
    return FormField(setting, component, slider, frame)


def _component(setting: Setting, look: dict[str, Any]) -> Any:
    if setting["kind"] == "flag":
        return gr.Checkbox(value=False, **look)
    if setting["choices"]:
        return gr.Dropdown([NONE, *setting["choices"]], value="", **look)
    if setting["known"]:
        return gr.Dropdown([NONE, *setting["known"]], value="", allow_custom_value=True, **look)
    default = setting["default"]
    hint = "" if default is None else str(default)
    return gr.Textbox(placeholder=hint, max_lines=1, max_length=4000, **look)


def _slider(setting: Setting, key: str) -> Any:
    """A slider on a logarithmic scale, which Gradio's own has not."""
    from math import log2

    least, most = (log2(setting["slider"][end]) for end in ("least", "most"))
    start = log2(setting["default"] or 1) if setting["default"] else least
    name = json.dumps(setting["label"])
    return gr.HTML(
        value="",
        html_template=(
            f'<input type="range" aria-label={name} min="{least:g}" max="{most:g}" step="0.25" '
            f'value="${{Number(value) > 0 ? Math.log2(Number(value)) : {start:g}}}">'
        ),
        js_on_load=SLIDE,
        elem_id=f"{key.replace('.', '-')}-slider",
        elem_classes="slide",
    )
