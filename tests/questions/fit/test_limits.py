"""A search for the largest number that holds: what it finds, and which of two ways is believed."""

import random
from itertools import product

import pytest

from tests.cases import all_of
from weighbridge import prepare
from weighbridge.answers.bounds import RunForm, highest, widened
from weighbridge.answers.estimate import limits
from weighbridge.answers.estimate.limits import largest
from weighbridge.base.memory import LEVEL_OF, Bytes, Component, Device, Instant


def test_the_largest_number_that_holds():
    assert largest(lambda n: n <= 700, 1000) == 700
    assert largest(lambda n: n <= 700, 1000, near=650) == 700
    assert largest(lambda n: n <= 700, 500) == 500
    assert largest(lambda n: False, 1000, near=10) == 0


def test_a_quick_way_is_searched_and_the_other_judges_it():
    asked = []

    def holds(n):
        asked.append(n)
        return n <= 700

    assert largest(holds, 1000, near=650, quick=lambda n: 700 - n) == 700
    assert asked == [700, 701]
    asked.clear()
    assert largest(holds, 700, quick=lambda n: 0) == 700
    assert asked == [700]


@pytest.mark.parametrize("quick", [lambda n: 800 - n, lambda n: 600 - n, lambda n: None])
def test_a_quick_way_that_is_wrong_changes_nothing(quick):
    assert largest(lambda n: n <= 700, 1000, near=650, quick=quick) == 700


def test_of_several_maxima_both_ways_find_the_same():
    def holds(n):
        return n <= 40 or 500 <= n <= 520

    def quick(n):
        return 0 if holds(n) else -1

    for near in range(1, 45, 5):
        assert largest(holds, 1000, near=near, quick=quick) == largest(holds, 1000, near=near)


@pytest.mark.parametrize("straight", [True, False])
@pytest.mark.parametrize("step", [1, 16])
def test_bytes_along_a_line_are_searched_with_few_questions(straight, step):
    """3 bytes each, in steps of an allocator, beside 1,000 at once, on a card of 100,000: what a
    straight line guesses is found with fewer questions than halves."""
    asked = set()

    def spare(n):
        asked.add(n)
        return 100_000 - 1000 - -(-3 * n // step) * step

    found = largest(lambda n: spare(n) >= 0, 1 << 20, near=512)
    halves = len(asked)
    asked.clear()
    again = largest(lambda n: spare(n) >= 0, 1 << 20, near=512, quick=spare, straight=straight)
    assert again == found == 99_000 // step * step // 3
    assert (len(asked) <= halves - 5) is straight


@all_of("last", [1, 512, 513, 777, 40_000, (1 << 20) - 1])
def test_a_guess_that_creeps_ends_all_the_same(last):
    """The last step has all the bytes: the line through both ends says nothing of where."""
    asked = []

    def spare(n):
        asked.append(n)
        return 1 if n <= last else -(10**9)

    found = largest(lambda n: n <= last, 1 << 20, near=512, quick=spare, straight=True)
    assert found == last
    assert len(set(asked)) < 70


@all_of(
    ("engine", "form"),
    product(["transformers", "vllm", "sglang", "llama.cpp", "torch"], ["plain", "awq", "gguf"]),
)
def test_the_high_end_in_numbers_is_that_of_widened_components(engine, form):
    draw = random.Random(f"{engine} {form}")
    runs = RunForm("serve", engine, form)
    for count in (1, 1, 1, 2):
        devices = [_device(draw, i) for i in range(count)]
        parts = [[[(c.name, c.bytes) for c in p.components] for p in d.phases] for d in devices]
        found = highest(parts, runs, several=count > 1)
        assert found == max(d.peak("driver").high for d in widened(devices, runs))


def _device(draw, index):
    def component():
        low, expected, high = sorted(draw.randrange(1 << 34) for _ in range(3))
        name = draw.choice(list(LEVEL_OF))
        return Component(name=name, bytes=Bytes(low, expected, high), basis="computed")

    phases = (Instant(n, tuple(component() for _ in range(9))) for n in ("load", "prefill"))
    return Device(index=index, kind="gpu", phases=tuple(phases))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "gpu"), [("llama-3.1-8b", "t4"), ("llama-3.1-8b", "l4"), ("gemma-3-12b", "4090")]
)
def test_the_longest_context_is_of_every_launch(name, gpu):
    """A launch with other flags is taken only where the plain one does not surely serve: asked
    again with what was found, the answer is the same, and one more does not fit."""
    model, asked = prepare(name), {"engine": "vllm", "quantization": "fp8", "gpu": gpu}
    longest = model.infer(**asked).derived["largest_context"]
    at, above = (model.infer(**asked, context=n) for n in (longest, longest + 1))
    assert (at.verdict.fits, at.derived["largest_context"]) == ("yes", longest)
    assert above.verdict.fits != "yes"


@pytest.mark.parametrize(
    ("engine", "gpu", "form"),
    [(None, "4090", None), ("vllm", "4090", None), ("ollama", "3060", "Q8_0")],
)
def test_the_longest_context_is_one_number(engine, gpu, form):
    """One question by every door, whatever length was asked: what an allocator keeps goes up and
    down on the way, and a search from another length ended elsewhere (23,406 to 24,650)."""
    model, asked = prepare("llama-3.1-8b"), {"gpu": gpu}
    asked |= {"engine": engine, "quantization": form} if engine else {}
    (longest,) = {
        model.infer(**asked, context=n).derived["largest_context"]
        for n in (512, 4096, 8192, 20_000)
    }
    assert model.infer(**asked, context=longest).derived["largest_context"] == longest
    plain, solved = model.fit(**asked), model.fit(**asked, max="context")
    assert {plain.plan.rung.longest, solved.solved.value, solved.plan.rung.longest} == {longest}
    with_prompt = {
        model.infer(**asked, prompt_len=n, max_new_tokens=256).derived["largest_context"]
        for n in (512, 4096)
    }
    assert len(with_prompt) == 1


def test_a_search_begins_at_the_same_place_whatever_was_asked():
    """Counted by hand: up to 50 holds, and 60 to 70 again."""

    def holds(n):
        return n <= 50 or 60 <= n <= 70

    def found(asked, **more):
        return limits._furthest(
            lambda near: limits.searched(holds, 100, near), holds, (10, asked), **more
        )

    assert {found(n) for n in (1, 10, 40, 50, 55, 80)} == {50}
    assert found(65) == 70, "what was asked holds, and is no more than the longest"
