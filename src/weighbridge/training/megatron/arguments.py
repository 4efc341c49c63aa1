"""Arguments of Megatron-LM's command line that affect memory, by their own names.

    read(("sequence_parallel", "moe_token_dispatcher_type=alltoall"))

Ranks, batch and length have settings of ours. A switch has no value. Source: Megatron-LM d98e8a6
megatron/training/arguments.py, core/transformer/transformer_config.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import Parsed, lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like
from weighbridge.settings.ranks import ALLGATHER, RING, ULYSSES

MOST = 1 << 20
# Context parallelism: Megatron's value -> ours of --context-parallel-by. For the last, within
# groups of ranks and among them, each rank copies as for a2a
CONTEXT_BY = {"p2p": RING, "a2a": ULYSSES, "allgather": ALLGATHER, "a2a+p2p": ULYSSES}
RECOMPUTABLE = ("core_attn", "layernorm", "mlp", "moe", "moe_act", "mla_up_proj", "shared_experts")
SIZES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "float32": 4, "bfloat16": 2, "float16": 2}


class MegatronArgument(NamedTuple):
    """A command-line argument: the field of a run that it sets, the parser of its value, and for
    switches the value `on`."""

    field: str
    reads: Callable[[str], Any] | None = None
    on: Any = True


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST:
        raise ValueError(sentence("value.above_0"))
    return int(text)


def _whole(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _rate(text: str) -> float:
    return _number(text, MOST, "value.from_0")


def _share(text: str) -> float:
    return _number(text, 1, "value.up_to_1")


def _number(text: str, most: float, key: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(sentence(key)) from None
    if not 0 <= number <= most:
        raise ValueError(sentence(key))
    return number


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError(" or ".join(known))
        return text

    return read


def _context_by(text: str) -> str:
    return CONTEXT_BY[_one_of(*CONTEXT_BY)(text)]


def _modules(text: str) -> tuple[str, ...]:
    names = tuple(text.replace("+", " ").split())
    if not names or any(name not in RECOMPUTABLE for name in names):
        raise ValueError(sentence("value.some_of", names="+".join(RECOMPUTABLE)))
    return names


def _dtype(text: str) -> str:
    if text not in SIZES:
        raise ValueError(" or ".join(SIZES))
    return text


def _bytes(text: str) -> int:
    return SIZES[_dtype(text)]


KINDS: Mapping[str, Callable[[str], Any]] = {
    "count": _count,
    "whole": _whole,
    "rate": _rate,
    "share": _share,
    "text": str,
    "modules": _modules,
    "dtype": _dtype,
    "bytes": _bytes,
    "context": _context_by,
}


def _argument(field: str, takes: str, on: str = "yes") -> MegatronArgument:
    """Return an argument, from a row of arguments.txt."""
    field = field.removeprefix("-")
    if takes == "switch":
        means = {"yes": True, "no": False}.get(on, on)
        return MegatronArgument(field, on=int(on) if on.isdecimal() else means)
    return MegatronArgument(field, KINDS.get(takes) or _one_of(*takes.split("|")))


ARGUMENTS: Mapping[str, MegatronArgument] = Parsed(
    {name: columns for name, *columns in map(str.split, lines_beside(__file__, "arguments.txt"))},
    lambda columns: _argument(*columns),
)

OWN: Mapping[str, str] = {  # Megatron's arguments with a setting in every framework
    "use_distributed_optimizer": "--shard zero1",
    "tensor_model_parallel_size": "--tensor-parallel-size",
    "pipeline_model_parallel_size": "--pipeline-parallel-size",
    "context_parallel_size": "--context-parallel-size",
    "expert_model_parallel_size": "--expert-parallel-size",
    "micro_batch_size": "--batch-size",
    "global_batch_size": "--gradient-accumulation",
    "seq_length": "--seq-len",
}


def name_of(word: str) -> str:
    """Return an argument's name as in `ARGUMENTS`, from one written with or without dashes."""
    return word.partition("=")[0].strip().removeprefix("--").replace("-", "_")


def plainly(word: str) -> str:
    """Return an argument, with its value, under the name that `ARGUMENTS` has."""
    _, equals, value = word.partition("=")
    return f"{name_of(word)}{equals}{value.strip()}"


def read(words: Iterable[str]) -> dict[str, Any]:
    """Return the values of arguments, keyed by the run's fields. Raises UsageError for unknown
    arguments or values."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        key = name_of(word)
        argument = ARGUMENTS.get(key)
        if key in OWN:
            raise UsageError(sentence("megatron.own_flag", name=name.strip(), flag=OWN[key]))
        if argument is None:
            raise UsageError(_unknown(name.strip(), key))
        found[argument.field] = _value(key, argument, value.strip(), given=bool(equals))
    found.pop("", None)
    return found


def _unknown(name: str, key: str) -> str:
    """Return the message for an unknown argument: the most similar known name, else all names."""
    near = spelled_like(key, (*ARGUMENTS, *OWN))
    if near:
        return sentence("megatron.argument_near", name=name, near=near[0])
    return sentence("megatron.argument", name=name, known=", ".join(sorted(ARGUMENTS)))


def _value(name: str, argument: MegatronArgument, text: str, *, given: bool) -> Any:
    if argument.reads is None:
        if given and text.casefold() not in ("true", "1"):
            raise UsageError(sentence("megatron.switch", name=name))
        return argument.on
    try:
        return argument.reads(text)
    except ValueError as error:
        takes = sentence("megatron.takes", name=name, text=text, what=error.args[0])
        raise UsageError(takes) from None


def refuse(asked: Mapping[str, Any], *, growing: bool = False) -> None:
    """Raise UsageError for arguments that Megatron refuses together (TransformerConfig's
    __post_init__), or with expandable segments if `growing` (DistributedDataParallelConfig)."""
    for wrong, key in _contradictions(asked):
        if wrong:
            raise UsageError(sentence(key, names="+".join(_norms(asked.get("modules", ())))))
    if growing and asked.get("registers"):
        raise UsageError(sentence("nccl_ub"))


def recipe(asked: Mapping[str, Any]) -> str | None:
    """Return the scaling recipe of fp8 or fp4 products; None if no argument enables them."""
    if "float4_format" in asked:
        return str(asked.get("float4", "nvfp4"))
    return asked.get("float8", "delayed") if "float8_format" in asked else None


def _norms(modules: Iterable[str]) -> list[str]:
    return sorted({"moe_act", "layernorm"}.intersection(modules))


def _contradictions(asked: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    sends = asked.get("dispatcher", "allgather")
    modules = asked.get("modules", ()) if asked.get("granularity") == "selective" else ()
    backend = asked.get("backend", "deepep")
    yield (bool(asked.get("shared_beside")) and sends == "allgather", "megatron.overlap_sends")
    yield (bool(asked.get("enables_deepep")) and sends != "flex", "megatron.deepep_sends")
    yield (bool(asked.get("enables_deepep")) and backend == "hybridep", "megatron.deepep_hybrid")
    yield (
        bool(asked.get("pads")) and sends == "flex" and backend == "deepep",
        "megatron.deepep_pads",
    )
    yield ("moe_act" in modules and not asked.get("grouped"), "megatron.act_grouped")
    yield (
        bool(asked.get("defers")) and not asked.get("fused_gradients", True),
        "megatron.defers_fused",
    )
    yield (
        bool(asked.get("spreads") and asked.get("sequence_parallel")),
        "megatron.spreads_sequence",
    )
    yield ("float4_format" in asked and "float8_format" in asked, "megatron.two_formats")
    yield (recipe(asked) == "delayed" and bool(_norms(modules)), "megatron.delayed_norms")
