"""Flags of llama-server and llama-cli, and what each does to memory; those of ik_llama.cpp.

common/arg.cpp of llama.cpp as vendored in llama-cpp-python 0.3.36, and in 0.3.16 and 0.3.9 for
flags that are gone; common/common.cpp of ik_llama.cpp at 8337e4cd3. The flags of its other
programs (imatrix, perplexity, ...) are left out.
"""

from weighbridge.engines.launch.table import flags
from weighbridge.engines.llama_cpp.settings import LlamaCpp

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
-cmoe --cpu-moe                          switch  @all_experts
-ncffn --n-cpu-ffn                       value   !feed-forward layers are on the device
-ot --override-tensor                    value   @placed
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
-fitt --fit-target                       value   !settings are not lowered to fit
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
--video-fps --video-timestamp-interval --video-ffmpeg-dir --numa -fit --fit --tags -hft --hf-token
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
