"""Models that contain models: which nested config describes which part, and what connects them.

    whole = language model + towers + projectors

The family of a part's model type describes its tensors, below the part's path; so a new language
model works in every vision-language class as soon as a family describes it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypedDict, Unpack

from weighbridge.base.records import field, frozen_record, replace
from weighbridge.models.arch.blueprint import Buffer, Family, Param, ParamRule, linear
from weighbridge.models.arch.builder import family, tied
from weighbridge.models.arch.config import Config

Label = Literal["language model", "vision tower", "audio tower", "projector"]

# Where checkpoints of LLaVA's kind have the parts of transformers 5's `model.`: each part beside
# the others, and the language model with its own head.
SIDE_BY_SIDE = (
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.", ""),
)


@frozen_record
class Inner:
    """A model inside a larger one, by default a language model."""

    path: str  # path below the larger model's base, dot included
    config: str = "text_config"  # key of its config in the larger model's
    label: Label = "language model"
    absent: Mapping[str, Any] = field(default_factory=dict)  # the config if the file has none
    flat: bool = False  # if its config is missing, its keys are in the larger model's
    fixed: bool = False  # its model type is fixed, whatever its config says
    head: str = ""  # ending of its class's name, if it has a head
    other_head: str = ""  # the ending for families without `head`, such as encoder-decoders
    optional: bool = False  # left out if its config is missing
    whole: bool = False  # device_map="auto" never splits it
    when: str = ""  # key of the larger config that enables it, on by default


TEXT = Inner(path="language_model.")


def nested(c: Config, part: Inner) -> Config:
    if part.flat and not c.has(part.config):
        return c.retyped(c.held(part.config))
    config = c.sub(part.config, absent=part.absent)
    return config.retyped(c.held(part.config)) if part.fixed else config


def present(c: Config, parts: Iterable[Inner]) -> Iterator[tuple[Inner, Config, Family]]:
    for part in parts:
        if part.optional and not c.has(part.config):
            continue
        if part.when and not c.enabled(part.when):
            continue
        config = nested(c, part)
        kind = family(config.model_type)
        if part.other_head and part.head not in {*kind.heads, *kind.classes}:
            part = replace(part, head=part.other_head)
        yield part, config, kind.classes.get(part.head, kind)


def params(c: Config, prefix: str, parts: Iterable[Inner]) -> Iterator[Param]:
    """Yield the tensors of all parts; a part with a head ties it by that part's config."""
    for part, config, kind in present(c, parts):
        path = f"{prefix}{part.path}"
        if part.head not in kind.heads:  # none, or another class of the family without a head
            yield from kind.tensors(config, path)
            continue
        body = kind.tensors(config, f"{path}{below(kind, part)}")
        yield from tied(config, kind, (*body, *kind.heads[part.head](config, path)))


def below(kind: Family, part: Inner) -> str:
    """Return the path from a part to its base model ("model."); "" for a part without a head."""
    base = kind.bases.get(part.head, kind.base) if part.head in kind.heads else ""
    return f"{base}." if base else ""


def buffers(c: Config, prefix: str, parts: Iterable[Inner]) -> Iterator[Buffer]:
    for part, config, kind in present(c, parts):
        if kind.buffers is not None:
            yield from kind.buffers(config, f"{prefix}{part.path}{below(kind, part)}")


def blocks(c: Config, parts: Iterable[Inner]) -> Iterator[str]:
    for part, config, kind in present(c, parts):
        if part.whole:
            yield part.path.removesuffix(".")
            continue
        patterns = kind.blocks(config) if callable(kind.blocks) else kind.blocks
        for pattern in patterns:
            yield f"{part.path}{below(kind, part)}{pattern}"


class Rest(TypedDict, total=False):
    """The fields of Family that a composite passes on."""

    cls: str
    stems: tuple[str, ...]
    base: str
    heads: Mapping[str, ParamRule]
    classes: Mapping[str, Family]
    ties: bool | Callable[[Config], bool]
    renames: tuple[tuple[str, str], ...]


def composite(
    *parts: Inner,
    own: ParamRule | None = None,
    projectors: tuple[str, ...] = (),
    labels: tuple[tuple[str, str], ...] = (),
    held: Callable[[Config, str], Iterable[Buffer]] | None = None,
    own_blocks: tuple[str, ...] = (),
    **rest: Unpack[Rest],
) -> Family:
    """Return a family made of `parts`, with the composite's `own` tensors and `held` buffers.
    `projectors`: paths among its own tensors; `labels`: (path, label) of nested parts."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        for part in parts:  # errors first: of a part's model type, then of the whole
            if c.has(part.config):
                family(nested(c, part).model_type)
        rest = tuple(own(c, prefix)) if own else ()
        yield from params(c, prefix, parts)
        yield from rest

    def all_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        yield from buffers(c, prefix, parts)
        yield from held(c, prefix) if held else ()

    own_labels = [(path, "projector") for path in projectors]
    return Family(
        body=body,
        buffers=all_buffers,
        blocks=lambda c: (*blocks(c, parts), *own_blocks),
        parts=(*((part.path, part.label) for part in parts), *own_labels, *labels),
        **rest,
    )


def text_head(part: Inner = TEXT) -> ParamRule:
    """Return a rule for the `lm_head` of the language model, next to the base model."""

    def head(c: Config, prefix: str) -> Iterator[Param]:
        text = nested(c, part)
        yield from linear(f"{prefix}lm_head", text.num("vocab_size"), text.num("hidden_size"))

    return head


def text_alone(part: Inner) -> Family:
    """Return the language model's family without towers; its keys may be nested or in the outer
    config."""
    flat = replace(part, path="", flat=True)
    return composite(flat, heads={"ForCausalLM": text_head(flat)}, ties=either(flat))


def either(part: Inner = TEXT, *, default: bool = False) -> Callable[[Config], bool]:
    """Return a rule: whether the outer config or the language model's ties the embedding. Releases
    before 5 saved it only in the latter, and a flat language model takes all outer keys but this
    one."""

    def ties(c: Config) -> bool:
        outer = c.flag("tie_word_embeddings", default=default)
        flat = part.flat and not c.has(part.config)
        text = Config({}, model_type=c.held(part.config)) if flat else nested(c, part)
        return outer or text.flag("tie_word_embeddings")

    return ties
