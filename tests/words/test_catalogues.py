"""Catalogues: complete in every language, each sentence said somewhere, none said that is not there."""

import ast
import json
import re
from pathlib import Path

import pytest
from tools.syntax import nodes

from tests.cases import all_of
from weighbridge.base.words import BELOW, LANGUAGES, entries, words_in

ROOT = Path(__file__).parents[2] / "src" / "weighbridge"
FILES = sorted(path.stem for path in (ROOT / "base" / "words").glob("*.json"))
CATALOGUES = [name for name in FILES if name != "settings"]  # those are asked in tests/settings
SOURCES = {  # catalogue -> who says its sentences
    "screens": (
        "faces/view/*.py",
        "files/runfiles/*.py",
        "faces/texts/runfile.py",
        "../weighbridge_lab/trace/screen.py",
        "faces/agents/brief.py",
        "base/words/*.py",
        "faces/charts/*.py",
        "faces/web/*.py",
        "faces/cli/accelerate.py",
    ),
    "oom": ("files/oom/*.py", "faces/texts/oom.py"),
    "errors": ("**/*.py", "../weighbridge_lab/**/*.py"),
    "warnings": ("**/*.py", "files/runfiles/**/*.txt", "../weighbridge_lab/**/*.py"),
    "charts": ("faces/charts/*.py", "../weighbridge_lab/measure/chart.py"),
    "page": ("faces/web/page/*.js", "faces/web/*.py"),
}
CHINESE = re.compile("[\u4e00-\u9fff]")
SAYING = {"words", "say", "s", "EN"}  # names of what says a sentence
NAMES = {"logits", "allocated", "reserved", "driver", "details", "explain", "json"}


def source(catalogue):
    paths = (path for pattern in SOURCES[catalogue] for path in sorted(ROOT.glob(pattern)))
    return "\n".join(path.read_text() for path in paths)


def placeholders(sentence):
    return sorted(re.findall(r"\{(\w+)(?:![rs])?(?::[^{}]*)?\}", sentence))


def faults(catalogue, *, keyed=False):
    """What is wrong with the entries of a catalogue, in words."""
    for key, entry in catalogue.items():
        page = entry.get("page", {})
        if {*entry} - {"page"} != {*LANGUAGES} or (page and {*page} != {*LANGUAGES}):
            yield f"{key}: has not all languages, or others"
            continue
        named = placeholders(entry["en"])
        for lang in LANGUAGES:
            # what a message says by itself in English may be said in other words
            free = keyed or key.startswith("known.")
            free = free and {*placeholders(entry[lang])} <= {*named}
            if placeholders(entry[lang]) != named and not free:
                yield f"{key}: {lang} names other values than en"
            if page and not {*placeholders(page[lang])} <= {*named}:
                yield f"{key}: {lang} of a page names other values than en"
            if page and "--" in page[lang]:
                yield f"{key}: {lang} of a page names an option of the command line"
            if not entry[lang] and entry["en"]:
                yield f"{key}: {lang} is empty"


def unsaid(catalogue, text):
    """Keys that no source names, whole or by what stands before a value: f"part.{name}"."""
    stems = set(
        re.findall(r"""["'`]([a-z0-9_.]+\.)\$?\{""", text)
    )  # f"part.{name}", `part.${name}`
    stems |= {f"{kind}." for kind in re.findall(r"""(?:named|translated)\([^"]*"(\w+)\"""", text)}
    stems |= {f"{kind}." for kind in re.findall(r"""_keys\(\w+, "(\w+)"\)""", text)}
    spelled = set(re.findall(r"""["'`]([\w.-]+)["'`]""", text))
    spelled |= set(re.findall(r"^note +([\w.-]+) ", text, re.MULTILINE))  # rows of readers' tables
    return [key for key in catalogue if key not in spelled and not key.startswith(tuple(stems))]


def said(text):
    """Keys that are given to what says a sentence."""
    for call in nodes(text, ast.Call):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name in SAYING and call.args:
            yield from constants(call.args[0])


