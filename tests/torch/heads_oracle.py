"""Log-probabilities by the functions of frameworks themselves, on a fake GPU, to be compared.

    python -m tests.torch.heads_oracle WHEELS [NAME...]     writes tests/training/heads.jsonl anew

WHEELS is a folder with unpacked wheels: trl-0.24.0/trl/..., verl-0.4.1/verl/... and so on, and with
nemo_rl-7ea279abf/model_utils.py and slime-624b824a8/ppo_utils.py of their repositories. A function
is cut out of its file and compiled alone, with stand-ins for what it calls of its trainer. Kernels
in Triton are stood in for by what they allocate (flash_attn 2.8 ops/triton/cross_entropy.py, trl
1.16 kernels/chunked_logprob.py).
"""

import ast
import contextlib
import functools
import gc
import json
import sys
import typing
import warnings
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from tests.training.heads_here import CASES, RECORD, SHAPES

CASTS = ("trl", "llama-factory", "ms-swift")  # accelerate casts what autocast gave
NOTED = ("profiling", "override", "compile")  # decorators that are left out


def taken(path, *names, **stand_ins):
    """Functions of a file, `Class.method` too, compiled without the rest of it."""
    space = {
        "torch": torch,
        "F": nn.functional,
        "nn": nn,
        "nullcontext": contextlib.nullcontext,
        **vars(typing),
    }
    space |= {"functools": functools, "defaultdict": defaultdict, **stand_ins}
    tree = ast.parse(Path(path).read_text())
    for name in names:
        owner, _, function = name.rpartition(".")
        bodies = [
            x.body
            for x in ast.walk(tree)
            if (isinstance(x, ast.ClassDef) and x.name == owner)
            or (isinstance(x, ast.Module) and not owner)
        ]
        [node] = [x for x in bodies[0] if getattr(x, "name", "") == function]
        node.decorator_list = [
            d for d in node.decorator_list if not any(w in ast.unparse(d) for w in NOTED)
        ]
        for each in ast.walk(node):
            if isinstance(each, ast.arg):
                each.annotation = None
            if isinstance(each, ast.FunctionDef):
                each.returns = None
        exec(compile(ast.Module([node], []), str(path), "exec"), space)
    found = [space[name.rpartition(".")[2]] for name in names]
    return found if len(found) > 1 else found[0]


class CrossEntropy(torch.autograd.Function):
    """What flash_attn's kernel allocates."""

    @staticmethod
    def forward(ctx, logits, labels, over):
        terms, sums, _ = (torch.empty(len(logits), device=logits.device) for _ in range(3))
        ctx.save_for_backward(logits, sums, labels)
        ctx.over = over
        return terms

    @staticmethod
    def backward(ctx, grad):
        logits, *_ = ctx.saved_tensors
        return (logits if ctx.over else torch.empty_like(logits)), None, None


def cross_entropy(logits, labels, inplace_backward=False):
    return CrossEntropy.apply(logits, labels, inplace_backward), None


class Kernel(torch.autograd.Function):
    """What TRL 1.14's kernel allocates (kernels/logprob_entropy.py)."""

    @staticmethod
    def forward(ctx, logits, index):
        scores, entropy, sums, mean = (
            torch.empty(logits.shape[:-1], device=logits.device) for _ in range(4)
        )
        ctx.save_for_backward(logits, index, sums, mean)
        return scores, entropy

    @staticmethod
    def backward(ctx, *grads):
        logits, *_ = ctx.saved_tensors
        return torch.empty_like(logits, memory_format=torch.contiguous_format), None


class Model(nn.Module):
    """A head above states that are there, called as a class of transformers is."""

    def __init__(self, states, head, cast, *, converts):
        super().__init__()
        self.states, self.lm_head, self.cast = (states,), head, cast
        self.config = SimpleNamespace(is_encoder_decoder=False)
        self.call = self.whole
        if cast is not None:
            from accelerate.utils import convert_outputs_to_fp32

            lowered = torch.autocast("cuda", cast)(self.whole)
            self.call = convert_outputs_to_fp32(lowered) if converts else lowered

    def whole(self, *_, logits_to_keep=0, num_logits_to_keep=0, **more):
        from transformers.modeling_outputs import CausalLMOutputWithPast

        kept = logits_to_keep or num_logits_to_keep
        states = self.states[0][:, slice(-kept, None) if kept else slice(None), :]
        return CausalLMOutputWithPast(logits=self.lm_head(states))

    def forward(self, *given, **more):
        return self.call(*given, **more)


