"""The profile run: the activation peak that vLLM reserves, as the largest of these moments.

    encoding   inputs and outputs of the multimodal items, and the encoder's widest layer
    step       the widest layer with max_num_batched_tokens, or MLA's chunked-prefill workspace
    sampling   the step's hidden states, their last rows twice, and logits

In float32 one tensor more is alive than the code shows: a copy of all logits, or a product of the
feed-forward. Llama 3.1 8B with 8,192 tokens and 1,024 sequences took 2.21 GiB in 0.19, for which
either is 0.44 to 0.49 GiB; the first is expected, the second within the interval.

Alive in all moments: the cuBLAS workspace, encoder outputs, the experts' workspace (freed before
0.14). The peak is the largest moment, never a sum of them.

Source: vllm 0.19 and 0.33 v1/worker/gpu_model_runner.py (profile_run, _dummy_run,
_dummy_sampler_run), v1/worker/gpu/model_runner.py.
"""

from collections.abc import Iterable, Sequence

from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.records import NamedTuple, frozen_record, replace
from weighbridge.base.units import MIB, align_up, ceil_div
from weighbridge.engines.interface import Subject
from weighbridge.engines.vllm import forward, hardware
from weighbridge.engines.vllm.effective import FRAMES, SOFT, VIDEO, VllmLaunch
from weighbridge.engines.vllm.forward import RankShare
from weighbridge.machines.accelerators.seen import Card
from weighbridge.models.arch.body import Body, Dense, Tower
from weighbridge.models.arch.model_types import facts
from weighbridge.models.arch.stacks import sort
from weighbridge.models.arch.towers import of_stacks

# Pixels (height, width): the largest processors accept, in aspect ratios that tiles may have
HUGE = tuple((8960 * h, 8960 * w) for h, w in ((1, 1), (4, 3), (3, 4), (2, 1), (16, 1)))


# Multimodal items: as many of the largest as one batch may bring, whatever requests bring
#
#     largest   of the shapes that a processor accepts whole, the one with the most tokens
#
#     items     max(1, min(tokens of a batch // tokens of an item, sequences x items of a prompt))
#     inputs    items x positions x elements per position, kept while the language model runs
#     outputs   items x tokens x D (1 + levels of deepstack), kept until profiling ends
#     widest    3 D' and the MLP of the encoder, all items at once: a layer's input stays with its
#               caller, beside what attention added and its norm. Gemma 4's images are profiled as
#               videos, of which 0.19 to 0.21 encode frame by frame, later releases as many
#               as are small beside the card (gemma4_mm.py, _encoder_chunk); logs of 0.19 and 0.20
#               with 16,384 tokens say 6 videos
#     scores    heads x positions^2 of one item in float32, twice: if AMD's consumer cards lack
#               flash_attn, torch multiplies without a fused kernel (platforms/rocm.py,
#               get_vit_attn_backend; ATen/native/transformers/attention.cpp). Its Triton kernel is
#               one that people install, and vLLM asks for it since 0.16 (pull request 32944): a
#               Radeon R9700 and two 7900 XT profiled Qwen3.6's encoder with it. Qwen3.8 27B's, 16
#               heads and 65,536 positions, asked a Strix Halo for 256 GiB (0.28), and Qwen3-VL 2B's
#               was too much for a 7800 XT (0.11, issue 27706)
#
# Source: vllm 0.19 multimodal/encoder_budget.py, v1/core/encoder_cache_manager.py
# (compute_mm_encoder_budget), v1/worker/gpu_model_runner.py (profile_run). Gemma 3 4B with 8,192
# tokens: 147 MiB of inputs and 40 of outputs beside its logits.


class Encoded(NamedTuple):
    """Elements of the multimodal encoder: held until profiling ends, and the peak beside them."""

    held: int
    widest: int
    formula: str
    scores: int = 0  # attention scores of one item


NOT_ENCODED = Encoded(0, 0, "")


def encoded(
    towers: Iterable[Tower],
    hidden: int,
    *,
    tokens: int,
    context: int,
    sequences: int,
    share: RankShare,
) -> Encoded:
    """Return the encoder's elements in the profile run, for the modality with the most tokens per
    item."""
    tower = max(towers, key=lambda t: t.tokens, default=None)
    if tower is None or not tower.tokens:
        return NOT_ENCODED
    items = item_count(tower, tokens=tokens, context=context, sequences=sequences)
    positions, one = items * tower.positions, tower.at_once or tower.positions
    outputs = items * tower.tokens * hidden
    return Encoded(
        held=positions * tower.patch + outputs,
        widest=(tower.at_once or positions) * _widest_of_tower(tower, share),
        formula=f"{items} items of {tower.positions:,} positions and {tower.tokens:,} tokens",
        scores=ceil_div(tower.heads, share.tensor) * one * min(tower.window or one, one),
    )


