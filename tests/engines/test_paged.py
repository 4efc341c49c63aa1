"""The order of work of a paged server, over one that is made up: a launch is a number, and stands
by the estimates that it has."""

import re
from pathlib import Path
from types import SimpleNamespace

from tests.cases import all_of
from weighbridge.base.records import NamedTuple
from weighbridge.engines.interface import BEST, EXPECTED, WORST
from weighbridge.engines.servers.paged import PagedServer, StepLimits

NEVER, PERHAPS, LIKELY, SURE = (), (BEST,), (BEST, EXPECTED), (BEST, EXPECTED, WORST)
ODD = (WORST,)  # surely by its own estimate, and yet not expected to


class MadeUp(NamedTuple):
    stands: tuple[int, ...]
    others: tuple["MadeUp", ...] = ()
    hopeless: bool = False


def server(tried):
    rules = dict.fromkeys(PagedServer.__fields__)
    return PagedServer(
        **rules
        | {
            "stands": lambda one, by: by in one.stands,
            "hopeless": lambda one: one.hopeless,
            "others": lambda one, by: (tried.append(by), iter(one.others))[1],
        }
    )


def others(*stands):
    return tuple(MadeUp(each) for each in stands)


@all_of(
    ("asked", "surest", "able"),
    [
        (MadeUp(SURE), MadeUp(SURE), MadeUp(SURE)),
        # the nearest that surely serves is before one that is only expected to
        (MadeUp(NEVER, others(LIKELY, SURE)), MadeUp(SURE), MadeUp(SURE)),
        (MadeUp(NEVER, others(PERHAPS, LIKELY)), None, MadeUp(LIKELY)),
        (MadeUp(NEVER, others(PERHAPS)), None, None),
        (MadeUp(NEVER, others(ODD)), None, None),
        # as it was asked for, before others that are as sure
        (MadeUp(LIKELY, others(LIKELY)), None, MadeUp(LIKELY, others(LIKELY))),
        (MadeUp(NEVER, others(SURE), hopeless=True), None, None),
        (MadeUp(LIKELY, (), hopeless=True), None, MadeUp(LIKELY, (), hopeless=True)),
    ],
)
def test_the_nearest_launch_that_serves(asked, surest, able):
    assert server([]).surest(asked) == surest
    assert server([]).able(asked) == able


def test_a_hopeless_launch_is_not_searched():
    tried = []
    server(tried).able(MadeUp(NEVER, hopeless=True))
    assert tried == []
    server(tried).able(MadeUp(NEVER))
    assert tried == [WORST, EXPECTED]


def test_a_search_says_what_it_has_changed():
    names = ("share", "steps", "graphs")
    changed = tuple(SimpleNamespace(name=name, written=f"--{name}") for name in names)
    rules = PagedServer(**dict.fromkeys(PagedServer.__fields__) | {"changed": changed})
    asked = SimpleNamespace(w=SimpleNamespace(share=None, steps=7, graphs=None))
    able = SimpleNamespace(w=SimpleNamespace(share=0.95, steps=7, graphs=True))
    assert rules._change(asked, able) == {"share": 0.95, "graphs": True}
    assert rules._flags(asked, able) == "--share 0.95 --graphs"


@all_of(
    ("limits", "fewer", "smaller"),
    [
        (
            (None, None, None),
            7,
            [(7, None, None), (7, 2048, None), (7, 512, None), (7, 512, True)],
        ),
        ((None, None, None), None, [(None, 2048, None), (None, 512, None), (None, 512, True)]),
        ((3, None, False), 7, [(3, 2048, False), (3, 512, False)]),  # what was said stays
        ((3, 64, None), 7, [(3, 64, True)]),
        ((3, 64, True), 7, []),
    ],
)
def test_steps_that_are_smaller_and_smaller(limits, fewer, smaller):
    asked = StepLimits(*limits)
    assert [*asked.less(fewer, (2048, 512))] == [limits, *smaller]


def test_the_page_for_contributors_has_every_rule():
    page = Path(__file__).parents[2] / "docs" / "contributing" / "engine.md"
    table = page.read_text().partition("## A paged server")[2].partition("\n\nWrite it in")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(PagedServer.__fields__)
