/* A GPU that computes nothing, for LD_PRELOAD. ONNX Runtime can make a session on it, which decides for each
   node whether CUDA or the CPU runs it. Memory is the host's, and every launch succeeds without a result. */
#include <stdlib.h>
#include <string.h>

typedef void *handle;

/* The beginning of cudaDeviceProp of CUDA 13. */
struct properties {
  char name[256], uuid[16], luid[8];
  unsigned int luid_mask;
  size_t memory, shared_per_block;
  int registers, warp;
  size_t pitch;
  int threads_per_block, block[3], grid[3];
  size_t constants;
  int major, minor;
  size_t texture, texture_pitch;
  int processors;
};

enum { OK = 0, MAJOR = 75, MINOR = 76, VERSION = 13000, PROCESSORS = 58 };
static const size_t MEMORY = (size_t)16 << 30;

static int make(handle *made, size_t bytes) {
  *made = calloc(1, bytes ? bytes : 1);
  return OK;
}
static int drop(handle made) {
  free(made);
  return OK;
}

int cudaSetDevice(int device) { return OK; }
int cudaGetDevice(int *device) { return *device = 0; }
int cudaGetDeviceCount(int *count) { *count = 1; return OK; }
int cudaDriverGetVersion(int *version) { *version = VERSION; return OK; }
int cudaRuntimeGetVersion(int *version) { *version = VERSION; return OK; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == MAJOR ? 8 : attribute == MINOR ? 9 : 1024;
  return OK;
}
int cudaGetDeviceProperties(struct properties *found, int device) {
  memset(found, 0, sizeof *found);
  strcpy(found->name, "stub");
  found->memory = MEMORY;
  found->shared_per_block = 48 << 10;
  found->registers = 65536;
  found->warp = 32;
  found->threads_per_block = 1024;
  found->major = 8;
  found->minor = 9;
  found->processors = PROCESSORS;
  return OK;
}
int cudaMemGetInfo(size_t *left, size_t *total) { *left = *total = MEMORY; return OK; }
int cudaMalloc(handle *made, size_t bytes) { return make(made, bytes); }
int cudaMallocHost(handle *made, size_t bytes) { return make(made, bytes); }
int cudaHostAlloc(handle *made, size_t bytes, unsigned int flags) { return make(made, bytes); }
int cudaFree(handle made) { return drop(made); }
int cudaFreeHost(handle made) { return drop(made); }
int cudaMemcpy(handle to, const void *from, size_t bytes, int kind) { memcpy(to, from, bytes); return OK; }
int cudaMemcpyAsync(handle to, const void *from, size_t bytes, int kind, handle stream) {
  memcpy(to, from, bytes);
  return OK;
}
int cudaMemset(handle to, int value, size_t bytes) { memset(to, value, bytes); return OK; }
int cudaMemsetAsync(handle to, int value, size_t bytes, handle stream) {
  memset(to, value, bytes);
  return OK;
}
int cudaGetLastError(void) { return OK; }
int cudaPeekAtLastError(void) { return OK; }
int cudaDeviceSynchronize(void) { return OK; }
int cudaLaunchKernel(void) { return OK; }
int cudaFuncSetAttribute(void) { return OK; }
int cudaStreamCreate(handle *made) { return make(made, 1); }
int cudaStreamCreateWithFlags(handle *made, unsigned int flags) { return make(made, 1); }
int cudaStreamDestroy(handle made) { return drop(made); }
int cudaStreamSynchronize(handle stream) { return OK; }
int cudaStreamIsCapturing(handle stream, int *capturing) { return *capturing = 0; }
int cudaStreamWaitEvent(handle stream, handle event, unsigned int flags) { return OK; }
int cudaEventCreate(handle *made) { return make(made, 1); }
int cudaEventCreateWithFlags(handle *made, unsigned int flags) { return make(made, 1); }
int cudaEventDestroy(handle made) { return drop(made); }
int cudaEventRecord(handle event, handle stream) { return OK; }
int cudaEventSynchronize(handle event) { return OK; }
int cublasCreate_v2(handle *made) { return make(made, 1); }
int cublasDestroy_v2(handle made) { return drop(made); }
int cublasSetStream_v2(handle made, handle stream) { return OK; }
int cublasSetMathMode(handle made, int mode) { return OK; }
int cublasLtCreate(handle *made) { return make(made, 1); }
int cublasLtDestroy(handle made) { return drop(made); }
