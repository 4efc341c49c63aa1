"""TRL's own trainers on a fake GPU: what is allocated at each instant of two steps.

    python -m tests.torch.trl_trainers      writes tests/training/trl_instants.jsonl anew

A tiny Llama with 32,000 outputs; two rows (or pairs) of 96 and 160 tokens, no checkpointing, plain
AdamW. Kernels in Triton are stood in for by nothing: they take nothing besides what they are given.
Each instant is [name, allocated at its end, the most since the one before].
"""

import json
import os
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

RECORD = Path(__file__).parents[1] / "training" / "trl_instants.jsonl"
KINDS = ("dpo", "kto", "reward", "grpo")
PROMPT, ANSWER = 96, 160
SHAPE = {
    "vocab_size": 32_000,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}


def words(count, first=0):
    return " ".join(f"t{(i + first) % 1000}" for i in range(count))


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {f"t{i}": i for i in range(1000)} | {"<pad>": 1000, "<eos>": 1001, "<unk>": 1002}
    made = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def written(folder, kind, precision):
    """A model in files, since TRL loads the reference by its name."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    cls = LlamaForSequenceClassification if kind == "reward" else LlamaForCausalLM
    tokens = {"pad_token_id": 1000, "eos_token_id": 1001, "bos_token_id": None}
    one = {"num_labels": 1} if kind == "reward" else {}
    torch.set_default_dtype(torch.bfloat16 if precision == "bf16" else torch.float32)
    cls(LlamaConfig(**SHAPE, **tokens, **one)).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    tokenizer().save_pretrained(folder)
    return cls


def trainer(kind, precision, adapters, folder, cls):
    import torch
    import trl
    from datasets import Dataset
    from peft import LoraConfig

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    task = "SEQ_CLS" if kind == "reward" else "CAUSAL_LM"
    lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type=task)
    prompt, whole = words(PROMPT), PROMPT + ANSWER
    answers = [f" {words(ANSWER - 1, n)}" for n in (5, 9)]
    rows = {
        "dpo": {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]},
        "kto": {"prompt": prompt, "completion": answers[0]},
        "reward": {"chosen": words(whole - 1), "rejected": words(whole - 1, 3)},
        "grpo": {"prompt": prompt},
    }
    data = [dict(rows[kind]) for _ in range(16)]
    if kind == "kto":
        data = [{**row, "label": bool(i % 2)} for i, row in enumerate(data)]
    name = {"kto": "KTO", "dpo": "DPO", "grpo": "GRPO", "reward": "Reward"}[kind]
    length = {"max_length": whole}
    if kind == "grpo":
        length = {"max_completion_length": ANSWER, "num_generations": 2, "beta": 0.04}
        length["generation_kwargs"] = {"min_new_tokens": ANSWER}
    args = getattr(trl, f"{name}Config")(
        output_dir=f"{folder}/out",
        per_device_train_batch_size=2,
        max_steps=2,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        bf16=precision == "bf16-mixed",
        gradient_checkpointing=False,
        optim="adamw_torch",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        **length,
    )
    more = {"peft_config": lora} if adapters else {}
    if kind == "grpo":
        more["reward_funcs"] = lambda completions, **_: [0.5] * len(completions)
    return getattr(trl, f"{name}Trainer")(
        model=cls.from_pretrained(folder, dtype=dtype),
        args=args,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer(),
        **more,
    )


class Instants:
    """Marks as modules, the loss, backward and the optimizer pass; none within `generation`."""

    def __init__(self, trained):
        from transformers import TrainerCallback

        self.seen, self.within = [], False
        policy = trained.accelerator.unwrap_model(trained.model)
        policy = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
        self.around("policy", policy.model)
        reference = getattr(trained, "ref_model", None)
        if reference is not None:
            self.around("reference", trained.accelerator.unwrap_model(reference).model)
        self.passes(trained.accelerator, "backward", before="loss", after="backward")
        if hasattr(trained, "_generate"):
            self.passes(trained, "_generate", before="begins", after="generation", within=True)

        def mark(name):
            return lambda *_, **__: self.mark(name)

        events = {"on_step_begin": "begins", "on_pre_optimizer_step": "clipped"}
        events |= {"on_optimizer_step": "step"}
        callback = type(
            "Marks", (TrainerCallback,), {k: staticmethod(mark(v)) for k, v in events.items()}
        )
        trained.add_callback(callback())

    def mark(self, name):
        from torch import cuda

        if not self.within:
            self.seen.append([name, cuda.memory_allocated(), cuda.max_memory_allocated()])
            cuda.reset_peak_memory_stats()

    def around(self, name, module):
        from torch import is_grad_enabled

        def quiet():
            return "" if is_grad_enabled() else " quiet"

        module.register_forward_pre_hook(lambda *_: self.mark(f"before {name}{quiet()}"))
        module.register_forward_hook(lambda *_: self.mark(f"{name}{quiet()}"))

    def passes(self, owner, name, *, before, after, within=False):
        call = getattr(owner, name)

        def marked(*given, **more):
            self.mark(before)
            self.within = within
            try:
                return call(*given, **more)
            finally:
                self.within = False
                self.mark(after)

        setattr(owner, name, marked)


def without_kernels():
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    class Nothing:
        def __getitem__(self, _):
            return lambda *_, **__: None

    chunked_logprob._forward_kernel = chunked_logprob._backward_kernel = Nothing()
    chunked_logprob.triton = SimpleNamespace(cdiv=lambda a, b: -(-a // b))
    for module in (chunked_logprob, utils):
        module._use_triton = lambda _: True


def instants(kind, precision, *, adapters):
    import weighbridge

    warnings.simplefilter("ignore")
    without_kernels()
    with tempfile.TemporaryDirectory() as folder:
        cls = written(folder, kind, precision)
        with weighbridge.FakeGPU("a100-80gb", torch_version="2.13"):
            trained = trainer(kind, precision, adapters, folder, cls)
            marks = Instants(trained)
            marks.mark("load")
            trained.train()
            marks.mark("end")
    return marks.seen


def line(kind, precision, *, adapters):
    seen = instants(kind, precision, adapters=adapters)
    return {"trl": "1.16", "kind": kind, "precision": precision, "lora": adapters, "instants": seen}


if __name__ == "__main__":
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    cases = [
        (k, p, a) for k in KINDS for p in ("bf16-mixed", "bf16", "fp32") for a in (False, True)
    ]
    lines = [line(kind, precision, adapters=adapters) for kind, precision, adapters in cases]
    RECORD.write_text("".join(f"{json.dumps(x)}\n" for x in lines))
