"""ComfyUI's workflows, as its server takes them and as its page saves them: the models that are
loaded, with their formats, the size, and what decides memory besides.

    {"3": {"class_type": "KSampler", "inputs": {"cfg": 8, "model": ["4", 0]}}}        API form
    {"nodes": [{"id": 3, "type": "KSampler", "widgets_values": [...]}], "links": []}  page's form

workflow.jsonl has the nodes that are known, with the order of their widgets. Those that no output
needs, and those that are muted, do not run. Each pipeline is a run of its own: ComfyUI has one
model on the card at a time, so that the fullest decides. A node that is not known is named.
Source: ComfyUI 0.3.64 nodes.py, comfy_extras; city96/ComfyUI-GGUF; kijai/ComfyUI-WanVideoWrapper.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

from weighbridge.base.cost import MOST, MOST_NODES
from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.record import Kind, PlannedRun, Unread, Value
from weighbridge.models.catalogue.pipelines import (
    FLOATS,
    CataloguePipeline,
    DenoiserFile,
    find,
    of_file,
    of_repository,
)
from weighbridge.pictures.companions import control_class
from weighbridge.pictures.formats import DENOISER

MUTED, BYPASSED = 2, 4  # node modes in the page's form; a bypassed node passes its input on
REROUTE = "Reroute"
WRAPPER = "WanVideoModelLoader"
WHOLE = "this loader has all of it on the card, but for the blocks that are swapped: none in part"
NOT_WEIGHED = "its model is not weighed"
GIVEN, MADE = "-10", "-20"  # node ids of a subgraph's inputs and outputs
OF_GROUP = "-1"  # a widget of the subgraph node itself, not of a node within
DEEPEST = 8  # levels of subgraphs
MOST_STEPS = 16  # links followed to a value
MOST_NAMED = 8  # unknown nodes in notes
FRAMES = ("length", "num_frames", "video_frames")
# role of a node -> inputs that decide memory and must be whole numbers above 0
NUMBERS: Mapping[str, Sequence[str]] = {
    "size": ("width", "height", *FRAMES, "batch_size"),
    "tiles": ("tile_size", "tile_x"),
}
HANDED = ("model", "guider", "unet")  # inputs for a model
LARGEST = 1 << 16  # pixels of a side
# in a text encoder's file name -> in its class name
ENCODERS = (
    ("t5", "T5"),
    ("clip_l", "CLIPText"),
    ("clip_g", "CLIPText"),
    ("qwen", "Qwen"),
    ("llama", "Llama"),
    ("llava", "Llama"),
    ("gemma", "Gemma"),
    ("mistral", "Mistral"),
)
STRANGE = re.compile(r"[^\w.:()| -]")
FORMAT = re.compile(r"fp8|(?:i?q\d(?:_[0-9a-z]+)*)(?=\.gguf)")


class KnownNode(NamedTuple):
    """A line of workflow.jsonl: node types that are read alike."""

    role: str
    widgets: Sequence[str]
    types: Sequence[str]


class FlowNode(NamedTuple):
    """A node: `inputs` by name, and `links` from inputs to the nodes that feed them."""

    id: str
    type: str
    inputs: Mapping[str, Any]
    links: Mapping[str, str]


@cache
def known_nodes() -> Mapping[str, KnownNode]:
    lines = [KnownNode(**line) for line in table()]
    return {name: line for line in lines for name in line.types}


def table() -> list[dict[str, Any]]:
    import json

    return [json.loads(line) for line in lines_beside(__file__, "workflow.jsonl")]


def tells(document: Document) -> bool:
    """Return whether a document is a workflow, in either form."""
    return next(_nodes(document.data), None) is not None


def read(document: Document, model: str = "") -> Iterator[PlannedRun]:
    """Yield a run for each pipeline of a workflow; with `model`, the user's name for what it loads,
    only one run. Raises UsageError for what ComfyUI does not start."""
    nodes = {node.id: node for node in _nodes(document.data)}
    flow = Workflow(_needed(nodes), document, model)
    flow.check()
    yield from flow.runs()


def is_workflow(path: str) -> bool:
    """Return whether a file is a workflow, without parsing it."""
    if not path.lower().endswith(".json") or not os.path.isfile(path):
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read(MOST)
    return '"class_type"' in text or ('"widgets_values"' in text and '"links"' in text)


# ---- nodes of both forms


def _nodes(data: Any) -> Iterator[FlowNode]:
    if not isinstance(data, Mapping):
        return
    if isinstance(data.get("prompt"), Mapping):  # as posted to the server
        data = data["prompt"]
    if isinstance(data.get("nodes"), list) and isinstance(data.get("links"), list):
        yield from islice(Page(data, _subgraphs(data)).nodes(), MOST_NODES)
    else:
        for name, node in data.items():
            if isinstance(node, Mapping) and isinstance(node.get("class_type"), str):
                inputs = node.get("inputs")
                named = inputs if isinstance(inputs, Mapping) else {}
                links = {
                    key: str(value[0])
                    for key, value in named.items()
                    if (isinstance(value, list) and len(value) == 2 and isinstance(value[1], int))
                }
                yield FlowNode(str(name), node["class_type"], named, links)


def _subgraphs(data: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return a workflow's subgraphs by the node type that stands for them."""
    definitions = data.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    return {str(one.get("id")): one for one in _listed(listed) if isinstance(one, Mapping)}


