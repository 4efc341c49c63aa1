"""Training steps of real classes on the fake GPU, and the same by our programs, to be compared.

seen = real("llama", config, precision="bf16-mixed", checkpointing="full")
mine = ours("llama", config, precision="bf16-mixed", checkpointing="full")
assert differences(seen, mine) == []

`python -m tests.torch.training_oracle llama '{"hidden_size": 256}' precision=bf16` prints both.
"""

import functools
import gc
import json
import sys
import warnings
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from unittest.mock import patch

STEPS = 2
CLOSE = 0.02  # peaks of phases, as a share


@dataclass(slots=True)
class Seen:
    """`moments` in order: (phase, allocated at its end, its peak, most reserved so far). `saved` are
    the sizes of all that is alive at the end of the first forward; `who` says what made them."""

    moments: list = field(default_factory=list)
    saved: Counter = field(default_factory=Counter)
    who: dict = field(default_factory=dict)
    full: list = field(default_factory=list)  # what was alive at each peak, by size
    tape: list = field(default_factory=list)  # of each phase: (bytes taken or given back, by whom)
    model: object = None

    def peaks(self):
        """The most of each phase, over all steps."""
        found = {}
        for name, _, peak, _ in self.moments:
            found[name] = max(found.get(name, 0), peak)
        return found

    @property
    def saved_bytes(self):
        return sum(n * count for n, count in self.saved.items())

    @property
    def taken(self):
        """Bytes of all tensors that are made in each phase, however short they live."""
        return [sum(nbytes for nbytes, _ in told if nbytes > 0) for told in self.tape]


def named(model_type, config, cls=None):
    """The config with the class that is trained; a class may be named for kinds with several."""
    import transformers

    made = transformers.AutoConfig.for_model(model_type, **config)
    if cls is None:
        names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        cls = names[model_type]
    return made, getattr(transformers, cls)


@dataclass(slots=True, kw_only=True)
class Asked:
    """How the real class is run.

    precision       bf16 | fp16 | fp32 | bf16-mixed | fp16-mixed
    attention       what the config is told: sdpa (None), eager
    kernel          the one that torch is confined to: flash, efficient, math, cudnn
    framework       plain: outputs live until the next forward has run; trainer: accelerate's
    prepare         called with the model on the host, gives what is trained (adapters, freezing)
    inputs          called with (batch, length, device), gives the arguments of forward
    head_reads      the module whose output the head reads, where that is not the base model; what
                    is prepared may have one of its own
    """

    cls: str | None = None
    precision: str = "bf16"
    checkpointing: object = None
    reentrant: bool = False
    attention: str | None = None
    kernel: str | None = None
    padded: bool = False
    framework: str = "plain"
    batch_size: int = 2
    seq_len: int = 256
    accumulation: int = 1
    steps: int = STEPS
    gpu: str = "a100-80gb"
    optimizer: object = None
    prepare: object = None
    inputs: object = None
    head_reads: str | None = None
    torch_version: str = "2.13"

    @property
    def cast(self):
        import torch

        return {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}.get(self.precision)

    @property
    def dtype(self):
        import torch

        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)


def real(model_type, config, **settings):
    """Runs the class as users do: made on the host, moved, trained. `settings` as in `Asked`."""
    import weighbridge

    asked = Asked(**settings)
    warnings.simplefilter("ignore")
    made, owner = named(model_type, config, asked.cls)
    if asked.attention:
        made._attn_implementation = asked.attention
    with (
        weighbridge.FakeGPU(asked.gpu, torch_version=asked.torch_version) as card,
        _only(asked.kernel),
    ):
        return _Real(card, asked).train(made, owner)


