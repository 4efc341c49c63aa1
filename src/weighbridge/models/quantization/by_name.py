"""Checkpoints whose config gives modules formats of their own, each by its name: modelopt's
`quantized_layers` of MIXED_PRECISION.

    a module      as its name says, or that of a module around it
    an expert     the same; where names differ, as the experts of its layer do
    all else      stays in the model's dtype

Names in a file and names of a class differ in what stands before `layers.N`, so what follows
decides, but for towers, whose layers have numbers of their own. Source: vllm 0.33 model_executor/
layers/quantization/modelopt.py (ModelOptMixedPrecisionConfig).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.quantization.scheme import (
    LoaderFacts,
    Pack,
    PackedPiece,
    Scheme,
    in_tower,
    module,
)

OTHERS = ", others "  # between the formats of a name
LAYER = re.compile(r"(?:^|\.)(layers\.\d+)(?:\..*)?$")


class NamedModules(NamedTuple):
    """Formats by module name: full names, names within a layer, and the names of layers'
    experts."""

    whole: Mapping[str, Scheme]
    within: Mapping[str, Scheme]
    experts: Mapping[str, Scheme]

    def scheme(self, param: Param, *, tower: bool) -> Scheme | None:
        """Return a parameter's format; None if it stays in its dtype."""
        path = module(param)
        names = self.whole if tower else self.within
        inner = path if tower else _within(path)
        direct = next((names[name] for name in _enclosing_modules(inner) if name in names), None)
        if direct is None and not tower and param.kind in ("expert", "experts"):
            return self.experts.get(_layer(path))
        return direct


def by_name(modules: Mapping[str, Scheme]) -> Scheme:
    """Return the format of a checkpoint whose config has a format per module name; its own name
    lists the most frequent format first."""
    counts = Counter(form.name for form in modules.values())
    forms = {form.name: form for form in modules.values()}
    named = NamedModules(
        whole=modules,
        within={_within(name): form for name, form in modules.items()},
        experts={_layer(name): form for name, form in modules.items() if ".experts" in name},
    )
    return Scheme(
        name=OTHERS.join(name for name, _ in counts.most_common()),
        loader=_loader(named, forms),
        left="what the config does not name stays in the model's dtype",
        source=forms[counts.most_common(1)[0][0]].source,
        by_layer=lambda _: True,
        by_expert=any(re.search(r"experts\.\d", name) for name in modules),
    )


def _loader(named: NamedModules, forms: Mapping[str, Scheme]) -> Callable[[LoaderFacts], Pack]:
    def loader(facts: LoaderFacts) -> Pack:
        packs = {name: (form.named or form.loader)(facts) for name, form in forms.items()}

        def pack(param: Param) -> Iterable[PackedPiece] | None:
            form = named.scheme(param, tower=in_tower(facts.plan, param))
            return None if form is None else packs[form.name](param)

        return pack

    return loader


def _enclosing_modules(path: str) -> Iterator[str]:
    """Yield the module names that enclose `path` within its layer, itself first."""
    least = 2 if path.startswith("layers.") else 1
    names = path.split(".")
    for count in range(len(names), least - 1, -1):
        yield ".".join(names[:count])


def _within(path: str) -> str:
    """Return a name from its layer's number on; without a number, its last part."""
    match = LAYER.search(path)
    return path[match.start(1) :] if match else path.rpartition(".")[2]


def _layer(path: str) -> str:
    match = LAYER.search(path)
    return match[1] if match else ""
