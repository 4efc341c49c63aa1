"""Words by which people say settings, in English and in Chinese: which pattern is which setting.

    WORDS   a number behind or before its name: "32K context", "rank of 16", 并发 8
    BARE    a length without a name: "at 2048 tokens", "16k"; it counts where none has one
    TAKES   a word that is a value: "QLoRA", "ZeRO-3", "8-bit Adam"; and where it is denied
    SIZES   names that code and people write alike: batch_size = 4
    CACHES  a format of a cache, as each engine calls it

`value` is the group that holds the number.
"""

from collections.abc import Mapping

IS = (
    r"[ \t]*(?:[=:：]|is|of(?: up to)?|up to|to|at|为|是|到|要|用|设为|设置为|设成|设到|改为|长度)?"
    r"[ \t]*"
)
LENGTH = r"(?P<value>\d{3,7}|\d{1,3}(?:,\d{3})+|\d{1,4} ?[kK])(?![a-zA-Z0-9]|[.,]\d| ?[GMT]i?B)"
NUMBER = r"(?P<value>\d{1,4})"
COUNT = rf"{NUMBER}(?![A-Za-z0-9%]|\.\d|[ ]?[kKGM]i?B?\b)"
NAMED_CONTEXT = (
    r"(?i:\bcontext(?:[ _-](?:length|window|size|len))?|\bctx(?:[ _-]size)?|\bn(?:um)?_ctx"
    r"|上下文(?:长度|窗口|大小)?|(?:输入|最大|总)?长度)"
)
OF_CONTEXT = r"(?:[ -]tokens?)?(?: of)?[ -]?(?:context|ctx|的?上下文)"
PROMPTS = r"(?i:\bprompts?(?: length)?|\binputs?|\bdocuments?)"
CONTEXT = (
    f"{NAMED_CONTEXT}{IS}{LENGTH}",
    rf"(?<![\w.-]){LENGTH}{OF_CONTEXT}",
    f"{PROMPTS} (?:of|up to|with|at)(?: up to)? {LENGTH}",
)
NAMED_SEQUENCE = (
    r"(?i:\b(?:max[ _-]?)?seq(?:uence)?s?(?:[ _-]?len(?:gth)?s?)?|\bcutoff[ _-]len|\bmax[ _]length"
    r"|\bcontext(?: length)?|(?:序列|最大|文本)?长度|上下文(?:长度)?)"
)
SEQUENCE = (f"{NAMED_SEQUENCE}{IS}{LENGTH}", rf"(?<![\w.-]){LENGTH}{OF_CONTEXT}")
STEPS = (
    (
        rf"(?i:\bgrad(?:ient)?[ _]acc(?:umulation|um)?(?:[ _]steps)?|梯度累[积加](?:步数)?){IS}"
        r"(?P<value>\d{1,4})\b"
    ),
)
# A rank of adapters, never that of a process: "[rank2]:", "rank 0 dies", "rank : 0 (local_rank: 0)"
OF_LORA = r"(?i:LoRA|adapter)"
RANK = (
    rf"(?i:\blora[ _-]?(?:rank|r)|秩){IS}(?P<value>[1-9]\d{{0,3}})\b(?!\.\d|%)",
    (
        rf"{OF_LORA}[^\n.;\[\]]{{0,40}}?(?<![\[\w])(?i:rank)(?:[ \t]*[=:]|[ \t]+of|[ \t])[ \t]*"
        r"(?P<value>[1-9]\d{0,3})\b(?!\.\d|%|\]|:)"
        r"(?! +(?:die|fail|crash|run|ran|goes|hit|get|is|was|OOM))"
    ),
    (
        r"(?<![\[\w])(?i:rank)(?:[=-]|[ \t]+of[ \t]+|[ \t])(?P<value>[1-9]\d{0,3})"
        rf"[ \t]+(?:for )?{OF_LORA}"
    ),
    r"(?<![\w.\[-])r[ \t]*=[ \t]*(?P<value>[1-9]\d{0,3})\b(?!\.\d)",
)
ALPHA = (rf"(?i:\b(?:lora[ _-]?)?alpha){IS}(?P<value>\d{{1,4}})\b(?!\.\d)",)
# Requests of one moment; "5 req/s" is a rate, and a team of 10 users is none
PEOPLE = r"(?:(?:request|user|session|stream|chat|client|conversation|prompt)s?|people|queries)"
AT_ONCE = (
    rf"(?i)(?<![\w.-]){COUNT} (?:parallel|concurrent|simultaneous)\b",
    (
        rf"(?i)(?<![\w.-]){COUNT} {PEOPLE} "
        r"(?:at once|at a time|at the same time|in parallel|concurrently|simultaneously|together)"
    ),
    rf"(?i)\bconcurren(?:cy|t (?:requests|users))(?: level)?{IS}{COUNT}",
    rf"(?i)\bbatch(?:es)?(?:[ _-]?size)?{IS}{COUNT}",
    rf"(?i)\bbsz?\b{IS}{COUNT}",
    rf"并发(?:数|量|度|请求数?)?{IS}{COUNT}",
    rf"(?<![\w.-]){NUMBER}[ ]?(?:个|路|人|用户|请求){{0,3}}(?:的)?(?:并发|同时)",
    rf"同时(?:有|支持|服务)?[ ]?{COUNT}[ ]?(?:个)?(?:用户|请求|人|会话)",
)
TENSOR = (
    rf"(?i:\btensor[ -]?parallel(?:ism|[ -]size)?|\bTP(?:[ -]size)?|张量并行(?:度|数)?){IS}{COUNT}",
    r"(?<![A-Za-z])TP(?P<value>\d{1,2})(?![\w.])",
    rf"(?<![\w.-]){NUMBER}-?(?:way|路)[ -]?(?:tensor[ -]parallel|张量并行)",
)
STAGES = (
    (
        r"(?i:\bpipeline[ -]?parallel(?:ism|[ -]size)?|\bPP(?:[ -]size)?|流水线并行(?:度|数)?)"
        rf"{IS}{COUNT}"
    ),
    r"(?<![A-Za-z])PP(?P<value>\d{1,2})(?![\w.])",
)
WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "infer": {
        "context": CONTEXT,
        "batch_size": AT_ONCE,
        "tensor_parallel_size": TENSOR,
        "pipeline_parallel_size": STAGES,
    },
    "train": {
        "seq_len": SEQUENCE,
        "gradient_accumulation": STEPS,
        "lora_r": RANK,
        "lora_alpha": ALPHA,
    },
}

