"""Kubernetes manifests and chart values: every container that serves a model, with its cards.

Deployments, StatefulSets, LeaderWorkerSets, KServe's runtimes and services, Ray's and Dynamo's
graphs, OME and llm-d hold containers somewhere: an image with a command or arguments. They are
looked for at any depth. vLLM's production-stack says settings by names of its own.

Sources: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1 (Container);
https://kserve.github.io, v1beta1 InferenceService; vllm-project/production-stack helm/values.yaml
(servingEngineSpec.modelSpec); https://cloud.google.com/kubernetes-engine/docs/how-to/gpus and
NVIDIA's gpu-feature-discovery (labels of nodes that name a card).
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB, ceil_div, human, parse_size
from weighbridge.files.runfiles.document import Document, Path
from weighbridge.files.runfiles.record import Kind, PlannedRun, Unread
from weighbridge.files.runfiles.serving.card_parts import CARDS, card_part, count
from weighbridge.files.runfiles.serving.compose import words
from weighbridge.files.runfiles.serving.containers import served
from weighbridge.files.runfiles.serving.lines import (
    Container,
    HostLimit,
    memory_limit,
    of_container,
    of_containers,
    serves,
)

GROUPS = ("limits", "requests")
OF_NODES = "resourcesPerNode"  # Kubeflow's TrainJob, whose runtime has the image
BESIDE = ("initContainers", "sidecars")
# KServe's server (kserve 00397f1e, python/huggingfaceserver/huggingfaceserver/__main__.py), which
# hands all other flags to vLLM: its own flag -> vLLM's, and those that decide no memory of that
KSERVE = "huggingfaceserver"
ITS_OWN: Mapping[str, str] = {
    "--model_id": "--model",
    "--model_dir": "--model",
    "--model_name": "--served-model-name",
    "--model_revision": "--revision",
    "--max_length": "--max-model-len",
}
NOT_OF_VLLM = ("--backend", "--task", "--tensor_input_names")  # with a value
OTHERS = ("--disable_lower_case", "--disable_special_tokens", "--return_token_type_ids")
OF_VLLM = ("vllm", "auto")  # backends
STACKS = "vllm/vllm-openai"  # the image of production-stack
SPECS, LMCACHE = "servingEngineSpec", "lmcacheConfig"
# production-stack: vllmConfig.NAME -> vLLM's flag
STACK: Mapping[str, str] = {
    "maxModelLen": "--max-model-len",
    "dtype": "--dtype",
    "tensorParallelSize": "--tensor-parallel-size",
    "pipelineParallelSize": "--pipeline-parallel-size",
    "gpuMemoryUtilization": "--gpu-memory-utilization",
    "maxNumSeqs": "--max-num-seqs",
    "maxLoras": "--max-loras",
}


def tells(document: Document) -> bool:
    """Return whether a document is a manifest, or values of a chart that serves."""
    data = document.data
    if not isinstance(data, dict):
        return False
    return {"apiVersion", "kind"} <= data.keys() or SPECS in data or "modelArtifacts" in data


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each container that serves a model."""
    if isinstance(document.data.get(SPECS), dict):
        models = document.data[SPECS].get("modelSpec")
        for number, model in enumerate(models if isinstance(models, list) else ()):
            if not isinstance(model, dict) or not model.get("modelURL"):
                continue
            config = model.get("vllmConfig")
            flags = _stack_flags(config if isinstance(config, dict) else {})
            flags += ["--enable-lora"] if model.get("enableLoRA") is True else []
            asked = {str(model.get("requestGPUType") or CARDS[0]): model.get("requestGPU")}
            selector = model.get("nodeSelectorTerms") or model.get("nodeSelector")
            labels = selector if isinstance(selector, dict) else {}
            runs = of_container(
                Container(
                    name=str(model.get("name") or number),
                    image=f"{model.get('repository') or STACKS}:{model.get('tag') or 'latest'}",
                    words=("vllm", "serve", str(model["modelURL"]), *flags),
                    env=_env(model.get("env")),
                    gpus=count({"limits": asked}),
                    part=card_part(labels, {"limits": asked}, lambda _: 0),
                    line=document.place((SPECS, "modelSpec", number)).line,
                    replicas=int(replicas)
                    if (replicas := str(model.get("replicaCount"))).isdigit()
                    else 1,
                )
            )
            place = document.place((SPECS, "modelSpec", number, LMCACHE))
            for run in runs:
                yield replace(run, unread=(*run.unread, *_lmcache(model, place.line)))
        return
    yield from of_containers(containers(document))


def containers(document: Document) -> Iterator[Container]:
    """Yield all containers of a manifest."""
    for path, holder, selector in _containers(document.data, (), {}):
        yield _container(path, holder, selector, document)


