"""Command lines of llama-server and llama-cli: their flags, what each does to memory, and what it
takes more than one flag to say; ik_llama.cpp's flags of the same names.

`--ctx-size` is of all slots together: a slot has its share, unless the cache is unified, which it
is by itself where the number of slots is left to the server (common/arg.cpp, tools/server).
"""

import re

from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Dialect, Value, flags
from weighbridge.engines.llama_cpp import ENGINE
from weighbridge.engines.llama_cpp.overrides import ALL, cards, of_first
from weighbridge.engines.llama_cpp.settings import LlamaCpp
from weighbridge.errors import UnsupportedError

# common/arg.cpp of llama.cpp as vendored in llama-cpp-python 0.3.36, and in 0.3.16 and 0.3.9 for
# flags that are gone; common/common.cpp of ik_llama.cpp at 8337e4cd3. The flags of its other
# programs (imatrix, perplexity, ...) are left out.

TABLE = """
[memory]
-m --model                               value   @model
-mu --model-url                          value   @url
-dr --docker-repo                        value   @docker
-hf -hfr --hf-repo                       value   @repo
-hff --hf-file                           value   @file
-a --alias                               value   @served
-c --ctx-size                            value   @context
-np --parallel                           value   @slots
--kv-unified-per-slot                    value   !a slot may use the whole context
-ngl --gpu-layers --n-gpu-layers         value   @layers
-cmoe --cpu-moe                          switch  @placed
-ncmoe --n-cpu-moe                       value   @placed
-ot --override-tensor                    value   @placed
-ncffn --n-cpu-ffn                       value   !feed-forward layers are on the device
-fa --flash-attn                         maybe   @flash
-sm --split-mode                         value   @split
-ts --tensor-split                       value   @shares
-dev --device                            value   @devices
-lm --load-mode                          value   @load_mode
-ctxcp --ctx-checkpoints --swa-checkpoints  value  !checkpoints of a slot in host memory unless 0
--no-mmproj --no-mmproj-auto             switch  @no_projector
--no-mmproj-offload                      switch  !the tower is on the device
-mmdev --mmproj-device                   value   !the tower is on the first device
--image-min-tokens                       value   !tokens of an image are the model's own
--image-max-tokens                       value   !tokens of an image are the model's own
--mtmd-batch-max-tokens                  value   !images are prepared one by one
-mv --model-vocoder                      value   !the vocoder is not counted
-hfv -hfrv --hf-repo-v                   value   !the vocoder is not counted
-hffv --hf-file-v                        value   !the vocoder is not counted
-cd --ctx-size-draft                     value   !the draft has the model's context
-ctkd --cache-type-k-draft --spec-draft-type-k  value  !the draft's cache is f16 unless f16
-ctvd --cache-type-v-draft --spec-draft-type-v  value  !the draft's cache is f16 unless f16
-ngld --gpu-layers-draft --n-gpu-layers-draft --spec-draft-ngl  value  !the draft is on the device unless all 99 999
-otd --override-tensor-draft --spec-draft-override-tensor  value  !the draft is on the device
-cmoed --cpu-moe-draft --spec-draft-cpu-moe  switch  !the draft is on the device
-ncmoed --n-cpu-moe-draft --spec-draft-n-cpu-moe --spec-draft-ncmoe  value  !the draft is on the device
-devd --device-draft --spec-draft-device  value  !the draft is on the model's devices
--spec-type                              value   @speculation
--spec-default                           switch  !tokens that are proposed
--lora                                   value   !adapters are not counted
--lora-scaled                            value   !adapters are not counted
--control-vector                         value   !control vectors are not counted
--control-vector-scaled                  value   !control vectors are not counted
--embedding --embeddings                 switch  !serving is priced as generation
--rerank --reranking                     switch  !serving is priced as generation
--pooling                                value   !serving is priced as generation unless none
-bs --backend-sampling                   switch  !samplers on the device
--spec-draft-backend-sampling            switch  !samplers on the device
--no-op-offload                          switch  !large products of weights in host memory are done on the device
--no-host                                switch  !buffers of the host are the default ones
-nr --no-repack                          switch  !weights in host memory are repacked where the processor gains by it
--rpc                                    value   !devices of other machines
--override-kv -okv                       value   !the file's own metadata are used
-fit --fit                               value   @fit
-fitt --fit-target                       value   !1,024 MiB of each card are left free unless 1024
--fit-margin                             value   !1,024 MiB of each card are left free unless 1024
-fitc --fit-ctx                          value   !settings are not lowered to fit
-gan --grp-attn-n                        value   !attention in groups unless 1
-lzm --lazy-mode                         value   !experts are held as they are loaded
--models-dir                             value   !other models that are loaded later
--models-preset                          value   !other models that are loaded later
--gpt-oss-20b-default                    switch  @preset
--gpt-oss-120b-default                   switch  @preset
--vision-gemma-4b-default                switch  @preset
--vision-gemma-12b-default               switch  @preset
--embd-gemma-default                     switch  @preset
--embd-bge-small-en-default              switch  @preset
--embd-e5-small-en-default               switch  @preset
--embd-gte-small-default                 switch  @preset
--tts-oute-default                       switch  @preset
--fim-qwen-1.5b-default                  switch  @preset
--fim-qwen-3b-default                    switch  @preset
--fim-qwen-7b-default                    switch  @preset
--fim-qwen-7b-spec                       switch  @preset
--fim-qwen-14b-spec                      switch  @preset
--fim-qwen-30b-default                   switch  @preset
[ignored value]
--server-base -t --threads -tb --threads-batch -C --cpu-mask -Cr --cpu-range
--cpu-strict --prio --poll -Cb --cpu-mask-batch -Crb --cpu-range-batch --cpu-strict-batch
--prio-batch --poll-batch -lcs --lookup-cache-static -lcd --lookup-cache-dynamic -n --predict
--n-predict --keep -cms --checkpoint-min-step -p --prompt -sys --system-prompt -f --file -sysf
--system-prompt-file -bf --binary-file -ptc --print-token-count --prompt-cache -r --reverse-prompt
--in-prefix --in-suffix --samplers -s --seed --sampler-seq --sampling-seq --temp --temperature
--top-k --top-p --min-p --top-nsigma --top-n-sigma --xtc-probability --xtc-threshold --typical
--typical-p --repeat-last-n --repeat-penalty --presence-penalty --frequency-penalty --dry-multiplier
--dry-base --dry-allowed-length --dry-penalty-last-n --dry-sequence-breaker --adaptive-target
--adaptive-decay --dynatemp-range --dynatemp-exp --mirostat --mirostat-lr --mirostat-ent -l
--logit-bias --grammar --grammar-file -j --json-schema -jf --json-schema-file --rope-scaling
--rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor
--yarn-beta-slow --yarn-beta-fast -gaw --grp-attn-w -dt --defrag-thold --image --audio --video
--video-fps --video-timestamp-interval --video-ffmpeg-dir --numa --tags -hft --hf-token
-o --output --output-file --embd-normalize --host --port --path --cors-origins --cors-methods
--cors-headers --api-prefix --ui-config --webui-config --ui-config-file --webui-config-file --tools
--tools-runtime --mcp-servers-config --mcp-servers-json --api-key --api-key-file --ssl-key-file
--ssl-cert-file --chat-template-kwargs -to --timeout --sse-ping-interval --threads-http
--cache-reuse --slot-save-path --media-path --models-max --reasoning-format -rea --reasoning
--reasoning-effort --reasoning-budget --reasoning-budget-message --chat-template
--chat-template-file -sps --slot-prompt-similarity --sleep-idle-seconds --log-file --log-prompts-dir
-lv --verbosity --log-verbosity --spec-draft-threads -td --threads-draft
--spec-draft-threads-batch -tbd --threads-batch-draft --spec-draft-cpu-mask -Cd --cpu-mask-draft
--spec-draft-cpu-range -Crd --cpu-range-draft --spec-draft-cpu-strict --cpu-strict-draft
--spec-draft-prio --prio-draft --spec-draft-poll --poll-draft --spec-draft-cpu-mask-batch -Cbd
--cpu-mask-batch-draft --spec-draft-cpu-strict-batch --cpu-strict-batch-draft
--spec-draft-prio-batch --prio-batch-draft --spec-draft-poll-batch --poll-batch-draft
--spec-draft-n-min --spec-synth-len --spec-synth-rates --spec-draft-p-split --draft-p-split
--spec-draft-p-min --draft-p-min --spec-ngram-mod-n-min --spec-ngram-mod-n-max
--spec-ngram-mod-n-match --spec-ngram-simple-size-n --spec-ngram-simple-size-m
--spec-ngram-simple-min-hits --spec-ngram-map-k-size-n --spec-ngram-map-k-size-m
--spec-ngram-map-k-min-hits --spec-ngram-map-k4v-size-n --spec-ngram-map-k4v-size-m
--spec-ngram-map-k4v-min-hits --draft-min --draft-n-min --spec-ngram-size-n --spec-ngram-size-m
--spec-ngram-min-hits
[ignored switch]
-h --help --usage --version -cl --cache-list --completion-bash --verbose-prompt --display-prompt
--no-display-prompt --cache-idle-slots --no-cache-idle-slots --context-shift --no-context-shift
--perf --no-perf --show-timings --no-show-timings -e --escape --no-escape --prompt-cache-all
--prompt-cache-ro -sp --special -cnv --conversation -no-cnv --no-conversation -st --single-turn -i
--interactive -if --interactive-first -mli --multiline-input --in-prefix-bos --warmup --no-warmup
--spm-infill --ignore-eos --repack -cb --cont-batching -nocb --no-cont-batching --mmproj-auto
--mmproj-offload --list-devices --check-tensors --op-offload --reuse-port --cors-credentials
--no-cors-credentials --ui-mcp-proxy --webui-mcp-proxy --no-ui-mcp-proxy --no-webui-mcp-proxy -ag
--agent -no-ag --no-agent --ui --webui --no-ui --no-webui --cache-prompt --no-cache-prompt --metrics
--props --slots --no-slots --models-autoload --no-models-autoload --jinja --no-jinja
--reasoning-preserve --no-reasoning-preserve --skip-chat-parsing --no-skip-chat-parsing
--prefill-assistant --no-prefill-assistant --lora-init-without-apply --simple-io --log-disable
--log-jsonl --no-log-jsonl -v --verbose --log-verbose --offline --log-prefix --no-log-prefix
--log-timestamps --no-log-timestamps --no-spec-draft-backend-sampling --mlock --tts-use-guide-tokens
-dkvc --dump-kv-cache
[ignored maybe]
-co --color --log-colors
[ignored pair]
--control-vector-layer-range --spec-replace
"""  # noqa: E501
FLAGS = flags(TABLE, LlamaCpp)


