"""Laws of what `fit` solves for: put back in it fits, and one unit more does not."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge
from tests.cases import each, examples
from weighbridge.answers.questions.fit.search import SearchBounds, bare, largest
from weighbridge.base.errors import UsageError
from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions

# A plain cache, windows beside it, chunks, latents, states: shapes that are small or known
MODELS = ("qwen3-0.6b", "gemma-3-4b", "gpt-oss-20b", "llama-3.1-8b", "mamba-130m")
PREPARED: dict[str, weighbridge.Prepared] = {}


def prepared(name):
    if name not in PREPARED:
        PREPARED[name] = weighbridge.prepare(name)
    return PREPARED[name]


def workloads(seed, count):
    """Random workloads of which something is left open, and what is."""
    rng = random.Random(seed)
    for _ in range(count):
        engine = rng.choice(["transformers", "vllm", "sglang", "llama.cpp"])
        yield (
            rng.choice(MODELS),
            {
                "gpu": rng.choice(["4090", "3060", "a100-80gb", "l4:2", "t4"]),
                "engine": engine,
                "batch_size": rng.choice([1, 1, 2, 7]),
                "headroom": rng.choice([None, "1GiB", "5%"]),
            },
        )


def whole(report):
    """Whether it fits without layers in RAM, which is what a solved number promises."""
    return report.verdict.fits == "yes" and "layers_on_card" not in report.derived


@pytest.mark.slow
@pytest.mark.parametrize(("name", "asked"), each(2, workloads(seed=13, count=8)))
def test_a_context_that_was_solved_for_fits_and_one_more_does_not(name, asked):
    model = prepared(name)
    try:
        found = model.fit(**asked, max="context").solved
    except weighbridge.UnsupportedError:
        return  # not every engine serves every model
    if found.value is None:
        assert found.note
        return
    plan = {n: v for n, v in (found.workload or {}).items() if n != "context"}
    if found.value:
        assert whole(model.infer(**asked, **plan, context=found.value))
    if found.value < found.searched_to:
        assert not whole(model.infer(**asked, **plan, context=found.value + 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unknown", "asked", "says"),
    [
        ("users", {"gpu": "t4", "engine": "vllm", "context": 4096}, "--max-model-len 4096"),
        ("seq-len", {"gpu": "t4", "for_": "qlora"}, "max_length={}"),
    ],
)
def test_the_line_runs_what_was_solved_for(unknown, asked, says):
    found = prepared("qwen3-0.6b").fit(**asked, max=unknown)
    assert says.format(found.solved.value) in found.solved.launch
    assert found.to_dict()["solved"]["launch"] == found.solved.launch
    (setting,) = found.solved.workload
    flag = f"--{setting.replace('_', '-')} {found.solved.value}"
    assert f"Run it with {flag}" in render(found, "human", RenderOptions())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unknown", "engine", "context"),
    [("users", "transformers", 512), ("batch", "vllm", 4096), ("users", "llama.cpp", 4096)],
)
def test_so_many_users_fit_and_one_more_does_not(unknown, engine, context):
    model, asked = prepared("qwen3-0.6b"), {"gpu": "t4", "engine": engine, "context": context}
    found = model.fit(**asked, max=unknown).solved
    assert found.value > 1
    assert whole(model.infer(**asked, batch_size=found.value))
    if found.value < found.searched_to:
        assert not whole(model.infer(**asked, batch_size=found.value + 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unknown", "about", "setting", "asked"),
    each(
        3,
        [
            ("batch", "lora", "batch_size", {"gpu": "4090", "checkpointing": "full"}),
            ("batch", "train", "batch_size", {"gpu": "a100-80gb:2", "shard": "fsdp2"}),
            ("seq-len", "qlora", "seq_len", {"gpu": "t4"}),
            ("seq-len", "train", "seq_len", {"gpu": "4090"}),
            ("lora-r", "lora", "lora_r", {"gpu": "t4", "seq_len": 2048, "checkpointing": "none"}),
        ],
    ),
)
def test_what_training_takes_at_most(unknown, about, setting, asked):
    model = prepared("qwen3-0.6b")
    found = model.fit(**asked, for_=about, max=unknown).solved
    method = "full" if about == "train" else about
    ask = lambda n: model.train(method=method, **asked, **{setting: n}).verdict.fits  # noqa: E731
    assert 0 < found.value < found.searched_to
    assert ask(found.value) == "yes"
    assert ask(found.value + 1) != "yes"
    assert found.workload == {setting: found.value}


@pytest.mark.slow
@pytest.mark.parametrize("quantization", [None, "nf4"])
def test_the_largest_model_is_a_bare_size(quantization):
    asked = {"gpu": "3060", "quantization": quantization}
    found = weighbridge.fit("7B", **asked, max="model-size").solved
    tenths = found.value // 10**8
    assert "rough" in found.note
    fits = [weighbridge.infer(bare(n), **asked).verdict.fits for n in (tenths, tenths + 1)]
    assert fits[0] == "yes"
    assert fits[1] != "yes"


@pytest.mark.slow
def test_nothing_may_fit():
    model = prepared("llama-3.1-8b")
    found = model.fit(gpu="t4", max="context", as_published=True).solved
    assert found.value == 0
    assert "not even 1" in found.note
    chosen = model.fit(gpu="t4", max="context")  # what is solved for is of the answer
    assert chosen.solved.value == chosen.plan.rung.longest > 4096
    assert chosen.plan.settings.items() <= chosen.solved.workload.items()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max": "context", "context": 4096}, "leave it out"),
        ({"max": "context", "for": "lora"}, "is about infer"),
        ({"max": "lora-r", "for": "train"}, "is about lora or qlora"),
        ({"max": "everything"}, "--max is one of"),
        ({"max": "context", "smallest": "count"}, "two questions"),
    ],
)
def test_what_cannot_be_solved_for(given, says):
    with pytest.raises(UsageError, match=says):
        prepared("qwen3-0.6b").fit(gpu="4090", **given)


@pytest.mark.slow
def test_changes_that_fit_are_looked_for_in_the_question_alone():
    found = prepared("llama-3.1-8b").fit(gpu="t4", max="context")
    assert found.question("infer").remedies
    assert not any(q.remedies or q.elsewhere for q in found.questions if q.name != "infer")


@pytest.mark.slow
def test_what_is_not_counted_is_not_solved_for():
    found = weighbridge.fit("whisper-tiny", gpu="t4", max="context")
    if found.question("infer").report.derived["not_counted"]:
        assert found.solved.value is None
        assert "not counted" in found.solved.note


@pytest.mark.slow
@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 97))
@settings(max_examples=examples(100, night=300), deadline=None)
def test_a_step_is_found_from_anywhere(last, most, near, slope):
    """A margin that is a straight line, a staircase or flat, as caches make it."""
    last, near = min(last, most), min(near, most)
    for margin in (
        lambda n: (last - n) * slope,
        lambda n: 10**6 if n <= last else -1,
        lambda n: (last - n) // 16 if n > last else 3,
    ):
        assert largest(margin, SearchBounds(most=most, near=near)) == last


@pytest.mark.slow
@given(st.lists(st.booleans(), min_size=2, max_size=200), st.integers(0, 10**6))
@settings(max_examples=examples(100, night=300), deadline=None)
def test_where_fitting_is_not_monotone_its_neighbour_does_not_fit(holds, seed):
    most = len(holds) - 1
    margin = lambda n: 5 if holds[n] else -5  # noqa: E731
    guess = seed % (2 * most + 2)
    bounds = SearchBounds(most=most, near=1 + seed % most, guess=guess if guess <= most else None)
    n = largest(margin, bounds)
    assert n == 0 or holds[n]
    assert n == most or not holds[n + 1]


def _as_asked(found):
    """Return whether it fits without a change: `fit` makes one where it helps training, while
    `smallest` leaves the training as it is."""
    return found.fits if found.way is None else found.asked.fits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "asked"),
    each(
        4,
        [
            ("llama-3.1-8b", {"for": "infer"}),
            ("qwen3-0.6b", {"for": "train"}),
            ("qwen3-30b-a3b", {"for": "infer", "quantization": "Q4_K_M", "engine": "llama.cpp"}),
        ],
    ),
)
def test_the_smallest_card_fits_and_no_smaller_one_does(name, asked):
    from weighbridge.answers.questions.fit.hardware import cards
    from weighbridge.machines.accelerators.parts import parts

    model = prepared(name)
    found = model.fit(**asked, smallest="gpu")
    assert found.accelerator.id == found.solved.value
    assert found.fits == "yes"
    room = parts()[found.solved.value].visible.bytes.low
    less = [p for p in cards(parts().values()) if p.visible.bytes.low < room]
    rng = random.Random(1)
    for part in rng.sample(less, 2):
        there = model.fit(gpu=part.id, **asked)
        divided = "layers_on_card" in there.report.derived
        few = there.fits == "yes" and 0 < there.plan.rung.bits < 4  # which nobody is sent to buy
        assert _as_asked(there) != "yes" or divided or few, part.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "asked"),
    each(
        4,
        [
            ("llama-3.1-8b", {"gpu": "t4", "for": "infer", "as_published": True}),
            (
                "llama-3.1-8b",
                {"gpu": "t4", "for": "infer", "engine": "vllm", "as_published": True},
            ),
            ("llama-3.1-8b", {"gpu": "4090", "for": "lora", "checkpointing": "none"}),
            ("llama-3.1-70b", {"gpu": "a100-80gb", "for": "load"}),
        ],
    ),
)
def test_the_fewest_cards_fit_and_one_less_does_not(name, asked):
    model = prepared(name)
    found = model.fit(**asked, smallest="count")
    count = found.solved.value
    assert count > 1
    assert found.accelerator.count == count
    assert found.fits == "yes"
    assert found.asked.report.to_dict()["verdict"]["count"] == count
    shared = {n: v for n, v in found.solved.workload.items() if n != "gpu"}
    again = model.fit(**{**asked, **found.solved.workload})
    assert again.fits == "yes"
    if "tensor_parallel_size" in shared:
        shared["tensor_parallel_size"] = count - 1
    fewer = model.fit(**{**asked, **shared, "gpu": f"{asked['gpu']}:{count - 1}"})
    assert _as_asked(fewer) != "yes"


@pytest.mark.slow
def test_a_machine_of_a_cloud():
    found = prepared("llama-3.1-70b").fit(smallest="instance", quantization="nf4")
    assert found.fits == "yes"
    assert found.solved.rows[0]["provider"]
    again = prepared("llama-3.1-70b").fit(gpu=found.solved.value, quantization="nf4")
    assert again.fits == "yes"


@pytest.mark.slow
def test_no_card_may_do():
    found = prepared("llama-3.1-70b").fit(smallest="gpu", **{"for": "train"})
    assert found.solved.value is None
    assert "no card" in found.solved.note
    assert found.fits == "no"
