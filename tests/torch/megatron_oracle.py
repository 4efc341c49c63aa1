"""Two steps of Megatron-core's own GPTModel on the fake GPU: its linears, mappings of tensor ranks,
router, dispatcher, experts, distributed data parallel and pipeline schedules, as one rank of a group
that sends nothing.

What is compiled elsewhere (Transformer Engine, Apex) has stand-ins that take and keep what the
kernels do: norms, attention, rotary embedding, SwiGLU, and linears that each tensor rank has whole.
"""

import contextlib
import sys
from types import ModuleType

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import weighbridge

LAYERS, HIDDEN, WIDTH, HEADS, GROUPS, HEAD, WORDS, LENGTH = 4, 256, 512, 8, 2, 32, 1024, 512
EXPERTS = {"count": 8, "top": 2, "width": 256}
LATENT = {"query_rank": 96, "rank": 64, "nope": 32, "rotary": 16, "value_dim": 32}
STEPS, BATCHES = 2, 4
WORKSPACE = 32 * 2**20  # torch's of cuBLAS on Hopper, one a thread


class Norm(torch.nn.RMSNorm):
    def __init__(self, config, hidden_size, eps=1e-5, **_):
        super().__init__(hidden_size, eps=eps)


class Whole(torch.nn.Module):
    """A linear that each tensor rank has whole."""

    def __init__(self, inputs, outputs, **_):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(outputs, inputs, device="cuda"))

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight), None