TRUTH = {"on": "on", "1": "on", "true": "on", "enabled": "on"}
FALSEHOOD = {"off": "off", "0": "off", "false": "off", "disabled": "off"}
AUTO = {"auto": "auto", "-1": "auto"}
FLASH = TRUTH | FALSEHOOD | AUTO
OVERRIDES = ("-ot", "--override-tensor")
SPECULATION = {"draft-simple": "draft", "draft-mtp": "mtp", "draft-eagle3": "eagle3", "none": ""}
ENV = {
    "LLAMA_ARG_MODEL": "give the flag instead",
    "LLAMA_ARG_": "variables that stand for flags are not read; give the flag instead",
    "GGML_CUDA_ENABLE_UNIFIED_MEMORY": "memory of the host is taken where the device is full",
    "GGML_CUDA_FORCE_CUBLAS": "products are made from unpacked weights",
    "GGML_CUDA_NO_PINNED": "memory of the host is not pinned",
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "ROCR_VISIBLE_DEVICES": "",
}


def finish(reading: CommandReading) -> None:
    reading.settings["program"] = "server" if reading.program.name.endswith("server") else "cli"
    _model(reading)
    _layers(reading)
    _experts(reading)
    _flash(reading)
    _split(reading)
    _load_mode(reading)
    _context(reading)
    _speculation(reading)
    for name, _ in reading.every("preset"):
        reading.warn(f"{name} is not read: it names a model and settings of its own; give those")