class _Real:
    """A run on the fake GPU, phase by phase."""

    def __init__(self, card, asked):
        self.card = card
        self.asked = asked
        self.seen = Seen()
        self.ends = [0]
        self.out = None  # what a plain loop's variable holds

    def train(self, config, owner):
        import torch

        asked, seen = self.asked, self.seen
        model = self.placed(config, owner)
        trained = [p for p in model.parameters() if p.requires_grad]
        step = (asked.optimizer or functools.partial(torch.optim.AdamW, foreach=True))(trained)
        call = self.called(model)
        self.mark("load")
        for _ in range(asked.steps):
            for _ in range(min(2, asked.accumulation)):
                self.micro_batch(call)
            step.step()
            step.zero_grad()
            self.mark("step")
        seen.tape = [_said(self.card.tape, *span) for span in pairwise(self.ends)]
        seen.full = [_full(self.card.tape, *span, seen.who) for span in pairwise(self.ends)]
        seen.model = model
        return seen

    def placed(self, config, owner):
        import torch

        asked = self.asked
        torch.set_default_dtype(asked.dtype)
        model = owner(config)
        torch.set_default_dtype(torch.float32)
        model.train()
        base = model.get_submodule(asked.head_reads) if asked.head_reads else model.base_model
        if asked.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": asked.reentrant})
        if asked.prepare is not None:
            model = asked.prepare(model)
            base = getattr(model, "head_reads", base)
        model.to("cuda")
        gc.collect()
        base.register_forward_hook(self.base_is_over)
        return model

    def base_is_over(self, _module, _args, out):
        """Phases end where the head begins, and where its gradient is there."""
        hidden = out[0] if isinstance(out, tuple) else out[next(iter(out))]
        self.mark("forward")
        if hidden.requires_grad:
            hidden.register_hook(lambda _: self.mark("loss"))

    def called(self, model):
        """Call the model as the framework does."""
        import torch

        cast = self.asked.cast
        if cast is None:
            return model

        def call(**given):
            with torch.autocast("cuda", cast):
                return model(**given)

        if self.asked.framework != "trainer":
            return call
        from accelerate.utils import convert_outputs_to_fp32

        return convert_outputs_to_fp32(call)

    def micro_batch(self, call):
        asked = self.asked
        given = (asked.inputs or causal)(asked.batch_size, asked.seq_len, "cuda")
        if asked.padded:
            given["attention_mask"] = half_empty(asked.batch_size, asked.seq_len)
        out = call(**given)
        self.out = out if asked.framework == "plain" else None
        loss = out["loss"]
        del given
        if asked.framework == "trainer":
            del out
        if not self.seen.saved:
            _alive(self.card.tape, self.seen)
        loss.backward()
        out = loss = None
        self.mark("backward")

    def mark(self, name):
        from torch import cuda

        now, peak = cuda.memory_allocated(), cuda.max_memory_allocated()
        self.seen.moments.append((name, now, peak, cuda.memory_reserved()))
        cuda.reset_peak_memory_stats()
        self.card.tape.settle()
        self.ends.append(len(self.card.tape.events))


def half_empty(batch, length):
    """A mask of tokens: the first sequence is half as long."""
    import torch

    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, length // 2 :] = 0
    return mask.to("cuda")


def causal(batch, length, device):
    import torch

    ids = torch.randint(0, 100, (batch, length), device=device)
    labels = torch.randint(0, 100, (batch, length), device=device)
    return {"input_ids": ids, "labels": labels, "use_cache": False}


@contextmanager
def _only(kernel):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    names = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
    names |= {"math": "MATH", "cudnn": "CUDNN_ATTENTION"}
    chosen = nullcontext() if kernel is None else sdpa_kernel(getattr(SDPBackend, names[kernel]))
    with chosen:
        yield


def _alive(tape, seen):
    tape.settle()
    for s in tape.alive(len(tape.events) - 1):
        seen.saved[s.nbytes] += 1
        seen.who.setdefault(s.nbytes, []).append(f"{s.op} {s.module}")


def _said(tape, start, end):
    made = (tape.storages[abs(n) - 1] for n in tape.events[start:end])
    signs = (1 if n > 0 else -1 for n in tape.events[start:end])
    return [(sign * s.nbytes, f"{s.op} {s.module}") for sign, s in zip(signs, made, strict=True)]


