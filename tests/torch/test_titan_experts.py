"""torchtitan 0.2.2's own Qwen3, DeepSeek-V3 and gpt-oss on the fake GPU, beside our layers.

By hand: pip install --no-deps torchtitan==0.2.2 torchdata tyro triton docstring_parser typeguard
torchao into a folder on PYTHONPATH, and datasets. Launches of Triton do nothing; what writes logs is not there.
Flex attention is not compiled here: what stands for it takes and keeps what the compiled one does.
"""

import sys
from types import ModuleType, SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchtitan", reason="by hand: torchtitan 0.2.2 on PYTHONPATH")

from triton.runtime import jit  # noqa: E402

import weighbridge  # noqa: E402
from tests.torch.training_oracle import stepped  # noqa: E402

LAYERS, WIDTH, HEADS, SHARED, HEAD, FEED, WORDS, BATCH, LENGTH = 2, 256, 4, 2, 64, 512, 1000, 2, 512
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
RELEASED = "2026-02-20"
WORKSPACE = 32 * 2**20  # of cuBLAS, which the real model's loop has before
CLOSE = 4096


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with pytest.MonkeyPatch.context() as patch:
        logs = ModuleType("torch.utils.tensorboard")
        logs.SummaryWriter = object
        patch.setitem(sys.modules, logs.__name__, logs)
        patch.setattr(jit.KernelInterface, "__getitem__", lambda *_: lambda *_, **__: None)
        yield


def arguments(*, sparse):
    from torchtitan.models.moe import MoEArgs
    from torchtitan.models.qwen3.model.args import Qwen3ModelArgs

    experts = {}
    if sparse:
        own = MoEArgs(
            num_experts=EXPERTS["num_experts"],
            num_shared_experts=0,
            top_k=EXPERTS["num_experts_per_tok"],
            score_func="softmax",
            route_norm=True,
            score_before_experts=False,
        )
        experts = {"moe_enabled": True, "moe_inter_dim": 128, "moe_args": own}
    return Qwen3ModelArgs(
        dim=WIDTH,
        n_layers=LAYERS,
        n_heads=HEADS,
        n_kv_heads=SHARED,
        vocab_size=WORDS,
        head_dim=HEAD,
        hidden_dim=FEED,
        max_seq_len=LENGTH,
        qk_norm=True,
        **experts,
    )


def latents(score, groups, rank):
    from torchtitan.models.deepseek_v3.model.args import DeepSeekV3ModelArgs
    from torchtitan.models.moe import MoEArgs

    made = DeepSeekV3ModelArgs(
        vocab_size=WORDS,
        dim=WIDTH,
        inter_dim=FEED,
        moe_inter_dim=128,
        n_layers=LAYERS,
        n_dense_layers=1,
        n_heads=HEADS,
        q_lora_rank=rank,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        max_seq_len=LENGTH,
        moe_args=MoEArgs(
            num_experts=8,
            num_shared_experts=2,
            top_k=2,
            num_expert_groups=groups,
            num_limited_groups=groups and 2,
            score_func=score,
            route_norm=score == "sigmoid",
            score_before_experts=False,
        ),
    )
    made.moe_impl = "standard"  # which a job's config sets
    return made


def real(*, sparse):
    from torchtitan.models.qwen3.model.model import Qwen3Model

    return followed(Qwen3Model, arguments(sparse=sparse))