class Page(NamedTuple):
    """A graph in the page's form, the whole or a subgraph. `inside`: prefix of its node ids;
    `values` and `links`: its inputs from outside, by input (and widget of a node inside)."""

    data: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Any]]
    inside: str = ""
    values: Mapping[tuple[str, str], Any] = {}
    links: Mapping[str, str] = {}

    def named(self) -> Iterator[Mapping[str, Any]]:
        """Yield the nodes that are not muted."""
        for node in _listed(self.data.get("nodes")):
            named = isinstance(node, Mapping) and isinstance(node.get("type"), str)
            if named and node.get("mode") != MUTED:
                yield node

    def kinds(self) -> dict[str, str]:
        """Return the types of its nodes, by id."""
        return {str(node.get("id")): str(node["type"]) for node in self.named()}

    def nodes(self) -> Iterator[FlowNode]:
        """Yield its nodes, with subgraph nodes replaced by the nodes inside them."""
        kinds = self.kinds()
        origins = {name: (origin, slot) for name, origin, slot, *_ in _links_of(self.data)}
        for node in self.named():
            flow = self._node(node, origins, kinds)
            group = self.groups.get(flow.type)
            if group is None:
                yield flow
            elif self.inside.count(":") < DEEPEST:
                values = dict(_values_for_inner_widgets(node))
                yield from Page(group, self.groups, f"{flow.id}:", values, flow.links).nodes()

    def _node(
        self, node: Mapping[str, Any], origins: Mapping[str, tuple[str, int]], kinds: dict[str, str]
    ) -> FlowNode:
        values, links = dict(_values(node)), dict[str, str]()
        name = str(node.get("id"))
        values |= {widget: v for (inner, widget), v in self.values.items() if inner == name}
        for entry in filter(_is_linked, _listed(node.get("inputs"))):
            key, (origin, slot) = str(entry.get("name")), origins.get(str(entry["link"]), ("", 0))
            outside = self._input_name(slot)
            if origin != GIVEN:
                links[key] = self._origin(origin, slot, kinds)
            elif outside in self.links:
                links[key] = self.links[outside]
            elif (OF_GROUP, outside) in self.values:
                values[key] = self.values[OF_GROUP, outside]
        kind = REROUTE if node.get("mode") == BYPASSED else str(node["type"])
        return FlowNode(f"{self.inside}{name}", kind, values, links)

    def _input_name(self, slot: int) -> str:
        """Return the name of the graph's input in position `slot`."""
        inputs = _listed(self.data.get("inputs"))[slot:][:1]
        return "".join(str(one.get("name")) for one in inputs if isinstance(one, Mapping))

    def _origin(self, origin: str, slot: int, kinds: Mapping[str, str]) -> str:
        """Return the node that makes an output; for a subgraph node, the one inside it."""
        inside = self.inside
        for _ in range(DEEPEST):
            group = self.groups.get(kinds.get(origin, ""))
            link = next((row for row in _links_of(group or {}) if row[3:] == (MADE, slot)), None)
            if group is None or link is None:
                break
            inside, origin, slot = f"{inside}{origin}:", link[1], link[2]
            kinds = Page(group, {}).kinds()
        return f"{inside}{origin}" if origin else ""