def _containers(
    data: Any, path: Path, selector: Mapping[str, Any]
) -> Iterator[tuple[Path, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield (path, mapping, node selector of its pod) of everything that has an image with a
    command or arguments, or a server's image."""
    if isinstance(data, list):
        for number, each in enumerate(data):
            yield from _containers(each, (*path, number), selector)
        return
    if not isinstance(data, dict):
        return
    named = data.get("nodeSelector")
    selector = named if isinstance(named, dict) else selector
    if _starts(data):
        yield path, data, selector
        return
    for key, each in data.items():
        if key not in BESIDE:
            above = _above(key, data, selector)
            yield from _containers(each, (*path, key), above)


def _starts(data: Mapping[str, Any]) -> bool:
    """Return whether a mapping starts a container: by a command, or by a server's image."""
    if "modelFormat" in data and (data.get("args") or data.get("storageUri")):
        return True
    if "image" not in data and OF_NODES not in data:
        return False
    image = data.get("image")
    by_image = isinstance(image, str) and not {"args", "command"} & data.keys() and serves(image)
    return bool(data.get("args") or data.get("command") or by_image)


def _above(key: str, data: Mapping[str, Any], selector: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the selector, with the cards added that an operator requests in its own resource
    keys."""
    resources = data.get("resources")
    if key == "extraPodSpec" and isinstance(resources, dict):
        return {**selector, "gpu": count(resources)}
    return selector


def _container(
    path: Path, data: Mapping[str, Any], selector: Mapping[str, Any], document: Document
) -> Container:
    resources = data.get("resources", data.get(OF_NODES))
    gpus = count(resources)
    mounts = _mounts(data.get("volumeMounts"), document)
    stored = str(data.get("storageUri") or "")
    if stored:
        mounts["/mnt/models"] = stored.removeprefix("hf://").removeprefix("pvc://")
    by_kserve = "modelFormat" in data or KSERVE in str(data.get("image") or "")
    arguments = (*words(data.get("command")), *words(data.get("args")))
    image = str(data.get("image") or "")
    return Container(
        name=_name(path, data, document),
        image="vllm/vllm-openai" if by_kserve and KSERVE in (image or KSERVE) else image,
        words=tuple(_of_kserve(arguments)) if by_kserve else arguments,
        env=_env(data.get("env")),
        mounts=mounts,
        gpus=gpus if gpus is not None else selector.get("gpu"),
        part=card_part(selector, resources, lambda name: _line(document, path, name)),
        memory=memory(resources, path, document),
        line=document.place(path).line,
        path=path,
        replicas=_replicas(document),
        nodes={n: value for n, value in selector.items() if isinstance(value, str)},
    )


def _line(document: Document, path: Path, resource: str) -> int:
    """Return the line of a container's resource; 0 without one of that name."""
    places = (document.place((*path, "resources", group, resource)) for group in GROUPS)
    return next((place.line for place in places if place.line), 0)


def _mounts(mounted: Any, document: Document) -> dict[str, str]:
    """Return the host folders that a container mounts: folder in the container -> folder on the
    host."""
    inside: dict[str, str] = {}
    for each in mounted if isinstance(mounted, list) else ():
        name = re.escape(str(each.get("name"))) if isinstance(each, dict) else "$^"
        there = re.search(rf"name: *{name}\n +hostPath: *\n +path: *(\S+)", document.text)
        inside |= {str(each.get("mountPath")): there[1]} if there else {}
    return inside


def _of_kserve(arguments: Sequence[str]) -> Iterator[str]:
    """Yield KServe's arguments in vLLM's spelling."""
    left = False
    for word in arguments:
        name, equals, value = word.partition("=")
        if left and not word.startswith("-"):
            left = False
            continue
        left = name in NOT_OF_VLLM and not equals
        other = name == "--backend" and value not in (*OF_VLLM, "")  # which is told as unknown
        if name not in (*NOT_OF_VLLM, *OTHERS) or other:
            yield f"{ITS_OWN.get(name, name)}{equals}{value}"


def memory(resources: Any, path: Path, document: Document) -> HostLimit | Unread | None:
    """Return a container's host memory limit, above which it is killed; None without one, an Unread
    for an invalid one."""
    limits = resources.get("limits") if isinstance(resources, dict) else None
    limit = limits.get("memory") if isinstance(limits, dict) else None
    where = document.place((*path, "resources", "limits", "memory"))
    return memory_limit(limit, key="resources.limits.memory", place=where, binary=False)


def _replicas(document: Document) -> int:
    spec = document.data.get("spec")
    replicas = spec.get("replicas") if isinstance(spec, dict) else None
    return replicas if isinstance(replicas, int) else 1


def _name(path: Path, data: Mapping[str, Any], document: Document) -> str:
    """Return a container's name for answers: its group's, and its own."""
    metadata = document.data.get("metadata")
    whole = str(metadata.get("name") or "") if isinstance(metadata, dict) else ""
    parts = [part for part in path if isinstance(part, str)]
    group = next(
        (p for p in parts if re.search(r"(?i)decode|prefill|head|worker|leader|router|engine$", p)),
        "",
    )
    own_name = str(data.get("name") or "")
    return " ".join(dict.fromkeys(filter(None, (whole, group, own_name))))


def _env(variables: Any) -> dict[str, str]:
    """Return the variables that have values; those from secrets and config maps are left out."""
    if not isinstance(variables, list):
        return {}
    return {
        str(each["name"]): str(each["value"])
        for each in variables
        if isinstance(each, dict) and "name" in each and each.get("value") is not None
    }


def _lmcache(model: Mapping[str, Any], line: int) -> Iterator[Unread]:
    """Yield notes on LMCache's buffers, which are not estimated: GB of host memory, and a send
    buffer in bytes, often on the card."""
    config = model.get(LMCACHE)
    if not isinstance(config, dict) or config.get("enabled") is not True:
        return
    beside = str(config.get("cpuOffloadingBufferSize", "some"))[:10]
    if beside != "0":
        why = f"{beside} GB of caches in host memory are not counted"
        yield Unread(key=f"{LMCACHE}.cpuOffloadingBufferSize", line=line, why=why)
    sent = str(config.get("nixlBufferSize", ""))
    if config.get("enableNixl") is True and sent.isdecimal() and len(sent) < 16:
        where = "the card" if config.get("nixlBufferDevice") == "cuda" else "the host"
        why = f"{human(int(sent))} of buffers on {where} are not counted"
        yield Unread(key=f"{LMCACHE}.nixlBufferSize", line=line, why=why)


def _stack_flags(config: Mapping[str, Any]) -> list[str]:
    flags = []
    for key, flag in STACK.items():
        if config.get(key) is not None:
            flags += [flag, str(config[key])]
    for key, flag in (("enableChunkedPrefill", "--enable-chunked-prefill"),):
        flags += [flag] if config.get(key) is True else []
    extra = config.get("extraArgs")
    return [*flags, *(shlex.split(" ".join(map(str, extra))) if isinstance(extra, list) else ())]


# A new file


def fresh(run: PlannedRun) -> Mapping[str, Any]:
    """Return a new Deployment of one container with the cards that its flags need, and shared
    memory for its processes."""
    line = served(run)
    # request = limit: else the pod is killed first if its node runs short
    ram = run.settings.get("ram")
    memory = {} if ram is None else {"memory": _quantity(str(ram))}
    asked = {"requests": memory} if memory else {}
    container: dict[str, Any] = {
        "name": line.engine,
        "image": line.image,
        **({"command": [*line.entry]} if line.entry else {}),
        "args": [*line.words],
        "env": [{"name": name, "value": value} for name, value in line.env.items()],
        "ports": [{"containerPort": line.port}],
        "resources": {"limits": {CARDS[0]: line.gpus, **memory}, **asked},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    if not line.env:
        del container["env"]
    name = _labelled(run.model)
    folders = {inside: there for inside, there in line.mounts.items() if there[:1] == "/"}
    mounts = [(f"folder{n}", *each) for n, each in enumerate(folders.items())]
    container["volumeMounts"] += [{"name": n, "mountPath": inside} for n, inside, _ in mounts]
    pod: dict[str, Any] = {
        **({"nodeSelector": dict(run.nodes)} if run.nodes else {}),
        "containers": [container],
        "volumes": [
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
            *({"name": n, "hostPath": {"path": there}} for n, _, there in mounts),
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": run.replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


def _quantity(size: str) -> str:
    """Return a size in Kubernetes' units: whole MiB or GiB, rounded up."""
    mebibytes = ceil_div(parse_size(size), MIB)
    whole = mebibytes % 1024 == 0
    return f"{mebibytes // 1024}Gi" if whole else f"{mebibytes}Mi"


def _labelled(model: str) -> str:
    """Return a model's name as a Kubernetes name: lower-case letters, digits and dashes."""
    last = re.sub(r"[^a-z0-9]+", "-", model.rpartition("/")[2].lower())
    return last.strip("-")[:63].strip("-") or "model"


KIND = Kind(
    name="kubernetes",
    title=sentence("title.kubernetes"),
    syntaxes=("yaml",),
    source="https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/",
    tells=tells,
    read=read,
    fresh=fresh,
)
