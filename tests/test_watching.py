"""Who waits for an answer is told what is tried, and calls it off."""

import pytest

import weighbridge
from weighbridge.base import watching
from weighbridge.base.watching import (
    NotWantedError,
    Watch,
    go_on,
    kept_so_far,
    stopped,
    trying,
    watched,
)


def test_nobody_waits_and_nothing_happens():
    go_on()
    trying(lambda: pytest.fail("a text is made for nobody"), 1, 2)
    assert not stopped()
    with pytest.raises(KeyboardInterrupt), kept_so_far():
        raise KeyboardInterrupt


def test_what_is_tried_is_told_with_its_number():
    told = []
    with watched(Watch(trying=lambda *what: told.append(what))):
        trying(lambda: "--loss liger", 1, 3)
        trying(lambda: "--seq-len 512", 4, 3)
    trying(lambda: "nobody is told", 5, 5)
    assert told == [("--loss liger", 1, 3), ("--seq-len 512", 4, 4)]


def test_what_nobody_wants_ends_before_it_is_tried():
    left = [True, True, False]
    told = []
    with watched(
        Watch(wanted=lambda: left.pop(0), trying=lambda *what: told.append(what))
    ) as watch:
        go_on()
        trying(lambda: "a", 1, 1)
        with pytest.raises(NotWantedError), kept_so_far():
            trying(lambda: "b", 2, 2)
    assert told == [("a", 1, 1)]
    assert not watch.stopped, "nothing of it is kept"


@pytest.mark.parametrize("error", [KeyboardInterrupt, NotWantedError])
def test_what_was_found_is_kept_where_the_watch_says_so(error):
    found = []
    with watched(Watch(keeps=True)) as watch:
        with kept_so_far():
            found.append(1)
            raise error
        assert stopped()
        with pytest.raises(ValueError, match="another"), kept_so_far():
            raise ValueError("another")
    assert (found, watch.stopped, stopped()) == ([1], True, False)


def test_an_inner_watch_stands_for_itself():
    outer, inner = Watch(keeps=True), Watch(wanted=lambda: False)
    with watched(outer):
        with watched(inner), pytest.raises(NotWantedError):
            go_on()
        go_on()
    assert watching._WATCH.get() is None


SERVED = {"engine": "llama.cpp", "gpu": "4090", "quantization": "Q4_K_M"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ask", "settings", "often"),
    [
        ("train", {"method": "lora", "seq_len": 256}, 60),  # nodes and layers, not phases alone
        ("infer", SERVED, 60),  # each layer of a graph, and each number that is tried
    ],
)
def test_an_answer_asks_often_whether_it_is_wanted(ask, settings, often):
    """A page gives a tenth of a second for it, of a Python that is five times slower than this."""
    asked = []
    model = weighbridge.prepare("qwen3-0.6b")
    with watched(Watch(wanted=lambda: asked.append(None) is None)):
        getattr(model, ask)(**settings, remedies=False)
    assert len(asked) >= often
