"""Model types that are known only by their file headers: no family here describes their tensors."""

from weighbridge.models.arch.model_types import (
    ModelType,
)

TYPES = {
    **dict.fromkeys(
        (
            "udop",
            "data2vec-vision",
            "olmo_hybrid",
            "solar",
            "bagel",
            "molmo2",
            "plamo2",
            "plamo3",
            "beam",
            "Klear",
            "afm7",
            "baichuan_m1",
            "bailing_moe_linear",
            "hunyuan",
            "iquestloopcoder",
            "joyai_llm_flash",
            "lfm2-vl",
            "lille-130m",
            "longcat_flash_ngram",
            "openelm",
            "phi3small",
            "phixtral",
            "plamo",
            "rwkv7",
            "telechat3",
            "youtu_llm",
        ),
        ModelType(),
    ),
    "bigbird_pegasus": ModelType(gguf="none"),
    "rembert": ModelType(computes=("own_softmax",)),
    "trocr": ModelType(computes=("not_rotary", "own_softmax")),
    "data2vec-audio": ModelType(computes=("own_softmax",)),
    "sew": ModelType(computes=("own_softmax",)),
    "data2vec-text": ModelType(computes=("norms_behind", "own_softmax")),
    "roc_bert": ModelType(computes=("own_softmax",)),
    "idefics_vision": ModelType(beside_patches=1),
    "kosmos_2_vision_model": ModelType(beside_patches=1),
}
