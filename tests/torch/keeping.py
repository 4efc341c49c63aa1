"""What transformers' own caches hold: the storages of all tensors of a real forward, on the CPU."""

import copy

import torch

PROMPT, STEPS, BATCH = 20, 3, 2
ARGUMENTS = ("past_key_values", "cache_params", "state")


def build(raw):
    """The class that the config names, with random weights in bfloat16."""
    import transformers

    raw = copy.deepcopy(raw)
    cls = getattr(transformers, raw["architectures"][0])
    model_type = raw.pop("model_type")
    config = transformers.AutoConfig.for_model(model_type, **raw)
    # grouped matrix products ask for sizes that small configs do not have
    config._attn_implementation = config._experts_implementation = "eager"
    for inner in (getattr(config, "text_config", None), getattr(config, "decoder", None)):
        if inner is not None:
            inner._attn_implementation = inner._experts_implementation = "eager"
    torch.manual_seed(0)
    return cls(config).to(torch.bfloat16).eval()


def storages(found):
    """{address: bytes} of every tensor with a dimension, views counted once. Numbers without one
    are counters."""
    seen, result = set(), {}

    def visit(one):
        if id(one) in seen:
            return
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            if one.dim():
                storage = one.untyped_storage()
                result[storage.data_ptr()] = storage.nbytes()
        elif isinstance(one, dict):
            list(map(visit, one.values()))
        elif isinstance(one, (list, tuple)):
            list(map(visit, one))
        elif type(one).__module__.startswith("transformers"):
            list(map(visit, vars(one).values()))

    visit(found)
    return sum(result.values())


def argument(output):
    return next(name for name in ARGUMENTS if getattr(output, name, None) is not None)


def in_modules(model):
    """States that modules hold themselves: RecurrentGemma's."""
    names = ("recurrent_states", "conv1d_state")
    held = [vars(module).get(name) for module in model.modules() for name in names]
    return storages([state for state in held if state is not None])


def decoder(raw, cache=None):
    """Bytes after the prompt, and after a few steps more."""
    model = build(raw)
    ids = torch.randint(3, 40, (BATCH, PROMPT))
    given = cache(model.config) if cache else {}
    with torch.no_grad():
        output = model(input_ids=ids, use_cache=True, **given)
        if not given:
            given = {argument(output): getattr(output, argument(output))}
        first = storages(given) + in_modules(model)
        for _ in range(STEPS):
            output = model(input_ids=ids[:, :1], use_cache=True, **given)
            given = {name: getattr(output, name, given[name]) for name in given}
        return first, storages(given) + in_modules(model)


def encoder_decoder(raw, inputs):
    """The same, of a model that reads `inputs` with its encoder first."""
    model = build(raw)
    ids = torch.randint(3, 40, (BATCH, PROMPT))
    with torch.no_grad():
        seen = {"encoder_outputs": model.get_encoder()(**inputs), "use_cache": True}
        output = model(decoder_input_ids=ids, **seen)
        first = storages(output.past_key_values)
        for _ in range(STEPS):
            kept = output.past_key_values
            output = model(decoder_input_ids=ids[:, :1], past_key_values=kept, **seen)
        return first, storages(output.past_key_values)
