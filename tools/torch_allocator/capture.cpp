// Tells the allocator that a stream capture begins or ends: torch.cuda.graph does so in C++ alone.
#include <c10/cuda/CUDACachingAllocator.h>

extern "C" void mark_capture(int begin) {
  if (begin)
    c10::cuda::CUDACachingAllocator::markCaptureBegin(0);
  else
    c10::cuda::CUDACachingAllocator::markCaptureEnd(0);
}