# A length without a name, and what is none: samples, a cache that is counted in tokens
NO_LENGTH = (
    r"(?! ?[kK]?[ -]*(?:(?:sample|example|row|image|step|user|document|pair|line|file|conversation"
    r"|iteration|dollar|hour|star)s?\b|USD|条|个样本|张|步|轮|元))"
)
BARE = (
    rf"(?<![\w.$€£/:+-])(?P<value>\d{{1,4}} ?[kK])(?![a-zA-Z0-9]|[.,]\d){NO_LENGTH}",
    (
        r"(?<![\w.])(?P<value>\d{3,7}|\d{1,3}(?:,\d{3})+)[ -]?(?:tokens?\b|个?token)"
        r"(?!/| ?(?:per|a|each) |[^\n.]{0,20}(?:cache|batch))"
    ),
)
OTHER_TOKENS = (  # on the line of a length: it is another number of tokens
    r"(?i)cache|batched|per second|tok(?:en)?s?/s|dataset|corpus|in total|generated|estimated"
    r"|concurrency|maximum|new tokens|数据集"
)
# Of training: a setting, what says it, its value; and where that is denied
CHECKPOINTING = (
    r"(?i)(?<![a-z])(?:grad(?:ient)?s?|activations?)[ _-]?checkpoint(?:ing|s)?(?![a-z])"
    r"|(?:梯度|激活)检查点|激活重计算"
)
QLORA = r"(?i)(?<![a-z])QLoRA(?![a-z])"
LORA_TRAINING = r"(?i)(?<![a-z])LoRA[ -](?:fine-?tun|train|SFT|微调|训练)"
ZERO = r"(?:zero|deepspeed)[ _-]?(?:(?:zero|stage)[ _-]?){0,2}"
PAGED = r"(?i)(?<![a-z_])paged[ _-]?(?:adamw?[ _-]?8[ -]?bit|8[ -]?bit[ -]adamw?)"
TAKES: tuple[tuple[str, str, str], ...] = (
    ("method", QLORA, "qlora"),
    ("method", r"(?i)(?<![a-z])LoRA(?![a-z])", "lora"),
    ("method", r"(?i)(?<![a-z])DoRA(?![a-z])", "dora"),
    ("method", r"(?i)全参数?|全量微调|full[- ](?:parameter|fine|ft\b)", "full"),
    ("shard", rf"(?i){ZERO}3", "zero3"),
    ("shard", rf"(?i){ZERO}2", "zero2"),
    ("shard", r"(?i)(?<![a-z])FSDP(?:-?2)?(?![a-z0-9])", "fsdp2"),
    ("shard", r"(?i)(?<![a-z])FSDP-?1(?![a-z0-9])", "fsdp1"),
    ("offload", rf"(?i){ZERO}3[ ,+_-]*(?:with |cpu[ _-]?)*offload|offload_param", "params"),
    ("offload", rf"(?i){ZERO}2[ ,+_-]*(?:with |cpu[ _-]?)*offload|offload_optimizer", "optimizer"),
    ("checkpointing", CHECKPOINTING, "full"),
    ("optimizer", PAGED, "paged_adamw_8bit"),
    (
        "optimizer",
        (
            r"(?i)(?<!paged)(?<!paged[ _-])(?<![a-z])"
            r"(?:adamw?(?:_bnb)?[ _-]?8[ -]?bit|8[ -]?bit[ -](?:adamw?|optimi[sz]er))"
        ),
        "adamw_8bit",
    ),
    ("optimizer", r"(?i)(?<![a-z])adafactor(?![a-z])", "adafactor"),
    ("optimizer", r"(?<![A-Za-z])[Mm]uon(?![a-z])", "muon"),
    (
        "lora_targets",
        r"(?i)all[ -]?linear(?: (?:layers|modules))?|(?:所有|全部)线性层",
        "all-linear",
    ),
    ("loss", r"(?i)(?<![a-z])liger(?![a-z])", "liger"),
)
DENIED = {"checkpointing": "none"}
RAM = r"(?i)(\d{2,5} ?G)B? (?:CPU memory|RAM|of RAM)|内存[是为:： ]{1,3}(\d{2,5} ?G)B?"
OWN_BATCH = (
    r"(?:(?<!global[ _-])(?<!total[ _-])(?<!effective[ _-])(?<!eval[ _-])"
    r"(?:micro[ _-]?)?batch(?:[_ -]?size)?|\bbsz?\b|批(?:次|量)?大小)"
)
SIZES: Mapping[str, str] = {
    "batch_size": rf"(?i){OWN_BATCH}\s*(?:[=:为]|is|of|设为|设成)?\s*(\d{{1,4}})\b(?!\.\d|[kK])",
    "seq_len": r"(?i)(?:max_seq_length|seq_len|cutoff_len|context_len)\s*[=:<]\s*(\d[\d,]{1,8})",
    "ram": RAM,
}
# Formats of a cache: as people write them, and as an engine's own setting has them
CACHE_FORMAT = r"(?P<value>fp8(?:[_ -]?e[45]m[23])?|q[458](?:_[01])?|int8|[48][ -]?bit|nvfp4)"
OF_A_CACHE = (
    rf"(?i)(?<![\w-]){CACHE_FORMAT}[ -]?(?:的 ?|quanti[sz]ed )?(?:kv[ _-]?(?:cache)?\b|kv ?缓存)",
    (
        r"(?i)\b(?:kv[ _-]?cache|kv ?缓存)(?:[ _-](?:dtype|type|format|quanti[sz]ation)| ?量化)?"
        rf"{IS}(?:quanti[sz]ed )?(?:to |in |as |with )?{CACHE_FORMAT}(?![\w-])"
    ),
)
_GGML = {"q8_0": "q8_0", "q8": "q8_0", "8bit": "q8_0", "q4_0": "q4_0", "q4": "q4_0", "4bit": "q4_0"}
CACHES: Mapping[str, Mapping[str, str]] = {
    "vllm": {"fp8": "fp8", "fp8e4m3": "fp8_e4m3", "fp8e5m2": "fp8_e5m2", "nvfp4": "nvfp4"},
    "sglang": {"fp8": "fp8_e4m3", "fp8e4m3": "fp8_e4m3", "fp8e5m2": "fp8_e5m2", "nvfp4": "nvfp4"},
    "llama.cpp": {**_GGML, "q5_0": "q5_0", "q5_1": "q5_1", "q4_1": "q4_1"},
    "ollama": _GGML,
}
SHARE = (
    r"(?i:\b(?:gpu[ _-]?)?(?:memory[ _-]?)?utili[sz]ation|显存(?:利用率|占比))"
    r"[ \t]*(?:[=:：]|is|of|to|at|为|设为|设成)?[ \t]*(?P<value>0?\.\d{1,3})(?![\d%])"
)
SHARES: Mapping[str, str] = {"vllm": "gpu_memory_utilization", "sglang": "mem_fraction_static"}
SERVERS = ("vllm", "sglang")
ENGINES_OF: Mapping[str, tuple[str, ...]] = {  # settings of words that only some engines have
    "tensor_parallel_size": SERVERS,
    "pipeline_parallel_size": SERVERS,
}
