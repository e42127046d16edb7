// One source file of kernels as a library for a CPU: SOURCE, and KERNELS as KERNEL(name) ...
#include "cuda.h"
#include SOURCE

extern "C" void turn(int to) { backwards = to; }  // the order of blocks and threads
extern "C" const char* run(const char* name, int blocks, int threads, int bytes, void** arguments) {
#define KERNEL(k) \
  if (!strcmp(name, #k)) return launch_kernel<k>(k, blocks, threads, bytes, arguments);
  KERNELS
  return "there is no such kernel";
}