def _is_linked(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("link") is not None


def _values_for_inner_widgets(node: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield ((node, widget), value) of the widgets inside that a subgraph node sets."""
    properties = node.get("properties")
    listed = properties.get("proxyWidgets") if isinstance(properties, Mapping) else None
    for proxy, value in zip(_listed(listed), _listed(node.get("widgets_values")), strict=False):
        if len(_listed(proxy)) == 2:
            yield (str(proxy[0]), str(proxy[1])), value


def _links_of(data: Mapping[str, Any]) -> Iterator[tuple[str, str, int, str, int]]:
    """Yield links as (id, source node, its output, target node, its input)."""
    for link in _listed(data.get("links")):
        if isinstance(link, Mapping):  # the form in subgraphs
            names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
            link = [link.get(name) for name in names]
        if isinstance(link, list) and len(link) > 4:
            slots = (slot if isinstance(slot, int) else 0 for slot in (link[2], link[4]))
            yield str(link[0]), str(link[1]), next(slots), str(link[3]), next(slots)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _values(node: Mapping[str, Any]) -> Mapping[str, Any]:
    values = node.get("widgets_values")
    if isinstance(values, Mapping):
        return values
    known = known_nodes().get(node["type"])
    names = known.widgets if known is not None else ()
    return dict(zip(names, _listed(values), strict=False))


def _needed(nodes: Mapping[str, FlowNode]) -> list[FlowNode]:
    """Return the nodes that some output needs; all if no output node is known, or if the page has
    subgraphs."""
    waiting = [node.id for node in nodes.values() if _role(node.type) == "output"]
    if not waiting or any(":" in name for name in nodes):
        return list(nodes.values())
    needed: dict[str, FlowNode] = {}
    while waiting:
        node = nodes.get(waiting.pop())
        if node is not None and node.id not in needed:
            needed[node.id] = node
            waiting += node.links.values()
    return [node for node in nodes.values() if node.id in needed]


def _role(kind: str) -> str:
    known = known_nodes().get(kind)
    return "" if known is None else known.role


# ---- what the nodes decide


class Workflow:
    """The running nodes of a workflow, and the settings that they decide."""

    def __init__(self, nodes: Sequence[FlowNode], document: Document, model: str = "") -> None:
        self.nodes, self.document, self.model = nodes, document, model
        self.by_id = {node.id: node for node in nodes}
        self.unread: list[Unread] = []

    def of(self, *roles: str) -> list[FlowNode]:
        return [node for node in self.nodes if _role(node.type) in roles]

    def value(self, node: FlowNode, name: str) -> Any:
        """Return the value of an input, its own or the linked one. None, with a note, if a node
        computes it at run time."""
        value, why = self._value_or_reason(node, name)
        if why:
            self._leave(f"{node.type}.{name}", why)
        return value

    def _value_or_reason(self, node: FlowNode, name: str) -> tuple[Any, str]:
        """Return (value, reason) of an input; the reason says why there is no value, else ""."""
        for _ in range(MOST_STEPS):
            if name not in node.links:
                return node.inputs.get(name), ""
            origin = self.by_id.get(node.links[name])
            if origin is None:
                return None, "it links to a node that is not there"
            if _role(origin.type) != "value" and origin.type != REROUTE:
                return None, f"{shown(origin.type)} computes it"
            node, name = origin, next(iter(origin.links), "value")
        return None, "its links go round"

    def number(self, node: FlowNode, name: str) -> int | None:
        """Return an input's integer; None if it is computed or missing."""
        value = self.value(node, name)
        return None if value is None else _count(value)

    def check(self) -> None:
        """Raise UsageError for links to missing nodes or in a circle, and for invalid numbers."""
        if not isinstance(self.document.data.get("nodes"), list):  # as the server takes it
            self._check_links()
        circle = _in_a_circle(self.by_id)
        if circle is not None:
            self._refuse(circle, "", "workflow.circle")
        for node in self.nodes:
            for name in NUMBERS.get(_role(node.type), ()):
                value = self._value_or_reason(node, name)[0]
                if value is not None and _count(value) is None:
                    self._refuse(node, name, "workflow.number", value=shown(str(value)))

    def _check_links(self) -> None:
        for node in self.nodes:
            for name, origin in node.links.items():
                if origin not in self.by_id:
                    self._refuse(node, name, "workflow.no_node", origin=shown(origin))

    def _refuse(self, node: FlowNode, name: str, key: str, **values: str) -> None:
        line = self.document.line_of(max(0, self.document.text.find(node.type)))
        about = f"{STRANGE.sub('?', node.type)} {STRANGE.sub('?', node.id)}"[:80]
        raise UsageError(
            sentence(key, node=about, input=name, **values), where=f"{self.document.name}:{line}"
        )

    def _pipelines(self) -> dict[str, list[tuple[FlowNode, DenoiserFile]]]:
        """Return the denoiser files with their nodes, by pipeline."""
        nodes = self.of("denoiser", "checkpoint")
        if self.model:
            return {self.model: list(self._of_the_model(nodes))}
        pipelines: dict[str, list[tuple[FlowNode, DenoiserFile]]] = {}
        for node in nodes:
            file = self._file(node)
            if file is not None:
                pipelines.setdefault(file.pipeline, []).append((node, file))
        return pipelines

    def _of_the_model(self, nodes: Sequence[FlowNode]) -> Iterator[tuple[FlowNode, DenoiserFile]]:
        """Yield the loaded files as components of the user's model, in their own formats."""
        known = _pipeline(self.model)
        denoisers = () if known is None else known.recipe["denoisers"]
        for number, node in enumerate(nodes):
            value = self.value(node, _named_widget(node))
            file = of_file(value) if isinstance(value, str) else None
            form = file.format if file is not None else _form(str(value))
            one = denoisers[min(number, len(denoisers) - 1)] if denoisers else DENOISER
            component = file.component if file is not None and file.component in denoisers else one
            yield node, DenoiserFile(self.model, component, form)

    def runs(self) -> Iterator[PlannedRun]:
        pipelines = self._pipelines()
        settings = {"engine": "comfyui", **self._size(), **self._guidance(), **self._decoding()}
        self._others()
        if not pipelines:
            for node in self.of("guidance"):
                self._leave(f"{node.type} {node.id}", "no node that we know loads its model")
            yield PlannedRun(task="image", settings=settings, unread=tuple(self.unread))
        self._strange_encoders(tuple(pipelines))
        for name, files in pipelines.items():
            form = "+".join(self._formats(name, files))
            more = {"quantization": form} if form else {}
            more |= self._per_pipeline(name)
            yield PlannedRun(
                task="image",
                name=name if len(pipelines) > 1 else "",
                model=name,
                settings={**settings, **more},
                unread=tuple(self.unread),
                defaults=() if "size" in settings else self._usual(name),
            )

    def _leave(self, key: str, why: str, *, raises: bool = False, lowers: bool = False) -> None:
        start = re.split(r"[. ]", key)[0]
        line = self.document.line_of(max(0, self.document.text.find(start)))
        name = STRANGE.sub("?", key)[:80]
        self.unread.append(Unread(key=name, line=line, why=why, raises=raises, lowers=lowers))

    def _file(self, node: FlowNode) -> DenoiserFile | None:
        name = _named_widget(node)
        value = self.value(node, name)
        file = of_file(value) if isinstance(value, str) else None
        if file is None:
            why = f"{shown(str(value))} is no file that we know: --model says which pipeline it is"
            self._leave(f"{node.type}.{name}", why)
        return file

    def _size(self) -> dict[str, Value]:
        for node in self.of("size"):
            width, height = (self.number(node, side) for side in ("width", "height"))
            if width and height:
                return {"size": f"{width}x{height}", **self._several(node)}
        return {}

    def _several(self, node: FlowNode) -> dict[str, Value]:
        """Return frames and batch size from a node that sets the size, if above 1."""
        length = next((name for name in FRAMES if name in node.inputs), "")
        inputs = {"frames": length, "batch_size": "batch_size"}
        counts = {name: self.number(node, each) for name, each in inputs.items()}
        return {name: n for name, n in counts.items() if n is not None and n > 1}

    def _usual(self, name: str) -> tuple[tuple[str, Value, str], ...]:
        pipeline = _pipeline(name)
        if pipeline is None:
            return ()
        width, height, _ = pipeline.recipe["size"]
        return (("size", f"{width}x{height}", "the workflow computes its size"),)

    def _guidance(self) -> dict[str, Value]:
        scales = [self.value(node, "cfg") for node in self.of("guidance")]
        known = [scale for scale in scales if isinstance(scale, int | float)]
        if scales and len(known) == len(scales) and all(scale == 1 for scale in known):
            return {"guidance": "off"}
        return {}

    def _per_pipeline(self, name: str) -> dict[str, Value]:
        """Return guidance for a pipeline that usually has none, and the number of input images."""
        pipeline = _pipeline(name)
        recipe: Mapping[str, Any] = {} if pipeline is None else pipeline.recipe
        scales = [self.value(node, "cfg") for node in self.of("guidance")]
        guided = any(isinstance(scale, int | float) and scale != 1 for scale in scales)
        more: dict[str, Value] = {}
        usually = recipe.get("guided", True) and recipe.get("guidance") != "none"
        if guided and not usually:
            more["guidance"] = "batched"
        if recipe.get("reference_tokens"):
            more["images"] = len(self.of("picture"))
        return more | self._added(name)

    def _added(self, name: str) -> dict[str, Value]:
        """Return the number of LoRAs, and of ControlNets if the pipeline's are known."""
        nodes, loras = self.of("control"), len(self.of("lora"))
        more: dict[str, Value] = {"lora": loras} if loras else {}
        parts = getattr(_pipeline(name), "parts", {}).values()
        controlled = any(control_class(str(part.get("_class_name"))) for part in parts)
        if nodes and controlled:
            return {**more, "controlnet": len(nodes)}
        for node in nodes:
            self._leave(node.type, NOT_WEIGHED, raises=True)
        return more

    def _decoding(self) -> dict[str, Value]:
        settings: dict[str, Value] = {}
        for node in self.of("tiles"):
            if node.inputs.get("enable_vae_tiling", True) is False:
                continue
            side = self.number(node, "tile_size" if "tile_size" in node.inputs else "tile_x")
            settings["vae_tiling"] = True
            settings |= {"vae_tile": side} if side and 64 <= side <= 4096 else {}
        for node in self.of("swap"):
            blocks = self.number(node, "blocks_to_swap")
            settings |= {"blocks_to_swap": blocks} if blocks else {}
        return settings

    def _formats(self, name: str, files: Sequence[tuple[FlowNode, DenoiserFile]]) -> Iterator[str]:
        """Yield component=format of the loaded files, as for --quantization."""
        for node, file in files:
            form = self._cast(node) or ("" if file.format in FLOATS.values() else file.format)
            if form:
                yield f"{file.component}={form}"
                if _role(node.type) == "checkpoint":  # the same file has the encoders
                    yield f"text={form}"
        pipeline = _pipeline(name)
        if pipeline is not None:
            yield from self._encoders(pipeline.parts)

    def _cast(self, node: FlowNode) -> str:
        asked = (self.value(node, key) for key in ("weight_dtype", "quantization"))
        return "fp8" if any(str(one).startswith("fp8") for one in asked) else ""

    def _encoders(self, parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        for node in self.of("encoder"):
            names = [n for n in known_nodes()[node.type].widgets if "name" in n]
            for file in (self.value(node, name) for name in names):
                form = _form(str(file))
                component = _component(str(file).lower(), parts)
                if form and component:
                    yield f"{component}={form}"
            if self.value(node, "device") == "cpu":
                self._leave(f"{node.type}.device", "text encoders run on the CPU, and are counted")

    def _strange_encoders(self, names: Sequence[str]) -> None:
        """Note the text encoders that no pipeline in the workflow has."""
        known = [one for one in map(_pipeline, names) if one is not None]
        for node in self.of("encoder") if known and len(known) == len(names) else ():
            widgets = [n for n in known_nodes()[node.type].widgets if "name" in n]
            for file in (
                str(self._value_or_reason(node, name)[0] or "").lower() for name in widgets
            ):
                known_file = any(sign in file for sign, _ in ENCODERS)
                if known_file and not any(_component(file, one.parts) for one in known):
                    why = f"{' and '.join(names)} has no such text encoder"
                    self._leave(f"{node.type} {file}", why, raises=True, lowers=True)

    def _model_passing_types(self) -> frozenset[str]:
        """Return the types of nodes that receive a model and of those that provide it."""
        waiting = [node.id for node in self.nodes if not node.links.keys().isdisjoint(HANDED)]
        seen: set[str] = set()
        while waiting:
            node = self.by_id.get(waiting.pop())
            if node is not None and node.id not in seen:
                seen.add(node.id)
                waiting += [origin for name, origin in node.links.items() if name in HANDED]
        return frozenset(self.by_id[name].type for name in seen)

    def _others(self) -> None:
        """Note the nodes whose memory is not estimated, and the unknown ones."""
        for node in self.of("more"):
            self._leave(node.type, NOT_WEIGHED, raises=True)
        if any(node.type == WRAPPER for node in self.nodes):
            self._leave(WRAPPER, WHOLE)
        changing = self._model_passing_types()
        strange = dict.fromkeys(n.type for n in self.nodes if not _role(n.type))
        for name in sorted(strange, key=lambda one: one not in changing)[:MOST_NAMED]:
            if name in changing:
                why = "a node that we do not know, and it is given the model"
                self._leave(name, why, raises=True, lowers=True)
            else:
                self._leave(name, "a node that we do not know")
        if len(strange) > MOST_NAMED:
            self._leave("nodes", f"{len(strange) - MOST_NAMED} more nodes that we do not know")


def _pipeline(name: str) -> CataloguePipeline | None:
    return find(name) or of_repository(name)


def _count(value: Any) -> int | None:
    """Return a number as ComfyUI converts it from text or fractions; None if it is invalid or out
    of range."""
    try:
        number = None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and 0 < number <= LARGEST else None


def _named_widget(node: FlowNode) -> str:
    """Return the loader's widget with a file name."""
    widgets = known_nodes()[node.type].widgets
    return [one for one in widgets if "name" in one or "model" in one][-1]


def _form(file: str) -> str:
    """Return the format in a file's name; "" without one."""
    form = FORMAT.search(file.lower())
    return "" if form is None else form[0] if form[0] == "fp8" else form[0].upper()


def _in_a_circle(nodes: Mapping[str, FlowNode]) -> FlowNode | None:
    """Return a node that depends on its own output; None if there is none."""
    needed = {name: {o for o in node.links.values() if o in nodes} for name, node in nodes.items()}
    free = [name for name, origins in needed.items() if not origins]
    users: dict[str, list[str]] = {}
    for name, origins in needed.items():
        for origin in origins:
            users.setdefault(origin, []).append(name)
    left = {name: len(origins) for name, origins in needed.items()}
    while free:
        done = free.pop()
        del left[done]
        for user in users.get(done, ()):
            left[user] -= 1
            free += [] if left[user] else [user]
    if not left:
        return None
    name, seen = next(iter(left)), set[str]()  # depends on the circle, or is on it
    while name not in seen:
        seen.add(name)
        name = next(origin for origin in needed[name] if origin in left)
    return nodes[name]


def _component(file: str, parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the component that a text encoder's file is for; "" if none has a similar name."""
    word = next((cls for sign, cls in ENCODERS if sign in file), "")
    likely = [
        name
        for name, config in parts.items()
        if word and any(word in cls for cls in config.get("architectures") or ())
    ]
    return likely[-1 if "clip_g" in file else 0] if likely else ""


KIND = Kind(
    name="comfyui",
    title="ComfyUI workflow",
    syntaxes=("json",),
    source="https://github.com/Comfy-Org/ComfyUI/blob/v0.3.64/nodes.py",
    tells=tells,
    read=read,
)
