"""The profile run: the peak that vLLM sets aside for activations, moment by moment.

    encoding   inputs and outputs of the items, and the tower's widest layer
    step       the widest moment of a layer with all tokens of a batch, or the trial of latents
    sampling   the step's hidden states, their last rows twice, and logits (`sampling.py`)

In float32 one tensor more is alive than the code shows: a copy of all logits, or a product of the
feed-forward. Llama 3.1 8B with 8,192 tokens and 1,024 sequences took 2.21 GiB in 0.19, for which
either is 0.44 to 0.49 GiB; the first is expected, the second within the interval.

Kept from one moment to the next: cuBLAS's workspace, the encoder's outputs, the experts'
workspace (before 0.14 it was freed). The peak is the largest moment, never a sum of them.

Source: vllm 0.19 and 0.33 v1/worker/gpu_model_runner.py (profile_run, _dummy_run,
_dummy_sampler_run), v1/worker/gpu/model_runner.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.accelerators.budget import Budget
from weighbridge.arch.body import Body, Tower
from weighbridge.engines.vllm import encoders, forward, hardware, sampling
from weighbridge.engines.vllm.setting import VllmLaunch
from weighbridge.memory import Bytes
from weighbridge.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledMoment:
    """Bytes by what they are; together they are alive at once."""

    name: str
    activations: Bytes
    logits: int = 0
    workspaces: int = 0
    formula: str = ""

    @property
    def total(self) -> Bytes:
        rest = self.logits + self.workspaces
        return Bytes(*(b + rest for b in self.activations))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What passes through one rank at once."""

    tokens: int
    sequences: int
    context: int
    rows: int  # earlier tokens whose latents are expanded at once
    itemsize: int
    items: bool = True  # with images and sounds, as many as fit a batch
    kept: bool = True  # the experts' kernel takes what is never freed
    profiled: int = 0  # tokens that it was sized by
    towers: tuple[Tower, ...] = ()  # of the images and sounds that are encoded
    levels: int = 0  # outputs of a tower beside its own


def moments(
    body: Body,
    widths: forward.Widths,
    at: VllmLaunch,
    work: Work,
    budget: Budget | None,
    *,
    last: bool,
) -> tuple[ProfiledMoment, ...]:
    seen = encoders.NONE
    if work.items:
        seen = encoders.encoded(
            work.towers,
            body.hidden * (1 + work.levels),
            tokens=work.tokens,
            context=work.context,
            sequences=work.sequences,
            share=share(at),
        )
    held = _Held(
        cublas=hardware.cublas(budget),
        seen=seen,
        experts=_experts(widths.step, at, work),
        size=work.itemsize,
        again=widths.dense * work.tokens * work.itemsize,
    )
    found = [_stepping(widths, at, work, held, budget)]
    if seen.widest:
        found.insert(0, _encoding(held))
    if last:
        found.append(_answering(body, at, work, held, budget))
    return tuple(found)


def share(at: VllmLaunch) -> forward.RankShare:
    """How one rank splits what it computes."""
    return forward.RankShare(tensor=at.tensor, expert_width=_expert_width(at))


def peak(found: Sequence[ProfiledMoment]) -> ProfiledMoment:
    return max(found, key=lambda m: m.total.expected)


def _expert_width(at: VllmLaunch) -> int:
    """Replicas of the engine share the experts, too."""
    return 1 if at.expert_parallel else at.tensor * at.data


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What more than one moment has."""

    cublas: int
    seen: encoders.Encoded
    experts: int
    size: int
    again: int  # of the feed-forward's product, which float32 may hold twice

    @property
    def encoder(self) -> int:
        return self.seen.held * self.size


def _experts(step: forward.StepWidths, at: VllmLaunch, work: Work) -> int:
    """Tokens of all replicas meet at the experts."""
    sized = work.profiled if at.rules.workspace_kept and work.kept else work.tokens
    tokens = sized * at.data
    return step.workspace * min(tokens, at.rules.chunk or tokens) * work.itemsize


def _encoding(held: _Held) -> ProfiledMoment:
    return ProfiledMoment(
        name="encoding",
        activations=_flat(held.encoder + held.seen.widest * held.size),
        workspaces=held.cublas,
        formula=held.seen.formula,
    )


def _stepping(
    widths: forward.Widths, at: VllmLaunch, work: Work, held: _Held, budget: Budget | None
) -> ProfiledMoment:
    step = widths.step
    tried = widths.expanded * work.rows
    trial = step.projected * work.tokens + tried if tried else 0
    nbytes = max(step.widest * work.tokens, trial) * work.itemsize + held.encoder
    benchmark = 0 if at.eager else hardware.cache(budget) * MIB
    again = held.again if held.size == sampling.FLOAT32 else 0
    return ProfiledMoment(
        name="step",
        activations=Bytes(nbytes, nbytes + benchmark, nbytes + benchmark + again),
        workspaces=held.cublas + held.experts,
        formula=f"{work.tokens:,} tokens, {step.formula}",
    )


def _answering(
    body: Body, at: VllmLaunch, work: Work, held: _Held, budget: Budget | None
) -> ProfiledMoment:
    kept = held.cublas + (held.experts if at.rules.workspace_kept and work.kept else 0)
    rows = min(work.sequences, work.tokens)
    hidden = work.tokens * body.hidden * work.itemsize + held.encoder
    if at.pooling:
        pooled = rows * max(body.hidden, body.labels) * (work.itemsize + sampling.FLOAT32)
        return ProfiledMoment(
            name="pooling",
            activations=_flat(hidden + pooled),
            workspaces=kept,
            formula=f"{work.tokens:,} tokens of {body.hidden:,}, {rows:,} answers",
        )
    kind = at.rules.second if at.second_runner else at.rules.sampler
    each = sampling.entry(kind, work.itemsize, rows)
    copies = 1 if at.second_runner else 2
    kept += sampling.buffer(kind, rows, body.vocab, hardware.multiprocessors(budget))
    found = hidden + copies * rows * body.hidden * work.itemsize
    again = sampling.again(kind, work.itemsize) * rows * sampling.padded(body.vocab)
    return ProfiledMoment(
        name="sampling",
        activations=Bytes(found, found + again, found + again),
        logits=each * rows * sampling.padded(body.vocab),
        workspaces=kept,
        formula=f"{rows:,} rows x {sampling.padded(body.vocab):,} x {each} bytes",
    )


def _flat(nbytes: int) -> Bytes:
    return Bytes(nbytes, nbytes, nbytes)