def followed(cls, given, length=LENGTH):
    """(allocated after the layers and the last norm, the most on the way), of weights apart."""
    with weighbridge.FakeGPU("h100-sxm", torch_version="2.13"):
        model = cls(given)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        model.cuda()
        model.output = None  # the loss runs the head
        warm = torch.zeros(8, 8, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        (warm @ warm).sum().backward()
        del warm
        tokens = torch.zeros(BATCH, length, dtype=torch.long, device="cuda")
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        hidden = model(tokens)
        assert hidden.requires_grad
        return (
            torch.cuda.memory_allocated() - before,
            torch.cuda.max_memory_allocated() - before,
        )


def ours(*, sparse):
    return forward(
        {
            "model_type": "qwen3_moe" if sparse else "qwen3",
            "architectures": ["Qwen3MoeForCausalLM" if sparse else "Qwen3ForCausalLM"],
            "hidden_size": WIDTH,
            "intermediate_size": FEED,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": SHARED,
            "head_dim": HEAD,
            "vocab_size": WORDS,
            "norm_topk_prob": True,
            **(EXPERTS if sparse else {}),
        }
    )


def forward(raw, cache=HEAD, length=LENGTH):
    told = {"precision": "bf16", "batch_size": BATCH, "seq_len": length, "checkpointing": "none"}
    mine = stepped(raw, framework="torchtitan", framework_version=RELEASED, gpu="h100-sxm", **told)
    moments = {name: SimpleNamespace(end=end, most=most) for name, end, most, _ in mine.moments[:2]}
    # positions and tokens, which the real model has before
    before = moments["load"].end + WORKSPACE + length * cache * 4 + 8 * BATCH * length
    return moments["forward"].end - before, moments["forward"].most - before


@pytest.mark.parametrize("sparse", [False, True])
def test_a_forward_takes_what_torchtitan_takes(sparse):
    for mine, seen in zip(ours(sparse=sparse), real(sparse=sparse), strict=True):
        assert abs(mine - seen) <= CLOSE


@pytest.mark.parametrize(
    ("score", "groups", "rank"), [("softmax", None, 0), ("sigmoid", None, 96), ("sigmoid", 4, 96)]
)
def test_latent_attention_and_shared_experts(score, groups, rank):
    from torchtitan.models.deepseek_v3.model.model import DeepSeekV3Model

    new = score == "sigmoid"
    raw = {
        "model_type": "deepseek_v3" if new else "deepseek_v2",
        "architectures": ["DeepseekV3ForCausalLM" if new else "DeepseekV2ForCausalLM"],
        "hidden_size": WIDTH,
        "intermediate_size": FEED,
        "moe_intermediate_size": 128,
        "num_hidden_layers": LAYERS,
        "first_k_dense_replace": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "q_lora_rank": rank or None,
        "kv_lora_rank": 64,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "n_group": groups or 1,
        "topk_group": 2 if groups else 1,
        "norm_topk_prob": new,
        "vocab_size": WORDS,
        "moe_layer_freq": 1,
    }
    seen = followed(DeepSeekV3Model, latents(score, groups, rank))
    for mine, theirs in zip(forward(raw, cache=16), seen, strict=True):
        assert abs(mine - theirs) <= CLOSE


# ---- gpt-oss


class Flex(torch.autograd.Function):
    """Compiled flex attention with its sums: these in base 2 for backward, and as handed out."""

    @staticmethod
    def forward(ctx, q, k, v):
        out = torch.empty_like(q)
        base2 = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
        ctx.save_for_backward(q, k, v, out, base2)
        return out, torch.empty_like(base2)

    @staticmethod
    def backward(ctx, grad, of_sums):
        q, k, v, _, base2 = ctx.saved_tensors
        in_base, delta = torch.empty_like(base2), torch.empty_like(base2)
        return tuple(torch.empty_like(x) for x in (q, k, v)), in_base, delta


@pytest.fixture
def flex(monkeypatch):
    """Experts have all padded rows but one, so that nothing waits for the device."""
    from torchtitan.models.attention import FlexAttentionWrapper
    from torchtitan.models.gpt_oss.model import moe

    def repeated(x, counts, dim):
        numbers = torch.zeros(ROWS - 1, dtype=torch.int64, device=x.device)
        return x.index_select(dim, numbers)

    monkeypatch.setattr(
        FlexAttentionWrapper, "forward", lambda _, q, k, v, **__: Flex.apply(q, k, v)
    )
    monkeypatch.setattr(torch.Tensor, "repeat_interleave", repeated)
    monkeypatch.setattr(moe, "int", lambda _: ROWS - 1, raising=False)


SHORT = 64  # tokens: what is made is in blocks that are cut to any size
ROWS = BATCH * SHORT * 4 + 8 * 8  # padded


def gpt_oss():
    from torch.nn.attention.flex_attention import BlockMask
    from torchtitan.models.gpt_oss.model.args import GptOssModelArgs
    from torchtitan.models.gpt_oss.model.model import GptOssModel
    from torchtitan.models.moe import MoEArgs

    class Model(GptOssModel):
        def forward(self, tokens):
            self.output = torch.nn.Identity()
            mask = BlockMask.__new__(BlockMask)
            return super().forward(tokens, {"sliding_window_mask": mask, "basic_mask": mask})

    given = GptOssModelArgs(
        max_seq_len=SHORT,
        vocab_size=WORDS,
        dim=WIDTH,
        moe_inter_dim=128,
        n_layers=LAYERS,
        head_dim=HEAD,
        n_heads=HEADS,
        n_kv_heads=SHARED,
        moe_args=MoEArgs(
            num_experts=8,
            num_shared_experts=0,
            score_func="softmax",
            route_norm=True,
            gate_bias=True,
            score_before_experts=False,
            top_k=4,
        ),
    )
    return Model, given


def test_gpt_oss(flex):
    raw = {
        "model_type": "gpt_oss",
        "architectures": ["GptOssForCausalLM"],
        "hidden_size": WIDTH,
        "intermediate_size": 128,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": SHARED,
        "head_dim": HEAD,
        "vocab_size": WORDS,
        "num_local_experts": 8,
        "num_experts_per_tok": 4,
    }
    for mine, seen in zip(forward(raw, 2 * HEAD, SHORT), followed(*gpt_oss(), SHORT), strict=True):
        assert abs(mine - seen) <= CLOSE


# ---- Llama 4


def llama_4():
    from torchtitan.models.llama4.model.args import TransformerModelArgs
    from torchtitan.models.llama4.model.model import Transformer
    from torchtitan.models.moe import MoEArgs

    return Transformer, TransformerModelArgs(
        dim=WIDTH,
        n_layers=LAYERS,
        n_heads=HEADS,
        n_kv_heads=SHARED,
        vocab_size=WORDS,
        max_seq_len=SHORT,
        moe_args=MoEArgs(num_experts=8),  # which is wide 512, and all others 768
    )


def test_llama_4():
    """One layer has a feed-forward, the next experts of which a token has one, and one for all."""
    raw = {
        "model_type": "llama4_text",
        "architectures": ["Llama4ForCausalLM"],
        "hidden_size": WIDTH,
        "intermediate_size": 512,
        "intermediate_size_mlp": 768,
        "interleave_moe_layer_step": 2,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": SHARED,
        "head_dim": HEAD,
        "vocab_size": WORDS,
        "num_local_experts": 8,
        "num_experts_per_tok": 1,
    }
    for mine, seen in zip(forward(raw, HEAD, SHORT), followed(*llama_4(), SHORT), strict=True):
        assert abs(mine - seen) <= CLOSE
