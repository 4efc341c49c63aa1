"""Arguments of Megatron-LM's command line that take or free memory, by their own names.

    read(("sequence_parallel", "moe_token_dispatcher_type=alltoall"))

Numbers of ranks, batch and length have settings of ours. A switch has no value.
Source: Megatron-LM d98e8a6 megatron/training/arguments.py, core/transformer/transformer_config.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.settings.ranks import ALLGATHER, RING, ULYSSES
from weighbridge.training.megatron import layout

MOST = 1 << 20
OF_MOVED = (  # say which activations are moved, and how many
    *("offload_modules", "min_offloaded_tensor_size", "activation_offload_fraction"),
    "delta_offload_bytes_across_pp_ranks",
)
# How ranks of a sequence see all of it: Megatron's word -> that of --context-parallel-by. Of the
# last, within groups of ranks and among them, each rank copies as for a2a
CONTEXT_BY = {"p2p": RING, "a2a": ULYSSES, "allgather": ALLGATHER, "a2a+p2p": ULYSSES}
RECOMPUTABLE = ("core_attn", "layernorm", "mlp", "moe", "moe_act", "mla_up_proj", "shared_experts")
SIZES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "float32": 4, "bfloat16": 2, "float16": 2}


class MegatronArgument(NamedTuple):
    """What an argument sets of a run, and how its value is read; `on` is what a switch means."""

    field: str
    reads: Callable[[str], Any] | None = None
    on: Any = True


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST:
        raise ValueError("a whole number above 0")
    return int(text)


def _whole(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _rate(text: str) -> float:
    return _number(text, MOST, "a number from 0 on")


def _share(text: str) -> float:
    return _number(text, 1, "a number from 0 to 1")


def _number(text: str, most: float, says: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(says) from None
    if not 0 <= number <= most:
        raise ValueError(says)
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
        raise ValueError("+".join(RECOMPUTABLE) + ", or some of them")
    return names


def _dtype(text: str) -> str:
    if text not in SIZES:
        raise ValueError(" or ".join(SIZES))
    return text


def _bytes(text: str) -> int:
    return SIZES[_dtype(text)]


ARGUMENTS: Mapping[str, MegatronArgument] = {
    "sequence_parallel": MegatronArgument("sequence_parallel"),
    "num_layers_per_virtual_pipeline_stage": MegatronArgument("chunk", _count),
    "num_virtual_stages_per_pipeline_rank": MegatronArgument("chunks", _count),
    "microbatch_group_size_per_virtual_pipeline_stage": MegatronArgument("group", _count),
    "no_overlap_p2p_communication": MegatronArgument("receives_ahead", on=False),
    "overlap_p2p_communication_warmup_flush": MegatronArgument("receives_early"),
    layout.FIRST: MegatronArgument(layout.FIRST, _count),
    layout.LAST: MegatronArgument(layout.LAST, _count),
    layout.EMBEDDING: MegatronArgument(layout.EMBEDDING),
    layout.LOSS: MegatronArgument(layout.LOSS),
    layout.LAYOUT: MegatronArgument(layout.LAYOUT, str),
    "cp_comm_type": MegatronArgument("context_by", _context_by),
    "hierarchical_context_parallel_sizes": MegatronArgument("", str),  # of a2a+p2p
    "fine_grained_activation_offloading": MegatronArgument("moves"),
    **{name: MegatronArgument("", str) for name in OF_MOVED},
    "use_megatron_fsdp": MegatronArgument("fsdp"),
    "data_parallel_sharding_strategy": MegatronArgument(
        "strategy", _one_of("no_shard", "optim", "optim_grads", "optim_grads_params")
    ),
    "megatron_fsdp_main_grads_dtype": MegatronArgument(
        "fsdp_gradient", _one_of("fp32", "bf16", "auto")
    ),
    "fsdp_double_buffer": MegatronArgument("double_buffers"),
    "use_nccl_ub": MegatronArgument("registers"),
    "use_torch_fsdp2": MegatronArgument("fsdp2"),
    "expert_tensor_parallel_size": MegatronArgument("expert_tensor", _count),
    "num_distributed_optimizer_instances": MegatronArgument("instances", _count),
    "accumulate_allreduce_grads_in_fp32": MegatronArgument("accumulates"),
    "grad_reduce_in_bf16": MegatronArgument("main_gradient", on=2),
    "main_grads_dtype": MegatronArgument("main_gradient", _bytes),
    "main_params_dtype": MegatronArgument("main_parameter", _dtype),
    "exp_avg_dtype": MegatronArgument("average", _dtype),
    "exp_avg_sq_dtype": MegatronArgument("square", _dtype),
    "no_use_layer_wise_param_layout": MegatronArgument("in_turn"),
    "use_precision_aware_optimizer": MegatronArgument("precise"),
    "optimizer_cpu_offload": MegatronArgument("offloads"),
    "optimizer_offload_fraction": MegatronArgument("offloaded", _share),
    "no_gradient_accumulation_fusion": MegatronArgument("fused_gradients", on=False),
    "defer_embedding_wgrad_compute": MegatronArgument("defers"),
    "wgrad_deferral_limit": MegatronArgument("deferred", _whole),
    "transformer_impl": MegatronArgument("implementation", _one_of("transformer_engine", "local")),
    "attention_backend": MegatronArgument(
        "attention", _one_of("auto", "flash", "fused", "unfused", "local")
    ),
    "no_masked_softmax_fusion": MegatronArgument("fused_softmax", on=False),
    "attention_softmax_in_fp32": MegatronArgument("wide_softmax"),
    "apply_query_key_layer_scaling": MegatronArgument("scaled_by_layer"),
    "cross_entropy_loss_fusion": MegatronArgument("loss", on="native"),
    "cross_entropy_fusion_impl": MegatronArgument("loss_by", _one_of("native", "te")),
    "hidden_dropout": MegatronArgument("hidden_dropout", _rate),
    "attention_dropout": MegatronArgument("attention_dropout", _rate),
    "recompute_activations": MegatronArgument("granularity", on="selective"),
    "recompute_granularity": MegatronArgument("granularity", _one_of("full", "selective")),
    "recompute_method": MegatronArgument("recompute", _one_of("uniform", "block")),
    "recompute_num_layers": MegatronArgument("recomputed", _count),
    "distribute_saved_activations": MegatronArgument("spreads"),
    "recompute_modules": MegatronArgument("modules", _modules),
    "moe_token_dispatcher_type": MegatronArgument(
        "dispatcher", _one_of("allgather", "alltoall", "flex")
    ),
    "moe_flex_dispatcher_backend": MegatronArgument("backend", _one_of("deepep", "hybridep")),
    "moe_enable_deepep": MegatronArgument("enables_deepep"),
    "moe_grouped_gemm": MegatronArgument("grouped"),
    "moe_shared_expert_overlap": MegatronArgument("shared_beside"),
    "moe_permute_fusion": MegatronArgument("fused_permutation"),
    "moe_router_dtype": MegatronArgument("router", _one_of("fp32", "fp64")),
    "moe_expert_capacity_factor": MegatronArgument("capacity", _rate),
    "moe_pad_expert_input_to_capacity": MegatronArgument("pads"),
    "moe_router_force_load_balancing": MegatronArgument("forced"),
    "moe_aux_loss_coeff": MegatronArgument("balancing", _rate),
    "no_bias_gelu_fusion": MegatronArgument("fused_activation", on=False),
    "no_bias_swiglu_fusion": MegatronArgument("fused_activation", on=False),
    "mtp_num_layers": MegatronArgument("predicts", _count),
    "tp_comm_overlap": MegatronArgument("overlaps"),
    "fp8_format": MegatronArgument("float8_format", _one_of("hybrid", "e4m3")),
    "fp8_recipe": MegatronArgument(
        "float8", _one_of("delayed", "tensorwise", "blockwise", "mxfp8")
    ),
    "fp4_format": MegatronArgument("float4_format", _one_of("e2m1")),
    "fp4_recipe": MegatronArgument("float4", _one_of("nvfp4")),
    "fp4_param_gather": MegatronArgument("float8_parameters"),
    "fp8_param_gather": MegatronArgument("float8_parameters"),
    "disable_parameter_transpose_cache": MegatronArgument("keeps_transposes", on=False),
    "reuse_grad_buf_for_mxfp8_param_ag": MegatronArgument("reuses_gradients"),
    "first_last_layers_bf16": MegatronArgument("plain_ends"),
    "num_layers_at_start_in_bf16": MegatronArgument("plain_first", _whole),
    "num_layers_at_end_in_bf16": MegatronArgument("plain_last", _whole),
    "rope_type": MegatronArgument("angles", _one_of("rope", "yarn")),
    "no_create_attention_mask_in_dataloader": MegatronArgument("masks", on=False),
    "dataloader_inter_document_masking": MegatronArgument("masks", on=False),
    "cuda_graph_impl": MegatronArgument(
        "graphs", _one_of("none", "local", "transformer_engine", "full_iteration")
    ),
    "enable_cuda_graph": MegatronArgument("graphs", on="local"),
    "external_cuda_graph": MegatronArgument("graphs", on="transformer_engine"),
    "deterministic_mode": MegatronArgument("deterministic"),
    "make_vocab_size_divisible_by": MegatronArgument("multiple", _count),
}

OWN: Mapping[str, str] = {  # arguments that are settings of every framework
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
    """Return the name of an argument as `ARGUMENTS` has it, with or without dashes."""
    return word.partition("=")[0].strip().removeprefix("--").replace("-", "_")


def plainly(word: str) -> str:
    """Write an argument under the name that `ARGUMENTS` has."""
    _, equals, value = word.partition("=")
    return f"{name_of(word)}{equals}{value.strip()}"


def read(words: Iterable[str]) -> dict[str, Any]:
    """Return what arguments set, by the fields of `ARGUMENTS`. Raises UsageError for what is not
    known, or has no such value."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        key = name_of(word)
        argument = ARGUMENTS.get(key)
        if key in OWN:
            raise UsageError(
                f"--megatron-args {name.strip()}: it has a flag of its own: {OWN[key]}"
            )
        if argument is None:
            why = f"it is not among those that are weighed{_near(key)}"
            raise UsageError(f"--megatron-args {name.strip()}: {why}")
        found[argument.field] = _value(key, argument, value.strip(), given=bool(equals))
    found.pop("", None)
    return found