def _model(reading: CommandReading) -> None:
    """A file, a URL, or a repository with its quantization or its file."""
    for what in ("model", "url"):
        if reading.model is None and (said := reading.last(what)) is not None:
            reading.model = str(said[1])
    if reading.model is None and (repo := reading.last("repo")) is not None:
        file = reading.last("file")
        reading.model = _in_repository(str(repo[1]), None if file is None else str(file[1]))
        if reading.last("no_projector") is None and "mmproj" not in reading.settings:
            reading.settings["mmproj_auto"] = True
    if reading.model is None and (docker := reading.last("docker")) is not None:
        raise UnsupportedError(
            f"{docker[0]} {docker[1]!r:.80}: not yet; name its file or repository"
        )
    for word in reading.words:
        reading.warn(f"{word!r:.80} belongs to no flag, and is left out")
    reading.ignored += [
        said[0] for said in (reading.last("served"), reading.last("no_projector")) if said
    ]


def _in_repository(repo: str, file: str | None) -> str:
    """common/download.cpp: Q4_K_M where no quantization is named."""
    if file is not None:
        return f"{repo.partition(':')[0]}/{file}"
    return repo if ":" in repo else f"{repo}:Q4_K_M"


def _layers(reading: CommandReading) -> None:
    """auto (-1): as many as fit, with --fit. all (-2): every layer."""
    said, fit = reading.last("layers"), reading.last("fit")
    if fit is not None and str(fit[1]).lower() in FALSEHOOD:
        reading.settings["n_gpu_layers"] = -1
    elif fit is not None:
        reading.ignored.append(fit[0])
    if said is None:
        return
    text = str(said[1]).lower()
    if text in ("auto", "-1"):
        reading.ignored.append(said[0])
        return
    number = -1 if text == "all" else int(reading.read("whole", *said))
    reading.settings["n_gpu_layers"] = max(number, -1)


