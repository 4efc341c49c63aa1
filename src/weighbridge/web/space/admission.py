"""What a stranger may ask of this server: nothing that reads its own disk, network or hardware.

    {"model": "llama-3.1-8b"}, "org/name@rev", "https://huggingface.co/org/name", "7B"   yes
    {"model": "/etc/passwd"}, "../x", "file:///x", "http://169.254.169.254/x.json"       no

References are read by the same grammar as everywhere (`weighbridge.sources.reference`), told
that no path exists: what is left is a name of the catalogue, a repository of the Hub, a size, or
refused.
"""

import re
from collections.abc import Mapping
from typing import Any

from weighbridge.errors import NotFoundError, UsageError
from weighbridge.sources.reference import CatalogueRef, HubRef, SizeRef, TimmRef
from weighbridge.wording import shown

NAMED = ("draft_model", "mmproj")  # settings that are references themselves
OWN = ("gpu", "ram")  # settings that may mean what is here
CARDS = ("gpu", "gpu_memory", "smallest")  # without one, fit looks at what is here
NO_FILES = (
    "this server reads no paths and no addresses: name a model of the catalogue, a repository of "
    "the Hub (ORG/NAME or its page), or send its config"
)


def admit(request: Mapping[str, Any]) -> None:
    """Raises UsageError for what only the owner of a machine may ask of it."""
    model, workload = request.get("model"), request.get("workload")
    if isinstance(model, str):
        reference(model)
    workload = workload if isinstance(workload, Mapping) else {}
    if request.get("task") == "fit" and not any(workload.get(name) for name in CARDS):
        raise UsageError("name the card that it is to fit: --gpu 4090, or --gpu-memory 24GiB")
    for name in NAMED:
        if isinstance(workload.get(name), str):
            reference(workload[name])
    if isinstance(workload.get("command"), str):
        _command(workload["command"])
    for name in OWN:
        _not_local(name, workload.get(name))
    if workload.get("exact"):
        raise UsageError("--exact runs code of torch, which this server does not: leave it out")


def reference(text: str) -> None:
    """Raises UsageError where `text` is neither of the catalogue nor of the configured Hub."""
    from weighbridge.checkpoint.gather import has_name
    from weighbridge.sources.opening import endpoint

    try:
        found = _parsed(text, has_name, endpoint())
    except NotFoundError:  # of a path, which was not looked for
        found = None
    own_hub = not isinstance(found, HubRef) or found.endpoint is None
    if not isinstance(found, CatalogueRef | HubRef | SizeRef | TimmRef) or not own_hub:
        raise UsageError(f"{shown(text)}: {NO_FILES}")


def _parsed(text: str, catalogue: Any, endpoint: str) -> object:
    from weighbridge.sources.reference import parse

    return parse(text, exists=lambda path: False, catalogue=catalogue, endpoint=endpoint)


def _command(command: str) -> None:
    """The models that a launch command names."""
    from weighbridge.launch import parse

    launched = parse(command)
    named = (launched.model, *(launched.settings.get(name) for name in NAMED))
    for text in named:
        if isinstance(text, str):
            reference(text)


def _not_local(name: str, given: Any) -> None:
    for text in given if isinstance(given, list | tuple) else (given,):
        if isinstance(text, str) and re.search(r"\blocal\b", text.lower()):
            raise UsageError(
                f"--{name} local is this server's own, which is not yours: name the card or the "
                "size, or run weighbridge where it is"
            )
