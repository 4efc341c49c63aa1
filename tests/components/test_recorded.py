"""What was asked of one heap is asked of another: as if the program had run there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.base.units import MIB
from weighbridge.memory.components.activations import RUN, Heap
from weighbridge.memory.components.card_bytes import CardBytes
from weighbridge.memory.components.counted import CountedHeap
from weighbridge.memory.components.courses import DROPPED, HeapCourse
from weighbridge.memory.components.recorded import HeapTape

NAMES = st.sampled_from(("weights", "activations", "temporaries"))
SIZES = st.integers(1, 30_000_000)
CARD = st.tuples(st.integers(0, 3_000_000), st.integers(0, 3_000_000))  # on either card


def course(nbytes, said):
    """One tensor stays; what a card says of is taken and given back beside it."""
    moves = [(0, nbytes, 0, "activations"), (1, said, 0, "temporaries"), (1, DROPPED, 0, "")]
    return HeapCourse(moves, {})


def ran(heap, nbytes, said):
    slots = [None] * 2
    assert heap.run(course(nbytes, said), slots)
    return slots[:1]


TAKES = {  # what each gives to hold
    "take": lambda heap, name, nbytes, said: [heap.take(nbytes, name, 0)],
    "said": lambda heap, name, nbytes, said: [heap.again(said, name, 0)],
    "pass": lambda heap, name, nbytes, said: heap.passing(nbytes, said, name=name) or [],
    "row": lambda heap, name, nbytes, said: heap.row([nbytes, nbytes // 2 + 1], name),
    "many": lambda heap, name, nbytes, said: [heap.many(3, nbytes, name)],
    "run": lambda heap, name, nbytes, said: ran(heap, nbytes, said),
    "empty": lambda heap, name, nbytes, said: heap.emptied() or [],
}


def program(heap, steps, on_card):
    """Run the steps. Yield what the heap tells; `on_card` gives the sizes of a card."""
    held = []
    for doing, name, nbytes, card in steps:
        if doing in TAKES:
            held += TAKES[doing](heap, name, nbytes, on_card(card))
        elif doing == "phase":
            yield heap.phase(), heap.live(name)
        elif held and doing == "name":
            held.append(heap.rename(held.pop(nbytes % len(held)), name))
        elif held:
            heap.drop(held.pop(nbytes % len(held)))
    yield heap.phase(), heap.live("activations")


DOING = st.sampled_from((*TAKES, "drop", "name", "phase"))
STEPS = st.lists(st.tuples(DOING, NAMES, SIZES, CARD), max_size=40)


def here(card):
    return CardBytes.of(card[0], (card, 0))


def there(card):
    return CardBytes.of(card[1], (card, 0))


def asked_again(steps, on_card):
    tape = HeapTape()
    list(program(Heap(notes=tape.notes), steps, here))
    told = list(tape.again(Heap(), lambda nbytes: on_card(nbytes.origin[0]), []))
    return list(zip(told[::2], told[1::2], strict=True))


@pytest.mark.slow
@given(STEPS)
def test_the_same_card_is_told_the_same(steps):
    assert asked_again(steps, here) == list(program(Heap(), steps, here))


def test_a_count_notes_what_a_replay_does():
    """Each kind of request, once and beside others; slots of a course are those of its names."""
    steps = [(doing, "weights", 9 * MIB, (700, 900)) for doing in (*TAKES, "name", "phase", "drop")]
    whole, counted = HeapTape(), HeapTape()
    for made in (Heap(notes=whole.notes), CountedHeap(counted.notes)):
        list(program(made, steps * 2, here))
        made.reserve((MIB,), 1)
        slots = [made.take(MIB, "weights")]
        assert made.run(HeapCourse([(0, DROPPED, 0, "")], {0: ("weights", MIB)}), slots)
    alike = [
        [note if type(note) is int or note[0] != RUN else (RUN, *note[2:]) for note in tape.notes]
        for tape in (whole, counted)
    ]
    assert alike[0] == alike[1]


@pytest.mark.slow
@given(STEPS)
def test_what_was_counted_is_told_as_what_was_run(steps):
    tape = HeapTape()
    list(program(CountedHeap(tape.notes), steps, here))
    told = list(tape.again(Heap(), lambda nbytes: here(nbytes.origin[0]), []))
    assert list(zip(told[::2], told[1::2], strict=True)) == list(program(Heap(), steps, here))


@pytest.mark.slow
@given(STEPS)
def test_another_card_is_told_what_it_would_be(steps):
    assert asked_again(steps, there) == list(program(Heap(), steps, there))


def test_what_is_nothing_on_a_card_is_not_counted():
    heap = Heap()
    heap.drop(heap.again(CardBytes.of(0, ((0, 1), 0)), "temporaries", 0))
    heap.passing(CardBytes.of(0, ((0, 1), 0)), name="logits")
    heap.take(512, "weights", 0)
    assert heap.phase().live == {"weights": 512}
    assert list(heap._live) == ["weights"]


def test_what_a_stream_reserves_counts_as_no_tensor():
    """96 MiB are cached for stream 1: a tensor there takes nothing more, one beside it does. The
    same is asked of another heap."""
    tape = HeapTape()
    heap = Heap(notes=tape.notes)
    heap.reserve((64 * MIB, 32 * MIB), 1)
    cached = heap.phase()
    assert (cached.allocated, cached.reserved) == (0, 96 * MIB)
    there = heap.take(64 * MIB, "temporaries", 1)
    assert heap.phase().reserved == 96 * MIB
    heap.drop(there, heap.take(64 * MIB))
    assert heap.phase().reserved == 160 * MIB
    again = [peak.reserved for peak in tape.again(Heap(), here, []) if not isinstance(peak, int)]
    assert again == [96 * MIB, 96 * MIB, 160 * MIB]


def test_a_full_card_reserves_what_it_can():
    heap = Heap(capacity=70 * MIB)
    heap.reserve((64 * MIB, 32 * MIB), 1)
    assert heap.take(40 * MIB).nbytes == 40 * MIB, "what is cached goes back to the driver"