def constants(node):
    """The texts that an argument may be."""
    if isinstance(node, ast.IfExp):
        return [*constants(node.body), *constants(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


@all_of("name", CATALOGUES)
def test_every_sentence_is_in_every_language(name):
    assert list(faults(entries(name), keyed=name in ("errors", "warnings"))) == []


@pytest.mark.parametrize("name", CATALOGUES)
def test_every_sentence_is_said(name):
    assert unsaid(entries(name), source(name)) == []


@pytest.mark.parametrize("name", ["screens", "oom", "charts"])
def test_no_sentence_is_said_that_is_not_there(name):
    known = {*entries(name), *entries(BELOW.get(name, name))}
    known |= {*entries("charts"), *entries("page")} if name == "screens" else set()
    paths = [p for pattern in SOURCES[name] for p in ROOT.glob(pattern) if p.suffix == ".py"]
    keys = {key for path in paths for key in said(path.read_text())}
    assert keys
    assert keys - known == set()


@all_of("name", FILES)
def test_a_file_is_written_in_one_way(name):
    """A key that stands there twice would be dropped in silence; so would an escape."""
    text = (ROOT / "base" / "words" / f"{name}.json").read_text()
    assert text == json.dumps(entries(name), ensure_ascii=False, indent=1) + "\n"


@all_of(
    ("entry", "fault"),
    [
        ({"en": "fits"}, "has not all languages"),
        ({"en": "fits", "zh": "放得下", "fr": "tient"}, "or others"),
        ({"en": "{size} left", "zh": "余 {nbytes}"}, "zh names other values"),
        ({"en": "fits", "zh": ""}, "zh is empty"),
        ({"en": "a", "zh": "甲", "page": {"en": "see --json", "zh": "乙"}}, "an option"),
        ({"en": "{a}", "zh": "{a}", "page": {"en": "{b}", "zh": "{a}"}}, "of a page names"),
    ],
)
def test_the_tests_of_sentences_can_fail(entry, fault):
    (found,) = faults({"key": entry})
    assert fault in found


def test_the_tests_of_keys_can_fail():
    catalogue = {"part.logits": {}, "title": {}, "why.asked": {}, "unused": {}}
    text = 's(f"part.{name}"); say("title"); self.translated(text, "why"); s.say("a" if b else "c")'
    assert unsaid(catalogue, text) == ["unused"]
    assert set(said(text)) == {"title", "a", "c"}


def test_chinese_is_chinese():
    """What is left in English is what has no other name."""
    same = [entry["en"] for entry in entries("screens").values() if entry["en"] == entry["zh"]]
    words = {
        word for text in same for word in re.findall("[a-z]{3,}", re.sub(r"\{\w+\}", "", text))
    }
    assert words <= NAMES


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_page_says_the_same_without_options(lang):
    told, page = words_in(lang), words_in(lang, page=True)
    assert told.sentences.keys() == page.sentences.keys()
    assert page.sentences != told.sentences
    assert page("footer.more") == ""


def test_no_language_is_invented():
    with pytest.raises(ValueError, match="no language"):
        words_in("tlh")
    assert {words_in(lang).lang for lang in LANGUAGES} == {"en", "zh"}


# What says them


def test_one_and_several():
    words = words_in("en")
    assert words.some("requests.one", "requests.many", 1) == "1 request"
    assert words.some("requests.one", "requests.many", 2048) == "2,048 requests"


def test_a_chart_calls_parts_what_screens_call_them_and_says_the_rest_itself():
    words, screens = words_in("en", "charts"), words_in("en")
    assert words("part.weights") == screens("part.weights")
    assert words("span", about=1, low=0, high=2).startswith("1")
    assert words.named("phase", "prefill") == screens("phase.prefill")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_name_of_a_stranger_stays(lang):
    assert words_in(lang, "charts").named("phase", "my phase") == "my phase"


def test_a_value_that_is_not_known_is_a_question_mark():
    words = words_in("en", "oom")
    assert words.filled("figures.asked", {"free": "1 GiB"}) == "asked for ?; 1 GiB was free"


def test_english_of_an_answer_is_said_in_the_other_language():
    words = words_in("zh")
    assert words.why("as you asked") == words.sentences["why.asked"]
    assert words.why("as \x1byou like") == r"as \x1byou like"
    assert words_in("zh", "oom").translated("slower", "cost") == "更慢"
    assert words_in("zh", "oom").translated("something new", "cost") is None


def test_the_longer_of_two_known_sentences_is_read_first():
    """Sentences of Ollama's tags hold those of other tags, which would read them otherwise."""
    english, chinese = words_in("en"), words_in("zh")
    for key in (key for key in english.sentences if key.startswith("known.")):
        values = {name: f"<{name}>" for name in placeholders(english.sentences[key])}
        assert chinese.told(english(key, **values)) == chinese(key, **values), key
        assert english.told(english(key, **values)) == english(key, **values)
    assert chinese.told("something else") == "something else"


HALF = re.compile(
    r"(?<=[\u4e00-\u9fff)}])[,;:](?=[\u4e00-\u9fff{A-Za-z0-9]| ?$)|[,;:](?=[\u4e00-\u9fff])"
)


@all_of("catalogue", ["screens", "oom", "errors", "warnings"])
def test_chinese_sentences_have_full_width_signs(catalogue):
    for key, entry in entries(catalogue).items():
        for sentence in (entry["zh"], entry.get("page", {}).get("zh", "")):
            assert not (CHINESE.search(sentence) and HALF.search(sentence)), (key, sentence)


def test_a_half_width_sign_is_seen():
    assert HALF.search("{a},{b}") and HALF.search("中:") and HALF.search("x;中")
    assert not HALF.search("a,b") and not HALF.search("10:30")