def largest_towers(subject: Subject) -> tuple[Tower, ...]:
    """Return the encoders with the image size that yields the most tokens, as each class's
    get_image_size_with_most_features does."""

    if facts(subject.model_type).vllm.frames:
        return tuple(_as_video(t) for t in subject.body.towers if t.kind == "image")

    def found() -> tuple[Tower, ...]:
        stacks = sort(subject.part.blueprint)
        tried = [of_stacks(*stacks, subject.config, image_size=size) for size in HUGE]
        return max(tried, key=lambda one: max((t.tokens for t in one), default=0))

    if not subject.body.towers:
        return ()
    return memo(subject.part, ("largest towers",), found)


def _as_video(tower: Tower) -> Tower:
    frame = SOFT * (tower.positions // tower.tokens)
    return replace(tower, positions=FRAMES * frame, tokens=VIDEO, at_once=frame)


def item_count(tower: Tower, *, tokens: int, context: int, sequences: int) -> int:
    each = max(1, context // tower.tokens)
    return max(1, min(max(tokens, tower.tokens) // tower.tokens, sequences * each))


def _widest_of_tower(tower: Tower, share: RankShare) -> int:
    attended = ceil_div(4 * tower.heads * tower.head_dim, share.tensor)
    factor = 3 if isinstance(tower.feed, Dense) and tower.feed.gated else 2
    return 2 * tower.hidden + max(attended, tower.hidden + factor * share.width(tower.feed))


# Moments


@frozen_record
class ProfiledMoment:
    """Bytes alive at one moment of the profile run."""

    name: str
    activations: Bytes
    logits: int = 0
    workspaces: int = 0
    scores: int = 0  # attention scores of an encoder, upper bound; `activations` include them
    formula: str = ""

    @property
    def total(self) -> Bytes:
        others = self.logits + self.workspaces
        return Bytes(*(b + others for b in self.activations))


@frozen_record
class Work:
    """Tokens and requests of one step on one rank."""

    tokens: int
    sequences: int
    context: int
    rows: int  # cached tokens that MLA expands to K and V
    itemsize: int
    items: bool = True  # with as many multimodal items as fit a batch
    kept: bool = True  # the MoE kernel uses the workspace that is never freed
    profiled: int = 0  # tokens that this workspace is sized for
    towers: tuple[Tower, ...] = ()  # multimodal encoders, at the size to profile
    levels: int = 0  # deepstack outputs of an encoder, besides its main one


def moments(
    body: Body,
    widths: forward.Widths,
    launch: VllmLaunch,
    work: Work,
    kernels: hardware.KernelSizes,
    *,
    last: bool,
) -> tuple[ProfiledMoment, ...]:
    seen = NOT_ENCODED
    if work.items:
        seen = encoded(
            work.towers,
            body.hidden * (1 + work.levels),
            tokens=work.tokens,
            context=work.context,
            sequences=work.sequences,
            share=share(launch),
        )
    constant = _Constant(
        cublas=kernels.cublas,
        seen=seen,
        experts=_experts(widths.step, launch, work),
        size=work.itemsize,
        again=widths.dense * work.tokens * work.itemsize,
    )
    result = [_stepping(widths, launch, work, constant, kernels)]
    if seen.widest:
        result.insert(0, _encoding(constant, kernels))
    if last:
        result.append(_answering(body, launch, work, constant, kernels))
    return tuple(result)


def kernels(launch: VllmLaunch, card: Card) -> hardware.KernelSizes:
    """Return the card's properties that affect the profile run, zeros and "none" for the others."""
    filters = sampler(launch) == "triton" and not launch.pooling
    return hardware.KernelSizes(
        cublas=hardware.cublas(card),
        cache=0 if launch.eager else hardware.cache(card),
        processors=hardware.multiprocessors(card) if filters else 0,
        scores=_scores(launch, card),
    )


def _scores(launch: VllmLaunch, card: Card) -> hardware.Scores:
    if hardware.rocm(card) != "home":
        return "none"
    return "maybe" if launch.rules.triton_towers and not hardware.ryzen(card) else "likely"


def sampler(launch: VllmLaunch) -> str:
    """Return the key of the sampler used in the profile run, as `entry` takes it."""
    return launch.rules.second if launch.second_runner else launch.rules.sampler


def share(launch: VllmLaunch) -> forward.RankShare:
    """Return how one rank's heads and MLPs are split. Experts are split over data-parallel
    replicas, too."""
    width = 1 if launch.expert_parallel else launch.tensor * launch.data
    return forward.RankShare(tensor=launch.tensor, expert_width=width)


def peak(every: Sequence[ProfiledMoment]) -> ProfiledMoment:
    """Return the moment with the largest expected bytes, its high end raised to that of any."""
    widest = max(every, key=lambda m: m.total.expected)
    more = max(m.total.high for m in every) - widest.total.high
    scores, most = max(m.scores for m in every), Bytes(0, 0, more)
    return replace(widest, activations=widest.activations.plus(most), scores=scores)


@frozen_record
class _Constant:
    """Parts of the peak shared by several moments: bytes, except `seen` in elements."""

    cublas: int
    seen: Encoded
    experts: int
    size: int
    again: int  # of an MLP's product, which float32 may hold twice

    @property
    def encoder(self) -> int:
        return self.seen.held * self.size


def _experts(step: forward.StepWidths, launch: VllmLaunch, work: Work) -> int:
    """Return the bytes of the MoE workspace; experts process the tokens of all replicas."""
    sized = work.profiled if launch.rules.workspace_kept and work.kept else work.tokens
    tokens = sized * launch.data
    return step.workspace * min(tokens, launch.rules.chunk or tokens) * work.itemsize


def _encoding(constant: _Constant, kernels: hardware.KernelSizes) -> ProfiledMoment:
    nbytes = constant.encoder + constant.seen.widest * constant.size
    scores = 0 if kernels.scores == "none" else 2 * FLOAT32 * constant.seen.scores
    likely = scores if kernels.scores == "likely" else 0
    return ProfiledMoment(
        name="encoding",
        activations=Bytes(nbytes, nbytes + likely, nbytes + scores),
        scores=scores,
        workspaces=constant.cublas,
        formula=constant.seen.formula,
    )


def _stepping(
    widths: forward.Widths,
    launch: VllmLaunch,
    work: Work,
    constant: _Constant,
    kernels: hardware.KernelSizes,
) -> ProfiledMoment:
    step = widths.step
    tried = widths.expanded * work.rows
    trial = step.attending * work.tokens + tried if tried else 0
    nbytes = max(step.widest * work.tokens, trial) * work.itemsize + constant.encoder
    benchmark = 0 if launch.eager else kernels.cache * MIB
    again = constant.again if constant.size == FLOAT32 else 0
    return ProfiledMoment(
        name="step",
        activations=Bytes(nbytes, nbytes + benchmark, nbytes + benchmark + again),
        workspaces=constant.cublas + constant.experts,
        formula=f"{work.tokens:,} tokens, {step.formula}",
    )


def _answering(
    body: Body,
    launch: VllmLaunch,
    work: Work,
    constant: _Constant,
    kernels: hardware.KernelSizes,
) -> ProfiledMoment:
    workspaces = constant.cublas + (
        constant.experts if launch.rules.workspace_kept and work.kept else 0
    )
    rows = min(work.sequences, work.tokens)
    hidden = work.tokens * body.hidden * work.itemsize + constant.encoder
    if launch.pooling:
        pooled = rows * max(body.hidden, body.labels) * (work.itemsize + FLOAT32)
        return ProfiledMoment(
            name="pooling",
            activations=exactly(hidden + pooled),
            workspaces=workspaces,
            formula=f"{work.tokens:,} tokens of {body.hidden:,}, {rows:,} answers",
        )
    kind = sampler(launch)
    each = entry(kind, work.itemsize, rows)
    if launch.speculative and not launch.second_runner:
        each = max(each, 3 * work.itemsize + REJECTED)
    copies = 1 if launch.second_runner else 2
    workspaces += buffer(kind, rows, body.vocab, kernels.processors)
    activations = hidden + copies * rows * body.hidden * work.itemsize
    doubled = unexplained(kind, work.itemsize) * rows * padded(body.vocab)
    return ProfiledMoment(
        name="sampling",
        activations=Bytes(activations, activations + doubled, activations + doubled),
        logits=each * rows * padded(body.vocab),
        workspaces=workspaces,
        formula=f"{rows:,} rows x {padded(body.vocab):,} x {each} bytes",
    )


# Logits in the profile run: one row per sequence, over the whole vocabulary.
#
# Bytes per logit, e of the model's own dtype; all of them are alive at once:
#
#     sort         e + 4, sorted values 4 and indices 8, then 8 + 12 of the sort (from 128 rows on),
#                  or 8 + 8 + 4 + 12 (below): 36 + e and 48 + e
#     triton       e + 4, probabilities 4, random numbers 4; and a float32 row per processor, kept
#     flashinfer   e + 4, masked 4, probabilities 4
#     runner V2    float32: e + 4; own: e; warm: as flashinfer
#     drafts       afterwards, with one token proposed for each sequence: logits of it and of the
#                  token beyond, 2 e, of that alone e, and raw 4; of the first 4, copied 4, as
#                  probabilities 4, random numbers 4 and their inverse 4: 3 e + 24
#
# Model runner V2 also counts tokens per sequence: 4 bytes and a bit per vocabulary entry, for every
# sequence; and it has a bit per entry for grammars, and lists of tokens that a request allows,
# favours, stops at or forbids.
#
# Source: vllm 0.11, 0.19, 0.23, 0.33 v1/worker/gpu_model_runner.py (_dummy_sampler_run),
# v1/sample/sampler.py, v1/sample/ops/topk_topp_sampler.py, topk_topp_triton.py (buffer),
# v1/sample/rejection_sampler.py, v1/worker/gpu/sample/ (sampler.py, penalties.py);
# ATen/native/cuda/Sort.cpp and cuda/cub.cuh (segmented_sort_pairs,
# segmented_sort_pairs_by_full_sort). gpt-oss-20b with 1,024 rows took 7.38 GiB in 0.11 (38 bytes
# per logit), 2.87 in 0.19 (14).

FLOAT32 = 4
REJECTED = 6 * FLOAT32
PADDED = 64  # multiple of vocabulary rows: vllm model_executor/layers/vocab_parallel_embedding.py
SEGMENTS = 128  # rows from which the sort takes less memory
FEW = 8  # below so many rows, the Triton kernel was not used
BITS = 32
# Entries per sequence for allowed tokens, logit biases (token and value), stop tokens, bad words
# (token and offset), and requested logprobs: v1/worker/gpu/sample/logit_bias.py, bad_words.py,
# logprob.py of 0.22 to 0.33
LISTED = 1024 + 2 * 1024 + 128 + 1024 + 129 + 128
AFTER_SORT = 36
AFTER_FULL_SORT = 48


def entry(kind: str, itemsize: int, rows: int) -> int:
    """Return the peak bytes per logit while sampling. `kind`: a key of `sampler`."""
    copied = FLOAT32 if itemsize != FLOAT32 else 0  # float32 logits are not copied again
    if kind == "sort" or (kind == "triton" and rows < FEW):
        spared = FLOAT32 - copied
        return itemsize + (AFTER_SORT if rows >= SEGMENTS else AFTER_FULL_SORT) - spared
    if kind == "own":
        return itemsize
    if kind == "float32":
        return itemsize + FLOAT32
    return itemsize + copied + 2 * FLOAT32


def unexplained(kind: str, itemsize: int) -> int:
    """Return the bytes per logit that float32 takes beyond `entry`, from measurements."""
    return FLOAT32 if itemsize == FLOAT32 and kind in ("triton", "flashinfer", "warm") else 0


def padded(vocabulary: int) -> int:
    return align_up(vocabulary, PADDED)


def buffer(kind: str, rows: int, vocabulary: int, processors: int) -> int:
    """Return the bytes of the Triton sampler's buffer: one float32 row of `vocabulary` per
    program."""
    if kind != "triton" or rows < FEW:
        return 0
    programs = min(processors, rows)
    rows_held = min(1 << (programs - 1).bit_length(), processors)
    return rows_held * vocabulary * FLOAT32


def counts(sequences: int, vocabulary: int, drafted: int) -> int:
    """Return the bytes of runner V2's sampling state: a count per sequence and token, bitmasks of
    prompt tokens and grammars (`drafted` masks more), and token lists. With 1,024 sequences of 0.26
    an H100 held 551.5 MiB for Llama's vocabulary of 128,256, and 442.8 for DeepSeek's of
    102,400."""
    bits = ceil_div(vocabulary, BITS)
    return sequences * FLOAT32 * (vocabulary + bits * (2 + drafted) + LISTED)
