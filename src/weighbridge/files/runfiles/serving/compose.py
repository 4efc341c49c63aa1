"""Compose files: each service that serves a model, with its mounts, its variables and its cards.

Source: the Compose Specification (services: command, entrypoint, environment, volumes, gpus,
deploy.resources.reservations.devices), https://github.com/compose-spec/compose-spec, 05-services.md
and deploy.md.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB, ceil_div, parse_size
from weighbridge.engines.launch.programs import OF_CONTAINERS, listed, mounted
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import filled
from weighbridge.files.runfiles.record import Kind, PlannedRun, Unread
from weighbridge.files.runfiles.serving.containers import served
from weighbridge.files.runfiles.serving.lines import (
    Container,
    HostLimit,
    memory_limit,
    of_containers,
)
from weighbridge.machines.accelerators.machines import MACHINE

# Keys of a service: people paste some of them without the rest
_OF_SERVICE = """
command image environment volumes ports ipc shm_size restart runtime deploy container_name
entrypoint healthcheck ulimits gpus
"""
OF_SERVICE = frozenset(_OF_SERVICE.split())
MEANS_ALL = ("all", -1)
DEVICES = ("deploy", "resources", "reservations", "devices")
CACHE = {"/root/.cache/huggingface": "~/.cache/huggingface"}
LIMIT = ("deploy", "resources", "limits", "memory")


def tells(document: Document) -> bool:
    """Return whether a document has services with images or commands."""
    return any(
        isinstance(each, dict) and ({"image", "command", "build"} & each.keys())
        for each in _services(document.data).values()
    )


def _services(data: Any) -> Mapping[str, Any]:
    """Return a file's services by name; for the pasted keys of one service, that one under ""."""
    if not isinstance(data, dict):
        return {}
    services = data.get("services")
    if isinstance(services, dict):
        return services
    return {"": data} if "command" in data and data.keys() <= OF_SERVICE else {}


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the runs of the file's services that serve a model."""
    if not tells(document):
        return
    yield from of_containers(
        _container(str(name), service, document)
        for name, service in _services(document.data).items()
        if isinstance(service, dict)
    )


def _container(name: str, service: Mapping[str, Any], document: Document) -> Container:
    return Container(
        name=name,
        image=str(service.get("image") or ""),
        words=tuple(
            word
            for key in ("entrypoint", "command")
            for word in words(_interpolated(service.get(key)))
        ),
        env=pairs(service.get("environment")),
        mounts=_mounts(service.get("volumes")),
        gpus=_gpus(service),
        devices=_cards_seen(service),
        memory=_memory(name, service, document),
        replicas=_replicas(service),
        line=document.place(("services", name)).line,
    )


def _memory(name: str, service: Mapping[str, Any], document: Document) -> HostLimit | Unread | None:
    """Return a service's host memory limit, above which it is killed; None without one, an Unread
    for an invalid one."""
    limit = _nested_value(service, LIMIT)
    path = LIMIT if limit is not None else ("mem_limit",)
    return memory_limit(
        service.get("mem_limit") if limit is None else limit,
        key=".".join(path),
        place=document.place(("services", name, *path)),
        binary=True,
    )


def _replicas(service: Mapping[str, Any]) -> int:
    deploy = service.get("deploy")
    replicas = deploy.get("replicas") if isinstance(deploy, dict) else service.get("scale")
    return replicas if isinstance(replicas, int) else 1


def words(value: Any) -> tuple[str, ...]:
    """Return a command as words: a list, or a text as a shell splits it."""
    if isinstance(value, list):
        return tuple(str(each) for each in value)
    if not isinstance(value, str):
        return ()
    try:
        return tuple(shlex.split(value))
    except ValueError:
        return tuple(value.split())


def _interpolated(command: Any) -> Any:
    """Return a command with the defaults of the file's variables filled in; `$$` becomes the
    shell's `$`."""
    if isinstance(command, list):
        return [_interpolated(str(word)) for word in command]
    return "$".join(map(filled, command.split("$$"))) if isinstance(command, str) else command


def pairs(variables: Any) -> dict[str, str]:
    """Return variables by name, from a mapping or a list of NAME=VALUE; those without a value come
    from the machine and are left out."""
    if isinstance(variables, dict):
        return {str(name): str(value) for name, value in variables.items() if value is not None}
    if not isinstance(variables, list):
        return {}
    split = (str(each).partition("=") for each in variables)
    return {name: value for name, equals, value in split if equals}


def _mounts(volumes: Any) -> dict[str, str]:
    """Return the mounts: folder in the container -> folder on the host."""
    mounts: dict[str, str] = {}
    for each in volumes if isinstance(volumes, list) else ():
        if isinstance(each, dict):
            mounts[str(each.get("target"))] = str(each.get("source") or "")
        else:
            mounts |= mounted(str(each))
    return mounts


def _nested_value(service: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return the value below nested keys, None if one is missing."""
    value: Any = service
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _reserved(service: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a service's entry for its cards: their ids or their number; {} without one."""
    devices = service.get("gpus") or _nested_value(service, DEVICES)
    entries = devices if isinstance(devices, list) else ()
    return next((one for one in entries if isinstance(one, dict)), {})


def _gpus(service: Mapping[str, Any]) -> int | None:
    """Return the number of a service's cards; None for all, or if the file does not state it."""
    count = _reserved(service).get("count")
    return len(_devices(service)) or (
        count if isinstance(count, int) and count not in MEANS_ALL else None
    )


def _devices(service: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of a service's cards; () if the file does not state them."""
    ids = _reserved(service).get("device_ids")
    if isinstance(ids, list):
        return tuple(map(str, ids))
    seen = pairs(service.get("environment")).get(OF_CONTAINERS, "")
    return tuple(seen.split(",")) if listed(seen) else ()


def _cards_seen(service: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of the cards that a service sees: its own, else the machine's in order. () for
    a service with a profile, or with cards in a variable, as it may run elsewhere."""
    variables = (f"{name} {value}" for name, value in pairs(service.get("environment")).items())
    says = (str(_reserved(service)), *(one for one in variables if "VISIBLE_DEVICES" in one))
    if service.get("profiles") or any("$" in one for one in says):
        return ()
    return _devices(service) or tuple(map(str, range(_gpus(service) or MACHINE)))


# A new file


def fresh(run: PlannedRun) -> Mapping[str, Any]:
    """Return the keys of a new file with one service and the cards that its flags need."""
    line = served(run)
    ram = run.settings.get("ram")
    limits = (
        {} if ram is None else {"limits": {"memory": f"{ceil_div(parse_size(str(ram)), MIB)}m"}}
    )
    several = {"replicas": run.replicas} if run.replicas > 1 else {}
    cards = {"driver": "nvidia", "count": line.gpus, "capabilities": ["gpu"]}
    service: dict[str, Any] = {
        "image": line.image,
        "command": [*line.entry, *line.words],
        "environment": {"HF_TOKEN": "${HF_TOKEN:-}", **line.env},
        "ports": [*(line.ports or [f"{line.port}:{line.port}"])],
        "volumes": [f"{there}:{inside}" for inside, there in (line.mounts or CACHE).items()],
        "ipc": "host",
        "deploy": {**several, "resources": {**limits, "reservations": {"devices": [cards]}}},
    }
    return {"services": {line.engine: service}}


KIND = Kind(
    name="compose",
    title=sentence("title.compose"),
    syntaxes=("yaml",),
    source="https://github.com/compose-spec/compose-spec/blob/main/05-services.md",
    tells=tells,
    read=read,
    fresh=fresh,
)
