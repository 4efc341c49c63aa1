"""What a program is told when it looks at values, and what a transformer therefore does."""

import pytest
import torch
from torch import distributions, nn

from tests.cases import each
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())


def test_what_follows_from_constants_is_known():
    """And nobody is warned: warnings are errors here."""
    with FakeGPU("a100-80gb"):
        mask = torch.ones(2, 5, dtype=torch.long, device="cuda")
        assert bool((mask == 1).all()) and mask.sum().item() == 10
        positions = torch.arange(5, device="cuda")
        assert positions.diff().tolist() == [1] * 4
        assert positions[positions > 2].tolist() == [3, 4]
        assert torch.unique(mask).tolist() == [1]
        mask[:, 3:] = 0
        assert not bool(mask.all()) and mask.sum().item() == 6
        assert torch.tensor([3, 1, 2]).max().item() == 3
        assert positions.cpu().numpy().tolist() == [0, 1, 2, 3, 4]
        assert f"{torch.tensor(2.5).cuda():.1f}" == "2.5"


def test_what_does_not_is_zero_and_said_once():
    with FakeGPU("a100-80gb") as gpu:
        x = torch.randn(4, device="cuda")
        with pytest.warns(UserWarning, match="is told 0"):
            assert x.sum().item() == 0
        assert x.cpu().tolist() == [0.0] * 4
        assert (x > 0).any().item() is False
        assert f"{x.mean():.2f}" == "0.00"
        assert x.cpu().numpy().shape == (4,)
    assert len(gpu.recorder.looks.told) == 1


def test_all_of_them_count_where_sizes_are_in_the_data():
    with FakeGPU("a100-80gb"):
        x = torch.randn(4, 6, device="cuda")
        with pytest.warns(UserWarning, match="all of them count"):
            assert x.nonzero().shape == (24, 2)
        assert x[x > 0].shape == (24,)
        assert torch.unique(x).shape == (24,)
        assert torch.masked_select(x, x > 0).shape == (24,)


def test_a_write_of_unknown_values_is_the_end_of_what_was_known():
    with FakeGPU("a100-80gb"):
        ones = torch.ones(4, dtype=torch.long, device="cuda")
        view = ones[:2]
        ones.copy_(torch.randn(4, device="cuda").long())
        with pytest.warns(UserWarning, match="is told 0"):
            assert view.sum().item() == 0


def test_host_copies_to_numpy_are_refused_for_the_device_as_torch_does():
    with FakeGPU("a100-80gb"), pytest.raises(TypeError, match="Use Tensor"):
        torch.ones(3, device="cuda").numpy()


def llama(**kwargs):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=1000,
        use_cache=False,
        **kwargs,
    )
    return transformers.LlamaForCausalLM(config)


@pytest.mark.parametrize("masked", [False, True])
def test_transformers_skips_masks_as_on_a_gpu(masked):
    """Positions and a mask of ones are known, so the causal kernel needs no mask of S x S."""
    length = 1000
    with FakeGPU("a100-80gb") as gpu:
        model = llama().to("cuda", torch.bfloat16)
        ids = torch.randint(0, 1000, (2, length)).cuda()
        mask = torch.ones(2, length, dtype=torch.long).cuda() if masked else None
        model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
    ops = {s.op for s in gpu.tape.storages}
    assert "aten._scaled_dot_product_flash_attention.default" in ops
    assert not any("efficient" in op or "math" in op for op in ops)
    assert not any(s.nbytes in (length**2, 2 * length**2) for s in gpu.tape.storages)


def test_a_mask_with_padding_is_kept():
    with FakeGPU("a100-80gb") as gpu:
        model = llama().to("cuda", torch.bfloat16)
        mask = torch.ones(2, 64, dtype=torch.long)
        mask[1, 32:] = 0
        ids = torch.randint(0, 1000, (2, 64)).cuda()
        model(input_ids=ids, attention_mask=mask.cuda())
    assert any("efficient_attention" in s.op for s in gpu.tape.storages)


def test_loaders_and_pinned_memory():
    from torch.utils.data import DataLoader, TensorDataset

    with FakeGPU("a100-80gb"):
        data = TensorDataset(torch.randn(20, 3), torch.randint(0, 2, (20,)))
        loader = DataLoader(data, batch_size=8, num_workers=2, pin_memory=True)
        shapes = [x.to("cuda", non_blocking=True).shape for x, _ in loader]
        assert shapes == [(8, 3), (8, 3), (4, 3)]
        assert torch.zeros(3).pin_memory().cuda().device.type == "cuda"


