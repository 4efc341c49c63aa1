"""The screen in plain characters: the same, sign by sign, as rich draws it."""

import re
from dataclasses import replace
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

import weighbridge
from tests.rich_human import human as by_rich
from weighbridge.memory import Device, Exact
from weighbridge.render.drawing import CODES, Column, Styled, Table, cells, drawn, wrapped
from weighbridge.render.human import human

STYLE = re.compile(r"\x1b\[([\d;]*)m")


def seen(text):
    """Each line as (sign, style): a blank has no style that shows, and none ends a line."""
    found = []
    for line in text.split("\n"):
        style, at, row = "", 0, []
        for code in [*STYLE.finditer(line), None]:
            until = code.start() if code else len(line)
            row += [(sign, style if sign != " " else "") for sign in line[at:until]]
            style, at = (code[1].strip("0"), code.end()) if code else ("", until)
        while row and row[-1][0] == " ":
            row.pop()
        found.append(row)
    return found


def exactly_traced(report):
    """The report with a table of what was traced beside each phase."""
    beside = Exact(phases=tuple((p, p) for p in report.devices[0].phases), source="a test")
    first = report.devices[0]
    told = Device(index=0, kind="gpu", phases=first.phases, taken=first.taken, exact=beside)
    return replace(report, devices=(told, *report.devices[1:]))


QUESTIONS = {
    "load": lambda: weighbridge.load("llama-3.1-8b"),
    "load, cards and memory": lambda: weighbridge.load("mixtral-8x7b", gpu="h100:2", ram="64GiB"),
    "a bare size": lambda: weighbridge.load("7B"),
    "infer": lambda: weighbridge.infer("gemma-3-4b", engine="vllm", gpu="4090"),
    "a command": lambda: weighbridge.infer(
        "llama-3.1-8b", command="vllm serve llama-3.1-8b --port 80", gpu="3060"
    ),
    "exact": lambda: exactly_traced(weighbridge.infer("qwen3-0.6b")),
    "train": lambda: weighbridge.train("qwen3-0.6b", shard="fsdp2", gpu="h100:8", seq_len=128),
    "signs of two columns": lambda: weighbridge.load(
        {"model_type": "gpt2", "_name_or_path": "模型/" + "大きな 名前 " * 12, "n_layer": 2}
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_screen_is_what_rich_draws(question):
    report = QUESTIONS[question]()
    for width in (20, 80, 100, 200):
        for explain in (False, True):
            asked = {"explain": explain, "width": width, "unit": "MiB" if width == 100 else None}
            assert human(report, **asked) == by_rich(report, **asked)
            ours, theirs = (f(report, color=True, **asked) for f in (human, by_rich))
            assert seen(ours) == seen(theirs)


def test_a_screen_without_color_has_no_codes():
    report = QUESTIONS["load"]()
    assert "\x1b" not in human(report)
    assert "\x1b[1m" in human(report, color=True)


def printed(*things, width):
    out = StringIO()
    console = Console(
        file=out, width=width, highlight=False, legacy_windows=False, color_system=None
    )
    for thing in things:
        console.print(thing)
    return [line.rstrip() for line in out.getvalue().split("\n")[:-1]]


TEXT = st.text(alphabet=st.sampled_from("ab cde  fgh-·模😀é"), max_size=60)


@given(TEXT, st.integers(2, 50))
@settings(max_examples=100)
def test_text_is_broken_where_rich_breaks_it(text, width):
    ours = [line.rstrip() for line in wrapped(text, width)]
    assert ours == printed(Text(text), width=width)


@st.composite
def tables(draw):
    columns = [Column(right=draw(st.booleans())) for _ in range(draw(st.integers(1, 4)))]
    if draw(st.booleans()):
        columns[-1] = Column(folds=True)
    said = TEXT.map(lambda text: text.strip() or "x")
    cell = st.builds(Styled, said, st.sampled_from(["", *CODES]))
    rows = draw(st.lists(st.tuples(*[cell] * len(columns)), min_size=1, max_size=4))
    head = [draw(said)[:3].strip() or "x" for _ in columns] if draw(st.booleans()) else ()
    return Table(columns, rows, head)


def of_rich(table):
    plain = {"box": None, "show_header": False, "padding": (0, 2)}
    headed = {"box": SIMPLE_HEAD, "show_edge": False}
    made = RichTable(pad_edge=False, **(headed if table.head else plain))
    for index, column in enumerate(table.columns):
        how = {"overflow": "fold"} if column.folds else {"no_wrap": True}
        title = Text(table.head[index]) if table.head else ""
        made.add_column(title, justify="right" if column.right else "left", **how)
    for row in table.rows:
        made.add_row(*(Text(cell.text, cell.style) for cell in row))
    return made


@given(tables(), st.integers(60, 200))
@settings(max_examples=100)
def test_a_table_is_what_rich_draws(table, width):
    if table.columns[-1].folds:  # the screen always leaves room for a word of it
        width = max(width, table.width - table.widths()[-1] + 8)
    ours = [line.rstrip() for line in drawn(table, width, color=False)]
    assert ours == printed(of_rich(table), width=width)
    assert table.width == Console(width=10_000).measure(of_rich(table)).maximum


def test_what_has_no_room_is_cut_and_what_may_fold_does():
    fixed = Table([Column(), Column(right=True)], [(Styled("a long name"), Styled("12,345"))])
    assert list(drawn(fixed, 15, color=False)) == ["a long …    12…"]
    folding = Table([Column(), Column(folds=True)], [(Styled("why"), Styled("one two three"))])
    assert list(drawn(folding, 14, color=False)) == ["why    one two", "       three"]
    assert cells("模型") == 4