def measured(job, framework, precision, *, quiet=False, rows, length, answer, width, vocab):
    """Bytes above what is there before: kept between the passes, and the peaks of both."""
    import weighbridge

    warnings.simplefilter("ignore")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    cast = torch.bfloat16 if precision == "bf16-mixed" else None
    with weighbridge.FakeGPU("a100-80gb", torch_version="2.13"):
        made = {"device": "cuda", "dtype": dtype}
        head = nn.Linear(width, vocab, bias=False, **made)
        warm = torch.empty(8, 8, requires_grad=True, **made)
        (warm @ warm).sum().backward()  # the workspaces of cuBLAS
        del warm
        states = torch.empty(
            rows, length, width, device="cuda", dtype=cast or dtype, requires_grad=True
        )
        ids = torch.zeros(rows, length, dtype=torch.int64, device="cuda")
        given = SimpleNamespace(rows=rows, length=length, answer=answer, ids=ids)
        given.mask = torch.ones_like(ids)
        model = Model(states, head, cast, converts=framework in CASTS)
        gc.collect()
        base = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        if quiet:
            with torch.no_grad():
                job(model, given)
            return torch.cuda.max_memory_allocated() - base
        loss = job(model, given)
        kept = torch.cuda.memory_allocated() - base
        forward = torch.cuda.max_memory_allocated() - base
        torch.cuda.reset_peak_memory_stats()
        loss.backward()
        backward = torch.cuda.max_memory_allocated() - base
        return {"kept": kept, "forward": forward, "backward": backward}


def ratio(scores, given):
    """The loss of a ratio to what the scores were, as trainers of rewards have it."""
    if not torch.is_grad_enabled():
        return scores
    scores = scores[:, -given.answer :]
    mask = given.mask[:, -scores.shape[1] :]
    advantages = torch.empty(given.rows, 1, device="cuda")
    each = torch.exp(scores - scores.detach())
    loss = -torch.min(each * advantages, torch.clamp(each, 0.8, 1.2) * advantages)
    return (loss * mask).sum() / mask.sum()


class Accelerator:
    device, num_processes = "cuda", 1

    def gather_for_metrics(self, x):
        return x

    gather = gather_for_metrics


