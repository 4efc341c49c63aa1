"""The words of charts, in English and Chinese: the same keys, the same placeholders.

Parts and phases are called what the screens call them (weighbridge.view.messages).
"""

from typing import NamedTuple

from weighbridge.view.messages import LANGUAGES, say

WORDS: dict[str, tuple[str, str]] = {
    "title.load": ("Loading {model}", "加载 {model}"),
    "title.infer": ("Serving {model} with {engine}", "用 {engine} 推理 {model}"),
    "title.train": (
        "Training {model} ({method}) with {engine}",
        "用 {engine} 训练 {model}({method})",
    ),
    "title.versus": ("Memory against {what}: {model}", "显存与{what}:{model}"),
    "title.beside": ("Memory side by side: {model}", "显存对比:{model}"),
    "title.fit": ("Does {model} fit {card}?", "{card} 放得下 {model} 吗?"),
    "answer.fit": ("{fits}: {what}", "{fits}:{what}"),
    "changed": ("with the first change that fits", "做出第一项可行更改后"),
    "question.load": ("load", "加载"),
    "question.infer": ("inference", "推理"),
    "question.lora": ("LoRA", "LoRA"),
    "question.qlora": ("QLoRA", "QLoRA"),
    "question.train": ("full training", "全量训练"),
    "head.fits": ("verdict", "结论"),
    "described.fit": (
        "Bars for each question about {card}; below it what the first change makes of it.",
        "关于 {card} 的每个问题一条;其下为做出第一项可行更改后的结果。",
    ),
    "title.trace": ("Memory of {program}", "{program} 的显存"),
    "title.measure": ("Measured beside predicted", "实测与预测"),
    "title.quality": ("Quality against size ({metric}): {model}", "质量与大小({metric}):{model}"),
    "sizes": ("Sizes in {unit}", "大小单位:{unit}"),
    "yes": ("Fits", "放得下"),
    "no": ("Does not fit", "放不下"),
    "unknown": ("Cannot say", "无法判断"),
    "needs": (
        "needs about {peak}; the card has {usable} for you",
        "约需 {peak};该卡可用 {usable}",
    ),
    "size": ("About {peak} on the card", "卡上约 {peak}"),
    "size.host": ("About {peak} of host memory", "约需 {peak} 内存"),
    "span": ("{about} ({low} to {high})", "{about}({low} 至 {high})"),
    "peak.in": ("the peak is in the phase {phase}", "峰值在阶段 {phase}"),
    "usable": ("the card has {size} for you", "该卡可用 {size}"),
    "usable.span": ("the card has {low} to {high} for you", "可用 {low} 至 {high}"),
    "ram": ("{size} of RAM", "内存 {size}"),
    "gpu": ("GPU", "GPU"),
    "gpu.alike": ("per GPU (all {count} alike)", "每个 GPU({count} 个相同)"),
    "gpu.some": ("GPU {which}", "GPU {which}"),
    "gpu.share": ("on each of {count} GPUs, layers dealt out", "{count} 个 GPU 各自(按层分配)"),
    "gpu.whole": ("all of it on one GPU", "全部放在一个 GPU 上"),
    "share": ("share", "份额"),
    "host": ("host memory", "主机内存"),
    "along.context": ("context, tokens", "上下文,token"),
    "along.seq_len": ("sequence length, tokens", "序列长度,token"),
    "along.batch_size": ("batch size", "批大小"),
    "fits.to": ("{name} fits up to {value}", "{name} 最多放得下 {value}"),
    "fits.none": ("{name} fits at none of them", "{name} 均放不下"),
    "axis.card": ("{unit} on the card, as nvidia-smi shows it", "卡上的 {unit}(nvidia-smi 所示)"),
    "axis.host": ("{unit} of host memory", "主机内存,{unit}"),
    "axis.disk": ("{unit} on disk", "磁盘,{unit}"),
    "axis.pytorch": ("{unit} in use", "已用 {unit}"),
    "axis.events": ("allocations and releases, in order", "分配与释放,按顺序"),
    "axis.size": ("size of the weights, {unit}", "权重大小,{unit}"),
    "axis.bits": ("bits per weight", "每个权重的位数"),
    "axis.loss": ("{metric}, more than the baseline, %", "{metric},相对基线增加 %"),
    "more": ("{count} further GPUs hold at most {size}", "另有 {count} 个 GPU,最多 {size}"),
    "thick": (
        "Thin lines below bars: from the low to the high estimate.",
        "条下细线:从低估计到高估计。",
    ),
    "bands": (
        "Shaded: from the low to the high estimate. Dashed: what a process can have of the card.",
        "阴影:从低估计到高估计。虚线:一个进程可用的显存。",
    ),
    "bands.alone": ("Shaded: from the low to the high estimate.", "阴影:从低估计到高估计。"),
    "refused.mark": ("Out of memory: {size} more, at {place}", "显存不足:还需 {size},在 {place}"),
    "peak.mark": ("Peak {size}, in {phase}", "峰值 {size},在{phase}"),
    "reserved": ("held by the allocator", "分配器持有"),
    "fake": ("On a simulated {gpu}: memory in use, event by event", "在模拟的 {gpu} 上:逐事件显存"),
    "card": ("the card has {size}", "该卡有 {size}"),
    "off": ("The prediction of the fullest is off by {error}", "最满一项的预测误差 {error}"),
    "measured": ("measured", "实测"),
    "predicted": ("predicted", "预测"),
    "level.allocated": ("in tensors (allocated)", "张量(allocated)"),
    "level.reserved": ("more that PyTorch holds (reserved)", "PyTorch 另外持有(reserved)"),
    "level.driver": ("outside PyTorch (driver)", "PyTorch 之外(driver)"),
    "edge": ("At the lower edge: no measurable loss.", "下缘:无可测损失。"),
    "head.against": ("against {name}", "相对 {name}"),
    "lower": ("Lower is better. Figures: {source}", "越低越好。数据:{source}"),
    "head.device": ("device", "设备"),
    "head.phase": ("phase", "阶段"),
    "head.total": ("together", "合计"),
    "head.low": ("low", "低"),
    "head.high": ("high", "高"),
    "head.usable": ("for you", "可用"),
    "head.what": ("what", "项目"),
    "head.format": ("format", "格式"),
    "head.source": ("source", "来源"),
    "head.side": ("side", "方"),
    "head.error": ("error", "误差"),
    "head.allocated": ("allocated at most", "allocated 最多"),
    "head.reserved": ("reserved at most", "reserved 最多"),
    "head.driver": ("driver", "driver"),
    "described.bars": (
        "Stacked bars, one for each phase of each device. {verdict}. {peak}.",
        "堆叠条形图,每个设备的每个阶段一条。{verdict}。{peak}。",
    ),
    "described.rows": ("Stacked bars, one for each answer.", "堆叠条形图,每个答案一条。"),
    "described.lines": (
        "Memory as a line over {what}, with its interval.",
        "显存随 {what} 的折线,含区间。",
    ),
    "described.areas": (
        "Layers of memory over {events} events, by what it is for. {peak}.",
        "{events} 个事件中按用途叠加的显存。{peak}。",
    ),
    "described.pairs": (
        "Pairs of bars: what a GPU showed, and what was predicted.",
        "成对条形:GPU 实测与预测。",
    ),
    "described.dots": (
        "A dot for each format: {metric} over size.",
        "每种格式一点:{metric}与大小。",
    ),
}


class ChartSay(NamedTuple):
    """The words of one language."""

    lang: str

    def __call__(self, key: str, **values: object) -> str:
        if key not in WORDS:
            return say(self.lang)(key, **values)
        return WORDS[key][LANGUAGES.index(self.lang)].format(**values)

    def each(self, *keys: str) -> tuple[str, ...]:
        return tuple(self(key) for key in keys)

    def named(self, kind: str, name: str) -> str:
        """A phase or a part by its name; a stranger's name as it is."""
        key = f"{kind}.{name}"
        return self(key) if key in WORDS or key in say(self.lang).table else name