def _near(key: str) -> str:
    """Return what may be meant by an argument that is not known, else all that are."""
    from difflib import get_close_matches

    known = [*ARGUMENTS, *OWN]
    near = get_close_matches(key[:80], known, 1, cutoff=0.8)
    return f"; did you mean {near[0]}?" if near else f": {', '.join(sorted(ARGUMENTS))}"


def _value(name: str, argument: MegatronArgument, text: str, *, given: bool) -> Any:
    if argument.reads is None:
        if given and text.casefold() not in ("true", "1"):
            raise UsageError(
                f"--megatron-args {name}: it is a switch; write it alone, or leave it out"
            )
        return argument.on
    try:
        return argument.reads(text)
    except ValueError as error:
        raise UsageError(f"--megatron-args {name}={text}: it takes {error}") from None


def refuse(asked: Mapping[str, Any], *, growing: bool = False) -> None:
    """Raise UsageError for arguments that Megatron stops at together (TransformerConfig's
    __post_init__), or with segments of the allocator that grow (DistributedDataParallelConfig)."""
    for wrong, why in _contradictions(asked):
        if wrong:
            raise UsageError(f"--megatron-args {why}")
    if growing and asked.get("registers"):
        raise UsageError("--megatron-args use_nccl_ub: it goes not with --expandable-segments")


