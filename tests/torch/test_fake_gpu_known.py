"""Values that a program made on the host: they are known wherever they go.

The oracle of packed sequences is the same program on the CPU, with real tensors.
"""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.torch.programs import real, recorded
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())


def test_boxes_keep_their_values_on_the_device():
    """Boxes are scaled, clipped and compared as detectors do it. Warnings are errors here."""
    with FakeGPU("a100-80gb"):
        torch.manual_seed(0)
        drawn = torch.rand(20, 4)
        corners = torch.cat([drawn[:, :2], drawn[:, :2] + drawn[:, 2:] + 0.1], dim=1)
        boxes = (corners * torch.tensor(480.0)).cuda()
        x0, _, x1, _ = boxes.unbind(1)
        assert not bool((boxes[:, 2:] <= boxes[:, :2]).any()) and bool((x1 > x0).all())
        wide = torch.where(x1 - x0 > 96)[0]
        assert 0 < wide.numel() < 20 and boxes[wide].shape == (wide.numel(), 4)
        order = torch.sort(x0, descending=True)[1]
        assert sorted(order.tolist()) == list(range(20))


def test_numbers_of_the_device_are_ordered_as_checks_want_it():
    """ "all are no smaller" and "any is no larger" are asked of boxes that are right."""
    with FakeGPU("a100-80gb"):
        boxes = torch.randn(20, 4, device="cuda")
        assert bool((boxes[:, 2:] >= boxes[:, :2]).all())
        with pytest.warns(UserWarning, match="is told 0"):
            assert not bool((boxes[:, 2:] <= boxes[:, :2]).any())


def test_what_is_clamped_is_told_its_least():
    with FakeGPU("a100-80gb"):
        widths = torch.randn(5, device="cuda").clamp(min=1).ceil()
        with pytest.warns(UserWarning, match="is told"):
            assert int(widths[2].item()) == 1


def test_all_of_them_are_known_by_their_number():
    with FakeGPU("a100-80gb"):
        scores = torch.randn(6, device="cuda")
        labels = torch.arange(6, device="cuda") % 2
        with pytest.warns(UserWarning, match="all of them count"):
            found = torch.where(scores > 0.5)[0]
        assert labels[found].unique().tolist() == [0, 1]


def test_few_zeros_are_written_to_one_by_one():
    """A sample is drawn of what nobody knows, and so many are marked."""
    with FakeGPU("a100-80gb"):
        mask = torch.zeros_like(torch.randn(100, device="cuda"), dtype=torch.uint8)
        mask[torch.randperm(100, device="cuda")[:30]] = 1
        assert torch.where(mask)[0].numel() == 30


def test_an_inverse_permutation_is_known():
    with FakeGPU("a100-80gb"):
        order = torch.tensor([2, 0, 1]).cuda()
        inverse = torch.empty_like(order)
        inverse.scatter_(0, order, torch.arange(3, device="cuda"))
        assert inverse.tolist() == [1, 2, 0]
        partly = torch.empty_like(order)
        partly.scatter_(0, torch.zeros_like(order), torch.arange(3, device="cuda"))
        with pytest.warns(UserWarning, match="is told 0"):
            assert partly[2].item() == 0


def sequences(device, *, in_order, batch_first):
    lengths = [90, 41, 41, 7] if in_order else [41, 90, 7, 41]
    shape = (4, 90, 64) if batch_first else (90, 4, 64)
    x = torch.ones(shape, device=device, requires_grad=True)
    given = torch.tensor(lengths) if in_order else lengths
    packed = pack_padded_sequence(x, given, batch_first=batch_first, enforce_sorted=in_order)
    y, sizes = pad_packed_sequence(packed, batch_first=batch_first)
    y.sum().backward()
    return packed.data.shape, y.shape, sizes.tolist(), x.grad.shape


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("in_order", [True, False])
def test_packed_sequences_are_those_of_a_real_run(in_order, batch_first):
    settings = {"in_order": in_order, "batch_first": batch_first}
    expected = sequences("cpu", **settings)
    with FakeGPU("a100-80gb") as gpu:
        assert sequences("cuda", **settings) == expected
    assert recorded(gpu.tape) == real(sequences, **settings)


def test_recurrent_layers_take_packed_sequences():
    with FakeGPU("a100-80gb"):
        layer = nn.GRU(16, 32, batch_first=True).cuda()
        x = torch.randn(3, 7, 16, device="cuda")
        out, _ = layer(pack_padded_sequence(x, torch.tensor([7, 5, 3]), batch_first=True))
        assert out.data.shape == (15, 32)
        out.data.sum().backward()
        assert layer.weight_ih_l0.grad.shape == (96, 16)


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_ctc_reads_its_lengths(where):
    """Sums over paths: (4 rows, 50 steps, 2 x 10 + 1) of float32."""
    with FakeGPU("a100-80gb") as gpu:
        given = torch.randn(50, 4, 20, device="cuda", requires_grad=True)
        times, sizes = torch.full((4,), 50).to(where), torch.tensor([10, 8, 6, 5]).to(where)
        targets = torch.randint(1, 20, (29,)).to(where)
        loss = nn.CTCLoss(zero_infinity=True)(given.log_softmax(2), targets, times, sizes)
        loss.backward()
        assert given.grad.shape == given.shape and loss.shape == ()
    assert 4 * 50 * 21 * 4 in {s.nbytes for s in gpu.tape.storages if "_ctc_loss" in s.op}


