/* A stand-in for libcudart, libcuda and libnvidia-ml, as far as PyTorch's caching allocator calls
 * them: memory is a counter with a limit, addresses ascend, streams and events are names.
 *
 * STUB_TOTAL is the size of the card. An event comes to pass when stub_synchronize() is called
 * after it was recorded.
 */
#define _GNU_SOURCE
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE (2ull << 20)
#define EXPORT __attribute__((visibility("default")))

static size_t total = 16ull << 30, used, next_segment = 0x7f0000000000ull,
              next_range = 0x700000000000ull;
static size_t recorded, passed;
static int capturing;
static cudaError_t last;
static struct { size_t address, size; } segments[1 << 16];
static int segment_count;
static size_t handles[1 << 20], handle_count = 1;

__attribute__((constructor)) static void start(void) {
  const char *text = getenv("STUB_TOTAL");
  if (text) total = strtoull(text, 0, 10);
}
EXPORT void stub_synchronize(void) { passed = recorded; }
EXPORT void stub_capture(int on) { capturing = on; }

static size_t place(size_t *next, size_t size) {
  size_t address = *next;
  *next += (size + PAGE - 1) / PAGE * PAGE + PAGE;
  return address;
}

/* libcudart: memory */
cudaError_t cudaMalloc(void **p, size_t size) {
  if (used + size > total) return last = cudaErrorMemoryAllocation;
  used += size;
  segments[segment_count].address = place(&next_segment, size);
  segments[segment_count].size = size;
  *p = (void *)segments[segment_count++].address;
  return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
  for (int i = 0; i < segment_count; i++)
    if (segments[i].address == (size_t)p) {
      used -= segments[i].size;
      segments[i] = segments[--segment_count];
      return cudaSuccess;
    }
  return p ? cudaErrorInvalidValue : cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *all) {
  *free = total - used;
  *all = total;
  return cudaSuccess;
}

/* libcudart: one device */
#undef cudaGetDeviceProperties
cudaError_t cudaGetDeviceCount(int *n) { *n = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *d) { *d = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int d) { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int d) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "stand-in");
  p->totalGlobalMem = total;
  p->major = 8;
  p->multiProcessorCount = 108;
  p->warpSize = 32;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxThreadsPerBlock = 1024;
  return cudaSuccess;
}
cudaError_t cudaGetLastError(void) { cudaError_t e = last; last = cudaSuccess; return e; }
cudaError_t cudaPeekAtLastError(void) { return last; }
cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v) { *v = 13020; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { *v = 13020; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr a, int d) { *v = 1; return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int *v, int a, int b) { *v = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int *low, int *high) { *low = 0; *high = -5; return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char *id, int n, int d) { snprintf(id, n, "0000:00:00.0"); return cudaSuccess; }

/* libcudart: streams, events, captures */
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int priority) {
  static size_t name = 0x1000;
  *s = (cudaStream_t)(name += 0x100);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t s) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags) { return cudaSuccess; }
#define STATUS (capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone)
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *status) {
  *status = STATUS;
  return cudaSuccess;
}
#undef cudaStreamGetCaptureInfo
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, enum cudaStreamCaptureStatus *status,
                                     unsigned long long *id, cudaGraph_t *graph,
                                     const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges,
                                     size_t *count) {
  *status = STATUS;
  if (id) *id = 1;
  if (graph) *graph = (cudaGraph_t)1;
  if (count) *count = 0;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *m) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
  *e = (cudaEvent_t)calloc(1, sizeof(size_t));
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) { free(e); return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) { *(size_t *)e = ++recorded; return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t e) {
  return *(size_t *)e <= passed ? cudaSuccess : (last = cudaErrorNotReady);
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) { return cudaSuccess; }

/* libcuda: expandable segments */
static CUresult done(void) { return CUDA_SUCCESS; }
static CUresult reserve(CUdeviceptr *p, size_t size, size_t align, CUdeviceptr at, unsigned long long f) {
  *p = place(&next_range, size);
  return CUDA_SUCCESS;
}
static CUresult create(CUmemGenericAllocationHandle *h, size_t size, const CUmemAllocationProp *p,
                       unsigned long long flags) {
  if (used + size > total) return CUDA_ERROR_OUT_OF_MEMORY;
  used += size;
  handles[handle_count] = size;
  *h = handle_count++;
  return CUDA_SUCCESS;
}
static CUresult release(CUmemGenericAllocationHandle h) { used -= handles[h]; return CUDA_SUCCESS; }
static CUresult attribute(int *v, CUdevice_attribute a, CUdevice d) { *v = 1; return CUDA_SUCCESS; }
static CUresult error_text(CUresult r, const char **text) { *text = "stand-in"; return CUDA_SUCCESS; }
static CUresult granularity(size_t *g, const CUmemAllocationProp *p, CUmemAllocationGranularity_flags f) {
  *g = PAGE;
  return CUDA_SUCCESS;
}
static CUresult device(CUdevice *d, int i) { *d = i; return CUDA_SUCCESS; }
static CUresult context(CUcontext *c) { *c = (CUcontext)1; return CUDA_SUCCESS; }
static CUresult primary(CUdevice d, unsigned *flags, int *active) { *flags = 0; *active = 1; return CUDA_SUCCESS; }

static const struct { const char *name; void *function; } functions[] = {
    {"cuMemAddressReserve", reserve},    {"cuMemCreate", create},
    {"cuMemRelease", release},           {"cuDeviceGetAttribute", attribute},
    {"cuGetErrorString", error_text},    {"cuMemGetAllocationGranularity", granularity},
    {"cuDeviceGet", device},             {"cuCtxGetCurrent", context},
    {"cuDevicePrimaryCtxGetState", primary}};
static void *find(const char *name) {
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
    if (!strcmp(functions[i].name, name)) return functions[i].function;
  return done;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **f, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *found) {
  *f = find(name);
  if (found) *found = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
CUresult cuInit(unsigned flags) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *v) { *v = 13020; return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxGetState(CUdevice d, unsigned *flags, int *active) { return primary(d, flags, active); }
CUresult cuGetProcAddress_v2(const char *name, void **f, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *found) {
  *f = find(name);
  if (found) *found = CU_GET_PROC_ADDRESS_SUCCESS;
  return CUDA_SUCCESS;
}

/* libnvidia-ml: no fabric between devices, no processes */
enum { NVML_OK = 0, NVML_NOT_SUPPORTED = 3 };
int nvmlInit_v2(void) { return NVML_OK; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **d) { *d = (void *)1; return NVML_OK; }
int nvmlDeviceGetGpuFabricInfoV(void *d, void *info) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemoteDeviceType(void *d, unsigned link, void *type) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *d, unsigned link, void *info) { return NVML_NOT_SUPPORTED; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 13020; return NVML_OK; }
int nvmlDeviceGetComputeRunningProcesses(void *d, unsigned *n, void *p) { *n = 0; return NVML_OK; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, void *p) { *n = 0; return NVML_OK; }
