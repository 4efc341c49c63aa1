"""Mixtures of experts, hybrids and state spaces: our tensors and buffers against transformers' own
classes, small configs. A variant changes the keys that it names and nothing else.
"""

import math
from collections import Counter

import pytest

pytest.importorskip("torch", reason="the oracle is transformers' own build, which needs torch")
pytest.importorskip("transformers", reason="the oracle is transformers' own build")

from tests.cases import plain_and_each
from tests.torch import oracle
from tests.torch.cases_moe import INSIDE, TYPES, V4, V4_CHANGES

CASES = plain_and_each(
    2,
    [
        pytest.param(model_type, change, id=f"{model_type}-{i}")
        for model_type, (_, _, changes) in TYPES.items()
        for i, change in enumerate(({}, *changes))
    ],
)


def config(model_type, change):
    stem, small, _ = TYPES[model_type]
    return {**small, **change, "model_type": model_type, "architectures": [f"{stem}ForCausalLM"]}


NO_SHARED = "ignore:Initializing zero-element tensors"  # n_shared_experts 0: the class has [0, D]


@pytest.mark.filterwarnings(NO_SHARED)
@pytest.mark.parametrize(("model_type", "change"), CASES)
def test_tensors_and_buffers_are_those_of_the_class(model_type, change):
    raw = config(model_type, change)
    assert oracle.differences(raw) == []
    assert oracle.buffer_differences(raw) == []


@pytest.mark.parametrize("model_type", TYPES)
def test_what_is_saved_and_what_is_loaded(model_type, tmp_path):
    """A saved model has our names in its files; loaded in bfloat16, our dtypes in memory."""
    import torch
    import transformers
    from safetensors import safe_open

    raw = config(model_type, {})
    cls = getattr(transformers, raw["architectures"][0])
    keys = {k: v for k, v in raw.items() if k != "model_type"}
    model = cls(transformers.AutoConfig.for_model(model_type, **keys)).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    with safe_open(path, "pt") as file:
        saved = set(file.keys())
    plan = oracle.ours(raw)
    params = [p for p in plan.params if not p.tied]
    assert saved == {p.name for p in params} | {b.name for b in plan.buffers if b.persistent}
    loaded = cls.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert by_dtype((p.dtype, p.numel()) for p in loaded.parameters()) == by_dtype(
        (p.dtype or "bfloat16", p.numel) for p in params
    )
    assert by_dtype((b.dtype, b.numel()) for b in loaded.buffers()) == by_dtype(
        (b.dtype or "bfloat16", math.prod(b.shape)) for b in plan.buffers
    )


def by_dtype(pairs):
    total = Counter()
    for dtype, count in pairs:
        total[str(dtype).removeprefix("torch.")] += count
    return total


@pytest.mark.parametrize("change", V4_CHANGES)
def test_deepseek_v4_under_its_published_names(change):
    """transformers' renames are anchored at the start, so saving the class leaves "model." in."""
    raw = {**V4, **change, "model_type": "deepseek_v4", "architectures": ["DeepseekV4ForCausalLM"]}
    plan, model = oracle.ours(raw), oracle.build(raw)
    rest = (("model.embed_tokens.", "embed."), ("model.hc_head.hc_", "hc_head_"), ("model.", ""))
    theirs = {}
    for name, shape in oracle.tensors(model).items():
        old, new = next((r for r in rest if name.startswith(r[0])), ("", ""))
        theirs[new + name.removeprefix(old)] = shape
    assert {p.name: p.shape for p in plan.params} == theirs
    assert plan.parameters == oracle.numel(model)
    assert oracle.buffer_differences(raw) == []
    base = {**raw, "architectures": ["DeepseekV4Model"]}
    assert oracle.differences(base) == []


def test_longcat_stores_no_experts_that_do_nothing():
    """The class sets room aside for their gate_up_proj; the published checkpoint has none."""
    raw = config("longcat_flash", {"zero_expert_num": 3})
    lines = [line for line in oracle.differences(raw) if not line.startswith("parameters")]
    names = [line.split(".weight")[0] for line in lines]
    assert names == [
        f"missing: model.layers.{i}.mlp.experts.{n}.{side}_proj"
        for i in (0, 1)
        for n in (4, 5, 6)
        for side in ("gate", "up")
    ]


INSIDE_CASES = [
    pytest.param(outer, change, id=f"{outer}-{i}")
    for outer, (_, _, _, changes, _) in INSIDE.items()
    for i, change in enumerate(changes)
]


@pytest.mark.parametrize(("outer", "change"), INSIDE_CASES)
def test_text_inside_a_larger_class(outer, change):
    from weighbridge.models.arch.blueprint import told
    from weighbridge.models.arch.builder import family
    from weighbridge.models.arch.config import Config

    cls, inner, small, _, at = INSIDE[outer]
    text = {**small, **change, "model_type": inner}
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = oracle.build({"model_type": outer, "text_config": text, "vision_config": vision}, cls)
    theirs = {n: s for n, s in oracle.tensors(model).items() if n.startswith(at)}
    params = family(inner).tensors(Config(text), at)
    ours = {p.name: p.shape for p in told(params)}
    assert ours == {n: s for n, s in theirs.items() if not n.startswith("model.vision")}
    kept = oracle.buffers(model.model.language_model).values()
    buffers = family(inner).buffers(Config(text), at)
    assert sorted((b.shape, b.dtype or "float32", b.persistent) for b in buffers) == sorted(kept)


ANCHORED = {"BailingHybridModel"}  # its rename of "model.word_embeddings" needs the "model."


def classes():
    """The other classes that transformers has of these model types."""
    import transformers

    heads = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
    for model_type, (stem, _, _) in TYPES.items():
        for head in heads:
            found = hasattr(transformers, f"{stem}{head}") and not model_type.endswith("_text")
            if found and f"{stem}{head}" not in ANCHORED:
                yield pytest.param(model_type, f"{stem}{head}", id=f"{stem}{head}")


@pytest.mark.parametrize(("model_type", "cls"), list(classes()))
def test_other_classes(model_type, cls):
    raw = {**config(model_type, {}), "architectures": [cls]}
    assert oracle.differences(raw) == []
    assert oracle.buffer_differences(raw) == []


@pytest.mark.parametrize("model_type", TYPES)
def test_blocks_are_the_modules_that_are_never_split(model_type):
    raw = config(model_type, {})
    model, plan = oracle.build(raw), oracle.ours(raw)
    plain = set(model._no_split_modules)
    found = [n for n, module in model.named_modules() if type(module).__name__ in plain]
    outer = {n for n in found if not any(n.startswith(f"{o}.") for o in found)}
    (pattern,) = plan.blocks
    checkpoint = pattern.replace("backbone.", "model.") if model_type == "nemotron_h" else pattern
    assert {checkpoint.replace("*", str(i)) for i in range(len(outer))} == outer
