"""Quality loss of a format: in words, from published figures, and in points for the order.

The words are about this model or the nearest of its family (the figure says which model it was
measured on). The points are the same for every model: figures of different pages cannot order
formats, so each has those of one model, which is assumed to stand for others.
"""

from collections.abc import Mapping
from functools import cache

from weighbridge.answers.remedies.case import Cost
from weighbridge.base.records import NamedTuple
from weighbridge.memory.report import ModelFacts
from weighbridge.memory.report.verdict import A_POINT, Price
from weighbridge.models.quantization.quality import Finding, published

POINTS = 3.0  # per percent of perplexity increase (assumed: the exchange)
SLOWER = 1 / A_POINT  # points per percent
MADE = 5.0  # points if a checkpoint must be made first
WORSE = {30: ": much worse answers", 10: ": worse answers"}  # from this percentage on (assumed)
BNB = "https://huggingface.co/blog/hf-bitsandbytes-integration"
MLX = "https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/BENCHMARKS.md"
FP8 = "https://docs.vllm.ai/en/latest/features/quantization/fp8/"


class FormatLoss(NamedTuple):
    """The loss of a format on any model. `model` and its parameters name the model whose figure
    orders it; "" if `points` are assumed."""

    bits: str = ""
    model: str = ""
    parameters: int = 0
    points: float = 0.0
    slower: float = 0.0  # percent
    made: float = 0.0
    words: str = ""
    otherwise: str = ""  # words without a published figure
    source: str = ""


GGUF = FormatLoss(model="llama-3-8b", parameters=8_030_261_248, made=MADE)
LLAMA = 6_738_415_616  # parameters of LLaMA 7B and Llama 2 7B
FORMATS: Mapping[str, FormatLoss] = {
    "bnb-int8": FormatLoss(
        bits="8 bits",
        points=0.5,
        slower=20,
        words="15 to 23 % slower",
        otherwise="no loss to speak of",
        source=BNB,
    ),
    "nf4": FormatLoss(bits="4 bits", model="llama-7b", parameters=LLAMA, slower=10),
    "awq-4bit-g128": FormatLoss(
        bits="4 bits",
        model="llama-2-7b",
        parameters=LLAMA,
        made=MADE,
        words="a checkpoint in AWQ is needed",
    ),
    "gptq-4bit-g128": FormatLoss(
        bits="4 bits",
        model="llama-7b",
        parameters=LLAMA,
        made=MADE,
        words="a checkpoint in GPTQ is needed",
    ),
    "fp8-tensor": FormatLoss(
        bits="8 bits", points=1.0, otherwise="a loss that is hard to measure", source=FP8
    ),
    **{
        f"mlx-{bits}bit-g64": FormatLoss(
            bits=f"{bits} bits",
            points=POINTS * down,
            made=MADE,
            otherwise=f"MMLU Pro {down} % down on Qwen3-4B",
            source=MLX,
        )
        for bits, down in ((8, 0.3), (6, 0.8), (5, 2.6), (4, 5.2))
    },
    **dict.fromkeys(("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"), GGUF),
}


def cost(model: ModelFacts, form: str, *, published: bool = False) -> Cost:
    """Return the cost of this model's weights in that format; `published`: files of it exist."""
    known, finding = FORMATS[form], of_model(model, form)
    quality, source = _told(known, form, finding)
    bits = f"{known.bits}: " if known.bits else ""
    effort, loss = (0.0, "") if published else (known.made, known.words)
    return Cost(
        price=Price(quality=points(form), speed=known.slower * SLOWER, effort=effort),
        words="; ".join(filter(None, (f"{bits}{quality}", loss if known.made else known.words))),
        source=" ".join(dict.fromkeys(filter(None, (source, known.source)))),
    )


def of_model(model: ModelFacts, form: str, of: str = "weights") -> Finding | None:
    """Return the published figure of this model, or of the nearest; None without any."""
    experts = model.active_parameters < model.parameters
    return published(model.name, model.parameters, form, experts=experts, of=of)


def points(form: str) -> float:
    """Return the quality loss of a format in comparable points."""
    known = FORMATS[form]
    finding = _ordering(known.model, known.parameters, form)
    return known.points if finding is None else POINTS * finding.change


@cache
def _ordering(model: str, parameters: int, form: str, of: str = "weights") -> Finding | None:
    return published(model, parameters, form, of=of) if model else None


def _told(known: FormatLoss, form: str, finding: Finding | None) -> tuple[str, str]:
    """Return (the loss in words, its source)."""
    if finding is not None:
        return words(finding), finding.source
    if known.otherwise:
        return known.otherwise, ""
    other = _ordering(known.model, known.parameters, form)
    return _unknown(other)


def _unknown(other: Finding | None) -> tuple[str, str]:
    line = "no published figure of this model is known"
    if other is None:
        return line, ""
    alone = words(other._replace(near="model"))
    return f"{line} ({other.measured_on}: {alone})", other.source


def words(finding: Finding) -> str:
    """Return a figure as part of a sentence."""
    where = "" if finding.near == "model" else f" on {finding.measured_on}"
    if not finding.change:
        return f"no measurable loss{where}"
    if finding.metric == "kl_divergence":
        return f"KL divergence {finding.amount}{where}"
    if finding.metric == "accuracy":
        return f"accuracy {finding.amount} % down ({finding.task}){where}"
    per = " by word" if finding.metric == "word_perplexity" else ""
    worse = next((word for least, word in WORSE.items() if finding.change >= least), "")
    return f"perplexity{per} {finding.amount} % up{where}{worse}"


def cache_in_q8(model: ModelFacts) -> Cost:
    """Return the cost of an 8-bit KV cache in llama.cpp."""
    finding = of_model(model, "q8_0", "kv cache")
    ordering = _ordering(GGUF.model, GGUF.parameters, "q8_0", "kv cache")
    line, source = (words(finding), finding.source) if finding else _unknown(ordering)
    quality = POINTS * ordering.change if ordering else 0.0
    return Cost(
        price=Price(quality=quality), words=f"keys and values in 8 bits: {line}", source=source
    )
