"""PEFT's own comparison of its methods: one on a language model, one on an image model.

github.com/huggingface/peft method_comparison/{MetaMathQA,image-gen}/run.py at 5d602fdbff04, with
the adapter's config as an argument. Their figures are less the 2 MiB that a first layer reserved.
"""

from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from weighbridge_lab.evidence.records import config, origins

Adapter = Mapping[str, Any]
# Samples of a batch are near in length, since batches are cut from 80 that are sorted; no two of
# equal length, so that there is padding, and with it an attention mask.
SHORTER = 9
SHORTEST = 7  # longest batch divided by the shortest of a bucket, which precedes it
TEXT, PIXELS, PICTURES = 512, 512, 14  # tokens of a prompt, the side of a picture, and how many
LINEARS = (  # of the image model: targets of adapters whose config names none
    *("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    *("linear_in", "linear_out", "to_qkv_mlp_proj"),
)


def causal_model(model: str, device: str) -> Any:
    """Return one of the evidence's models in bfloat16 on the device, loaded as with
    `device_map=`."""
    settings = AutoConfig.for_model(**config(origins()[model]))
    with torch.device(device):
        return AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)


def adapted(model: Any, adapter: Adapter | None) -> Any:
    """Return the model with an adapter; with None, all of it is trained."""
    if adapter is None:
        return model.requires_grad_(True)
    return get_peft_model(model, PeftConfig.from_peft_type(**adapter))


def metamath(
    device: str,
    *,
    model: str,
    adapter: Adapter | None,
    longest: int,
    optimizer: str = "AdamW",
    **settings: Any,
) -> None:
    """Train on the longest batch, first with an empty cache: batches come in buckets of 20, longest
    first, and the cache is emptied every 10. `settings` are the optimizer's."""
    net = adapted(causal_model(model, device), adapter)
    chosen = _optimizer(net, optimizer, settings)
    if adapter is not None:
        with net.disable_adapter():
            net.eval()  # and measured; what the optimizer froze is trained when adapters are back
    net.train()
    for tokens in (longest // SHORTEST, longest):
        batch = {name: part.to(device) for name, part in padded(4, tokens).items()}
        labels = batch["input_ids"].clone()
        count = batch["attention_mask"].sum().item()
        chosen.zero_grad()
        outputs = net(**batch, labels=labels, num_items_in_batch=count)
        outputs.loss.backward()  # its logits are alive until the next batch has come through
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        chosen.step()
        _reallocated(net)
        if tokens < longest:
            torch.cuda.empty_cache()


def padded(rows: int, tokens: int) -> dict[str, torch.Tensor]:
    lengths = [tokens - SHORTER * row for row in range(rows)]
    mask = torch.tensor([[1] * length + [0] * (tokens - length) for length in lengths])
    return {"input_ids": torch.zeros_like(mask), "attention_mask": mask}


def _optimizer(net: Any, name: str, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    if name == "lora-fa":
        from peft.optimizers import create_lorafa_optimizer

        return create_lorafa_optimizer(net, **settings)
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(net.parameters(), lr=1e-4)
    return optimizer


def _reallocated(net: Any) -> None:
    """Let AdaLoRA reallocate its ranks, as it does after each step."""
    configs = getattr(net, "peft_config", {})
    if "default" in configs and configs["default"].peft_type == "ADALORA":
        net.base_model.update_and_allocate(1)


def pictures(device: str, *, transformer: Mapping[str, Any], adapter: Adapter | None) -> None:
    """Train by flow matching on pictures and prompts that are encoded already; the model that
    judges pictures stays on the device."""
    from diffusers import Flux2Transformer2DModel
    from transformers import Dinov2Config, Dinov2Model

    with torch.device(device):
        net = Flux2Transformer2DModel(**transformer).to(torch.bfloat16)
    net.enable_gradient_checkpointing()
    net = adapted(net, adapter and {"target_modules": list(LINEARS), **adapter})
    net.to("cpu")
    torch.cuda.empty_cache()
    judge = Dinov2Model(Dinov2Config()).to(device).eval()
    chosen = torch.optim.AdamW(net.train().parameters(), lr=1e-4)
    data = _encoded(net.config, device)
    net.to(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        chosen.zero_grad(set_to_none=True)
        _flow_loss(net, data).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        chosen.step()
        _reallocated(net)
    del judge


def _encoded(sizes: Any, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return prompts, their token ids, and latents of 16 by 16 pixels."""
    side, width = PIXELS // 16, torch.bfloat16
    joint, channels = sizes.joint_attention_dim, sizes.in_channels
    one = [torch.empty(1, TEXT, joint, dtype=width, device=device) for _ in range(PICTURES)]
    ids = torch.zeros(PICTURES, TEXT, 4, dtype=torch.long, device=device)
    latents = torch.empty(PICTURES, channels, side, side, dtype=width, device=device)
    return torch.cat(one), ids, latents


def _flow_loss(net: Any, data: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
    from diffusers import Flux2KleinPipeline

    chosen = torch.randperm(PICTURES, device=data[0].device)[:2]
    prompts, ids, latents = (part.index_select(0, chosen) for part in data)
    places = Flux2KleinPipeline._prepare_latent_ids(latents).to(latents.device)
    noise = torch.randn_like(latents)
    times = torch.rand(2).to(latents.device)
    sigmas = torch.rand(2, 1, 1, 1, dtype=latents.dtype).to(latents.device)
    noisy = (1.0 - sigmas) * latents + sigmas * noise
    packed = Flux2KleinPipeline._pack_latents(noisy)
    predicted = net(
        hidden_states=packed,
        timestep=times / 1000,
        guidance=None,
        encoder_hidden_states=prompts,
        txt_ids=ids,
        img_ids=places,
        return_dict=False,
    )[0][:, : packed.size(1)]
    back = predicted.transpose(1, 2).reshape(latents.shape).contiguous()
    target = noise - latents
    error = torch.ones_like(sigmas).float() * (back.float() - target.float()) ** 2
    return torch.mean(error.reshape(2, -1), 1).mean()
