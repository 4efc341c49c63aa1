"""The longest sequences that fit: by hand where memory is a curve of the length, and of models."""

from types import SimpleNamespace

import pytest

import weighbridge
from tests.remedies.made import case
from weighbridge.answers.remedies import lengths, prices
from weighbridge.answers.remedies.case import Move
from weighbridge.answers.remedies.sets import MoveSet, changed
from weighbridge.base.memory import Bytes
from weighbridge.base.records import replace
from weighbridge.base.units import GIB

WHOLE = 4096
ROOM = case().budget.usable
OTHER = Move(kind="loss", change={"loss": "liger"}, cost=prices.CHANGES["lora"])


def shorter(tokens):
    cost = prices.shorter(WHOLE, tokens, "tokens of a sequence")
    return Move(kind="seq_len", change={"seq_len": tokens}, cost=cost, graded=True)


SHORTER = (shorter(1024),)


@pytest.fixture
def searched(monkeypatch):
    """Ask the longest of a set with sequences of 1,024; memory is what `curve` says of tokens."""

    def longest(curve, *, counts=lambda nbytes: nbytes, moves=SHORTER, refused=()):
        root = MoveSet((), case(seq_len=WHOLE))
        asked = []

        def answered(tokens, moves, bytes_of):
            high = bytes_of(int(curve(tokens)))
            fits = "yes" if high <= ROOM.low else "no" if high > ROOM.high else "unknown"
            verdict = SimpleNamespace(per_device=Bytes(high, high, high), fits=fits)
            report = SimpleNamespace(**{**vars(root.case.report), "verdict": verdict})
            return MoveSet(moves, replace(root.case, report=report))

        def ask(parent, moves):
            tokens = changed(moves).get("seq_len", WHOLE)
            asked.append(tokens)
            return None if tokens in refused else answered(tokens, moves, lambda nbytes: nbytes)

        def count(parent, moves):
            tokens = changed(moves).get("seq_len", WHOLE)
            return None if tokens in refused else answered(tokens, moves, counts)

        monkeypatch.setattr(lengths, "asked", ask)
        monkeypatch.setattr(lengths, "counted", count)
        given = answered(1024, tuple(moves), lambda nbytes: nbytes)
        return lengths.longest(root, given), given, asked

    return longest


def reached(node):
    return node.change["seq_len"]


def line(most):
    """Bytes of which so many tokens have just room."""
    return lambda tokens: ROOM.low + (tokens - most) * GIB // 100


@pytest.mark.parametrize(
    ("most", "tokens", "asked"),
    [
        (1536, 1536, [1536]),
        (1599, 1536, [1536]),  # whole steps
        (1600, 1600, [1600]),
        (2047, 1984, [1984]),
        (1087, 1024, []),  # no step longer
        (1024, 1024, []),
    ],
)
def test_a_straight_line_is_asked_once(searched, most, tokens, asked):
    found, given, tried = searched(line(most))
    assert (reached(found), tried) == (tokens, asked)
    assert (found is given) == (tokens == 1024)


def test_what_is_between_costs_what_it_leaves_out(searched):
    found, _, _ = searched(line(1536), moves=(OTHER, shorter(1024)))
    assert found.change == {"loss": "liger", "seq_len": 1536}
    length = found.moves[-1]
    assert length.cost == prices.shorter(WHOLE, 1536, "tokens of a sequence")
    assert length.graded
    assert found.moves[0] is OTHER


def test_a_count_that_is_too_low_leads_to_a_second_line(searched):
    found, _, asked = searched(line(1536), counts=lambda nbytes: nbytes - 2 * GIB)
    assert len(asked) == 2
    assert asked[0] > 1536 >= asked[1] == reached(found)


def test_a_curve_that_grows_with_the_square_is_below_its_line(searched):
    found, _, asked = searched(lambda n: ROOM.low + (n * n - 1536**2) * GIB // 100_000)
    assert asked == [reached(found)]
    assert 1408 <= reached(found) <= 1536


def test_a_count_without_growth_is_tried_a_step_below(searched):
    found, _, asked = searched(line(1999), counts=lambda nbytes: 0)
    assert asked[0] == 2048 - 64
    assert reached(found) == 1984


@pytest.mark.parametrize("refused", [(2048,), (1536,)])
def test_what_is_refused_leaves_what_was_found(searched, refused):
    found, given, _ = searched(line(1536), refused=refused)
    assert found is given


def test_without_shorter_sequences_nothing_is_asked(searched):
    found, given, asked = searched(line(1536), moves=(OTHER,))
    assert found is given
    assert not asked


def test_all_of_them_are_no_change():
    assert lengths.with_length((OTHER, shorter(1024)), WHOLE, WHOLE) == (OTHER,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("llama-3.1-8b", {"method": "lora", "gpu": "4090", "dtype": "bfloat16"}),
        ("qwen3-8b", {"method": "qlora", "gpu_memory": "12GiB"}),
    ],
)
def test_a_step_more_does_not_surely_fit(model, settings):
    asked = {"checkpointing": "none", "loss": "standard", "framework": "trainer", **settings}
    model = weighbridge.prepare(model, offline=True)
    remedies = model.train(**asked).remedies
    remedy = next(r for r in remedies if r.fits == "yes" and "seq_len" in r.change)
    tokens = remedy.change["seq_len"]
    assert tokens % lengths.STEP == 0
    assert tokens & (tokens - 1), "no power of two: it is what fits"
    again = model.train(**asked | remedy.change)
    assert (again.verdict.fits, again.peak.expected) == ("yes", remedy.peak_bytes)
    longer = model.train(**asked | remedy.change | {"seq_len": tokens + lengths.STEP})
    assert longer.verdict.fits != "yes"
