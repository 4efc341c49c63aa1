"""Heads of ours on shapes alone, and the cases that were compared with functions of frameworks."""

from collections import namedtuple
from pathlib import Path

from tests.torch.training_oracle import settled
from weighbridge.base.dtypes import BFLOAT16, FLOAT32
from weighbridge.memory.components.activations import Heap
from weighbridge.training import run
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.heads import head
from weighbridge.training.forward.tensors import LeafTensor, TensorStorage
from weighbridge.training.sharding.choice import surrounding

RECORD = Path(__file__).with_name("heads.jsonl")
SHAPES = {
    "rows": {"rows": 4, "length": 512, "answer": 320, "width": 128, "vocab": 32000},
    "packed": {"rows": 1, "length": 2048, "answer": 320, "width": 128, "vocab": 32000},
}
ALL = ("bf16-mixed", "bf16", "fp32")
Case = namedtuple("Case", "name method framework release flags shape precisions")


def case(name, method, framework, release, *flags, shape="rows", precisions=ALL):
    return Case(name, method, framework, release, flags, shape, precisions)


CASES = (
    case("trl_grpo 0.14.0", "grpo", "trl", (0, 14)),
    case("trl_grpo 0.15.2", "grpo", "trl", (0, 15)),
    case("trl_grpo 0.16.0", "grpo", "trl", (0, 16)),
    case("trl_grpo 0.24.0", "grpo", "trl", (0, 24)),
    case("trl_grpo 0.29.0", "grpo", "trl", (0, 29)),
    case("trl_grpo 1.0.0", "grpo", "trl", (1, 0)),
    case("trl_grpo 1.9.0", "grpo", "trl", (1, 9)),
    case("trl_grpo 1.10.0", "grpo", "trl", (1, 10)),
    case("trl_grpo 1.13.0", "grpo", "trl", (1, 13)),
    case("trl_kernel 1.14.0", "grpo", "trl", (1, 14)),
    case("trl_tiles 1.16.0", "grpo", "trl", None),
    case("trl_dpo 0.12.0", "dpo", "trl", (0, 12)),
    case("trl_dpo 0.16.0", "dpo", "trl", (0, 16)),
    case("trl_dpo 0.24.0", "dpo", "trl", (0, 24)),
    case("trl_dpo 0.29.0", "dpo", "trl", (0, 29)),
    case("trl_dpo 1.6.0", "dpo", "trl", (1, 6)),
    case("trl_dpo 1.9.0", "dpo", "trl", (1, 9)),
    case("trl_orpo 0.12.0", "orpo", "trl", (0, 12)),
    case("trl_orpo 0.24.0", "orpo", "trl", (0, 24)),
    case("trl_gkd 1.9.0", "gkd", "trl", (1, 9)),
    case("liger 0.8.5", "grpo", "trl", (0, 24), "liger"),
    case("llama_factory 0.9.5", "dpo", "llama-factory", None),
    case("openrlhf 0.11.2", "ppo", "openrlhf", None),
    case("verl 0.4.1", "grpo", "verl", (0, 4), shape="packed", precisions=ALL[1:]),
    case("verl 0.9.1", "grpo", "verl", (0, 9), shape="packed", precisions=ALL[1:]),
    case("verl_fused 0.9.1", "grpo", "verl", None, "fused", shape="packed"),
    case("nemo_rl 7ea279abf", "grpo", "nemo-rl", None, precisions=ALL[:2]),
    case("slime 624b824a8", "grpo", "slime", None),
)


def step(precision, *, rows, length, answer, width, vocab):
    """A step of a small Llama whose weights are there, and its plan."""
    raw = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": width}
    raw |= {"intermediate_size": width, "num_hidden_layers": 1, "num_attention_heads": 4}
    raw |= {"num_key_value_heads": 2, "vocab_size": vocab, "max_position_embeddings": 4096}
    asked = {"framework": "plain", "batch_size": rows, "seq_len": length}
    plan = settled(raw, precision=precision, **asked)
    m = run._machine(plan, Heap(None, plan.allocator))
    around = surrounding(plan)
    s = run._step(m, plan, run._built(m, plan, around, 0), around, None)
    s.answer = answer
    for m.in_backward in (True, False):
        m.product()
    return plan, s


def measured(made, precision, *, quiet=False, **shape):
    """The same figures as `tests.torch.heads_oracle.measured`."""
    plan, s = step(precision, **shape)
    m = s.m
    dtype = FLOAT32 if precision == "fp32" else BFLOAT16
    states = LeafTensor("states", (shape["rows"], shape["length"], shape["width"]), dtype, None)
    states.storage = TensorStorage(m.heap, states.nbytes, "activations")
    m.heap.phase()
    base = m.heap.allocator.allocated
    if quiet:
        with m.casting(plan.autocast):
            made.quiet(s, states)
        return m.heap.phase().allocated - base
    with m.casting(plan.autocast):
        loss, logits = made.update(s, states)
    del logits
    s.outputs.clear()
    kept = m.heap.allocator.allocated - base
    forward = m.heap.phase().allocated - base
    backward(m, loss)
    return {"kept": kept, "forward": forward, "backward": m.heap.phase().allocated - base}


def here(case, precision):
    made = head(case.method, case.framework, case.release, **dict.fromkeys(case.flags, True))
    shape = SHAPES[case.shape]
    seen = measured(made, precision, **shape)
    return {**seen, "quiet": measured(made, precision, quiet=True, **shape)}
