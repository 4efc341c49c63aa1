"""Names and meanings of settings in Chinese; terms as README.zh.md has them."""

from collections.abc import Mapping

TABS: Mapping[str, str] = {
    "fit": "放得下吗",
    "load": "加载",
    "infer": "推理",
    "train": "训练",
    "compare": "对比",
    "gpus": "显卡",
    "models": "模型",
    "accuracy": "准确度",
}
SECTIONS: Mapping[str, str] = {}
LABELS: Mapping[str, str] = {}
HELP: Mapping[str, str] = {}