def test_modules_move_in_all_ways():
    with FakeGPU("a100-80gb"):
        layer = nn.Linear(4, 4)
        weight = layer.weight
        assert layer.cuda().half().weight is weight  # the optimizer's reference stays good
        assert (weight.device.type, weight.dtype) == ("cuda", torch.float16)
        with torch.device("meta"):
            empty = nn.Linear(4, 4)
        assert empty.to_empty(device="cuda").weight.device.type == "cuda"
        other = nn.Linear(4, 4)
        other.load_state_dict(layer.state_dict())
        assert layer.cpu().weight.device.type == "cpu"
        assert isinstance(layer.weight, nn.Parameter)
    assert nn.init.kaiming_uniform_(torch.empty(3, 3)).shape == (3, 3)


def test_data_that_is_set_brings_its_device():
    with FakeGPU("a100-80gb"):
        parameter = nn.Parameter(torch.zeros(4))
        parameter.data = parameter.data.cuda()
        assert parameter.device.type == "cuda"
        assert (parameter * torch.ones(4, device="cuda")).device.type == "cuda"


def test_storages_that_are_emptied_and_filled_again():
    with FakeGPU("a100-80gb") as gpu:
        x = torch.empty(1 << 20, device="cuda")
        x.untyped_storage().resize_(0)
        assert torch.cuda.memory_allocated() == 0
        x.untyped_storage().resize_(4 << 20)
        assert torch.cuda.memory_allocated() == 4 << 20
        del x
        assert torch.cuda.memory_allocated() == 0
    assert [s.op for s in gpu.tape.storages] == ["aten.empty.memory_format", "resize_"]


def test_recurrent_layers_and_sparse_gradients():
    with FakeGPU("a100-80gb"):
        recurrent = nn.LSTM(8, 16, batch_first=True).cuda()
        recurrent(torch.randn(2, 3, 8, device="cuda"))[0].sum().backward()
        table = nn.Embedding(100, 8, sparse=True).cuda()
        table(torch.zeros(3, dtype=torch.long, device="cuda")).sum().backward()
        assert table.weight.grad.is_sparse


def test_compiled_code_is_traced_as_eager():
    with FakeGPU("a100-80gb"), pytest.warns(UserWarning, match="eager"):
        layer = torch.compile(nn.Linear(4, 4).cuda())
    assert isinstance(layer, nn.Linear)


def test_one_value_everywhere_is_known_whatever_the_size():
    with FakeGPU("a100-80gb"):
        mask = torch.ones(8, 2048, device="cuda")
        assert bool(mask.all()) and bool((mask == 1).all()) and mask.mean().item() == 1
        wide = torch.zeros(4096, 4096).cuda()[None].expand(2, -1, -1).to(torch.bfloat16)
        assert not bool(wide.any()) and wide[0, 3, 5].item() == 0
        assert torch.full((300, 300), 2.5, device="cuda").transpose(0, 1)[7, 7].item() == 2.5


def test_it_is_forgotten_with_the_first_write():
    with FakeGPU("a100-80gb"):
        mask = torch.ones(8, 2048, device="cuda")
        mask[:, :3] = 0
        with pytest.warns(UserWarning, match="is told 0"):
            assert not bool(mask.all())
        weight = torch.ones(3, device="cuda", requires_grad=True)
        (weight * 2).sum().backward()
        torch.optim.SGD([weight], lr=0.1).step()
        assert weight.detach().sum().item() == 0  # told


def test_values_are_finite():
    """And what is known to be infinite is not: masks are of that."""
    with FakeGPU("a100-80gb"):
        x = torch.randn(64, 4096, device="cuda")
        assert not bool(x.isnan().any()) and x.isnan().sum().item() == 0
        assert bool(torch.isfinite(x).all()) and not bool(torch.isinf(x).any())
        assert bool(torch.isinf(torch.full((64, 64), -torch.inf, device="cuda")).all())


def test_a_parameter_that_moves_keeps_what_is_known_of_it_and_its_device():
    with FakeGPU("a100-80gb"):
        parameter = nn.Parameter(torch.log(torch.tensor([2.0])))
        layer = nn.ParameterList([parameter]).cuda()
        assert nn.functional.softplus(layer[0]).device.type == "cuda"
        assert layer[0].exp().item() == pytest.approx(2)


@pytest.mark.parametrize(
    "settings", each(2, [{"num_beams": 2, "do_sample": True}, {"num_beams": 4}, {}])
)
@pytest.mark.filterwarnings("ignore:the program looks")
def test_generation_goes_on_to_its_length(settings):
    ran = []
    with FakeGPU("a100-80gb"):
        model = llama().cuda().eval()
        model.register_forward_hook(lambda *_: ran.append(1))
        ids = torch.ones(2, 5, dtype=torch.long, device="cuda")
        mask = torch.ones_like(ids)
        model.generate(ids, attention_mask=mask, max_new_tokens=8, pad_token_id=0, **settings)
    assert len(ran) == 8


