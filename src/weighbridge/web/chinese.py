"""Names and meanings of tabs, sections and settings in Chinese; terms as README.zh.md has them.

A line a setting: its name (or tab.name), what it is called, what it means; two blanks apart.
"""

from collections.abc import Iterator, Mapping

TABS: Mapping[str, str] = {
    "fit": "放得下吗",
    "load": "加载",
    "infer": "推理服务",
    "train": "训练",
    "compare": "对比",
    "gpus": "显卡",
    "models": "模型",
    "accuracy": "准确度",
}
SECTIONS: Mapping[str, str] = {
    "Main": "主要设置",
    "Answer": "问题",
    "Requests": "请求",
    "Weights": "权重",
    "Device": "设备",
    "Caches and attention": "缓存与注意力",
    "Sight": "图像",
    "Prefixes": "共同前缀",
    "Cards": "多卡",
    "Torch": "torch",
    "Drafts": "草稿模型",
    "Run": "训练过程",
    "Adapters": "适配器",
    "Ranks": "并行",
    "ZeRO": "ZeRO",
    "transformers": "transformers",
    "vLLM": "vLLM",
    "SGLang": "SGLang",
    "llama.cpp": "llama.cpp",
    "ik_llama.cpp": "ik_llama.cpp",
    "MLX": "MLX",
}
TABLE = """
gpu                               显卡                    平常怎么写就怎么写:4090、a100-80gb:8、2x RTX 4090、p5.48xlarge。
gpu_memory                        可用显存                进程在这张卡(或任意一张卡)上能用多少:24GiB。
headroom                          预留显存                每张卡要空出多少:1GiB 或 10%。默认不预留。
ram                               内存                    进程能用的主机内存:64GiB,或 local(本机)。默认只给出需要多少,不作判断。
train.ram                         内存                    一台机器上所有进程能用的主机内存:64GiB,或 local(本机)。默认只给出需要多少,不作判断。
exact                             追踪真实的类            在假的 GPU 上运行真实的类,与公式的结果并列。需要 torch。
train.exact                       追踪真实的一步          追踪真实的训练步,与公式的结果并列。需要 torch 和 transformers。
revision                          版本(revision)        Hub 上的分支、标签或提交。
command                           启动命令                引擎自己的命令,例如 vllm serve ……;没有写明的按引擎的默认值。
for                               问题                    结论针对哪个问题。默认:infer(推理)。
max                               求最大值                在放得下的前提下,求最大的一项。
smallest                          求最小的硬件            求够用的最小显卡、最少张数或最小的云主机。

engine                            引擎                    transformers(默认)、vllm、sglang、llama.cpp、ik_llama.cpp、mlx 或 ollama。
engine_version                    引擎版本                引擎的版本(4.40、0.19)。默认:已知的最新版。
train.engine_version              transformers 版本       transformers 的版本(4.40、5.23)。默认:已知的最新版。
context                           上下文(token)         一个请求的 token 数。默认 4096;模型的最大长度更短时取最大长度。
prompt_len                        提示(token)           提示的 token 数;与新生成的 token 数相加就是上下文。
max_new_tokens                    新生成(token)         回答的 token 数。
batch_size                        并发请求(用户数)      同时处理的请求数。默认 1。
train.batch_size                  每卡批大小              一张卡上一个微批的序列数。默认 1。
fit.batch_size                    并发数、批大小          推理时同时处理的请求数,训练时每卡的序列数。默认 1。
shared_prefix                     共同前缀                所有请求开头相同的 token 数。
image_size                        图像尺寸                图像的像素数。默认:视觉塔的原生尺寸。
images                            图像数                  一个请求里的图像数。
train.images                      图像数                  一个序列里的图像数。
audio_seconds                     音频秒数                一个请求里音频的长度。
train.audio_seconds               音频秒数                一个序列里音频的长度。

dtype                             权重精度                以这种精度加载:bfloat16、float16、float32……
train.dtype                       权重精度                以这种精度加载权重,不管训练精度是什么。
quantization                      量化格式                以这种格式加载:nf4、gptq-4bit-g128、Q4_K_M……;也可以用 vLLM 或 SGLang 自己的叫法:fp8……
train.quantization                量化格式                冻结的基座以这种格式加载:nf4、bnb-int8……
base_model                        不带输出头              没有 lm_head 的基础类。
kv_cache_dtype                    KV 缓存精度             键和值的精度:auto、fp8、q8_0……默认与模型相同。

tensor_parallel_size              张量并行                共同分担每一层的卡数。
train.tensor_parallel_size        张量并行                共同分担每一层的 rank 数。
pipeline_parallel_size            流水线并行              按层分段的卡数。
train.pipeline_parallel_size      流水线并行              按层分段的 rank 数。
data_parallel_size                数据并行                引擎的副本数。
train.data_parallel_size          数据并行                处理不同数据的 rank 数。默认:其余并行用剩的卡数。
context_parallel_size             上下文并行              共同分担一个序列的 rank 数。
expert_parallel_size              专家并行                共同分担专家的 rank 数。
enable_expert_parallel            专家整个分给各卡                专家整个地分给各卡。
language_model_only               只加载语言模型          不加载图像和声音的塔。
max_loras                         LoRA 槽位               适配器的槽位数。
max_lora_rank                     最大 LoRA 秩            适配器最大的秩。
speculative_method                投机解码方式            用什么方法提出草稿 token。
num_speculative_tokens            草稿 token 数           一次提出的 token 数。
draft_model                       草稿模型                提出草稿 token 的模型。
mamba_ssm_cache_dtype             Mamba 状态精度          递推状态的精度。
cpu_offload_gb                    CPU 卸载(GiB)         每张卡有多少 GiB 的权重留在主机内存。
attention_backend                 注意力后端              注意力的计算核。
torch_version                     torch 版本              运行的 torch 版本;它决定工作区的大小。

device_map                        device_map              直接加载到设备上。
attention                         注意力实现              注意力的计算核。
cache_implementation              缓存类型                缓存的种类。默认 dynamic。
num_beams                         束宽                    束搜索的束数;每一束都有自己的缓存。
logits_to_keep                    保留的 logits           计算多少个 token 的 logits;0 是全部。默认与 generate 相同。

gpu_memory_utilization            显存占用比例            占整张卡的比例。
kv_cache_memory_bytes             KV 缓存大小             缓存的大小;设了它,占用比例就不起作用。
max_num_batched_tokens            每步 token 上限         一步处理的 token 数。
max_num_seqs                      并发上限                一步处理的请求数(max-num-seqs)。
block_size                        块大小                  一块缓存的 token 数。
enforce_eager                     不用 CUDA graph         不捕获 CUDA graph。
enable_prefix_caching             前缀缓存                相同前缀的块共用。
async_scheduling                  异步调度                一步运行时就安排下一步。
max_cudagraph_capture_size        最大的 CUDA graph       有 CUDA graph 的最大批。
num_gpu_blocks_override           GPU 块数                缓存的块数,不管放得下多少。
decode_context_parallel_size      解码上下文并行          共同分担一份缓存的卡数。
disable_hybrid_kv_cache_manager   关闭混合 KV 管理        滑动窗口的层也保存全部缓存。
enable_sleep_mode                 睡眠模式                权重和缓存放在可以归还的内存池里。

mem_fraction_static               静态显存比例            权重和缓存占空闲显存的比例。
enable_dp_attention               数据并行注意力          数据并行数表示组数,每组各有一份注意力,组内做张量并行。
chunked_prefill_size              预填充分块              提示按多少 token 分块;-1 表示不分块。
max_running_requests              并发上限                同时运行的请求数。
max_total_tokens                  缓存池 token 数         缓存池的 token 数。
page_size                         页大小                  一页缓存的 token 数。
swa_full_tokens_ratio             滑动窗口池比例          滑动窗口层的池与完整池之比。
mamba_full_memory_ratio           Mamba 状态比例          状态与其余缓存之比。
cuda_graph_max_bs                 最大的 CUDA graph       有 CUDA graph 的最大批。
disable_cuda_graph                不用 CUDA graph         不捕获 CUDA graph。
disable_radix_cache               不保留前缀              不保留前缀的缓存。

program                           程序                    运行哪个程序:server 或 cli。
n_gpu_layers                      GPU 层数                放在卡上的层数;-1 是全部。
n_cpu_moe                         专家在内存的层数        有多少层的专家留在主机内存。
n_batch                           逻辑批                  一个逻辑批的 token 数。
ubatch_size                       物理批                  一个物理批的 token 数。
parallel                          槽位(用户数)          同时服务的槽位数。
cache_type_k                      键的缓存类型            键的格式:f16、q8_0……
cache_type_v                      值的缓存类型            值的格式:f16、q8_0……
flash_attn                        Flash Attention         是否使用 Flash Attention。
kv_unified                        统一 KV 缓存            所有槽位共用一份缓存。
swa_full                          完整滑动窗口            滑动窗口的层也保存全部缓存。
split_mode                        多卡分担方式                多张卡怎样分担模型。
tensor_split                      切分比例                各卡分担的份额:3,1。
main_gpu                          主卡                    放不切分部分的那张卡。
no_kv_offload                     KV 缓存留在内存         缓存留在主机内存。
no_mmap                           不用 mmap               文件读入内存,而不是映射。
cache_ram                         提示缓存(MiB)         主机内存里存放提示的缓存;-1 不限。
sched_max_copies                  调度副本数              编译参数 GGML_SCHED_MAX_COPIES:多卡时同时进行的步数。
mmproj                            投影文件(mmproj)      图像或声音塔的文件。
mla_attn                          MLA 注意力              隐变量怎样使用。
attn_max_b                        注意力上限(MiB)       注意力一次最多占用多少 MiB。
fused_moe                         融合 MoE                专家的 gate 和 up 合成一个运算。
run_time_repack                   运行时重排              主机内存里的权重按处理器重排。
max_kv_size                       缓存上限(token)       循环缓存的格数;类自带缓存的模型不受影响。
prefill_step_size                 提示分段(token)       一次计算的提示 token 数。默认 2048。

method                            训练方法                训练什么:全参、LoRA、QLoRA、DoRA。默认 full(全参)。
framework                         框架                    按哪个框架的默认值和惯例。默认 trainer。
framework_version                 框架版本                框架的版本;torchtitan 用日期,例如 2025-04-02。默认:已知的最新版。
precision                         训练精度                权重和乘法的精度。默认 bf16-mixed。
optimizer                         优化器                  adamw_torch(默认)、adamw_8bit、sgd-momentum、muon……
optim_args                        优化器参数              Adam 和 AdamW 的参数:foreach=False、fused=True、amsgrad=True、weight_decay=0.01;GaLore 和 APOLLO 的参数:rank=1024。
seq_len                           序列长度(token)       一个序列的 token 数。默认 2048;模型的最大长度更短时取最大长度。
gradient_accumulation             梯度累积                一步有多少个微批。
eval_batch_size                   评估批大小              评估时一张卡上的序列数(Trainer 自己的默认值是 8)。
checkpointing                     重计算                  反向时重新计算什么。默认 none(不重计算)。
loss                              损失的实现              输出头和损失的计算核。
compile                           编译                    层和损失经过 torch.compile(torchtune、torchtitan)。
optimizer_in_backward             反向时更新              梯度一有就更新参数(torchtune、LOMO)。
padded                            有填充                  一批里的序列长度不同,因此需要掩码。
use_reentrant                     可重入检查点            检查点在自己的一次反向里跑一层的反向(gradient_checkpointing_kwargs)。默认按框架;transformers 4 为是。
kbit_upcast                       k-bit 权重转换          训练前把量化基座的哪些部分转成 float32。默认按框架。
gptq_kernel                       GPTQ 计算核             用什么乘 GPTQ 的基座:torch 保留每个解包的矩阵(GPTQModel),triton 不保留(AutoGPTQ)。默认未知,按 torch 计算。
bitsandbytes_version              bitsandbytes 版本       版本:0.43.1 及以前,4 位的线性层保留输入。默认:已知的最新版。
accelerate_version                accelerate 版本         accelerate 的版本(trainer、accelerate、trl、axolotl 下的 FSDP)。默认:已知的最新版。
deepspeed_version                 DeepSpeed 版本          DeepSpeed 的版本。默认:已知的最新版。
bnb_4bit_quant_storage            4 位权重的存储          打包的权重存成什么类型:FSDP 只切分浮点类型。默认 uint8。
lora_r                            LoRA 秩                 秩。默认 8。
lora_alpha                        LoRA alpha              缩放系数;不占显存。默认 8。
lora_targets                      LoRA 目标模块           模块:all-linear、模块名,或正则表达式。
lora_dropout                      LoRA dropout            适配器之前的 dropout。默认 0。
use_rslora                        rsLoRA                  按秩的平方根缩放;不占显存。
modules_to_save                   整个训练的模块          除适配器外整个训练的模块。
shard                             训练切分(shard)                数据并行的 rank 之间分担什么。
offload                           卸载                    什么不放在卡上。
cpu_ram_efficient_loading         省内存加载              一台机器上只有一个 rank 读权重(accelerate 的 FSDP 设置;默认关闭)。
zero_reduce_bucket_size           规约桶大小              reduce_bucket_size。--framework deepspeed 时默认 5e8,否则是 hidden 的平方。
zero_prefetch_bucket_size         预取桶大小              stage3_prefetch_bucket_size。默认 5e7,否则是 hidden 平方的 0.9 倍。
zero_param_persistence_threshold  常驻参数阈值            stage3_param_persistence_threshold。默认 1e5,否则是 hidden 的 10 倍。
zero_max_live_parameters          最多在用参数            stage3_max_live_parameters。默认 1e9。
zero_sub_group_size               子组大小                sub_group_size。默认 1e9。
zero_overlap_comm                 通信重叠                第 1、2 阶段有两个桶(overlap_comm)。
no_zero_init                      不用 zero.Init          DeepSpeed 切分之前,每张卡上都有整个模型。

pattern                           关键词                  名称的一部分。
bf16                              BF16                    只看支持 bfloat16 的。
fp8                               FP8                     只看支持 fp8 的。
fp4                               FP4                     只看支持 fp4 的。
int8                              INT8                    只看支持 int8 的。
nvlink                            NVLink                  只看卡间有 NVLink 的。
min_memory                        最小显存                只看标称显存不小于它的:24GiB。
vendor                            厂商                    只看一个厂商的。
sort                              排序                    默认按目录的顺序。
min_context                       最小上下文              上下文至少这么多 token:8K。
source                            出处                    只看这个出处的数据。
by_source                         按出处分行              每个出处一行。
accuracy.engine                   引擎                    只看这个引擎的数据。
models.gpu                        显卡                    按这张卡给模型排序:4090。最多 60 个模型,请先用关键词缩小范围。
models.for                        用途                    放得下什么。默认:infer(推理)。
models.engine                     引擎                    提供服务的引擎。默认:transformers。
models.quantization               量化格式                只按这种格式。默认取最好的。
"""  # noqa: E501


def _lines() -> Iterator[tuple[str, str, str]]:
    for line in filter(None, TABLE.splitlines()):
        name, label, text = (cell.strip() for cell in line.split("  ") if cell.strip())
        yield name, label, text


LABELS: Mapping[str, str] = {name: label for name, label, _ in _lines()}
HELP: Mapping[str, str] = {name: text for name, _, text in _lines()}
