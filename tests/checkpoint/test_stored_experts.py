"""Like experts of stored tensors are told once: what a class loads of a file stays the same."""

import random
from itertools import pairwise
from math import prod

import pytest

from tests.cases import some
from weighbridge.base.dtypes import BFLOAT16, FLOAT8, FLOAT16, FLOAT32, INT32, TORCH
from weighbridge.engines.transformers.rules import placement_order
from weighbridge.memory.components import weights
from weighbridge.memory.components.device import settled
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.checkpoint import loading
from weighbridge.models.checkpoint.inventory import StoredModel
from weighbridge.models.checkpoint.model import Model, ModelPart
from weighbridge.models.tensors import CheckpointTensor, counted, one_by_one

EXPERTS, LAYERS = 12, 3
CONFIG = {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "vocab_size": 256,
    "hidden_size": 128,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_experts": EXPERTS,
    "num_experts_per_tok": 2,
}
PLAN = blueprint(Config(CONFIG))


def tensor(name, dtype, *shape):
    count = 1
    for size in shape:
        count *= size
    return CheckpointTensor(name, dtype, shape, dtype.size(count))


def plain(name, shape):
    yield tensor(name, BFLOAT16, *shape)


def fp8(name, shape):
    yield tensor(name, FLOAT8, *shape)
    yield tensor(f"{name}_scale_inv", FLOAT32, 1, 1)