@pytest.fixture
def nms():
    """torchvision's operation, or one that answers like it where it is not installed."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

        @torch.library.register_fake("torchvision::nms", lib=library)
        def _(dets, scores, iou_threshold):
            kept = torch.library.get_ctx().new_dynamic_size()
            return dets.new_empty(kept, dtype=torch.long)

        yield torch.ops.torchvision.nms
        library._destroy()
    else:
        yield torch.ops.torchvision.nms


@pytest.mark.filterwarnings("ignore:.*create_unbacked_symint")
def test_all_boxes_are_kept_and_a_bit_for_each_pair(nms):
    """1,000 boxes: 16 words of 64 bits for each."""
    with FakeGPU("a100-80gb") as gpu:
        boxes = torch.randn(1000, 4, device="cuda")
        with pytest.warns(UserWarning, match="all of them count"):
            kept = nms(boxes, boxes[:, 0], 0.5)
        assert kept.shape == (1000,) and kept[:3].tolist() == [0, 1, 2]
    taken = [s.nbytes for s in gpu.tape.storages if s.op == "within aten.nms"]
    assert taken == [4000, 8000, 16000, 1000 * 16 * 8]


@pytest.mark.filterwarnings("ignore:.*create_unbacked_symint", "ignore:the program looks")
def test_a_detector_learns_from_a_sample():
    """Faster R-CNN: 512 regions of an image, pooled once, a quarter of them with an object."""
    detection = pytest.importorskip("torchvision.models.detection")
    with FakeGPU("a100-80gb") as gpu:
        model = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).cuda()
        target = {
            "boxes": torch.tensor([[10.0, 20.0, 100.0, 200.0]]).cuda(),
            "labels": torch.tensor([1]).cuda(),
            "masks": torch.ones(1, 128, 160, dtype=torch.uint8).cuda(),
        }
        losses = model([torch.rand(3, 128, 160).cuda()], [target])
        sum(losses.values()).backward()
    pooled = [s.nbytes for s in gpu.tape.storages if s.op == "torchvision.roi_align.default"]
    assert max(pooled) == 512 * 256 * 7 * 7 * 4
    assert 128 * 256 * 14 * 14 * 4 in pooled


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.float32])
@pytest.mark.parametrize(
    "fill",
    [
        lambda i, n: (i.__setitem__(0, 1), i.__setitem__(slice(1, None), torch.arange(n - 1))),
        lambda i, n: [i.__setitem__(k, k) for k in range(n)],
        lambda i, n: torch.cumsum(torch.arange(n), 0, out=i) if i.dtype == torch.int64 else i,
        lambda i, n: i.fill_(3),
        lambda i, n: i[2:5].copy_(torch.ones(3)),
    ],
)
def test_what_is_filled_in_pieces_on_the_host_is_known(dtype, fill):
    """PyG's coalesce begins so: the oracle is the same on zeros. Warnings are errors here."""
    zeros = torch.zeros(10, dtype=dtype)
    fill(zeros, 10)
    with FakeGPU("a100-80gb"):
        for made in (torch.empty(10, dtype=dtype), torch.zeros(3).new_empty(10, dtype=dtype)):
            fill(made, 10)
            assert made.tolist() == zeros.tolist()
            assert int((made[1:] > made[:-1]).sum()) == int((zeros[1:] > zeros[:-1]).sum())


def test_what_is_filled_in_pieces_on_the_device_is_not():
    """A kernel that does nothing here may have written the rest."""
    with FakeGPU("a100-80gb"):
        made = torch.empty(10, dtype=torch.int64, device="cuda")
        made[0] = 1
        with pytest.warns(UserWarning, match="is told 0"):
            made[3].item()


def unknown_rows(size):
    """Rows on the host, as many as nobody knows."""
    scores = torch.rand(size, 4).cuda().argmax(1).cpu()
    return torch.zeros(size, 8)[scores == 2]


@pytest.mark.parametrize(
    ("use", "bounded"),
    [
        (lambda rows: rows.cuda(), True),
        (lambda rows: (rows.t() * 2).repeat(10, 1).flatten().cuda(), True),
        (lambda rows: torch.zeros(len(rows), 3, device="cuda"), True),
        (lambda rows: rows.sum().cuda(), True),  # made of them: nobody looks closer
        (lambda rows: torch.zeros(7, 3, device="cuda"), False),  # the rows stay on the host
    ],
)
@pytest.mark.filterwarnings("ignore:the program looks")
def test_a_size_of_the_host_is_at_most_once_it_comes_to_the_card(use, bounded):
    with FakeGPU("a100-80gb") as gpu:
        use(unknown_rows(10**6))
    assert bool(gpu.recorder.looks.most) is bounded
