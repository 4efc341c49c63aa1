"""Forward of one micro-batch through a chunk of a stage: embedding, layers, head and loss.

    loader       a mask of all pairs of tokens, which is alive while the ends of the model run
    embedding    looked up, positions added, transposed to [tokens, batch], scattered, dropped
    head         tokens of all tensor ranks are gathered in the shared buffer; its outputs are
                 sharded
    loss         unfused: a float32 copy of the outputs, besides them
                 native: two such copies for a moment, in kernels of torch.compile; three on
                 A100
                 te: the gradient in the place of the outputs

    deferred     with defer_embedding_wgrad_compute the head's gradient is made at the end of the
                 step, of as many micro-batches as wgrad_deferral_limit sets

    further      with mtp_num_layers each further token has its own embedding lookup, linear, layer
                 and outputs

Source: Megatron-LM d98e8a6 pretrain_gpt.py, core/utils.py (get_batch_on_this_tp_rank),
core/models/gpt/gpt_model.py, core/transformer/multi_token_prediction.py,
core/models/common/embeddings/{language_model_embedding,rotary_pos_embedding,
yarn_rotary_pos_embedding}.py, core/tensor_parallel/{layers, cross_entropy}.py, core/utils.py
(drain_embedding_wgrad_compute), core/fusions/fused_cross_entropy.py; Transformer Engine c188b53
pytorch/cross_entropy.py.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

from weighbridge.base.dtypes import BFLOAT16, BOOL, FLOAT32, INT64
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.machine import Grads, Machine, Needs, passed, record, remade
from weighbridge.training.forward.splice import SplicedLayer, Splices, Whole
from weighbridge.training.forward.tensors import Computed, LeafTensor, Shape, Tensor
from weighbridge.training.megatron import hybrid
from weighbridge.training.megatron.delta import gated_delta_net
from weighbridge.training.megatron.float8 import in_float8
from weighbridge.training.megatron.layers import (
    LayerWeights,
    LinearWeight,
    RankMachine,
    column_linear,
    layer,
    norm,
    self_attention,
)
from weighbridge.training.megatron.model import DELTA, linears
from weighbridge.training.megatron.run import HOPPER
from weighbridge.training.megatron.sharded import ShardedLayers
from weighbridge.training.megatron.states import StageNumbers, layers_of

INTEGERS = 4  # int64 elements per token: id, label, position, and whether it counts
# Further float32 copies of the outputs that the native fusion holds for a moment, by whether the
# card is Hopper or later: two runs on A100 took one more, and 63 MiB; its kernels were not read
NATIVE = {True: 1, False: 2}
# MLATransformerConfig.original_max_position_embeddings, which has no argument of its own
YARN_PLACES = 4096
OFTEN = 6  # chunks with at least OFTEN layers per pipeline stage are traced layer by layer
# (weights, letter of a hybrid layer, whether it has experts, index in the stage)
Layer = tuple[LayerWeights, str, bool, int]
# (whether layers are recomputed together, (letter, whether it has experts, whether in 8 bits) of
# each)
GroupKind = tuple[bool, tuple[tuple[str, bool, bool], ...]]


class StageProgram:
    """The forward of one pipeline stage's rank, chunk by chunk."""

    def __init__(
        self,
        rank: RankMachine,
        stage: int,
        numbers: StageNumbers,
        splices: Splices | None = None,
    ) -> None:
        """Set up the weights of a stage. `splices`: few of the layers that are alike are traced;
        None traces all."""
        model, run = rank.model, rank.run
        self.rank = rank
        self.stage = stage
        self._splices = splices
        self._times: Counter[int] = Counter()  # forwards so far, by chunk
        rows = model.rows(run.tensor, run.multiple) // run.tensor
        self._table = LeafTensor("embedding", (rows, model.hidden), BFLOAT16, None)
        self._table.hooks.append(_forget)
        self._head = LinearWeight((model.outputs(run.tensor, run.multiple), model.hidden))
        places = count()
        self._chunks = [
            [self._layer(i, next(places)) for i in chunk] for chunk in layers_of(model, run, stage)
        ]
        self._ahead = [self._layer(model.layers + i, next(places)) for i in range(run.predicts)]
        self._given: dict[int, Tensor | None] = {}
        self._deferred: list[tuple[Tensor, list[Tensor]]] = []
        self._drained: list[Tensor] = []
        self._waves = list(self._waves_of_yarn())
        self._angles: list[Tensor] = []
        others = numbers.all - sum(numbers.layers)
        self.shared = ShardedLayers(rank.m, run, numbers.layers, others)
        if self.shared.reduces:  # weights that are gathered and freed are not the layer's own
            self._splices = None

    def first(self, chunk: int) -> bool:
        """Return whether a chunk of the stage begins with the embedding."""
        return self.stage == 0 and chunk == 0

    def last(self, chunk: int) -> bool:
        """Return whether a chunk of the stage ends with the loss."""
        run = self.rank.run
        return self.stage == run.pipeline - 1 and chunk == run.chunks - 1

    def _layer(self, index: int, place: int) -> Layer:
        model, run, routed = self.rank.model, self.rank.run, self.rank.model.routed(index)
        found = linears(model, run.tensor, run.expert_tensor, index)
        sizes = [(x.name, x.rows, x.columns) for x in found]
        weights = LayerWeights(sizes, low=in_float8(model, run, index))
        return weights, model.letter(index), routed, place

    @property
    def _rotary_parts(self) -> tuple[int, int]:
        """Return (number of parts with their own rotary angles, their width): each MLA layer is
        such a part, else each chunk."""
        model = self.rank.model
        if model.latent is not None:
            return sum(map(len, self._chunks)) + len(self._ahead), model.latent.rotary
        return len(self._chunks) if model.rotary else 0, model.head_dim

    def _waves_of_yarn(self) -> Iterator[Tensor]:
        """Yield YaRN's cosines and sines of the first positions, which are made with the
        weights."""
        count, width = self._rotary_parts
        if self.rank.model.latent is not None and self.rank.run.yarn:
            for _ in range(2 * count):
                yield self.rank.m.new((YARN_PLACES, width), BFLOAT16, "buffers")

    def _turned(self) -> None:
        """Make the rotary angles, which are cached (lru_cache of forward)."""
        run, (count, width) = self.rank.run, self._rotary_parts
        if not self._angles:
            shape = run.length // run.context, width
            self._angles = [self.rank.m.new(shape, FLOAT32, "buffers") for _ in range(count)]

    def received(self) -> LeafTensor:
        """Return hidden states, or their gradient, received from another stage."""
        rank = self.rank
        sent = rank.m.new((rank.rows, rank.model.hidden), BFLOAT16)
        return LeafTensor("input", sent.shape, sent.dtype, sent.storage)

    def forward(self, x: Tensor | None, chunk: int) -> Tensor:
        """Return a chunk's output, or its loss if it is the last; `x` is None for the first
        chunk."""
        self._turned()
        self.shared.begin()
        given = self._batch(chunk)
        self._given[chunk] = x  # the decoder holds it with its gradient (set_input_tensor)
        hidden = self._embedded() if x is None else x
        del x
        hidden = self._through(chunk, hidden)
        if not self.last(chunk):
            return hidden
        loss = self._loss(hidden)
        del given
        return loss

    def _batch(self, chunk: int) -> list[Tensor]:
        """Return the data loader's tensors: tokens with labels and the like, and in the first and
        last chunk the attention mask, one byte per pair, of which each context rank keeps its
        rows."""
        m, run = self.rank.m, self.rank.run
        given = [m.new((INTEGERS * run.tokens,), INT64)]
        if run.masks and (self.first(chunk) or self.last(chunk)):
            pairs = m.new((run.batch, run.length, run.length), BOOL, "buffers")
            if run.context > 1:
                rows = run.length // run.context
                pairs = m.new((run.batch, rows, run.length), BOOL, "buffers")
            given.append(pairs)
        return given

    def _through(self, chunk: int, hidden: Tensor) -> Tensor:
        """Return the output of a chunk's layers. If many micro-batches run through few layers, all
        layers are spliced as one."""
        m, layers, splices = self.rank.m, self._chunks[chunk], self._splices
        if splices is None or len(layers) >= OFTEN * self.rank.run.pipeline:
            return self._in_turn(layers, hidden, splices)
        if not layers:
            return hidden
        number = self._times[chunk]
        self._times[chunk] += 1
        whole = partial(self._in_turn, layers, splices=None)
        return splices.repeat(m, (chunk, hidden.requires_grad), number, whole, hidden)

    def _in_turn(self, layers: list[Layer], hidden: Tensor, splices: Splices | None) -> Tensor:
        groups = list(self._groups(layers))
        alike = Counter(kind for kind, *_ in groups)
        before: Counter[GroupKind] = Counter()
        for kind, group, run in groups:
            if splices is None:
                hidden = run(hidden)
                continue
            place = SplicedLayer((), before[kind], alike[kind], group[-1] is layers[-1])
            before[kind] += 1
            key = kind, self.rank.m.grad, hidden.requires_grad
            hidden = splices.run(self.rank.m, key, place, run, hidden)
        return hidden

    def _groups(self, layers: list[Layer]) -> Iterator[tuple[GroupKind, list[Layer], Whole]]:
        """Yield (kind, layers, function that runs them) for each group of layers that is recomputed
        together, and for each other layer. Groups of one kind run alike."""
        how = self.rank.run.recompute
        size = self.rank.run.recomputed if how == "uniform" else 1
        for start in range(0, len(layers), size):
            group = layers[start : start + size]
            again = how == "uniform" or (how == "block" and start < self.rank.run.recomputed)
            kind = again, tuple((letter, routed, w.low) for w, letter, routed, _ in group)
            yield kind, group, partial(self._again if again else self._once, group)

    def _once(self, group: list[Layer], hidden: Tensor) -> Tensor:
        for each in group:
            hidden = self._run(each, hidden)
        return hidden

    def _run(self, each: Layer, hidden: Tensor) -> Tensor:
        weights, letter, routed, place = each
        if letter in ("", DELTA):
            mixer = gated_delta_net if letter else self_attention
            run = partial(layer, self.rank, weights, routed=routed, mixer=mixer)
        else:
            run = partial(hybrid.layer, self.rank, weights, letter)
        return self.shared.around(place, run, hidden)

    def _again(self, group: list[Layer], hidden: Tensor) -> Tensor:
        """Return the output of recomputed layers; only their input is saved."""
        run = partial(self._once, group)
        if self.rank.run.spreads and self.rank.run.tensor > 1:
            return self._spread(run, hidden)
        out: Tensor = checkpoint(self.rank.m, run, hidden, reentrant=True)
        return out

    def _spread(self, run: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        """Return the output of recomputed layers whose saved input is sharded over tensor ranks,
        and gathered again (distribute_saved_activations)."""
        m, shape = self.rank.m, hidden.shape
        part = m.new((hidden.rows // self.rank.run.tensor, shape[-1]), BFLOAT16)
        part = remade(m, hidden, part)

        def gathered(x: Tensor) -> Tensor:
            return run(remade(m, x, m.new(shape, BFLOAT16)))

        out: Tensor = checkpoint(m, gathered, part, reentrant=True)
        return out

    def _embedded(self) -> Tensor:
        rank, table = self.rank, self._table
        m, run = rank.m, rank.run
        ids = m.new((run.tokens,), INT64)
        hidden = m.new((run.tokens, rank.model.hidden), BFLOAT16)

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            return [m.new(table.shape, BFLOAT16)]

        record(m, back, [table], [ids], hidden)
        if rank.model.positions:
            hidden = passed(m, hidden, m.new(hidden.shape, BFLOAT16))
        hidden = remade(m, hidden, m.new(hidden.shape, BFLOAT16))
        if run.parts > 1:
            hidden = remade(m, hidden, m.new((rank.rows, rank.model.hidden), BFLOAT16))
        if run.hidden_dropout:
            out = m.new(hidden.shape, BFLOAT16)
            hidden = remade(m, hidden, out, m.new(hidden.shape, BOOL))
        return hidden

    def _loss(self, hidden: Tensor) -> Tensor:
        rank = self.rank
        hidden = norm(rank, hidden)
        if self._ahead:
            hidden = self._with_predicted_tokens(hidden)
        return self._predicted(hidden)

    def _with_predicted_tokens(self, hidden: Tensor) -> Tensor:
        """Return hidden states after predicting further tokens, whose losses depend on the next
        one's hidden states: all are concatenated first (process_mtp_loss, MTPLossAutoScaler)."""
        m, made = self.rank.m, [hidden]
        for each in self._ahead:
            run = partial(self._further, each)
            whole = self.rank.run.recompute != "none"
            made.append(checkpoint(m, run, made[-1], reentrant=True) if whole else run(made[-1]))
        together = m.new((len(made) * hidden.rows, hidden.shape[-1]), BFLOAT16)
        shape = hidden.shape

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            return [Computed(shape, BFLOAT16, grads[0].storage) for _ in made_of]

        made_of = range(len(made))
        record(m, back, made, [], together)
        made.clear()
        first, *others = _pieces(m, together, shape, len(made_of))
        for other in others:
            first = _tied(m, first, self._predicted(other))
        return first

    def _further(self, each: Layer, hidden: Tensor) -> Tensor:
        """Return MultiTokenPredictionLayer.forward: embeddings and hidden states, each normed,
        concatenated through a column-parallel linear, then a layer and a norm."""
        rank = self.rank
        m, wide = rank.m, 2 * rank.model.hidden
        pair = norm(rank, self._embedded()), norm(rank, hidden)
        both = m.new((rank.rows, wide), BFLOAT16)
        shapes = [x.shape for x in pair]

        def apart(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            return [Computed(shape, BFLOAT16, grads[0].storage) for shape in shapes]

        record(m, apart, list(pair), [], both)
        del pair
        rows, low = rank.model.hidden // rank.run.tensor, bool(rank.run.float8)
        out = column_linear(rank, both, LinearWeight((rows, wide), low))
        del both
        whole = (rank.run.tokens, rank.model.hidden)
        if rank.run.tensor > 1:
            out = remade(m, out, m.new(whole, BFLOAT16))
        if rank.run.parts > 1:
            out = remade(m, out, m.new((rank.rows, rank.model.hidden), BFLOAT16))
        return norm(rank, self._run(each, out))

    def _predicted(self, hidden: Tensor) -> Tensor:
        """Return the loss of the head's logits for normed hidden states."""
        rank, head = self.rank, self._head
        m, parts = rank.m, 1 if rank.model.values else rank.run.parts
        if parts > 1:
            with m.no_grad():
                rank.gathered(hidden, rank.run.tokens)
        shape, rows = hidden.shape, rank.rows if rank.model.values else rank.run.tokens
        logits = m.new((rows, head.shape[0]), BFLOAT16, "logits")
        m.product()
        later = self._deferred_gradients(hidden)

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            if later is not None:
                later.append(grads[0])
            given = m.new((rows, shape[-1]), BFLOAT16)
            m.product()
            of_hidden = m.new(shape, BFLOAT16) if parts > 1 else given
            of_weight = rank.gradient(head.shape)
            del given, of_weight
            return [of_hidden]

        record(m, back, [hidden], [hidden], logits)
        with m.making("logits"):
            return self._entropy(logits)

    def _deferred_gradients(self, hidden: Tensor) -> list[Tensor] | None:
        """Return a list that holds the logits' gradient until the step ends; None if the head's
        gradient is made at once. Its input keeps the graph alive, and the stage's input tensor."""
        limit = self.rank.run.deferred
        if limit is None or (limit and len(self._deferred) >= limit):
            return None
        kept: list[Tensor] = []
        self._deferred.append((hidden, kept))
        return kept

    def end(self) -> None:
        """Finish a step: make deferred gradients, and free gathered weights."""
        self._make_deferred_gradients()
        self.shared.end()

    def _make_deferred_gradients(self) -> None:
        """Make the deferred gradients of the head. With sequence parallelism tokens are gathered in
        two buffers in turn, which live as long as the run (drain_embedding_wgrad_compute)."""
        rank = self.rank
        if self._deferred and rank.run.parts > 1 and not self._drained:
            shape = rank.run.tokens, rank.model.hidden
            count = min(2, len(self._deferred))
            self._drained = [rank.m.new(shape, BFLOAT16, "buffers") for _ in range(count)]
        self._deferred.clear()

    def _entropy(self, logits: Tensor) -> Tensor:
        m, shape = self.rank.m, logits.shape
        losses = m.new((shape[0],), FLOAT32)
        if self.rank.run.loss == "te":
            written = logits.detach()

            def there(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
                return [saved[0]]

            record(m, there, [logits], [written], losses)
            return losses
        copies = NATIVE[self.rank.run.capability >= HOPPER] if self.rank.run.loss == "native" else 0
        shifted = [m.new(shape, FLOAT32) for _ in range(copies)]
        soft = m.new(shape, FLOAT32)
        shifted.clear()

        def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
            return [m.new(shape, BFLOAT16, "logits")]

        record(m, back, [logits], [soft], losses)
        return losses


def _forget(m: Machine, leaf: LeafTensor) -> None:
    """Free a parameter's gradient, which was added to the main gradient."""
    leaf.grad = None


def _pieces(m: Machine, x: Tensor, shape: Shape, count: int) -> list[Tensor]:
    """Return `count` views of equally many rows (torch.chunk); backward joins their gradients."""
    outs: list[Tensor] = [Computed(shape, x.dtype, x.storage) for _ in range(count)]
    whole = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(whole, BFLOAT16)]

    record(m, back, [x], [], *outs)
    return outs


def _tied(m: Machine, x: Tensor, loss: Tensor) -> Tensor:
    """Return the hidden states `x`, whose backward also goes through `loss`."""
    out = Computed(x.shape, x.dtype, x.storage)
    shape = loss.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [grads[0], m.new(shape, FLOAT32)]

    record(m, back, [x, loss], [], out)
    return out
