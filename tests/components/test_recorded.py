"""What was asked of one heap is asked of another: as if the program had run there."""

from hypothesis import given
from hypothesis import strategies as st

from weighbridge.components.activations import DROPPED, Heap, HeapCourse
from weighbridge.components.card_bytes import CardBytes
from weighbridge.components.recorded import HeapTape

NAMES = st.sampled_from(("weights", "activations", "temporaries"))
SIZES = st.integers(1, 30_000_000)
CARD = st.tuples(st.integers(0, 3_000_000), st.integers(0, 3_000_000))  # on either card
DOING = st.sampled_from(("take", "said", "pass", "row", "many", "drop", "name", "run", "phase"))
STEPS = st.lists(st.tuples(DOING, NAMES, SIZES, CARD), max_size=40)


def course(nbytes, said):
    """One tensor stays; what a card says of is taken and given back beside it."""
    moves = [(0, nbytes, 0, "activations"), (1, said, 0, "temporaries"), (1, DROPPED, 0, "")]
    return HeapCourse(moves, {})


def program(heap, steps, on_card):
    """Run the steps. Yield what the heap tells; `on_card` gives the sizes of a card."""
    held = []
    for doing, name, nbytes, card in steps:
        said = on_card(card)
        if doing == "take":
            held.append(heap.take(nbytes, name, 0))
        elif doing == "said":
            held.append(heap.again(said, name, 0))
        elif doing == "pass":
            heap.passing(nbytes, said, name=name)
        elif doing == "row":
            held += heap.row([nbytes, nbytes // 2 + 1], name)
        elif doing == "many":
            held.append(heap.many(3, nbytes, name))
        elif doing == "run":
            slots = [None] * 2
            assert heap.run(course(nbytes, said), slots)
            held.append(slots[0])
        elif doing == "phase":
            yield heap.phase(), heap.live(name)
        elif held and doing == "name":
            held.append(heap.rename(held.pop(nbytes % len(held)), name))
        elif held:
            heap.drop(held.pop(nbytes % len(held)))
    yield heap.phase(), heap.live("activations")


def here(card):
    return CardBytes.of(card[0], (card, 0))


def there(card):
    return CardBytes.of(card[1], (card, 0))


def asked_again(steps, on_card):
    tape = HeapTape()
    list(program(Heap(notes=tape.notes), steps, here))
    told = list(tape.again(Heap(), lambda nbytes: on_card(nbytes.origin[0])))
    return list(zip(told[::2], told[1::2], strict=True))


@given(STEPS)
def test_the_same_card_is_told_the_same(steps):
    assert asked_again(steps, here) == list(program(Heap(), steps, here))


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
