"""Fields of the page beside the settings of a task: of answers, and of its tables."""

from weighbridge.answers.questions.fit.request import MAX
from weighbridge.engines.table import ENGINES
from weighbridge.machines.accelerators import listing
from weighbridge.memory.report.fit import NAMES, SMALLEST
from weighbridge.models.catalogue import listing as models
from weighbridge.models.catalogue.uses import USES
from weighbridge.settings.setting import Settings, Str, Switch, switch, word


class AnswerFields(Settings):
    """Fields that every question of the page has beside its settings."""

    TITLE = "Answer"
    TITLE_ZH = "问题"
    revision: Str = word(
        help="Branch, tag or commit on the Hub.",
        label_zh="版本(revision)",
        zh="Hub 上的分支、标签或提交。",
    )


class ServedFields(Settings):
    """Fields of a question about serving."""

    TITLE, TITLE_ZH = AnswerFields.TITLE, AnswerFields.TITLE_ZH
    command: Str = word(
        label="Launch command",
        help="The engine's own command: 'vllm serve ...'. Then its own defaults rule.",
        label_zh="启动命令",
        zh="引擎自己的命令，例如 vllm serve ……；没有写明的按引擎的默认值。",
    )


class SolvedFields(Settings):
    """Fields of a question about fitting."""

    TITLE, TITLE_ZH = AnswerFields.TITLE, AnswerFields.TITLE_ZH
    question: Str = word(
        *NAMES,
        name="for",
        label="The question",
        help="The question that the verdict is about. Default: infer.",
        label_zh="问题",
        zh="结论针对哪个问题。默认：infer(推理)。",
    )
    max: Str = word(
        *MAX,
        label="Solve for the largest",
        help="Find the largest that still fits.",
        label_zh="求最大值",
        zh="在放得下的前提下，求最大的一项。",
    )
    smallest: Str = word(
        *SMALLEST,
        label="Solve for the smallest",
        help="Find the smallest card, number of cards or cloud machine that does.",
        label_zh="求最小的硬件",
        zh="求够用的最小显卡、最少张数或最小的云主机。",
    )


class ListFilters(Settings):
    """Filter of a list by its names."""

    TITLE, TITLE_ZH = AnswerFields.TITLE, AnswerFields.TITLE_ZH
    pattern: Str = word(help="Part of a name.", label_zh="关键词", zh="名称的一部分。")


class GpuFilters(ListFilters):
    """Filters of the list of accelerators."""

    bf16: Switch = switch(
        label="BF16",
        help="Only those with units for bfloat16.",
        label_zh="BF16",
        zh="只看支持 bfloat16 的。",
    )
    fp8: Switch = switch(
        label="FP8", help="Only those with units for fp8.", label_zh="FP8", zh="只看支持 fp8 的。"
    )
    fp4: Switch = switch(
        label="FP4", help="Only those with units for fp4.", label_zh="FP4", zh="只看支持 fp4 的。"
    )
    int8: Switch = switch(
        label="INT8",
        help="Only those with units for int8.",
        label_zh="INT8",
        zh="只看支持 int8 的。",
    )
    nvlink: Switch = switch(
        label="NVLink",
        help="Only those with NVLink between cards.",
        label_zh="NVLink",
        zh="只看卡间有 NVLink 的。",
    )
    min_memory: Str = word(
        label="Memory, at least",
        help="Only those sold with so much: 24GiB.",
        label_zh="最小显存",
        zh="只看标称显存不小于它的：24GiB。",
    )
    use: Str = word(
        *listing.USES,
        label="Where it is used",
        help="Only those of computers at home, or of workstations and data centres (work).",
        label_zh="使用场所",
        zh="只看家用电脑的(home)，或工作站与数据中心的(work)。",
    )
    vendor: Str = word(help="Only those of one maker.", label_zh="厂商", zh="只看一个厂商的。")
    sort: Str = word(
        *listing.SORTS,
        help="Default: the newest first.",
        label_zh="排序",
        zh="默认：新的在前。",
    )


class ModelFilters(ListFilters):
    """Filters of the list of models, and the card that they are ranked for."""

    use: Str = word(
        *USES,
        label="What it is for",
        help="Only those for it: text, images, speech and so on.",
        label_zh="用途",
        zh="只看这种用途的：文本(text)、图像(images)、语音(speech)等。",
    )
    sort: Str = word(
        *models.SORTS,
        help="Default: the newest year first, in a year the most downloaded.",
        label_zh="排序",
        zh="默认：年份新的在前，同一年里下载多的在前。",
    )

    gpu: Str = word(
        help="Rank models for a card: 4090. The 60 that are asked for today, or those that match.",
        label_zh="显卡",
        zh="按这张卡给模型排序：4090。不写关键词时，取当下最常用的 60 个。",
    )
    question: Str = word(
        *NAMES,
        name="for",
        label="The question",
        help="What it is to fit for. Default: infer.",
        label_zh="问题",
        zh="放得下什么。默认：infer(推理)。",
    )
    engine: Str = word(
        *ENGINES,
        help="Engine that serves. Default: what people use with such a card.",
        label_zh="引擎",
        zh="提供服务的引擎。默认：用这种卡的人常用的引擎。",
    )
    quantization: Str = word(
        help="In this format alone. Default: the best.",
        label_zh="量化格式",
        zh="只按这种格式。默认取最好的。",
    )
    min_context: Str = word(
        label="Context, at least",
        help="With a context of at least so many tokens: 8K.",
        label_zh="最小上下文",
        zh="上下文至少这么多 token:8K。",
    )


class AccuracyFilters(Settings):
    """Filters of the table of published figures."""

    TITLE, TITLE_ZH = AnswerFields.TITLE, AnswerFields.TITLE_ZH
    engine: Str = word(
        help="Only figures of this engine.", label_zh="引擎", zh="只看这个引擎的数据。"
    )
    source: Str = word(
        help="Only figures of this source.", label_zh="出处", zh="只看这个出处的数据。"
    )
    by_source: Switch = switch(
        help="A row for each source.", label_zh="按出处分行", zh="每个出处一行。"
    )


class NoFilters(Settings):
    """Nothing: it shows answers of other tabs."""
