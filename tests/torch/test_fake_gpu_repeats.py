"""Layers that are repeated leave what they would have left: event for event, on the allocator too.

The oracle is the same program with every layer run.
"""

import pytest
import torch

from tests.cases import each
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU
from weighbridge_lab.trace.patches import repeats

pytestmark = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings(
        "ignore:the program looks", "ignore:torch.compile", "ignore:.*batched_mm"
    ),
]
LAYERS, STEPS = 3, 5


def model(kind):
    transformers = pytest.importorskip("transformers")
    settings = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
    }
    if kind == "gemma":
        config = transformers.Gemma3TextConfig(**settings, sliding_window=4, head_dim=16)
        return transformers.Gemma3ForCausalLM(config)
    if kind == "mixtral":
        return transformers.MixtralForCausalLM(transformers.MixtralConfig(**settings))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))


def generated(kind, before=lambda _: None, **settings):
    with FakeGPU("a100-80gb") as gpu:
        made = model(kind).to(torch.bfloat16).cuda().eval()
        before(made)
        ids = torch.ones(2, 5, dtype=torch.long, device="cuda")
        settings |= {"max_new_tokens": STEPS, "pad_token_id": 0, "eos_token_id": 99}
        out = made.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        assert out.shape == (2, 5 + STEPS)
    tape = gpu.tape
    named = [tape.storages[abs(e) - 1] for e in tape.events]
    events = [
        (e > 0, s.nbytes, s.op, s.module, s.role, s.phase)
        for e, s in zip(tape.events, named, strict=True)
    ]
    return events, list(tape.levels), list(tape.reserves)


@pytest.fixture
def repeated(monkeypatch):
    """Counts the layers that were not run."""
    count = []
    inner = repeats.Repeats._repeated

    def called(*args):
        count.append(1)
        return inner(*args)

    monkeypatch.setattr(repeats.Repeats, "_repeated", called)
    return count


@pytest.mark.parametrize(
    ("kind", "settings", "least"),
    each(
        2,
        [
            ("gemma", {"cache_implementation": "static"}, 1),
            ("llama", {"cache_implementation": "static"}, (LAYERS - 1) * (STEPS - 1)),
            ("llama", {"num_beams": 2}, (LAYERS - 1) * (STEPS - 1)),
            ("llama", {}, (LAYERS - 1) * (STEPS - 1)),
            ("mixtral", {}, (LAYERS - 1) * (STEPS - 2)),
        ],
    ),
)
def test_events_are_those_of_layers_that_run(kind, settings, least, repeated, monkeypatch):
    found = generated(kind, **settings)
    assert len(repeated) >= least
    monkeypatch.setattr(repeats.Repeats, "run", lambda self, layer, run, *_: run())
    assert generated(kind, **settings) == found


def test_a_layer_with_a_hook_is_always_run(repeated):
    ran = []

    def hooked(made):
        for layer in made.model.layers:
            layer.mlp.register_forward_hook(lambda *_: ran.append(1))

    generated("llama", before=hooked)
    assert len(ran) == LAYERS * STEPS and not repeated


def test_a_layer_that_releases_what_is_not_its_own_is_run(repeated, monkeypatch):
    """A tensor of before the step ends within each layer."""
    held = [torch.zeros(()) for _ in range(9)]

    def holding(made):
        held[:] = [torch.zeros(64, device="cuda") for _ in range(9 * STEPS * LAYERS)]
        inner = type(made.model.layers[0].mlp).forward
        monkeypatch.setattr(
            type(made.model.layers[0].mlp), "forward", lambda s, x: (held.pop(), inner(s, x))[1]
        )

    generated("llama", before=holding)
    assert not repeated


def test_a_layer_with_other_settings_is_run(repeated):
    """Nothing is repeated of a layer that is alone in its kind."""

    def alone(made):
        for number, layer in enumerate(made.model.layers):
            layer.self_attn.number = number

    generated("llama", before=alone)
    assert not repeated


def grown(made, ids, cache):
    """Steps after each of which the cache is made twice as long."""
    for _ in range(20):
        made(ids, past_key_values=cache, logits_to_keep=1)
        for layer in cache.layers:
            layer.keys = layer.keys.repeat(1, 1, 2, 1)
            layer.values = layer.values.repeat(1, 1, 2, 1)


def refusals():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=256,
        intermediate_size=64,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=8,
    )
    with FakeGPU("t4", gpu_memory="12GiB") as gpu, torch.no_grad():
        made = transformers.LlamaForCausalLM(config).cuda().eval()
        cache = transformers.DynamicCache(config=config)
        ids = torch.ones(1024, 1, dtype=torch.long, device="cuda")
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
            grown(made, ids, cache)
    return [(r.event, r.storage.nbytes, r.storage.module) for r in gpu.tape.refused]


def test_a_card_is_full_where_it_would_have_been(repeated, monkeypatch):
    found = refusals()
    assert repeated and found
    monkeypatch.setattr(repeats.Repeats, "run", lambda self, layer, run, *_: run())
    assert refusals() == found