def _full(tape, start, end, who):
    """What is alive at the fullest moment of a phase."""
    at = max(range(max(start - 1, 0), end), key=tape.levels.__getitem__)
    found = Counter()
    for s in tape.alive(at):
        found[s.nbytes] += 1
        who.setdefault(s.nbytes, []).append(f"{s.op} {s.module}")
    return found


RENAMED = {"accumulation": "gradient_accumulation"}
ABOUT_REAL = ("cls", "reentrant", "head_reads", "kernel", "attention", "checkpointing")


def ours(model_type, config, **settings):
    """The same by `weighbridge.training.run.run`; settings as in `Asked`, and those of `train`."""
    made, owner = named(model_type, config, settings.get("cls"))
    raw = {**made.to_dict(), "architectures": [owner.__name__]}
    said = {RENAMED.get(k, k): v for k, v in settings.items() if k not in ABOUT_REAL}
    said["attention"] = settings.get("kernel") or settings.get("attention")
    if settings.get("checkpointing"):
        said["checkpointing"] = "full"
    return stepped(raw, reentrant=settings.get("reentrant", False), **said)


def stepped(raw, *, reentrant=False, **said):
    """The same by a config alone; settings of `train`, but for the size of a batch."""
    from weighbridge.training import run

    said = {"precision": "bf16", "framework": "plain", "batch_size": 2, "seq_len": 256} | said
    if said["framework"] in ("trainer", "trl"):  # theirs steps in one kernel, `real` does not
        said = {"optimizer": "adamw_torch"} | said
    seen = Seen()
    made_plan = replace(settled(raw, **said), reentrant=reentrant)
    with _followed(run, seen):
        seen.model = run.run(made_plan)
    return seen


@contextmanager
def _followed(run, seen):
    """What `run` takes and gives back, and its phases, are written into `seen`."""
    backward, note = run.backward, run.TrainingRun.note

    def before(m, loss, *rest, **more):
        if not seen.saved:
            seen.saved = +m.heap.alive
        return backward(m, loss, *rest, **more)

    def noted(self, name, peak, **more):
        _named(seen, name)
        note(self, name, peak, **more)

    with (
        patch.object(run, "Heap", _following(run.Heap, seen)),
        patch.object(run, "backward", before),
        patch.object(run.TrainingRun, "note", noted),
    ):
        yield


class _Followed:
    """A heap that says what it takes and gives back."""

    def __init__(self, *settings):
        super().__init__(*settings)
        self.alive = self.full = Counter()
        self.said = []

    def take(self, nbytes, *rest):
        return self.followed(nbytes, 1, super().take, nbytes, *rest)

    def many(self, count, nbytes, *rest):
        return self.followed(nbytes, count, super().many, count, nbytes, *rest)

    def row(self, sizes, name):
        return tuple(self.take(nbytes, name) for nbytes in sizes)

    def followed(self, nbytes, count, take, *given):
        self.alive[nbytes] += count
        before = self._most
        self.said.append((nbytes, _where()))
        held = take(*given)
        if self._most > before:
            self.full = +self.alive
        return held

    def drop(self, *gone):
        for held in gone:
            self.alive[held.nbytes] -= held.alike
            self.said.append((-held.nbytes, held.name))
        super().drop(*gone)

    def phase(self):
        found, a = super().phase(), self.allocator
        self.seen.full.append(self.full)
        self.full = +self.alive
        self.seen.tape.append(self.said)
        self.said = []
        self.seen.moments.append(("", a.allocated, found.allocated, a.reserved))
        return found


def _following(heap, seen):
    return type("Heap", (_Followed, heap), {"seen": seen})


def _named(seen, name):
    """A phase that is noted in two parts is one."""
    _, *last = seen.moments.pop()
    full, tape = seen.full.pop(), seen.tape.pop()
    if seen.moments and seen.moments[-1][0] == name:
        _, _, before, _ = seen.moments.pop()
        earlier, said = seen.full.pop(), seen.tape.pop()
        full = full if last[1] > before else earlier
        last[1], tape = max(before, last[1]), said + tape
    seen.moments.append((name, *last))
    seen.full.append(full)
    seen.tape.append(tape)


