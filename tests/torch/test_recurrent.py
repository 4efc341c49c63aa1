"""Recurrent layers by one operation of cuDNN: at most what torch's own steps take, and little less."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())
TIMES, ROWS, WIDTH = 12, 256, 32
KINDS = [nn.LSTM, nn.GRU, nn.RNN]


def peaks(kind, *, cudnn, train=True, **settings):
    """What a layer takes beyond its weights and input: kept behind it, at most in it and in its
    backward."""
    with FakeGPU("a100-80gb") as gpu, torch.backends.cudnn.flags(enabled=cudnn):
        nn.Linear(8, 8).cuda()(torch.randn(8, 8, device="cuda")).sum().backward()  # workspaces
        layer = kind(WIDTH, WIDTH, **settings).cuda().train(train)
        x = torch.randn(TIMES, ROWS, WIDTH, device="cuda", requires_grad=train)
        before, levels = torch.cuda.memory_allocated(), gpu.tape.levels
        with torch.set_grad_enabled(train):
            out, _ = layer(x)
        kept, most = torch.cuda.memory_allocated() - before, max(levels) - before
        if not train:
            return kept, most
        after = len(levels)
        out.sum().backward()
        return kept, most, max(levels[after:]) - before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=str)
def test_a_layer_takes_at_most_what_its_steps_do_and_little_less(kind, settings):
    """Backward has its gradients beside all that was kept, which steps let go one by one."""
    steps, whole = (peaks(kind, cudnn=cudnn, **settings) for cudnn in (False, True))
    for one_by_one, at_once, most in zip(steps, whole, (1.25, 1.25, 2.5), strict=True):
        assert 0.8 * one_by_one < at_once < most * one_by_one


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_without_training_but_what_comes_out(kind):
    """A layer keeps its output, beside which the first hidden state was made, and the last."""
    kept, most = peaks(kind, cudnn=True, train=False)
    assert kept == (TIMES + 1 + (kind is nn.LSTM)) * ROWS * WIDTH * 4 < most


def test_it_costs_as_many_allocations_however_long_it_is():
    counts = []
    for times in (4, 400):
        with FakeGPU("t4") as gpu:
            layer = nn.LSTM(8, 16, 2, batch_first=True).cuda()
            layer(torch.randn(3, times, 8, device="cuda"))[0].sum().backward()
        counts.append(len(gpu.tape.events))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_shapes_and_types_are_those_of_a_run_on_the_cpu(kind, batch_first, packed):
    def outcome(device):
        layer = kind(16, 32, 2, batch_first=batch_first, bidirectional=True, bias=packed)
        layer = layer.to(device)
        shape = (3, 7, 16) if batch_first else (7, 3, 16)
        x = torch.randn(shape, device=device, requires_grad=True)
        given = pack_padded_sequence(x, torch.tensor([7, 5, 3]), batch_first) if packed else x
        out, hidden = layer(given)
        out = out.data if packed else out
        out.sum().backward()
        hidden = hidden if isinstance(hidden, tuple) else (hidden,)
        gradients = (p.grad for p in (x, *layer.parameters()))
        return [(t.shape, t.dtype) for t in (out, *hidden, *gradients)]

    expected = outcome("cpu")
    with FakeGPU("a100-80gb"):
        assert outcome("cuda") == expected


def test_a_projection_and_half_precision():
    with FakeGPU("a100-80gb"):
        layer = nn.LSTM(16, 32, proj_size=8).cuda()
        with torch.autocast("cuda", torch.float16):
            out, (h, c) = layer(torch.randn(5, 2, 16, device="cuda"))
        assert [t.dtype for t in (out, h, c)] == [torch.float16] * 3
        assert (out.shape[-1], h.shape[-1], c.shape[-1]) == (8, 8, 32)
        out.sum().backward()
        assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}


def test_its_backward_is_refused_in_evaluation_as_a_card_refuses_it():
    with FakeGPU("a100-80gb"):
        layer = nn.LSTM(16, 32).cuda().eval()
        out, _ = layer(torch.randn(5, 2, 16, device="cuda"))
        with pytest.raises(RuntimeError, match="only be called in training mode"):
            out.sum().backward()


@pytest.mark.parametrize("cudnn", [True, False])
def test_cudnns_is_at_most_so_much_and_steps_are_what_they_are(cudnn):
    """So it may be a "fits", and never a "does not fit"."""
    with warnings.catch_warnings(), torch.inference_mode(), FakeGPU("t4") as gpu:
        warnings.simplefilter("error")
        with torch.backends.cudnn.flags(enabled=cudnn):
            nn.GRU(16, 16).cuda()(torch.randn(4, 2, 16, device="cuda"))
    assert bool(gpu.recorder.looks.most) == cudnn


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_step_by_step_have_the_shapes_of_the_cpu(kind, bias):
    def outcome(device):
        cell, state = kind(16, 32, bias=bias).to(device), None
        for _ in range(3):
            state = cell(torch.randn(4, 16, device=device), state)
        (state[0] if kind is nn.LSTMCell else state).sum().backward()
        return [p.grad.shape for p in cell.parameters()]

    expected = outcome("cpu")
    with FakeGPU("a100-80gb"):
        assert outcome("cuda") == expected


def test_a_gru_s_cell_keeps_five_states_for_backward():
    """aten/src/ATen/native/cuda/RNN.cu; beside them the new state, and three of each product, which
    its derivative names (tools/autograd/derivatives.yaml)."""
    with FakeGPU("t4") as gpu:
        cell, x = nn.GRUCell(128, 128).cuda(), torch.randn(64, 128, device="cuda")
        state = torch.zeros(64, 128, device="cuda")
        cell(x, state)
        before = torch.cuda.memory_allocated()
        kept = cell(x, state)
        assert torch.cuda.memory_allocated() - before == (5 + 1 + 3 + 3) * 64 * 128 * 4
        del kept
    assert gpu.tape.levels[-1] == before
