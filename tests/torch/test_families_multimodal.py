"""Models with images or sound against transformers' own classes, on the meta device.

RENAMES says how a checkpoint's names follow from those that the oracle gives where that un-does
too little or too much for a model that was never loaded; (pattern, replacement), first fit.
"""

import re
from fnmatch import fnmatchcase

import pytest

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers")

from tests.torch import oracle
from tests.torch.cases_multimodal import CASES, TIMM

TOWER = {"text": [(r"^", "text_model.")], "vision": [(r"^", "vision_model.")]}
SIDE_BY_SIDE = [
    (r"^(model\.)?language_model\.model\.model\.", "language_model.model."),
    (
        r"^(model\.)?vision_tower\.(?=embeddings|encoder\.layers|p\w+_lay|head)",
        "vision_tower.vision_model.",
    ),
]
IN_MODEL = [
    (
        r"^(model\.)?vision_tower\.(?=embeddings|encoder\.layers|p\w+_lay|head)",
        r"\1vision_tower.vision_model.",
    )
]
BARE = [(r"^language_model\.model\.", "language_model."), *IN_MODEL]
RENAMES = {
    **dict.fromkeys(("LlavaModel", "PaliGemmaModel", "Gemma3Model", "Mistral3Model"), BARE),
    "InternVLForConditionalGeneration": SIDE_BY_SIDE[:1],
    **{
        f"{make}_{half}_model": [(rf"^({half}_model|{half}_projection|visual_)", r"\1"), *rules]
        for make in ("clip", "chinese_clip", "siglip", "siglip2")
        for half, rules in TOWER.items()
    },
    **dict.fromkeys(
        (
            "llava",
            "llava_next",
            "llava_next_video",
            "llava_onevision",
            "vipllava",
            "paligemma",
            "gemma3",
            "mistral3",
            "aya_vision",
        ),
        SIDE_BY_SIDE,
    ),
    "cohere2_vision": IN_MODEL,
    "lfm2_vl": IN_MODEL,
    "colpali": [(r"^vlm\.vision_tower\.", "vlm.vision_tower.vision_model.")],
    # the oracle takes every "layers" for a block of MoonViT
    "kimi_k25": [
        (r"^language_model\.model\.blocks\.", "language_model.model.layers."),
        (r"^vision_tower\.encoder\.patch_embed\.", "vision_tower.patch_embed."),
        (r"^model\.mm_projector\.", "mm_projector."),
    ],
}


SPREAD = {"segformer"}


def checkpoint_name(model_type, cls, name):
    for pattern, replacement in RENAMES.get(cls, RENAMES.get(model_type, ())):
        new, count = re.subn(pattern, replacement, name, count=1)
        if count:
            return new
    return name


def checkpoint_shape(model_type, name, shape):
    """The oracle turns stacked experts back only when their shapes say that they were turned."""
    if model_type == "qwen3_vl_moe" and ".mlp.experts." in name:
        return (shape[0], shape[2], shape[1])
    return shape


def label(case):
    return f"{case[1]}"


@pytest.fixture(scope="module", params=CASES, ids=label)
def built(request):
    """A case, its class and our plan: all tests of one case come before those of the next."""
    if request.param in TIMM:
        pytest.importorskip("timm", reason="the class takes its tower from timm")
    model_type, cls, config = request.param
    raw = {"model_type": model_type, "architectures": [cls], **config}
    return request.param, oracle.build(raw), oracle.ours(raw)


def listed(pairs):
    return sorted(f"{name} {shape}" for name, shape in pairs)


def test_tensors(built):
    case, model, plan = built
    want = listed(
        (checkpoint_name(*case[:2], n), checkpoint_shape(case[0], n, s))
        for n, s in oracle.tensors(model).items()
    )
    assert listed((p.name, p.shape) for p in plan.params if not p.tied) == want
    assert plan.parameters == oracle.numel(model)


def test_buffers(built):
    _, model, plan = built
    want = sorted(map(str, oracle.buffers(model).values()))
    got = [(b.shape, b.dtype or "float32", b.persistent) for b in plan.buffers if b.until is None]
    assert sorted(map(str, got)) == want


def outermost(paths):
    return {p for p in paths if not any(p.startswith(f"{other}.") for other in paths)}


def held(module):
    return next(module.parameters(), None) is not None


def whole(model):
    """Modules that are never split and hold parameters, by the class's own names."""
    classes = set(model._no_split_modules or ())
    found = [n for n, m in model.named_modules() if type(m).__name__ in classes and held(m)]
    return outermost(set(found))


def planned(plan):
    paths = {p.name.rsplit(".", i)[0] for p in plan.params for i in range(1, p.name.count(".") + 1)}
    return outermost(
        {
            path
            for path in paths
            for pattern in plan.blocks
            if path.count(".") == pattern.count(".") and fnmatchcase(path, pattern)
        }
    )


def test_blocks(built):
    """There are as many modules as transformers never splits (their names differ from
    checkpoints')."""
    case, model, plan = built
    if case[0] in SPREAD:
        pytest.skip("a block is spread over several lists in the checkpoint")
    assert len(planned(plan)) == len(whole(model))
