// Small kernels that keep the rules or break them, to try the emulator with.
#define LANES_ALL 0xffffffffu

extern "C" __global__ void overrun(int at) {
  if (threadIdx.x == 5) shared[at] = 1;
}
extern "C" __global__ void leave_early(int threads) {
  if ((int)threadIdx.x < threads) return;
  __syncthreads();
}
extern "C" __global__ void wait_apart() {
  if (threadIdx.x % 32 < 16) __syncthreads();
  else __syncwarp();
}
extern "C" __global__ void meet_apart() {
  if (threadIdx.x % 2) __syncwarp();
  else __shfl_xor_sync(LANES_ALL, 1, 2);
}
extern "C" __global__ void read_at(const char* memory, int offset) { load_16(memory + offset); }

// Sums of a block by shared memory and barriers, each thread its neighbour's number.
extern "C" __global__ void pass_on(const int* given, int* out) {
  int* const numbers = (int*)shared;
  numbers[threadIdx.x] = given[threadIdx.x];
  __syncthreads();
  for (int i = 0; i < 3; ++i) {
    const int next = numbers[(threadIdx.x + 1) % 64];
    __syncthreads();
    numbers[threadIdx.x] = next;
    __syncthreads();
  }
  out[threadIdx.x] = numbers[threadIdx.x];
}
// out (6, 64)
extern "C" __global__ void exchange(const int* given, int* out) {
  const int i = threadIdx.x, x = given[i];
  out[i] = __shfl_sync(LANES_ALL, x, (i * 7 + 3) % 32);
  out[64 + i] = __shfl_xor_sync(LANES_ALL, x, 5);
  out[128 + i] = __shfl_up_sync(LANES_ALL, x, 3);
  out[192 + i] = __reduce_min_sync(LANES_ALL, x);
  out[256 + i] = (int)__ballot_sync(LANES_ALL, x > 0);
  out[320 + i] = __any_sync(LANES_ALL, x > 90);
}
// Words of both factors, lane by lane; sums (32, 4) start at `sums`.
extern "C" __global__ void multiply_deep(const uint4* a, const uint2* b, float* sums) {
  multiply_16(sums + 4 * threadIdx.x, a[threadIdx.x], b[threadIdx.x]);
}
extern "C" __global__ void multiply_flat(const uint2* a, const unsigned* b, float* sums) {
  multiply_8(sums + 4 * threadIdx.x, a[threadIdx.x], b[threadIdx.x]);
}
extern "C" __global__ void round_halves(const float* given, unsigned* bf16, unsigned* fp16) {
  const float low = given[2 * threadIdx.x], high = given[2 * threadIdx.x + 1];
  bf16[threadIdx.x] = pack_bf16(low, high);
  fp16[threadIdx.x] = pack_fp16(low, high);
}
// Sums of a block in whatever order its threads come.
extern "C" __global__ void add_up(const float* given, float* sum, long long* whole) {
  const float x = given[threadIdx.x];
  atomicAdd(sum, x);
  atomicAdd((unsigned long long*)whole, (unsigned long long)__float2ll_rn(x));
}
