"""Laws of the screens: what every one of them keeps, whatever was asked."""

import re
from html.parser import HTMLParser

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.faces.cli.menu import run
from weighbridge.faces.cli.options import language
from weighbridge.faces.render import draw
from weighbridge.faces.render.terminal import cells
from weighbridge.faces.view import screen
from weighbridge.faces.view.records import Bar, Grid, Headline, Paste, RenderOptions
from weighbridge.models.catalogue import search

ASKED = (
    ("load", "llama-3.1-8b", {"gpu": "3060"}),
    ("load", "llama-3.1-70b", {"gpu": "4090:2"}),
    ("load", "qwen3-0.6b", {}),
    ("infer", "llama-3.1-8b", {"engine": "vllm", "gpu": "4090", "context": 32768}),
    ("infer", "mixtral-8x7b", {"engine": "llama.cpp", "quantization": "Q4_K_M", "gpu": "3090"}),
    ("infer", "7B", {"gpu": "4090"}),
    pytest.param(
        ("train", "llama-3.1-8b", {"method": "qlora", "checkpointing": "full", "gpu": "3060"}),
        marks=pytest.mark.slow,
    ),
    ("train", "qwen3-0.6b", {"shard": "fsdp2", "gpu": "4090:4"}),
)


@pytest.fixture(scope="module", params=ASKED, ids=lambda a: " ".join(map(str, a)))
def report(request):
    task, model, settings = request.param
    return getattr(weighbridge, task)(model, **settings)


def bars(found):
    return [b for b in found.blocks if isinstance(b, Bar)]


@pytest.mark.slow
def test_segments_add_up_to_the_bar(report):
    for bar in bars(screen(report)):
        assert sum(part.nbytes for part in bar.segments) == bar.total
        judged = report.verdict is not None and report.verdict.count
        whole = report.verdict.per_device if judged else report.peak
        assert 0.99 * whole.expected <= bar.total <= whole.expected


@pytest.mark.slow
def test_at_most_five_components_and_activations(report):
    for bar in bars(screen(report)):
        assert 1 <= len([part for part in bar.segments if part.key != "activations"]) <= 5


@pytest.mark.slow
def test_the_headline_is_the_verdict(report):
    (head,) = (b for b in screen(report).blocks if isinstance(b, Headline))
    if report.verdict is None:
        assert head.mark is None
    else:
        assert head.mark == report.verdict.fits or (head.mark, report.verdict.fits) == (
            "tight",
            "yes",
        )
        assert head.has == report.verdict.usable_bytes


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(report, width):
    found = screen(report)
    pastes = (b.text for b in found.blocks if isinstance(b, Paste))
    pasted = {line.strip() for text in pastes for line in text.splitlines()}
    assert not any(b.wide for b in found.blocks if isinstance(b, Grid))
    for line in draw(found, "human", RenderOptions(width=width)).splitlines():
        assert cells(line) <= width or line.strip() in pasted, line


def drawn(report, **look):
    return draw(screen(report, lang=look.pop("lang", "en")), "human", RenderOptions(**look))


@pytest.mark.slow
def test_the_answer_is_in_the_first_eight_lines(report):
    """Verdict, bar and reason; without a device the size. At 80 columns."""
    found = screen(report)
    (head,) = (b for b in found.blocks if isinstance(b, Headline))
    first = drawn(report).splitlines()[:8]
    assert head.verdict in "\n".join(first)
    assert any("█" in line for line in first)
    if head.reason:
        assert " ".join(head.reason.split()) in " ".join(" ".join(first).split())


@pytest.mark.slow
def test_marks_are_signs_and_words(report):
    """Without colour and without signs of Unicode the verdict is the same."""
    signs = {"yes": "OK ", "tight": "OK ", "no": "NO ", "unknown": "?? "}
    (head,) = (b for b in screen(report).blocks if isinstance(b, Headline))
    plain = drawn(report, plain=True)
    assert plain.isascii()
    if head.mark is not None:
        assert f"{signs[head.mark]}{head.verdict}" in plain


@pytest.mark.slow
def test_a_bar_has_words_beside_it(report):
    for bar in bars(screen(report)):
        for part in bar.segments:
            if part.size.strip("0.,"):
                assert f"{part.name} {part.size}" in bar.legend
                assert f"{part.name} {part.size}" in bar.words


def sizes_of(told):
    """Every number of bytes in a JSON answer, and their differences to what is usable."""
    if isinstance(told, dict):
        for value in told.values():
            yield from sizes_of(value)
    elif isinstance(told, list):
        for value in told:
            yield from sizes_of(value)
    elif isinstance(told, int) and not isinstance(told, bool):
        yield abs(told)


def test_numbers_of_the_answer_are_in_the_json(report):
    """To the decimal that is shown; parts of a bar are sums of components (tested above)."""
    (head,) = (b for b in screen(report).blocks if isinstance(b, Headline))
    known = {
        f"{n / 2**s:,.{d}f}"
        for n in sizes_of(report.to_dict())
        for s in (20, 30)
        for d in (0, 1, 2)
    }
    known |= {str(100 - n) for n in range(100)}
    for number in re.findall(r"\d[\d,]*\.?\d*", f"{head.figures} {head.margin}"):
        assert number in known, (number, head)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_double_width_signs_align(report, lang):
    """Columns begin where they begin in every row, whatever is in them."""
    for line in drawn(report, lang=lang, width=80).splitlines():
        pastes = (b.text for b in screen(report).blocks if isinstance(b, Paste))
        pasted = {each for text in pastes for each in text.splitlines()}
        assert cells(line) <= 80 or line.strip() in pasted


def test_pages_are_escaped():
    name = "<script>alert(1)</script>"
    found = weighbridge.load({"model_type": "gpt2", "_name_or_path": name, "n_layer": 2})
    page = draw(screen(found), "html")
    assert "<script" not in page
    assert "&lt;script" in page
    assert "<script" not in found._repr_html_()


class Reader(HTMLParser):
    """Tags in their order; nothing comes from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in ("rect", "br")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("details", [False, True])
def test_html_is_whole(report, details):
    found = Reader()
    found.feed(draw(screen(report, details=details, explain=details), "html"))
    assert found.open == []


def test_a_terminal_in_chinese_is_answered_in_chinese(monkeypatch):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert language() == "en", "a pipe"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert language() == "zh"
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    assert language() == "en"


def test_json_is_english_whatever_is_asked(capsys):
    run(["load", "qwen3-0.6b", "--lang", "zh", "--json"])
    chinese = capsys.readouterr().out
    run(["load", "qwen3-0.6b", "--json"])
    assert chinese == capsys.readouterr().out


@pytest.mark.slow
@all_of("name", [m.name for m in search("")][::7])
def test_laws_hold_over_the_catalogue(name):
    for task, settings in (("load", {"gpu": "4090"}), ("infer", {"gpu": "4090"}), ("load", {})):
        found = getattr(weighbridge, task)(name, **settings)
        test_segments_add_up_to_the_bar(found)
        test_at_most_five_components_and_activations(found)
        test_the_headline_is_the_verdict(found)
        test_marks_are_signs_and_words(found)
        test_numbers_of_the_answer_are_in_the_json(found)
        for width in (60, 80, 120):
            test_no_line_is_wider_than_the_terminal(found, width)
