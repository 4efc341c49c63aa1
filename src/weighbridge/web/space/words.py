# ruff: noqa: RUF001 (punctuation of Chinese)
"""The words of this edition's own page; names and meanings of settings are those of web.form."""

from collections.abc import Mapping

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "about": "How much memory a model needs to load, serve, fine-tune or train, and whether it "
        "fits. Weights are never downloaded.",
        "model": "Model",
        "model_help": "A name of the catalogue, ORG/NAME or a page of the Hub, a size (7B), or the "
        "text of a config.json.",
        "gpu": "GPU",
        "gpu_help": "4090, a100-80gb:8, 2x RTX 4090, p5.48xlarge. Tabs that judge need one.",
        "lang": "Language of the answer",
        "details": "Full tables",
        "token": "Hub token",
        "token_help": "For gated models, and to post. Used for this request, never kept or logged.",
        "weigh": "Weigh",
        "list": "List",
        "command": "The same on the command line",
        "markdown": "Markdown",
        "post": "Post this answer on the model's page",
        "post_help": "As a discussion, in your name, with your token; once for each revision.",
        "preview": "Preview",
        "preview_label": "What would be posted",
        "send": "Post it as a discussion",
    },
    "zh": {
        "about": "加载、推理、微调或训练一个模型需要多少显存，能否放得下。不会下载权重。",
        "model": "模型",
        "model_help": "内置目录中的名称、Hub 上的 ORG/NAME 或其网址、参数量（7B），或 config.json "
        "的内容。",
        "gpu": "显卡",
        "gpu_help": "4090、a100-80gb:8、4张3090、p5.48xlarge。要判断能否放下，请填写。",
        "lang": "回答的语言",
        "details": "完整表格",
        "token": "Hub 令牌",
        "token_help": "用于受限模型和发帖。只用于本次请求，不保存，不写入日志。",
        "weigh": "计算",
        "list": "列出",
        "command": "对应的命令行",
        "markdown": "Markdown",
        "post": "把回答发到模型页面",
        "post_help": "用您的令牌、以您的名义发为讨论；每个版本只发一次。",
        "preview": "预览",
        "preview_label": "将要发布的内容",
        "send": "发布为讨论",
    },
}
SAID: Mapping[str, Mapping[str, str]] = {  # in answers, so by the language that was chosen
    "en": {
        "empty": "Name a model.",
        "no_draft": "Only an answer that was read from a repository of the Hub can be posted: name "
        "the model as ORG/NAME, and weigh it again.",
        "no_token": "Give your own token of the Hub, one that may write in discussions.",
        "no_preview": "Look at the preview first.",
        "posted": "Posted:",
        "already": "Nothing was posted: an answer for this revision stands there already:",
    },
    "zh": {
        "empty": "请填写模型。",
        "no_draft": "只有从 Hub 仓库读取的回答才能发布：请用 ORG/NAME 填写模型，再计算一次。",
        "no_token": "请填写您自己的、可以发讨论的 Hub 令牌。",
        "no_preview": "请先预览。",
        "posted": "已发布：",
        "already": "没有发布：该版本的回答已经在那里：",
    },
}
