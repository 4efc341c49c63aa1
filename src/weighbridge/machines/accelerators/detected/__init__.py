"""The accelerators of this machine, as its own programs report them.

device.py    the records of one device and of one output
nvidia.py    nvidia-smi: its table, its list, its query, its XML        nvml.py  the library itself
amd.py       rocm-smi and amd-smi                apple.py    system_profiler, sysctl, Metal
others.py    xpu-smi, npu-smi, hl-smi, tpu-info; dxdiag, wmic and PowerShell of Windows
programs.py  other programs, run within bounds
outputs.py   any output, Kubernetes and logs too -> its devices, or why it has none
here.py      this machine, and CUDA_VISIBLE_DEVICES and its kin

Parsers turn a text into records and run nothing. What a program prints is not trusted.
"""
