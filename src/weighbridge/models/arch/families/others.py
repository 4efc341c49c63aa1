"""Model types that are known by their headers alone: no family of ours says their tensors."""

from weighbridge.models.arch.model_types import (
    NEVER,
    MlxFacts,
    ModelType,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
)

TYPES = {
    "bigbird_pegasus": ModelType(gguf="none"),
    "udop": ModelType(transformers=TransformersFacts(caches=(4, 46))),
    "rembert": ModelType(
        computes=("own_softmax",),
        transformers=TransformersFacts(caches=(4, 55), last_logits=(5, 0)),
    ),
    "trocr": ModelType(
        computes=("not_rotary", "own_softmax"),
        transformers=TransformersFacts(caches=(4, 55), last_logits=NEVER),
    ),
    "data2vec-audio": ModelType(
        computes=("own_softmax",), transformers=TransformersFacts(sdpa=(4, 41))
    ),
    "sew": ModelType(computes=("own_softmax",), transformers=TransformersFacts(sdpa=(4, 41))),
    "data2vec-text": ModelType(
        computes=("norms_behind", "own_softmax"), transformers=TransformersFacts(sdpa=(5, 0))
    ),
    "data2vec-vision": ModelType(transformers=TransformersFacts(sdpa=(5, 0))),
    "roc_bert": ModelType(computes=("own_softmax",), transformers=TransformersFacts(sdpa=(5, 0))),
    "olmo_hybrid": ModelType(vllm=VllmFacts(every_stage="both")),
    "solar": ModelType(vllm=VllmFacts(adapted_embedding=True)),
    "bagel": ModelType(vllm=VllmFacts(other_kernels=True)),
    "molmo2": ModelType(vllm=VllmFacts(other_kernels=True)),
    "plamo2": ModelType(
        vllm=VllmFacts(tied_head="freed", not_float16=True),
        mlx=MlxFacts(has_class=True, own_caches=True),
    ),
    "plamo3": ModelType(vllm=VllmFacts(tied_head="freed")),
    "beam": ModelType(training=TrainingFacts(experts_were="gate_up")),
    "idefics_vision": ModelType(beside_patches=1),
    "kosmos_2_vision_model": ModelType(beside_patches=1),
    "Klear": ModelType(mlx=MlxFacts(has_class=True)),
    "afm7": ModelType(mlx=MlxFacts(has_class=True, own_caches=True)),
    "baichuan_m1": ModelType(mlx=MlxFacts(has_class=True, own_caches=True, windows="always")),
    "bailing_moe_linear": ModelType(mlx=MlxFacts(has_class=True, own_caches=True)),
    "hunyuan": ModelType(mlx=MlxFacts(has_class=True)),
    "iquestloopcoder": ModelType(mlx=MlxFacts(has_class=True)),
    "joyai_llm_flash": ModelType(mlx=MlxFacts(has_class=True)),
    "lfm2-vl": ModelType(mlx=MlxFacts(has_class=True)),
    "lille-130m": ModelType(mlx=MlxFacts(has_class=True)),
    "longcat_flash_ngram": ModelType(mlx=MlxFacts(has_class=True)),
    "openelm": ModelType(mlx=MlxFacts(has_class=True)),
    "phi3small": ModelType(mlx=MlxFacts(has_class=True)),
    "phixtral": ModelType(mlx=MlxFacts(has_class=True)),
    "plamo": ModelType(mlx=MlxFacts(has_class=True)),
    "rwkv7": ModelType(mlx=MlxFacts(has_class=True, own_caches=True)),
    "telechat3": ModelType(mlx=MlxFacts(has_class=True)),
    "youtu_llm": ModelType(mlx=MlxFacts(has_class=True)),
}