class _Attended(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        v = v.contiguous()
        out = q.new_empty(*q.shape[:-2], q.shape[-2] * v.shape[-1])
        sums = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, *_ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


class Attention(torch.nn.Module):
    def __init__(self, *_, **__):
        super().__init__()

    def forward(self, q, k, v, *_, **__):
        return _Attended.apply(q, k, v)


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        return torch.empty_like(t, memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx, grad):
        return torch.empty_like(grad)


def _half(x):
    return x.new_empty(*x.shape[:-1], x.shape[-1] // 2)


@contextlib.contextmanager
def stand_ins(patch):
    """Put stand-ins in the places of compiled kernels."""
    from megatron.core import jit

    jit.disable_jit_fuser()
    from megatron.core.fusions import fused_bias_swiglu as swiglu
    from megatron.core.models.common.embeddings import rope_utils
    from megatron.core.transformer import multi_latent_attention, transformer_block
    from megatron.core.transformer.moe import moe_utils

    patch.setattr(swiglu, "swiglu", _half)
    patch.setattr(swiglu, "swiglu_back", lambda grad, x: torch.empty_like(x))
    patch.setattr(swiglu, "weighted_swiglu", lambda x, weights: _half(x))
    both = lambda grad, x, weights: (torch.empty_like(x), torch.empty_like(weights))  # noqa: E731
    patch.setattr(swiglu, "weighted_swiglu_back", both)
    patch.setattr(rope_utils, "_apply_rotary_pos_emb_bshd", lambda t, *_, **__: _Turned.apply(t))
    patch.setattr(moe_utils, "te_general_gemm", None, raising=False)  # a name that 0.16.1 forgets
    patch.setattr(transformer_block, "LayerNormImpl", Norm)
    patch.setattr(multi_latent_attention, "TELinear", Whole)
    for name in ("scaled_masked_softmax_cuda", "scaled_upper_triang_masked_softmax_cuda"):
        softmax = ModuleType(name)
        softmax.get_batch_per_block = lambda *_: 1
        softmax.forward = lambda scores, scale: torch.empty_like(scores)
        softmax.backward = lambda grad, made, scale: grad  # in its place
        patch.setitem(sys.modules, name, softmax)
    yield


def _config(tensor, pipeline, expert, *, routed, latent, sequence_parallel):
    from megatron.core.transformer.transformer_config import (
        MLATransformerConfig,
        TransformerConfig,
    )

    said = {
        "num_layers": LAYERS,
        "hidden_size": HIDDEN,
        "ffn_hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "normalization": "RMSNorm",
        "gated_linear_unit": True,
        "activation_func": torch.nn.functional.silu,
        "add_bias_linear": False,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "bf16": True,
        "params_dtype": torch.bfloat16,
        "pipeline_dtype": torch.bfloat16,
        "tensor_model_parallel_size": tensor,
        "pipeline_model_parallel_size": pipeline,
        "expert_model_parallel_size": expert,
        "expert_tensor_parallel_size": 1,
        "sequence_parallel": sequence_parallel,
        "gradient_accumulation_fusion": False,
        "bias_activation_fusion": True,
        "masked_softmax_fusion": True,
        "persist_layer_norm": False,
        "deallocate_pipeline_outputs": True,
    }
    if routed:
        said |= {
            "num_moe_experts": EXPERTS["count"],
            "moe_router_topk": EXPERTS["top"],
            "moe_ffn_hidden_size": EXPERTS["width"],
            "moe_token_dispatcher_type": "alltoall",
            "moe_aux_loss_coeff": 0.01,
            "moe_router_load_balancing_type": "aux_loss",
            "moe_expert_capacity_factor": 1.0,  # what is routed elsewhere is not known here
            "moe_pad_expert_input_to_capacity": True,
        }
    if not latent:
        return TransformerConfig(num_query_groups=GROUPS, **said)
    return MLATransformerConfig(
        multi_latent_attention=True,
        q_lora_rank=LATENT["query_rank"],
        kv_lora_rank=LATENT["rank"],
        qk_head_dim=LATENT["nope"],
        qk_pos_emb_head_dim=LATENT["rotary"],
        v_head_dim=LATENT["value_dim"],
        **said,
    )


def _model(config, *, routed, latent, scores):
    from megatron.core import parallel_state
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec

    spec = get_gpt_layer_local_spec(
        num_experts=EXPERTS["count"] if routed else None,
        moe_grouped_gemm=False,
        multi_latent_attention=latent,
        normalization="RMSNorm",
        qk_layernorm=latent,
    )
    parts, attention = spec.submodules, spec.submodules.self_attention.submodules
    parts.input_layernorm = parts.pre_mlp_layernorm = Norm
    if not scores:
        attention.core_attention = Attention
    if latent:
        attention.q_layernorm = attention.kv_layernorm = Norm
        attention.linear_q_down_proj = attention.linear_kv_down_proj = Whole
    return GPTModel(
        config,
        spec,
        vocab_size=WORDS,
        max_sequence_length=LENGTH,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        position_embedding_type="rope",
        share_embeddings_and_output_weights=False,
    )


def real(
    *,
    tensor=1,
    pipeline=1,
    expert=1,
    stage=0,
    routed=False,
    latent=False,
    sequence=False,
    scores=False,
):
    """Return the numbers of one rank of a stage, and the bytes of its tensors at the fullest moment,
    without torch's workspaces. Attention is a stand-in of one kernel, or Megatron's own, of
    `scores`."""
    from megatron.core import parallel_state, tensor_parallel

    hook = sys.excepthook  # which torch replaces, to put the rank before each line
    ranks = tensor * pipeline * expert
    rank = stage * tensor * expert
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks)
    try:
        with weighbridge.FakeGPU("h100", torch_version="2.13") as card:
            parallel_state.initialize_model_parallel(
                tensor_model_parallel_size=tensor,
                pipeline_model_parallel_size=pipeline,
                expert_model_parallel_size=expert,
                expert_tensor_parallel_size=1,
            )
            tensor_parallel.model_parallel_cuda_manual_seed(1)
            config = _config(
                tensor,
                pipeline,
                expert,
                routed=routed,
                latent=latent,
                sequence_parallel=sequence,
            )
            numbers = _steps(config, _model(config, routed=routed, latent=latent, scores=scores))
            return numbers, _most(card.tape)
    finally:
        parallel_state.destroy_model_parallel()
        if dist.is_initialized():
            dist.destroy_process_group()
        sys.excepthook = hook


def _steps(config, model):
    from megatron.core.distributed import (
        DistributedDataParallel,
        DistributedDataParallelConfig,
    )
    from megatron.core.pipeline_parallel import get_forward_backward_func

    whole = model.cuda().bfloat16()
    shared = DistributedDataParallelConfig(grad_reduce_in_fp32=True)
    model = DistributedDataParallel(config, shared, whole)
    numbers = sum(p.numel() for p in whole.parameters())
    run = get_forward_backward_func()
    for _ in range(STEPS):
        model.zero_grad_buffer()
        run(
            forward_step_func=_forward,
            data_iterator=None,
            model=model,
            num_microbatches=BATCHES,
            seq_length=LENGTH,
            micro_batch_size=1,
            forward_only=False,
        )
    return numbers


def _most(tape):
    tape.settle()
    at = max(range(len(tape.events)), key=tape.levels.__getitem__)
    return sum(storage.nbytes for storage in tape.alive(at)) - 2 * WORKSPACE


def _forward(_, model):
    words, labels, places = (
        torch.zeros(1, LENGTH, dtype=torch.int64, device="cuda") for _ in range(3)
    )
    counted = torch.zeros(1, LENGTH, device="cuda")  # the loader gives it, too
    out = model(words, places, None, labels=labels)
    return out, lambda loss: (loss.float().mean(), {"mask": counted.shape})