class Jobs:
    """Jobs by name: (model, given) -> the loss; without gradients, what the quiet pass gives."""

    def __init__(self, wheels):
        self.wheels = Path(wheels)

    def of(self, name):
        kind, _, release = name.partition(" ")
        return getattr(self, kind)(release)

    def trl(self, release, file):
        return self.wheels / f"trl-{release}" / "trl" / "trainer" / f"{file}.py"

    def helpers(self, release):
        names = ["selective_log_softmax"]
        if version(release) >= (0, 20):
            names.append("entropy_from_logits")
        made = taken(self.trl(release, "utils"), *names)
        return dict(zip(names, made if len(names) > 1 else [made], strict=True))

    def trl_grpo(self, release):
        path, number = self.trl(release, "grpo_trainer"), version(release)
        if number < (0, 15):
            return nested(path, "get_per_token_logps")
        more = "_and_entropies" if number >= (0, 20) else ""
        function = taken(path, f"GRPOTrainer._get_per_token_logps{more}", **self.helpers(release))

        def job(model, given):
            me = SimpleNamespace(temperature=0.9, _entropy_bonus_enabled=False)
            me.model_kwarg_keys = ("logits_to_keep",)
            entropy = {"compute_entropy": torch.is_grad_enabled()} if more else {}
            scores = function(me, model, given.ids, given.mask, given.answer, **entropy)
            return ratio(scores[0] if more else scores, given)

        return job

    def trl_kernel(self, _):
        def job(model, given):
            logits = model(given.ids, logits_to_keep=given.answer + 1).logits
            logits = logits[:, :-1, :][:, -given.answer :, :]
            return ratio(Kernel.apply(logits, given.ids[:, -given.answer :])[0], given)

        return job

    def trl_dpo(self, release):
        if version(release) >= (0, 29):
            return self.trl_dpo_since(release)
        more = {"flush_left": lambda *x: x, "flush_right": lambda *x: x}
        if version(release) >= (0, 15):
            more |= self.helpers(release)
        path = self.trl(release, "dpo_trainer")
        function = taken(path, "DPOTrainer.concatenated_forward", **more)

        def job(model, given):
            cut = given.length - given.answer
            sides = {"prompt": slice(None, cut), "completion": slice(cut, None)}
            batch = {f"{n}_input_ids": given.ids[:, x] for n, x in sides.items()}
            batch |= {f"{n}_attention_mask": given.mask[:, x] for n, x in sides.items()}
            args = SimpleNamespace(max_length=None, rpo_alpha=None, ld_alpha=None)
            me = SimpleNamespace(args=args, loss_type=["sigmoid"], max_length=None)
            for name in ("padding_value", "pad_token_id", "label_pad_token_id"):
                setattr(me, name, 0)
            for name in ("aux_loss_enabled", "is_encoder_decoder", "use_logits_to_keep"):
                setattr(me, name, False)
            me.padding_free = me.use_weighting = False
            me.truncation_mode = "keep_end"
            me.concatenated_inputs = lambda _, padding_value: batch
            half = {"prompt_input_ids": given.ids[: given.rows // 2]}
            return pairs(function(me, model, half))

        return job

    def trl_dpo_since(self, release):
        made = self.helpers(release)
        path = self.trl(release, "dpo_trainer")
        function = taken(path, "DPOTrainer._compute_loss", **made)

        def job(model, given):
            if not torch.is_grad_enabled():
                out = model(given.ids)
                logits = out.logits[..., :-1, :]
                logits = logits.contiguous() if version(release) < (1, 5) else logits
                return made["selective_log_softmax"](logits, given.ids[..., 1:])
            mask = torch.zeros_like(given.mask)
            mask[:, -given.answer :] = 1
            inputs = {"input_ids": given.ids, "attention_mask": given.mask, "completion_mask": mask}
            for name in ("ref_chosen_logps", "ref_rejected_logps"):
                inputs[name] = torch.zeros(given.rows // 2, device="cuda")
            me = SimpleNamespace(model=SimpleNamespace(training=True), accelerator=Accelerator())
            me.aux_loss_enabled = me.use_weighting = me.use_liger_kernel = False
            me.ld_alpha, me.precompute_ref_logps, me.beta, me.label_smoothing = None, True, 0.1, 0
            me.f_divergence_type, me.loss_types, me.loss_weights = "reverse_kl", ["sigmoid"], [1.0]
            me.args, me._metrics, me._total_train_tokens = None, {"train": defaultdict(list)}, 0
            me._truncate_inputs = lambda *x: x
            return function(me, model, inputs, return_outputs=False)

        return job

    def trl_orpo(self, release):
        more = self.helpers(release) if version(release) >= (0, 15) else {}
        path = self.trl(release, "orpo_trainer")
        scores = taken(path, "ORPOTrainer.get_batch_logps", **more)
        function = taken(path, "ORPOTrainer.concatenated_forward")

        def job(model, given):
            if not torch.is_grad_enabled():
                return scores(model(given.ids).logits, given.ids)
            names = "input_ids", "attention_mask", "labels"
            tensors = given.ids, given.mask, given.ids.clone()
            batch = {f"concatenated_{n}": x for n, x in zip(names, tensors, strict=True)}
            me = SimpleNamespace(is_encoder_decoder=False, aux_loss_enabled=False)
            me.label_pad_token_id, me.padding_value, me.accelerator = -100, 0, Accelerator()
            me.concatenated_inputs, me.get_batch_logps = lambda *_, **__: batch, scores
            half = {"chosen_labels": given.ids[: given.rows // 2]}
            chosen, rejected, *_, likelihood = function(me, model, half)[:5]
            return -nn.functional.logsigmoid(chosen - rejected).mean() + likelihood

        return job

    def trl_gkd(self, release):
        path = self.wheels / f"trl-{release}" / "trl" / "experimental" / "gkd" / "gkd_trainer.py"
        divergence = taken(path, "GKDTrainer.generalized_jsd_loss")
        function = taken(path, "GKDTrainer.compute_loss", empty_cache=lambda: None)

        def job(model, given):
            if not torch.is_grad_enabled():
                return model(given.ids).logits
            me = SimpleNamespace(generalized_jsd_loss=divergence, beta=0.5)
            me.teacher_model, me.use_liger_gkd_loss = model, False
            inputs = {"input_ids": given.ids, "attention_mask": given.mask, "labels": given.ids}
            return function(me, model, inputs)

        return job

    def trl_tiles(self, _):
        """TRL's own, as it is installed."""
        from trl.kernels import chunked_logprob as tiles

        class Nothing:
            def __getitem__(self, _):
                return lambda *_, **__: None

        tiles._use_triton = lambda _: True
        tiles._forward_kernel = tiles._backward_kernel = Nothing()
        tiles.triton = SimpleNamespace(cdiv=lambda a, b: -(-a // b))

        def job(model, given):
            lowered = torch.autocast("cuda", model.cast, enabled=model.cast is not None)
            with lowered:
                labels = given.ids.clone()
                labels[:, : given.length - given.answer] = -100
                labels = labels[:, 1:]
                mask = labels != -100
                states = model.states[0][:, :-1][mask]
                more = None, labels[mask], 1.0, 32768, None, 1.0, ("entropy",)
                weight = model.lm_head.weight
                scores, *_ = tiles.ChunkedLogProbFunction.apply(states, weight, *more)
                whole = scores.new_zeros(mask.shape).masked_scatter(mask, scores)
            return ratio(whole, given)

        return job

    def liger(self, release):
        sys.path.insert(0, str(self.wheels / f"liger_kernel-{release}"))
        from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

        quiet = self.trl_grpo("0.24.0")

        def job(model, given):
            if not torch.is_grad_enabled():
                return quiet(model, given)
            loss = LigerFusedLinearGRPOLoss(
                beta=0.0, compiled=False, use_ref_model=False, loss_type="grpo"
            )
            states, ids, mask = (
                x[:, -given.answer :] for x in (model.states[0], given.ids, given.mask)
            )
            advantages = torch.zeros(given.rows, device="cuda")
            return loss(states, model.lm_head.weight, ids, mask, advantages)[0]

        return job

    def llama_factory(self, release):
        train = self.wheels / f"llamafactory-{release}" / "llamafactory" / "train"
        scores = taken(train / "trainer_utils.py", "get_batch_logps", IGNORE_INDEX=-100)

        def copied(batch, **_):
            return {k: x.detach().clone() for k, x in batch.items()}

        name = "CustomDPOTrainer.concatenated_forward"
        more = {"get_batch_logps": scores, "nested_detach": copied}
        function = taken(train / "dpo" / "trainer.py", name, **more)

        def job(model, given):
            me = SimpleNamespace(finetuning_args=SimpleNamespace(use_ref_model=True))
            me.ld_alpha, me.loss_type = None, "sigmoid"
            batch = {"labels": given.ids, "input_ids": given.ids, "attention_mask": given.mask}
            return pairs(function(me, model, batch))

        return job

    def openrlhf(self, release):
        path = self.wheels / f"openrlhf-{release}" / "openrlhf" / "models" / "utils.py"
        flash = "from flash_attn.ops.triton.cross_entropy import cross_entropy_loss"
        text = path.read_text().replace(flash, "cross_entropy_loss = cross_entropy")
        copy = path.with_name("utils_here.py")
        copy.write_text(text)
        function = taken(copy, "log_probs_from_logits", cross_entropy=cross_entropy)

        def job(model, given):
            out = model(given.ids)
            out["logits"] = out["logits"].to(torch.float32)
            return ratio(function(out["logits"], torch.roll(given.ids, -1, 1)), given)

        return job

    def verl(self, release):
        path = self.wheels / f"verl-{release}" / "verl" / "utils" / "torch_functional.py"
        more = {"FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE": True, "cross_entropy_loss": cross_entropy}
        more["os"] = SimpleNamespace(environ={})
        names = "logprobs_from_logits_flash_attn", "logprobs_from_logits"
        _, function = taken(path, *names, **more)

        def job(model, given):
            out = model(given.ids)
            logits = out.logits.squeeze(0)
            if version(release) >= (0, 9):
                logits = logits / torch.ones(len(logits), 1, device="cuda").to(logits.dtype)
            else:
                logits.div_(0.9)
            labels = torch.roll(given.ids, -1, 1).squeeze(0)
            scores = function(logits=logits, labels=labels, inplace_backward=True)
            del logits, out
            return ratio(scores.reshape(1, -1), given)

        return job

    def verl_fused(self, release):
        utils = self.wheels / f"verl-{release}" / "verl" / "utils"
        path = utils / "experimental" / "torch_functional.py"
        more = {"_FLASH_ATTN_CROSS_ENTROPY_AVAILABLE": True, "cross_entropy_loss": cross_entropy}
        names = (
            "_fused_linear_for_ppo_fwd",
            "_fused_linear_for_ppo_bwd",
            "FusedLinearForPPOFunction",
        )
        *_, function = taken(path, *names, **more)

        def job(model, given):
            states = model.states[0]
            weight = model.lm_head.weight.to(states.dtype)
            scores, _ = function.apply(states, weight, given.ids, 1.0)
            return ratio(scores, given)

        return job

    def nemo_rl(self, release):
        path = self.wheels / f"nemo_rl-{release}" / "model_utils.py"
        more = {"need_top_k_or_top_p_filtering": lambda _: False}
        more["apply_top_k_top_p"] = lambda x, **_: (x, None)
        function = taken(path, "get_next_token_logprobs_from_logits", **more)

        def job(model, given):
            out = model(given.ids)
            logits = out.logits
            if torch.is_grad_enabled():
                return ratio(function(given.ids, logits), given)
            wide = logits[:, :-1, :].to(torch.float32).contiguous()
            return nn.functional.log_softmax(wide, dim=-1).gather(
                -1, given.ids[:, 1:].unsqueeze(-1)
            )

        return job

    def slime(self, release):
        path = self.wheels / f"slime-{release}" / "ppo_utils.py"
        more = {"_maybe_all_reduce": lambda *_: None, "dist": torch.distributed}
        more["_get_vocab_parallel_rank_size"] = lambda _: (0, 1)
        function = taken(path, "_VocabParallelLogProbEntropy", **more)

        def job(model, given):
            logits = model(given.ids).logits.float()
            rows = logits.reshape(-1, logits.shape[-1])
            scores, _ = function.apply(rows, given.ids.reshape(-1), None, None, False, False)
            del logits, rows
            return ratio(scores.reshape(given.rows, -1), given)

        return job


def nested(path, name):
    """A function within a method, of TRL 0.14."""
    [node] = [x for x in ast.walk(ast.parse(path.read_text())) if getattr(x, "name", "") == name]
    space = {"torch": torch}
    exec(compile(ast.Module([node], []), str(path), "exec"), space)

    def job(model, given):
        return ratio(space[name](model, given.ids, given.answer), given)

    return job


def pairs(out):
    if not torch.is_grad_enabled():
        return out["chosen_logps"]
    for name in ("mean_chosen_logits", "mean_rejected_logits"):
        out.pop(name, None)
    return -nn.functional.logsigmoid(0.1 * (out["chosen_logps"] - out["rejected_logps"])).mean()


def version(release):
    return tuple(map(int, release.split(".")[:2]))


def line(jobs, case, precision):
    job, shape = jobs.of(case.name), SHAPES[case.shape]
    seen = measured(job, case.framework, precision, **shape)
    seen["quiet"] = measured(job, case.framework, precision, quiet=True, **shape)
    return {"name": case.name, "precision": precision, **seen}


if __name__ == "__main__":
    wheels, *asked = sys.argv[1:]
    jobs, lines = Jobs(wheels), []
    for case in CASES:
        if not asked or case.name in asked:
            lines += [line(jobs, case, x) for x in case.precisions]
            print(*map(json.dumps, lines[-len(case.precisions) :]), sep="\n")
    if not asked:
        RECORD.write_text("".join(f"{json.dumps(x)}\n" for x in lines))