def _experts(reading: CommandReading) -> None:
    """Read patterns in their order. Behind them --n-cpu-moe has what they leave; before them, to
    llama.cpp, it is a pattern as they are. ik_llama.cpp reads it behind them wherever it stands."""
    said = reading.every("placed")
    last = max((i for i, (name, _) in enumerate(said) if name in OVERRIDES), default=-1)
    ordered = reading.dialect.engine == ENGINE.name
    patterns: list[str] = []
    behind: list[int] = []
    for i, (name, value) in enumerate(said):
        if name in OVERRIDES:
            patterns.append(str(value))
            continue
        count = ALL if value is True else int(reading.read("whole", name, value))
        if not ordered or i > last:
            behind.append(count)
        elif count > 0:
            patterns.append(of_first(count))
    if behind:
        reading.settings["n_cpu_moe"] = max(behind)
    if patterns:
        text = ",".join(patterns)
        reading.settings["override_tensor"] = text
        named = cards(text.split(","))
        reading.devices = named if named > 1 else None


def _flash(reading: CommandReading) -> None:
    """-fa alone was a switch until 2025, and is on."""
    said = reading.last("flash")
    if reading.last("no_flash") is not None:
        reading.settings["flash_attn"] = "off"
    elif said is not None:
        text = str(said[1]).lower() or "on"
        if text not in FLASH:
            raise reading.wrong(said[0], said[1], "on, off or auto")
        reading.settings["flash_attn"] = FLASH[text]