def recipe(asked: Mapping[str, Any]) -> str | None:
    """Return how products in 8 bits, or 4, are scaled; None where nothing asks for them."""
    if "float4_format" in asked:
        return str(asked.get("float4", "nvfp4"))
    return asked.get("float8", "delayed") if "float8_format" in asked else None


def _contradictions(asked: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    sends = asked.get("dispatcher", "allgather")
    modules = asked.get("modules", ()) if asked.get("granularity") == "selective" else ()
    backend = asked.get("backend", "deepep")
    norms = {"moe_act", "layernorm"}.intersection(modules)
    yield (
        bool(asked.get("shared_beside")) and sends == "allgather",
        "moe_shared_expert_overlap: it needs moe_token_dispatcher_type=alltoall or flex",
    )
    yield (
        bool(asked.get("enables_deepep")) and sends != "flex",
        "moe_enable_deepep: it needs moe_token_dispatcher_type=flex",
    )
    yield (
        bool(asked.get("enables_deepep")) and backend == "hybridep",
        "moe_enable_deepep: moe_flex_dispatcher_backend=hybridep is another; leave one out",
    )
    yield (
        bool(asked.get("pads")) and sends == "flex" and backend == "deepep",
        "moe_pad_expert_input_to_capacity: DeepEP has it not; leave it out",
    )
    yield (
        "moe_act" in modules and not asked.get("grouped"),
        "recompute_modules=moe_act: it needs moe_grouped_gemm",
    )
    yield (
        bool(asked.get("defers")) and not asked.get("fused_gradients", True),
        "defer_embedding_wgrad_compute: no_gradient_accumulation_fusion goes not with it",
    )
    yield (
        bool(asked.get("spreads") and asked.get("sequence_parallel")),
        "distribute_saved_activations: sequence_parallel goes not with it",
    )
    yield (
        "float4_format" in asked and "float8_format" in asked,
        "fp4_format: fp8_format is another; leave one out",
    )
    named = "+".join(sorted(norms))
    yield (
        recipe(asked) == "delayed" and bool(norms),
        f"recompute_modules={named}: delayed scaling has it not; fp8_recipe=tensorwise may do",
    )
