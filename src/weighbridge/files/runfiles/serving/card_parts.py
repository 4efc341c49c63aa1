"""The part of a card that a container of Kubernetes is given: a MIG slice, some of its memory, or
all of it beside other programs.

    nvidia.com/mig-1g.5gb: 1            a slice of the card that the node's labels name
    gke-gpu-partition-size: 1g.5gb      the same on GKE; with the product label of a node that has
                                        slices alone, "...-MIG-1g.5gb", the card is one
    nvidia.com/gpumem: 3000             MiB that HAMi lets a container take of its card
    ...-SHARED, gpu.shared,             the card is shared by turns or by MPS; what other programs
    gke-gpu-sharing-strategy            take of it is not known
    all else named after GPUs or MIG    may give a part, and is not read

Sources: NVIDIA/k8s-device-plugin README (mixed and single MIG strategies, shared resources),
NVIDIA/gpu-feature-discovery (nvidia.com/gpu.product); Google Kubernetes Engine's how-to guides
gpus-multi, timesharing-gpus and nvidia-mps-gpus; Project-HAMi/HAMi docs/config.md (gpumem).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.cards import part_id
from weighbridge.files.runfiles.record import Understood, Unread

LABELS = (  # node labels that name its card
    "cloud.google.com/gke-accelerator",
    "nvidia.com/gpu.product",
    "accelerator",
    "gpu.nvidia.com/model",
    "gpu.nvidia.com/class",
    "k8s.amazonaws.com/accelerator",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
)
CARDS = ("nvidia.com/gpu", "amd.com/gpu", "gpu")  # resources that count cards
SLICE = re.compile(r"nvidia\.com/mig-(\d{1,2}g\.\d{1,4}gb)(?:\.me)?")
GKE_SLICE = "cloud.google.com/gke-gpu-partition-size"
SHARED = ("nvidia.com/gpu.shared", "cloud.google.com/gke-gpu-sharing-strategy")
MEMORY = "nvidia.com/gpumem"  # MiB
WHOLE = "-SHARED"  # suffix of a product: the whole card, shared by turns
# GPU labels that decide no memory: shares of cores, the driver, facts of the node
OTHERS = re.compile(
    r"nvidia\.com/(?:gpucores|gpu\.(?:present|count|family|machine|memory|compute\.m\w+|deploy\..*)"
    r"|cuda\..*)|cloud\.google\.com/gke-gpu-driver-version"
    r"|cloud\.google\.com/gke-max-shared-clients-per-gpu"  # said beside the strategy
)
OF_GPUS = re.compile(r"(?i)gpu|(?<![a-z])mig(?![a-z])")
FLAGS = ("", "true", "false", "present", "yes", "1")  # values that only say that there is a GPU


class CardPart(NamedTuple):
    """The part of a card that a container gets. `card`: its name in the file, with its slice; "" if
    weighbridge knows none there."""

    card: str = ""
    memory: Understood | None = None  # its memory limit per card
    unread: tuple[Unread, ...] = ()


def card_part(labels: Mapping[str, Any], resources: Any, line: Callable[[str], int]) -> CardPart:
    """Return the part of a card, from a node's labels and a container's resources. `line` returns a
    resource's line, 0 without one."""
    asked = limits(resources)
    card, shared = _card(labels)
    slices = (match[1] for match in map(SLICE.fullmatch, asked) if match)
    profile = str(labels.get(GKE_SLICE) or next(slices, ""))
    unread = [*_unread(labels, lambda _: 0), *_unread(asked, line)]
    if shared:
        unread.append(_shared("nvidia.com/gpu.product", 0))
    if profile and card:
        card = card if card.lower().endswith(profile) else f"{card}/{profile}"
    elif profile:
        unread.append(
            Unread(key=profile, line=0, why=sentence("pod.slice", profile=profile), raises=True)
        )
    size = str(asked.get(MEMORY) or "")
    memory = None
    if size.isdecimal() and len(size) < 9:
        memory = Understood(key=MEMORY, value=f"{size}MiB", setting="gpu_memory", line=line(MEMORY))
    return CardPart(card=card, memory=memory, unread=tuple(unread))


def limits(resources: Any) -> dict[str, Any]:
    """Return a container's resources by name: its limits, else its requests."""
    asked: dict[str, Any] = {}
    for group in ("requests", "limits"):
        named = resources.get(group) if isinstance(resources, dict) else None
        asked |= named if isinstance(named, dict) else {}
    return {str(name): value for name, value in asked.items()}


def count(resources: Any) -> int | None:
    """Return the requested number of cards or slices, None if not stated."""
    asked = limits(resources)
    slices = filter(SLICE.fullmatch, asked)
    numbers = (str(asked.get(name) or "") for name in (*CARDS, SHARED[0], *slices))
    return next((int(number) for number in numbers if number.isdigit()), None)


def _card(labels: Mapping[str, Any]) -> tuple[str, bool]:
    """Return (card, shared): the card's spelling in the labels, and whether it is time-shared."""
    for name in (str(labels.get(label) or "") for label in LABELS):
        product = name.removesuffix(WHOLE)
        if product and "$" not in product and part_id(product):
            return product, product != name
    return "", False


def _unread(named: Mapping[str, Any], line: Callable[[str], int]) -> Iterator[Unread]:
    """Yield notes on labels or resources that may restrict the container to a part of a card."""
    for name, value in named.items():
        if name in SHARED:
            yield _shared(name, line(name))
        elif name in (*LABELS, *CARDS, GKE_SLICE, MEMORY) or SLICE.fullmatch(name):
            continue
        elif OF_GPUS.search(name) and not OTHERS.fullmatch(name) and _may_mean_a_part(value):
            yield Unread(key=name, line=line(name), why=sentence("pod.part"), raises=True)


def _may_mean_a_part(value: Any) -> bool:
    """Return whether a value may mean a part of a card: it is no flag and no name of a whole
    card."""
    text = str(value).lower()
    return text not in FLAGS and not part_id(text)


def _shared(name: str, line: int) -> Unread:
    return Unread(key=name, line=line, why=sentence("pod.shared"), raises=True)