def _split(reading: CommandReading) -> None:
    mode, shares, listed = reading.last("split"), reading.last("shares"), reading.last("devices")
    if mode is not None and mode[1] in ("none", "layer", "row"):
        reading.settings["split_mode"] = str(mode[1])
    elif mode is not None and mode[1] in ("tensor", "graph", "attn"):
        reading.warn(f"{mode[0]} {mode[1]} is not modelled: layers are shared out")
    elif mode is not None:
        raise reading.wrong(mode[0], mode[1], "none, layer or row")
    if shares is not None:
        parts = [
            str(reading.read("number", shares[0], p)) for p in re.split("[,/]+", str(shares[1]))
        ]
        reading.settings["tensor_split"] = ",".join(parts)
        reading.devices = sum(float(p) > 0 for p in parts)
    if listed is not None:
        _listed(reading, listed[0], str(listed[1]))
    if reading.settings.get("split_mode") == "none":
        reading.devices = 1


def _listed(reading: CommandReading, name: str, text: str) -> None:
    if text == "none":
        reading.settings["n_gpu_layers"] = 0
        return
    reading.devices = len(text.split(","))
    reading.ignored.append(name)


def _load_mode(reading: CommandReading) -> None:
    said = reading.last("load_mode")
    if said is not None:
        reading.settings["no_mmap"] = said[1] in ("none", "mlock", "dio")


def _context(reading: CommandReading) -> None:
    """0 is the model's maximum."""
    said, slots = reading.last("context"), reading.last("slots")
    many = -1 if slots is None else int(reading.read("whole", *slots))
    if many > 0:
        reading.settings["parallel"] = many
    elif slots is not None:
        reading.ignored.append(slots[0])
    whole = 0 if said is None else int(reading.read("whole", *said))
    shared = reading.settings.get("kv_unified", many <= 0)
    if whole > 0:
        reading.settings["context"] = whole if shared or many <= 1 else max(1, whole // many)
    elif said is not None:
        reading.ignored.append(said[0])
    if whole <= 0 and many > 1 and not shared:
        reading.warn(
            f"{many} slots share the model's maximum context; here each has it. Give --ctx-size"
        )


def _speculation(reading: CommandReading) -> None:
    for name, text in reading.every("speculation"):
        for said in str(text).split(","):
            kind = "ngram" if said.startswith("ngram") else SPECULATION.get(said, "other")
            if kind in ("draft", "mtp", "ngram"):
                reading.settings["speculative_method"] = kind
            elif kind:
                reading.warn(f"{name} {said!r:.40} is not modelled")
            else:
                reading.ignored.append(name)


def defaults(
    reading: CommandReading, *, slots: int = 4, flash: str = "auto", latents: int | None = None
) -> tuple[tuple[str, Value, str], ...]:
    """common/common.h: common_params; tools/server: `slots` of one cache."""
    server = reading.settings["program"] == "server"
    unless: list[tuple[str, Value, str]] = [
        ("context", "the model's maximum", "--ctx-size is not given"),
        ("n_gpu_layers", "as many as fit", "all where they fit"),
        ("parallel", slots if server else 1, "slots"),
        ("n_batch", 2048, "tokens"),
        ("ubatch_size", 512, "tokens"),
        ("flash_attn", flash, "on where the kernels can"),
        ("cache_type_k", "f16", "whatever the model's dtype is"),
        ("cache_type_v", "f16", "whatever the model's dtype is"),
    ]
    if server:
        unless.append(("cache_ram", 8192, "MiB of host memory for prompts"))
    if latents is not None:
        unless.append(("mla_attn", latents, "latents are used as they are"))
    return tuple(row for row in unless if row[0] not in reading.settings)


def runs(image: str, words: list[str]) -> tuple[list[str], str]:
    """docs/docker.md: `full` takes --server or --run first, `light` is llama-cli."""
    tag = image.rpartition(":")[2]
    if words[:1] in (["--server"], ["-s"]) and tag.startswith("full"):
        return words[1:], "llama-server"
    if words[:1] in (["--run"], ["-r"]) and tag.startswith("full"):
        return words[1:], "llama-cli"
    return words, "llama-cli" if tag.startswith("light") else "llama-server"


DIALECT = Dialect(
    engine=ENGINE.name,
    flags=FLAGS,
    finish=finish,
    defaults=defaults,
    argparse=False,
    optional=frozenset(FLASH),
    env=ENV,
    runs=runs,
)