def gptq(name, shape):
    base, (out, into) = name.removesuffix("weight"), shape
    yield tensor(f"{base}qweight", INT32, into // 8, out)
    yield tensor(f"{base}qzeros", INT32, 1, out // 8)
    yield tensor(f"{base}scales", FLOAT16, 1, out)
    yield tensor(f"{base}g_idx", INT32, into)


def mlx(name, shape):
    base, (out, into) = name.removesuffix("weight"), shape
    yield tensor(name, TORCH["uint32"], out, into // 8)
    yield tensor(f"{base}scales", FLOAT16, out, into // 64)
    yield tensor(f"{base}biases", FLOAT16, out, into // 64)


FORMATS = {
    "plain": (plain, None),
    "fp8": (fp8, {"quant_method": "fp8"}),
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": 128}),
    "mlx": (mlx, {"bits": 4, "group_size": 64}),
}


def stored(packing):
    found = []
    for p in PLAN.params:
        matrix = p.name.endswith("proj.weight")
        found += packing(p.name, p.shape) if matrix else plain(p.name, p.shape)
    return found


def sorted_as_files_are(tensors, chance):
    """safetensors sorts by dtype, then by name; shards break anywhere."""
    cuts = sorted(chance.sample(range(1, len(tensors)), 5))
    shards = [tensors[a:b] for a, b in pairwise([0, *cuts, len(tensors)])]
    return [t for s in shards for t in sorted(s, key=lambda t: (-t.dtype.nbytes, t.name))]


def damaged(tensors, chance):
    """A tensor that is missing, another shape, another dtype, one that is there twice or too much."""
    found = list(tensors)
    for _ in range(chance.choice((0, 1, 3))):
        at = chance.randrange(len(found))
        t = found[at]
        kind = chance.randrange(5)
        if kind == 0:
            del found[at]
        elif kind == 1:
            found[at] = t._replace(shape=(*t.shape, 1))
        elif kind == 2:
            found[at] = t._replace(dtype=FLOAT32)
        elif kind == 3:
            found.append(t)
        else:
            found.append(t._replace(name=t.name.replace("weight", "more")))
    return found


def answers(part, monkeypatch):
    notes, plain_notes = [], []
    found = loading.split(PLAN, part, notes)[:2]
    with monkeypatch.context() as patched:
        patched.setattr(loading, "counted", one_by_one)
        expected = loading.split(PLAN, part, plain_notes)[:2]
    assert found == expected
    assert notes == plain_notes
    return found, notes


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("seed", some(3, range(12)))
def test_a_class_loads_the_same_of_any_file(form, seed, monkeypatch):
    chance = random.Random(seed)
    packing, config = FORMATS[form]
    tensors = stored(packing)
    tensors += [t._replace(name=t.name.replace("layers.0", "layers.9")) for t in tensors[:400]]
    tensors = chance.choice((list, lambda x: sorted_as_files_are(x, chance)))(tensors)
    if seed % 4 == 3:
        chance.shuffle(tensors)
    part = StoredModel(config=CONFIG, tensors=tuple(damaged(tensors, chance)), quantization=config)
    (inside, outside), _ = answers(part, monkeypatch)
    assert {t.name.split(".")[2] for t in outside if "layers" in t.name} >= {"9"}
    assert len(inside) + len(outside) == len(part.tensors)


def test_what_lacks_is_counted_over_all_experts(monkeypatch):
    tensors = tuple(t for t in stored(plain) if "experts.3.down" not in t.name)
    _, notes = answers(StoredModel(config=CONFIG, tensors=tensors), monkeypatch)
    held = (EXPERTS - 1) * 128 * 64
    assert f"({held:,} of {EXPERTS * 128 * 64:,} values)" in notes[0]
    assert answers(StoredModel(config=CONFIG, tensors=tuple(stored(plain))), monkeypatch)[1] == []


def test_an_expert_that_the_config_packs_otherwise(monkeypatch):
    """MLX's configs may name a module: then no expert stands for another."""
    own = {"model.layers.0.mlp.experts.3.up_proj": {"bits": 8, "group_size": 32}}
    tensors = [t for t in stored(mlx) if "layers.0.mlp.experts.3.up_proj" not in t.name]
    tensors += [
        tensor("model.layers.0.mlp.experts.3.up_proj.weight", TORCH["uint32"], 64, 128 // 4),
        tensor("model.layers.0.mlp.experts.3.up_proj.scales", FLOAT16, 64, 4),
        tensor("model.layers.0.mlp.experts.3.up_proj.biases", FLOAT16, 64, 4),
    ]
    config = {"bits": 4, "group_size": 64, **own}
    _, notes = answers(
        StoredModel(config=CONFIG, tensors=tuple(tensors), quantization=config), monkeypatch
    )
    assert notes == []
    assert not loading._alike(StoredModel(quantization=config))
    assert not loading._alike(StoredModel(quantization={"quantization": config}))


def test_like_experts_are_told_once():
    tensors = stored(fp8)
    found = counted(tensors)
    plain_ones = [t for t in tensors if ".experts." not in t.name]
    assert len(found.first) == len(plain_ones) + LAYERS * 6
    assert sum(found.copies) == len(tensors) == len(found.stands)
    assert all(found.copies[at] in (1, EXPERTS) for at in found.stands)
    for t, at in zip(tensors, found.stands, strict=True):
        first = found.first[at]
        assert (first.dtype, first.shape) == (t.dtype, t.shape)
        assert first.name.rpartition(".")[2] == t.name.rpartition(".")[2]
    assert counted(()) == ((), (), (), ())
    assert counted(tensors[:1]) == one_by_one(tensors[:1])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("seed", some(5, range(16)))
def test_the_allocator_sees_the_same(form, seed):
    """Placed as `.to(device)` visits modules, counted or one by one."""
    chance = random.Random(seed)
    packing, config = FORMATS[form]
    times = {end: chance.choice((1, 37, 150, 190, 700)) for end in ("gate", "up", "down", "scale")}
    tensors = [scaled(t, times) for t in stored(packing)]
    tensors += [tensor("model.layers.1.mlp.experts.shared.weight", FLOAT32, 700, 700)] * (seed % 2)
    if seed % 3:
        tensors = sorted_as_files_are(tensors, chance)
    if seed % 4 == 3:
        chance.shuffle(tensors)
    tensors = damaged(tensors, chance)
    part = ModelPart(
        name="", blueprint=PLAN, config=CONFIG, stored=tuple(tensors), quantization=config
    )
    model = Model(reference="x", name="x", revision=None, parts=(part,), read_from=())
    choices = {"": weights.FormatChoice(dtype=BFLOAT16, as_stored=True)}
    one, all_of_them = weights.by_module, weights.tensors
    found, expected = (f(model, choices, major=5) for f in (one, all_of_them))
    assert settled(found, placement_order) == settled(expected, placement_order)
    assert weights.weight_bytes(part, choices[""], major=5) == weights.total(expected, "weights")


def scaled(t, times):
    """Blocks of all kinds: small ones, such as share a segment, and such as have their own."""
    own = [factor for end, factor in times.items() if end in t.name]
    return t._replace(nbytes=t.nbytes * prod(own))


def test_experts_in_a_files_order_are_placed_together():
    chance = random.Random(1)
    for tensors in (stored(fp8), sorted(stored(fp8), key=lambda t: (-t.dtype.nbytes, t.name))):
        assert all(counted(tensors).ordered)
    assert not all(counted(sorted_as_files_are(stored(fp8), chance)).ordered)
    mixed = [*stored(fp8), tensor("model.layers.1.mlp.experts.bias", FLOAT32, 4)]
    found = counted(mixed)
    apart = {t.name for t, o in zip(found.first, found.ordered, strict=True) if not o}
    assert apart
    assert all(name.startswith("model.layers.1.mlp.experts.0.") for name in apart)
