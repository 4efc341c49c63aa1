"""Rules that changed between releases of transformers, as far as they affect memory.

    legacy caches    tuples of tensors: a step holds the old ones of all layers beside the new ones
    whole logits     of every prompt token, though only the last is needed
    float logits     a float32 copy of them before they are returned
    rotary tables    cosines and sines of every position, in each layer's own module
    repeated heads   KV heads are copied for all query heads before the kernel
    copied prompt    the cache joins the prompt's keys to an empty tensor, which copies them
    default dtype    4: float32 whatever the checkpoint says; 5: the config's, else the checkpoint's
    warm-up          with a device map, since 4.50 one block of the model's size is reserved first,
                     so that segments of 20 MiB do not appear (caching_allocator_warmup)

Without a device map, in every version, the model is built on the CPU and moved by `.to("cuda")`,
which visits the children of a module before its own parameters, then its buffers (torch
nn/modules/module.py, `Module._apply`): `placement_order`.

Read from the sources of 4.30 to 5.23: modeling_utils.py (from_pretrained), generation/utils.py,
cache_utils.py, integrations/sdpa_attention.py, modeling_flash_attention_utils.py and
models/*/modeling_*.py. The table of model types says which class has a property from which version
on: what came with 5 only, and what has no sdpa in 5.23 (sinks, softcapping, biases by position, old
code), is eager in 4. All classes have caches since 4.55, and DynamicCache is the default of
`generate` since 4.42.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.model_types import facts

Version = tuple[int, int]
T = TypeVar("T")

NEWEST = "5.23.0"  # the version whose sources our rules were read from
MAJORS = range(4, 6)  # major versions with known rules

ONE_INTERFACE: Version = (4, 48)
TOLD_SINCE: Version = (4, 55)  # integrations/sdpa_attention.py, use_gqa_in_sdpa
TOLD_OF_SEVERAL: Version = (5, 13)  # ... num_key_value_groups > 1
FP8_SINCE: Version = (4, 49)
TIED_AT_ONCE: Version = (5, 0)  # a tied head is not allocated separately first
BATCHED_SINCE: Version = (5, 0)  # generation/utils.py, _optimize_model_for_decode
INNER_BATCHED_SINCE: Version = (5, 14)  # ... for a language model inside another class
TOWERS_KEPT_SINCE: Version = (5, 19)  # generation/utils.py, mm_encoder_outputs; 5.16 has it not


def parse_version(text: str | None) -> tuple[int, int]:
    """Return (major, minor) of "4.40" or "5.23.0"; the newest known for None."""
    match = re.fullmatch(r"v?(\d+)(?:\.(\d+))?(?:\.\S*)?", (text or NEWEST).strip())
    if not match:
        raise UsageError(sentence("version.of_transformers", text=text))
    number = (int(match[1]), int(match[2] or 0))
    if number[0] not in MAJORS:
        raise UnsupportedError(sentence("transformers_rules", text=text))
    return number


def warms_up(version: tuple[int, ...]) -> bool:
    """Return whether, with a device map, the allocator is warmed up before the weights:
    caching_allocator_warmup, transformers PR 36428."""
    return version >= (4, 50)


def keeps_windows(version: tuple[int, ...]) -> bool:
    """Return whether a sliding layer keeps only its window: DynamicSlidingWindowLayer."""
    return version >= (4, 56)


def keeps_latents(version: tuple[int, ...]) -> bool:
    """Return whether MLA caches latents instead of keys and values."""
    return version >= (5, 15)


def unpacks_float8(version: tuple[int, ...]) -> bool:
    """Return whether float8 is dequantized on a card without it; before, it is refused."""
    return version >= (5, 0)


def has_auto_gptq(version: tuple[int, ...]) -> bool:
    """Return whether AutoGPTQ runs GPTQ; GPTQModel replaces it."""
    return version < (4, 48)


@frozen_record
class TransformersRules:
    """The behaviour of one class in one version of transformers, mostly switches."""

    version: Version
    legacy_cache: bool
    outputs_kept: bool  # the prompt's logits live through the next step
    whole_logits: bool
    float_logits: bool
    rotary_tables: bool
    flash_repeats: bool  # flash_attention_2
    sdpa_repeats: bool  # always; since 4.55 only with a mask
    sdpa_copies: bool  # queries, keys and values are made contiguous
    groups_told: bool  # `enable_gqa` is passed without a mask, also if no heads are shared
    packs_queries: bool  # a single query attends without repeated heads
    copied_prompt: bool
    sliding_cache: bool  # a sliding layer keeps only its window
    stacked_experts: bool
    latent_cache: bool
    scores_returned: bool  # eager attention returns its scores to the layer
    batched_experts: bool  # generate multiplies by copies of the chosen experts
    towers_kept: bool  # generate holds an image encoder's output to its end
    warms_up: bool  # with a device map, the allocator is warmed up first
    ties_at_once: bool  # a tied head is never a separate tensor
    second_head: bool  # a tied head is kept besides the embedding, with block-wise float8 weights
    says_dtype: bool  # `dtype=`; before, `torch_dtype=`
    sums_products: bool  # Mamba 2; since 5.18 by einsum
    names_products: bool  # ... and each lives to the end of the scan
    attention: str  # the default: sdpa or eager

    @property
    def written(self) -> str:
        return ".".join(map(str, self.version))


def rules(version: Version, model_type: str, *, inner: bool = False) -> TransformersRules:
    """Return the behaviour for the language model's `model_type`; parts ("gemma3_text") are as
    their whole. `inner`: it is part of a multimodal class."""
    kind = model_type.removesuffix("_text")
    known = facts(kind).transformers
    first, last = known.rotary_tables
    old_kernel = version < ONE_INTERFACE
    own_sdpa = version < (5, 0) and known.own_sdpa
    return TransformersRules(
        version=version,
        legacy_cache=version < known.caches,
        sums_products=version < (5, 18),
        names_products=version < (5, 15),
        outputs_kept=version < (4, 42),
        whole_logits=version < known.last_logits,
        float_logits=version < (4, 46),
        rotary_tables=first <= version < last,
        flash_repeats=old_kernel and known.flash_repeats,
        sdpa_repeats=version < TOLD_SINCE or own_sdpa,
        sdpa_copies=ONE_INTERFACE <= version < TOLD_SINCE and not own_sdpa,
        groups_told=TOLD_SINCE <= version < TOLD_OF_SEVERAL and not own_sdpa,
        packs_queries=version >= (5, 14),
        copied_prompt=version >= (4, 56),
        sliding_cache=keeps_windows(version),
        stacked_experts=version >= (5, 0),
        latent_cache=keeps_latents(version),
        scores_returned=not old_kernel,
        batched_experts=version >= (INNER_BATCHED_SINCE if inner else BATCHED_SINCE),
        towers_kept=version >= TOWERS_KEPT_SINCE,
        warms_up=warms_up(version),
        ties_at_once=version >= TIED_AT_ONCE,
        second_head=FP8_SINCE <= version < TIED_AT_ONCE,
        says_dtype=version >= (4, 56),
        attention="sdpa" if version >= known.sdpa else "eager",
    )


ATTENTIONS = ("flash", "efficient", "cudnn", "math", "eager")
# Bytes per cell while a mask of a two-sided window is made: int64 distances and their sizes
# (masking_utils.py, sliding_window_bidirectional_overlay); and bools, if the window is laid over a
# causal mask (modeling_gemma3.py, _bidirectional_window_overlay)
DISTANCES, OVERLAID = 16, 2
OF_SDPA = ("efficient", "cudnn", "math")  # flash means the package


def kernel(chosen: str | None, default: str) -> str:
    """Return the attention that runs: sdpa uses its flash kernel if it can."""
    if chosen is not None and chosen not in ATTENTIONS:
        raise UsageError(sentence("attention_known", name=chosen, known=", ".join(ATTENTIONS)))
    return chosen or default


def attends(chosen: str | None, rules: TransformersRules, kind: str) -> None:
    """Raise TriedError for an sdpa kernel if the class has no sdpa in that version: it caps scores,
    adds sinks or positions to them, or is older than the interface.

    transformers 5.23 modeling_utils.py (_sdpa_can_dispatch) and integrations/sdpa_attention.py
    refuse it; older versions attended without what sdpa cannot do.
    """
    if chosen in OF_SDPA and rules.attention == "eager":
        version = ".".join(map(str, rules.version))
        raise TriedError(
            sentence("no_sdpa", name=chosen, kind=kind, version=version),
            seen="transformers modeling_utils.py: does not support an attention implementation "
            "through torch.nn.functional.scaled_dot_product_attention yet",
        )


def placement_order(items: Iterable[tuple[str, T]]) -> list[T]:
    """Return the values of `items` (module path of the owner, value) as `.to(device)` visits them:
    children before their parent, siblings in order of first appearance."""
    values: dict[str, list[T]] = {"": []}  # module -> its values
    children: defaultdict[str, list[str]] = defaultdict(list)
    for path, value in items:
        if path not in values:
            values[path] = []
            _join(path, values, children)
        values[path].append(value)
    return [value for path in _children_first(children) for value in values[path]]


def _join(path: str, values: dict[str, list[T]], children: defaultdict[str, list[str]]) -> None:
    """Add a new module as a child of its parent, which may be new as well."""
    while True:
        parent = path.rpartition(".")[0]
        children[parent].append(path)
        if parent in values:
            return
        values[parent] = []
        path = parent


def _children_first(children: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield modules, children before parents, without recursion: a stranger's names may be nested a
    thousand deep."""
    parents_first, stack = [], [""]
    while stack:
        path = stack.pop()
        parents_first.append(path)
        stack += children.get(path, ())
    return reversed(parents_first)