def test_a_known_mask_lets_a_known_number_through():
    """Placeholders of images are counted so, over all values of an embedding."""
    with FakeGPU("a100-80gb"):
        ids = torch.arange(2048, device="cuda")
        x = torch.randn(2048, 4096, device="cuda")
        mask = (ids < 576).unsqueeze(-1).expand_as(x)
        assert x[mask].numel() == 576 * 4096
        assert torch.masked_select(x, mask).numel() == 576 * 4096
        assert x[ids < 3].shape == (3, 4096)


def test_schedules_are_known():
    """timm asks a line of numbers for its rates, and for the widths of its layers."""
    with FakeGPU("a100-80gb"):
        assert [round(x.item(), 2) for x in torch.linspace(0, 0.1, 3)] == [0, 0.05, 0.1]
        widths = torch.arange(4, dtype=torch.float32, device="cuda") * 36.97 + 24
        assert torch.round(widths / 8).int().tolist() == [3, 8, 12, 17]


def test_tensors_are_made_of_tensors():
    with FakeGPU("a100-80gb"):
        steps = torch.arange(3, device="cuda")
        made = torch.tensor([steps[1], [steps[2]][0]], device="cuda")
        assert made.tolist() == [1, 2] and made.device.type == "cuda"
        assert torch.tensor([[steps[1], 0.5]]).shape == (1, 2)


def test_numbers_that_are_not_known_are_equal():
    """Boxes of a detector have no negative width, or it refuses them."""
    with FakeGPU("a100-80gb"):
        boxes = torch.randn(20, 4, device="cuda")
        assert bool((boxes[:, 2:] >= boxes[:, :2]).all())
        assert not bool((torch.full((4,), -1.0, device="cuda") >= 0).any())


def test_one_value_has_views_of_any_kind():
    with FakeGPU("a100-80gb"):
        ones = torch.ones(2, 6, device="cuda")
        assert ones.as_strided((2, 4, 3), (6, 1, 1)).sum().item() == 24
        assert ones.view(3, 4)[1:].all().item() and ones.t()[0].sum().item() == 2


@pytest.mark.filterwarnings("ignore:the program looks")
def test_a_beam_search_gives_back_what_it_found():
    with FakeGPU("a100-80gb"):
        model = llama().cuda().eval()
        ids = torch.ones(4, 5, dtype=torch.long, device="cuda")
        settings = {"attention_mask": torch.ones_like(ids), "pad_token_id": 0, "num_beams": 3}
        assert model.generate(ids, max_new_tokens=8, **settings).shape == (4, 13)
        several = model.generate(ids, max_new_tokens=8, num_return_sequences=2, **settings)
        assert several.shape == (8, 13)


def logits():
    return torch.randn(8, 4, device="cuda", requires_grad=True)


def positive():
    return nn.functional.softplus(logits())


@pytest.mark.parametrize(
    "make",
    [
        lambda: distributions.Categorical(logits=logits()),
        lambda: distributions.Categorical(probs=logits().softmax(-1)),
        lambda: distributions.Normal(logits(), positive()),
        lambda: distributions.Bernoulli(logits=logits()),
        lambda: distributions.Bernoulli(probs=logits().sigmoid()),
        lambda: distributions.Beta(positive(), positive()),
        lambda: distributions.Gamma(positive(), positive()),
        lambda: distributions.Dirichlet(positive()),
        lambda: distributions.Binomial(10, logits=logits()),
        lambda: distributions.OneHotCategorical(logits=logits()),
        lambda: distributions.Independent(distributions.Normal(logits(), positive()), 1),
        lambda: distributions.TransformedDistribution(
            distributions.Normal(logits(), positive()), [distributions.TanhTransform(cache_size=1)]
        ),
    ],
)
def test_samples_of_a_distribution_are_valid(make):
    """A policy draws, and learns from how likely that was: nobody is warned."""
    with FakeGPU("t4"):
        policy = make()
        drawn = policy.sample()
        assert drawn.shape == policy.batch_shape + policy.event_shape
        policy.log_prob(drawn).sum().backward()


def test_arguments_that_are_known_are_checked(monkeypatch):
    """Importing torch's compiler turns these checks off for the process, as another test may have
    done (torch/_dynamo/eval_frame.py, TorchPatcher.patch)."""
    monkeypatch.setattr(distributions.Distribution, "_validate_args", True)
    with FakeGPU("t4"), pytest.raises(ValueError, match="Expected parameter scale"):
        distributions.Normal(torch.zeros(2), torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_takes_at_most_what_its_steps_do(kind):
    """So it may be a "fits", and never a "does not fit"."""
    with FakeGPU("a100-80gb") as gpu:
        kind(16, 16).cuda()(torch.randn(4, 2, 16, device="cuda"))
    assert list(gpu.recorder.looks.most)
