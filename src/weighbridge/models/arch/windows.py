"""Rules for attention windows: which layers attend to all tokens, by a list in the config or by the
class's rule.

Source: transformers 5.23 models/*/configuration_*.py (__post_init__), cache_utils.py
(get_layer_types_and_kwargs): a list of kinds decides; without one, every layer has the window.
"""

from collections.abc import Callable, Sequence

from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import kinds
from weighbridge.models.arch.model_types import facts

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
Rule = Callable[[Config], Sequence[str]]


def window(c: Config) -> int | None:
    """Return `sliding_window` in tokens; None for null, 0, or if `use_sliding_window` is off."""
    if not c.enabled("use_sliding_window") or c.null("sliding_window"):
        return None
    return c.num("sliding_window", default=0) or None


def _layer_count(c: Config) -> int:
    return c.layers("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def everywhere(c: Config) -> Sequence[str]:
    """Return the kind of each layer: all sliding if the config has a window, else all full."""
    return [FULL if window(c) is None else SLIDING] * _layer_count(c)


def own(c: Config) -> Sequence[str]:
    """Return the kind of each layer: all sliding if the config itself sets a window, not only its
    class default."""
    c.skip("sliding_window")
    return everywhere(c) if c.has("sliding_window") else [FULL] * _layer_count(c)


def nowhere(c: Config) -> Sequence[str]:
    return [FULL] * _layer_count(c)


def period(every: int, *names: str, first: bool = False) -> Rule:
    """Return a rule by which one layer of `every` (or of the config's number under `names`) has
    full attention: the last of each group, or with `first` the first."""

    def rule(c: Config) -> Sequence[str]:
        step = c.num(*names, default=every) if names else every
        where = 0 if first else step - 1
        return [FULL if not step or i % step == where else SLIDING for i in range(_layer_count(c))]

    return rule


def upper(c: Config) -> Sequence[str]:
    """Return the kind of each layer: sliding from layer `max_window_layers` on (Qwen 2 and 3); all
    full without a window."""
    start = c.num("max_window_layers", default=0)
    on = window(c) is not None
    return [SLIDING if on and i >= start else FULL for i in range(_layer_count(c))]


def lower(c: Config) -> Sequence[str]:
    """Return the kind of each layer: if windows are on, every other one before `max_window_layers`
    is sliding (Qwen2-MoE)."""
    stop, on = c.num("max_window_layers", default=0), c.flag("use_sliding_window")
    return [SLIDING if on and i % 2 == 0 and i < stop else FULL for i in range(_layer_count(c))]


def pattern(c: Config) -> Sequence[str]:
    """Return the kind of each layer of EXAONE, from letters such as "LLLG" or a period; with
    letters, the last layer is full."""
    letters, count = c.get("sliding_window_pattern"), _layer_count(c)
    if window(c) is None:
        return [FULL] * count
    if not isinstance(letters, str):
        return period(4, "sliding_window_pattern")(c)
    if not letters or set(letters) - {"L", "G"}:
        raise c.error("sliding_window_pattern", "must.local", letters=letters)
    each_kind = [SLIDING if letters[i % len(letters)] == "L" else FULL for i in range(count)]
    return [*each_kind[:-1], FULL]


def without_positions(c: Config) -> Sequence[str]:
    """Return the kind of each layer of SmolLM3: those without rotary positions are sliding."""
    marks, count = c.nums("no_rope_layers"), _layer_count(c)
    step = max(1, c.num("no_rope_layer_interval", default=4))
    rope = marks or tuple(int((i + 1) % step != 0) for i in range(count))
    on = c.flag("use_sliding_window") and window(c) is not None
    return [SLIDING if on and not rope[i] else FULL for i in range(count)]


def chunks(c: Config) -> Sequence[str]:
    """Return the kind of each layer of Llama 4: those with rotary positions are chunked, by default
    every fourth is full."""
    marks, count = c.nums("no_rope_layers"), _layer_count(c)
    step = max(1, c.num("no_rope_layer_interval", default=4))
    rope = marks or tuple(int((i + 1) % step != 0) for i in range(count))
    return [CHUNKED if rope[i] else FULL for i in range(count)]


def last_full(rule: Rule) -> Rule:
    """Return `rule` with full attention in the last layer (Gemma 4)."""
    return lambda c: [*rule(c)[:-1], FULL]


def cohere_prefix(c: Config) -> Sequence[str]:
    """Return the kind of each layer of Command A's MoE: the first, dense layers have another period
    of full layers."""
    count, dense = _layer_count(c), c.num("first_k_dense_replace", default=0)
    before = max(1, c.num("prefix_dense_sliding_window_pattern", default=1))
    after = max(1, c.num("sliding_window_pattern", default=4))
    steps = [(i, before) if i < dense else (i - dense, after) for i in range(count)]
    return [FULL if (i + 1) % step == 0 else SLIDING for i, step in steps]


def layer_kinds(c: Config) -> Sequence[str]:
    """Return the kind of each layer: from the config's list, else by its model type's rule."""
    if c.get("layer_types") is None:
        return (facts(c.model_type).windows or own)(c)
    c.skip("sliding_window_pattern", "max_window_layers", "no_rope_layers")
    return kinds(c, "layer_types", lambda _: FULL)
