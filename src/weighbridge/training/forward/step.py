"""One forward as the nets see it: the class in memory, the batch, the versions, and the hooks of
its rank around parameters, layers and gradients."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, final

from weighbridge.base.dtypes import DType
from weighbridge.base.records import dataclass, field
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import facts
from weighbridge.models.arch.roles import role
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.modules import Module, ParameterSpec
from weighbridge.training.forward.prompts import KeyPrefix, Prompt
from weighbridge.training.forward.tensors import Computed, LeafTensor, Tensor, TensorStorage

if TYPE_CHECKING:
    from weighbridge.training.forward.alike import Alike

# Rates of configuration classes that are not 0 (transformers models/*/configuration_*.py): files
# of configs, and our catalogue, may leave them out. The table of model types names them.
DROPOUTS: Mapping[str, Mapping[str, float]] = {
    "hidden": dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.1),
    "pdrop": dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.1),
    "dropout": {"dropout": 0.1},
    "dropout_rate": {"dropout_rate": 0.1},
    "dropout_and_attention": {"dropout": 0.1, "attention_dropout": 0.1},
    "attention_and_residual": {"attention_dropout": 0.1, "residual_dropout": 0.1},
    "classifier": {"classifier_dropout_prob": 0.1},
    "with_classifier": {"dropout": 0.1, "attention_dropout": 0.1, "seq_classif_dropout": 0.2},
    "": {},
}


@dataclass(slots=True, kw_only=True)
class BuiltModel:
    """The class in memory, as a forward uses it. `layers` are those of the language model; `base`
    is the module that holds them."""

    root: Module
    base: Module
    layers: list[Module]
    params: dict[str, LeafTensor]
    body: Body
    config: Config  # the language model's own
    kind: str  # its model type
    whole: Config | None = None  # config of the whole class
    buffers: list[Tensor] = field(default_factory=list)
    encoder: list[Module] = field(default_factory=list)  # layers of the encoder
    kept: dict[int, Tensor] = field(default_factory=dict)  # by modules, to their next run
    parts: dict[str, str] = field(default_factory=dict)  # the component that a parameter belongs to
    prompt: Prompt | KeyPrefix | None = None  # trained prompt or prefix, before the tokens

    @property
    def own(self) -> list[LeafTensor]:
        """Return each parameter once; a head tied to the embedding has two names."""
        return list({id(p): p for p in self.params.values()}.values())

    @property
    def headless(self) -> bool:
        """Return whether the head has no weight of its own: there is no head, or it is tied to the
        embedding."""
        return not any(role(name) == "head" for name in self.params)

    @property
    def stacks(self) -> dict[str, Module]:
        """Return all layers by path, in the order in which they run."""
        return {layer.path: layer for layer in (*self.encoder, *self.layers)}


class Around:
    """The hooks of one rank's sharding, which do nothing here: abstract, never instantiated.
    `early`: optimizer states are made with the optimizer; `apart`: it updates one parameter at a
    time; `host`: bytes kept in host memory, `pinned`: the same with each tensor in a pinned block
    of its own."""

    early = apart = False
    waits = False  # whether only a step's last micro-batch reduces gradients
    saves = False  # whether saving takes GPU memory
    host = pinned = 0
    groups: tuple[int, ...] = ()  # elements per optimizer group, if it steps by groups

    def place(self, m: Machine, spec: ParameterSpec, dtype: DType) -> LeafTensor:
        """Return one parameter of the class, allocated."""
        return m.param(spec.name, spec.shape, dtype, kind=spec.kind)

    def adapter(self, m: Machine, spec: ParameterSpec, dtype: DType) -> LeafTensor:
        """Return one trained parameter besides a frozen base, allocated."""
        return m.param(spec.name, spec.shape, dtype, component="adapters", kind=spec.kind)

    def placed(self, m: Machine, built: BuiltModel) -> None:
        """Run when the whole model is in memory, and it is known what is trained."""

    def stepped(self, built: BuiltModel) -> list[LeafTensor]:
        """Return the parameters that this rank's optimizer updates."""
        return [p for p in built.own if p.trainable]

    def starting(self, m: Machine) -> TensorStorage | None:
        """Return a tensor that lives while states are made with the optimizer, or None."""
        return None

    def begins(self, m: Machine, built: BuiltModel) -> None:
        """Run before each forward."""

    def layer(self, m: Machine, p: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return `run(x)`, the forward of one layer, with hooks around it and, through the graph,
        around its backward."""
        return run(x)

    def logits(self, m: Machine, logits: Tensor) -> Tensor:
        """Return the logits unchanged; a strategy may change them after the head."""
        return logits

    def turns(self, m: Machine, built: BuiltModel, *, last: bool) -> None:
        """Run between a micro-batch's forward and its backward; `last` of the step."""

    def after_backward(self, m: Machine, built: BuiltModel, *, last: bool) -> None:
        """Run when the gradients of a micro-batch exist; `last` of the step."""

    def before_step(self, m: Machine, built: BuiltModel) -> None:
        """Run before the optimizer steps."""

    def after_step(self, m: Machine, built: BuiltModel) -> None:
        """Run after the optimizer's step."""

    def saving(self, m: Machine, built: BuiltModel) -> None:
        """Allocate what saving a checkpoint of the whole model takes: parameters are gathered one
        at a time, and copied to the host. Called only if `saves`."""
        largest = max(built.own, key=lambda p: p.numel)
        m.hidden(largest.nbytes, largest.nbytes)


@final
class Unshared(Around):
    """The hooks of a process that shards nothing: none does anything."""


@dataclass(slots=True, kw_only=True)
class TrainingStep:
    """The inputs of one training step. `dtype` is that of weights, and of activations unless
    autocast lowers them."""

    m: Machine
    built: BuiltModel
    batch: int
    length: int
    dtype: DType
    kernel: str | None  # the user's attention; None is the class's own
    torch: tuple[int, int] = (2, 13)
    checkpointing: str = "none"  # full, selective, offload
    reentrant: bool = False
    token_ranks: int = 1  # that share the tokens between layers (sequence parallelism)
    sequence_ranks: int = 1  # context-parallel ranks; `length` is one rank's part of a sequence
    sequence_by: str = ""  # method of context-parallel attention (parts/sequence.py); "": none
    answer: int = 0  # scored tokens per row; 0: all
    compiled: bool = False  # torch.compile compiles layers and loss
    release: tuple[int, ...] | None = None  # of the framework; None is the newest
    transformers: tuple[int, int] = (5, 23)
    patch: int = 0  # the third number of its release
    stream: DType | None = None  # dtype of the layers' input, if it is not the embedding's
    padded: bool = False  # whether a mask is needed for padding
    dropout: bool = True  # whether the config's dropouts are applied
    image_size: tuple[int, int] | None = None  # (height, width); None: the config's own
    items: dict[str, int] = field(default_factory=dict)  # images and audio clips per sequence
    around: Around = field(default_factory=Unshared)
    alike: "Alike | None" = None  # layers of which few are traced; None: all are
    inputs: list[Tensor] = field(
        default_factory=list
    )  # held by the training loop until the loss exists
    outputs: list[Tensor] = field(default_factory=list)  # what they hold besides logits
    arrivals: Tensor | None = None  # receive buffer for the previous stage's output
    held: list[Tensor] = field(default_factory=list)  # what the loop holds of the step before
    assumed: list[str] = field(default_factory=list)  # assumptions about the run, as sentences

    @property
    def rows(self) -> int:
        return self.batch * self.length

    @property
    def computing(self) -> DType:
        """Return the dtype in which matrix products run: autocast's, if there is one."""
        return self.m.autocast or self.dtype

    @property
    def prefix(self) -> KeyPrefix | None:
        """Return the trained key-value prefix of prefix tuning, None without one."""
        prompt = self.built.prompt
        return prompt if isinstance(prompt, KeyPrefix) else None

    @property
    def seen(self) -> int:
        """Return the keys per layer: the sequence length plus the trained prefix."""
        return self.length + (self.prefix.tokens if self.prefix else 0)

    def assume(self, sentence: str) -> None:
        if sentence not in self.assumed:
            self.assumed.append(sentence)

    def rate(self, *names: str) -> float:
        """Return the rate of a dropout from the config; 0 if the step drops nothing."""
        if not self.dropout:
            return 0.0
        usual = DROPOUTS[facts(self.built.kind).training.dropouts].get(names[-1], 0.0)
        return self.built.config.ratio(*names, default=usual)


def entered(s: TrainingStep, x: Tensor) -> Tensor:
    """Return the embeddings as the layers' input. With checkpoints PEFT makes frozen ones require a
    gradient (enable_input_require_grads): a leaf, which the graph holds with its gradient. Some
    layers get another dtype than the embedding's."""
    x = x if s.stream is None or x.dtype == s.stream else s.m.new(x.shape, s.stream)
    prompt = s.built.prompt
    if isinstance(prompt, Prompt):
        return prompt.before(s.m, x, held=s.checkpointing != "none" and s.m.grad)
    if s.checkpointing == "none" or x.requires_grad or not s.m.grad:
        return x
    return LeafTensor("input", x.shape, x.dtype, x.storage)


def keeping(m: Machine, x: Tensor, gradients: list[Tensor]) -> Tensor:
    """Return `x` itself; when its gradient exists, both are added to `gradients`."""
    out = Computed(x.shape, x.dtype, x.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradients.extend((saved[0], grads[0]))
        return [grads[0]]

    record(m, back, [x], [x.detach()], out)
    return out


def passing(m: Machine, x: Tensor, call: Callable[[], None]) -> Tensor:
    """Return `x` itself; when its gradient exists, `call` runs."""
    out = Computed(x.shape, x.dtype, x.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        call()
        return [grads[0]]

    record(m, back, [x], [], out)
    return out
