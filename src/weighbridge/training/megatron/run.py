"""Sharding of a Megatron run, and its other settings that decide bytes."""

from typing import Literal

from weighbridge.base.records import frozen_record
from weighbridge.base.units import ceil_div
from weighbridge.settings.ranks import RING, Ranks

Kernel = Literal["fused", "flash", "unfused", "local"]
HOPPER = (9, 0)
WEIGHT = 2  # bytes per element in 16 bits
Dispatcher = Literal["allgather", "alltoall", "deepep", "hybridep"]


@frozen_record
class MegatronRun(Ranks):
    """The numbers of ranks, and the settings of Megatron-core that affect memory. `chunks` are the
    model parts per stage, which take turns (virtual pipeline), and `layout` the layers of each
    part; () if all have as many. `fused_gradients`: linears add to the main gradients themselves.
    `uneven`: tokens of a rank's experts, as a multiple of an equal part."""

    chunks: int = 1
    layout: tuple[int, ...] = ()
    group: int = 0  # micro-batches that a chunk takes in turn; 0: as many as stages
    receives_ahead: bool = True  # chunks receive ahead (overlap_p2p_communication)
    receives_early: bool = False  # also around the first and last micro-batches of a step
    context_by: str = RING
    moves: bool = False  # activations go to the host (fine_grained_activation_offloading)
    expert_tensor: int = 1
    sequence_parallel: bool = False
    length: int = 4096
    batch: int = 1
    accumulation: int = 1
    distributed_optimizer: bool = False
    sharded: str = ""  # how data-parallel ranks shard weights: sharded.py
    double_buffers: bool = False  # double buffers for layers with gathered weights
    instances: int = 1  # instances of the distributed optimizer
    main_gradient: int = 4  # bytes per element
    muon: bool = False  # Muon updates matrices
    in_turn: bool = False  # Muon's tensors go to ranks in turn (no_use_layer_wise_param_layout)
    states: int = 12  # bytes per element: master weights and both averages
    remainders: bool = False  # perhaps only the lower halves of master weights are kept
    precise: bool = False  # the optimizer reads gradients of other dtypes (precision-aware)
    widened: int = 0  # states per element that a step copies to float32
    widened_before: int = 0  # the same in older releases, if none is named
    offloaded: float = 0.0  # share of states that are on the host
    lora: int = 0  # LoRA rank, with frozen weights; 0: full training
    targets: tuple[str, ...] = ()  # name prefixes of linears with adapters; (): all
    adapter_dropout: bool = False
    fused_gradients: bool = True
    deferred: int | None = None  # micro-batches whose head gradient is deferred; 0: all
    engine: bool = True  # Transformer Engine's modules are used; else Megatron's own
    attention: Kernel = "fused"
    fused_softmax: bool = True  # in Megatron's own attention
    wide_softmax: bool = False  # softmax in float32
    scaled_by_layer: bool = False  # attention scores are scaled by the layer's number
    loss: str = "unfused"  # unfused, native, te
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    recompute: str = "none"  # none, uniform, block
    recomputed: int = 1  # layers per recomputed group, or per stage
    spreads: bool = False  # shards the kept input of a recomputed group over tensor ranks
    modules: tuple[str, ...] = ()  # modules that are recomputed one by one
    dispatcher: Dispatcher = "allgather"
    grouped: bool = False
    capacity: float | None = None  # tokens per expert, as a multiple of its equal part; padded
    uneven: float = 1.0
    shared_beside: bool = False  # shared experts run concurrently with the routed ones
    fused_permutation: bool = False
    fused_activation: bool = True
    router_wide: bool = False  # the router computes in float32
    balances: bool = True  # there is a load-balancing loss
    predicts: int = 0  # further tokens, with a layer each (mtp_num_layers)
    overlaps: bool = False  # products overlap with tensor-parallel communication (tp_comm_overlap)
    float8: str = ""  # scaling recipe of fp8 products; "": 16 bits
    float8_parameters: bool = False  # weights exist only in 8 bits
    keeps_transposes: bool = True  # transposed 8-bit weights are cached between products
    reuses_gradients: bool = False  # weights in mxfp8 are gathered in the gradients' buffer
    plain_ends: tuple[int, int] = (0, 0)  # numbers of first and last layers that stay in 16 bits
    graphs: str = ""  # CUDA graphs: of layers (local, transformer_engine), or full_iteration
    deterministic: bool = False
    yarn: bool = True  # MLA has YaRN's rotary angles (rope_type)
    masks: bool = True  # the data loader makes a mask of all pairs of tokens
    multiple: int = 128  # of which the vocabulary is padded (make_vocab_size_divisible_by)
    capability: tuple[int, int] = (9, 0)
    expandable: bool = False  # expandable segments of the allocator
    workspace: int = 0  # bytes of cuBLAS per thread that multiplies
    release: tuple[int, ...] | None = None  # a date; None is the newest

    @property
    def expert_data(self) -> int:
        """Return the number of ranks that hold the same experts."""
        return self.cards // (self.pipeline * self.expert * self.expert_tensor)

    @property
    def turns(self) -> int:
        """Return how many micro-batches a chunk runs before the next chunk's turn."""
        return self.group or self.pipeline

    @property
    def tokens(self) -> int:
        """Return the tokens of a micro-batch on one context-parallel rank."""
        return ceil_div(self.length * self.batch, self.context)

    @property
    def mask(self) -> int:
        """Return the bytes per micro-batch that a context-parallel rank keeps of the data loader's
        mask."""
        return self.batch * self.length**2 // self.context if self.masks else 0

    @property
    def parts(self) -> int:
        """Return how many ranks shard the tokens between layers."""
        return self.tensor if self.sequence_parallel else 1