def _where():
    """Which of our functions take memory now, the innermost last."""
    frame, names = sys._getframe(3), []
    while frame is not None and frame.f_code.co_name != "_micro_batch":
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    own = [
        n
        for n in names
        if n not in ("take", "many", "followed", "new", "__init__", "hidden", "passing", "back")
    ]
    return "<".join(own[:4])


def settled(raw, **settings):
    """The plan of a config and the settings of `train`."""
    from weighbridge.answers.estimate.train import subject_for
    from weighbridge.engines.table import engine, version
    from weighbridge.models.checkpoint.gather import gather_config
    from weighbridge.models.checkpoint.model import resolve
    from weighbridge.training.plan import plan
    from weighbridge.workload import read

    workload = read("train", {k: v for k, v in settings.items() if v is not None})
    model = resolve(gather_config(raw))
    number, _ = version(engine("transformers"), workload.engine_version)
    return plan(subject_for(model, workload, number), workload, workload.budget(), number)


def differences(seen, mine, *, close=CLOSE, small=0):
    """Lines that say where the two part: saved tensors by size, peaks of each phase of each step."""
    lines = []
    for n in sorted((seen.saved.keys() | mine.saved.keys()), reverse=True):
        if n > small and seen.saved[n] != mine.saved[n]:
            made = sorted(set(seen.who.get(n, ())))[:3]
            lines.append(f"saved {n:,}: {seen.saved[n]} there, {mine.saved[n]} here {made}")
    for there, here in zip(seen.moments, mine.moments, strict=True):
        if abs(there[2] - here[2]) > close * there[2]:
            lines.append(f"{there[0]}: {there[2]:,} there, {here[2]:,} here")
    return lines


def at_peaks(seen, mine, *, small=0):
    """What is alive at the peaks of one alone: (phase, bytes, there, here, who made such)."""
    for (name, *_), there, here in zip(seen.moments, seen.full, mine.full, strict=True):
        for n in sorted(there.keys() | here.keys(), reverse=True):
            if n > small and there[n] != here[n]:
                yield name, n, there[n], here[n], Counter(seen.who.get(n, ())).most_common(4)


def table(seen, mine):
    """Both, phase by phase."""
    lines = []
    for there, here in zip(seen.moments, mine.moments, strict=True):
        off = [f"{b - a:+,}" if a != b else "=" for a, b in zip(there[1:], here[1:], strict=True)]
        lines.append(
            f"{there[0]:9} end {there[1]:>14,} {off[0]:>12}  peak {there[2]:>14,} {off[1]:>12} "
            f"{100 * (here[2] / there[2] - 1):+6.2f}%  reserved {off[2]}"
        )
    return "\n".join(lines)


def compare(model_type, config, **settings):
    seen, mine = real(model_type, config, **settings), ours(model_type, config, **settings)
    print(model_type, settings)
    print(table(seen, mine))
    print("\n".join(differences(seen, mine, close=0.0)))
    print(*at_peaks(seen, mine), sep="\n")
    return seen, mine


def side_by_side(seen, mine, number, *, small=0):
    """The requests of one phase on both sides, aligned by their sizes."""
    from difflib import SequenceMatcher

    there = [x for x in seen.tape[number] if abs(x[0]) > small]
    here = [x for x in mine.tape[number] if abs(x[0]) > small]
    sizes = [[x[0] for x in side] for side in (there, here)]
    for kind, a, b, c, d in SequenceMatcher(None, *sizes, autojunk=False).get_opcodes():
        for i in range(max(b - a, d - c)):
            left = there[a + i] if a + i < b else ("", "")
            right = here[c + i] if c + i < d else ("", "")
            sign = " " if kind == "equal" else "|"
            yield f"{sign} {left[0]!s:>11} {left[1][-60:]:60} {right[0]!s:>11} {right[1]}"


if __name__ == "__main__":
    given = dict(a.split("=", 1) for a in sys.argv[3:])
    numbers = {
        k: json.loads(v) if v[0].isdigit() or v in ("true",) else v for k, v in given.items()
    }
    compare(sys.argv[1], json.loads(sys.argv[2]), **numbers)
