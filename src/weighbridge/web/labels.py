"""Names of tabs, sections and settings as the page shows them, and what each setting means.

Names of settings follow from those of their flags where their records say no other.
"""

from collections.abc import Mapping
from typing import Any

from weighbridge.settings import Setting

MAIN = "Main"
TITLES: Mapping[str, Mapping[str, str]] = {  # by language
    "en": {
        "fit": "Fit",
        "load": "Load",
        "infer": "Serve",
        "train": "Train",
        "compare": "Compare",
        "gpus": "GPUs",
        "models": "Models",
        "accuracy": "Accuracy",
        MAIN: MAIN,
    },
    "zh": {
        "fit": "放得下吗",
        "load": "加载",
        "infer": "推理服务",
        "train": "训练",
        "compare": "对比",
        "gpus": "显卡",
        "models": "模型",
        "accuracy": "准确度",
        MAIN: "主要设置",
    },
}
WORDS: Mapping[str, str] = {  # within names that follow
    "cuda": "CUDA",
    "gpu": "GPU",
    "cpu": "CPU",
    "lora": "LoRA",
    "zero": "ZeRO",
    "kv": "KV",
    "moe": "MoE",
    "mamba": "Mamba",
    "dp": "DP",
    "ssm": "SSM",
}


def section(setting: Setting[Any], lang: str) -> str:
    """Title of the section that a setting is listed in."""
    owner = setting.owner
    return (lang == "zh" and owner.TITLE_ZH) or owner.TITLE


def label(setting: Setting[Any], lang: str) -> str:
    """Name of a setting."""
    return setting.label_zh if lang == "zh" else setting.label or _spelled(setting.name)


def _spelled(name: str) -> str:
    """kv_unified -> KV unified."""
    words = [WORDS.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def meaning(setting: Setting[Any], lang: str) -> str:
    """Sentence that says what a setting is."""
    return setting.zh if lang == "zh" else setting.page or setting.help
