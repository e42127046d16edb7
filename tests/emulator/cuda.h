// Runs CUDA kernels on a CPU, exactly but slowly, one block after the other: a test tool.
//
// Every thread of a block is a fiber with a stack of its own; it runs until it meets the others at
// a barrier, a shuffle or a matrix product. What is wrong ends the launch with a message: a barrier
// that not all threads reach, lanes that meet at different operations, writes behind the shared
// memory that was asked for, addresses that are not aligned. Threads take turns forwards and
// backwards, so that results that depend on an order show. Atomic operations are plain ones; races
// between barriers, and what memory costs, are not seen.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

// ---- a block of fibers --------------------------------------------------------------------------
enum { RUNS, AT_BLOCK_BARRIER, AT_WARP, LEFT };
static const int MOST = 1024, STACK = 64 << 10, GUARD = 4096;
struct Fiber {
  jmp_buf at;
  bool begun;
  int state, operation;  // which operation of the warp it waits in
  unsigned meetings;     // of its warp so far
};
static Fiber fibers[MOST];
static char* stacks;
static jmp_buf scheduler;
static int current;
static void (*body)();
static int backwards;  // 1: all in the other order
static char message[200];
static struct {
  unsigned x;
} threadIdx, blockIdx;
static unsigned char* shared;

static void stop() {
  if (!_setjmp(fibers[current].at)) _longjmp(scheduler, 1);
}
static void fail(const char* text) {
  if (!message[0])
    snprintf(message, sizeof message, "%s (thread %d of block %u)", text, current, blockIdx.x);
  fibers[current].state = LEFT;
  stop();
}
static void wait(int state, int operation) {
  fibers[current].state = state;
  fibers[current].operation = operation;
  stop();
}
static void enter() {
  body();
  fibers[current].state = LEFT;
  _longjmp(scheduler, 1);
}
static void resume(int thread) {
  current = thread;
  threadIdx.x = thread;
  if (_setjmp(scheduler)) return;
  if (fibers[thread].begun) _longjmp(fibers[thread].at, 1);
  fibers[thread].begun = true;
  static ucontext_t fresh;
  getcontext(&fresh);
  fresh.uc_stack.ss_sp = stacks + (size_t)thread * STACK;
  fresh.uc_stack.ss_size = STACK;
  makecontext(&fresh, enter, 0);
  setcontext(&fresh);
}

// Lets those go on whom all others have reached; false if there are none.
static bool release(int threads) {
  bool any = false;
  int at_barrier = 0, left = 0;
  for (int first = 0; first < threads; first += 32) {
    int here = 0;
    bool same = true;
    for (int i = first; i < first + 32; ++i) {
      here += fibers[i].state == AT_WARP;
      at_barrier += fibers[i].state == AT_BLOCK_BARRIER;
      left += fibers[i].state == LEFT;
      same &= fibers[i].operation == fibers[first].operation;
    }
    if (here < 32) continue;
    current = first;
    if (!same) return fail("lanes of a warp meet at different operations"), false;
    for (int i = first; i < first + 32; ++i) fibers[i].state = RUNS;
    any = true;
  }
  if (at_barrier && at_barrier + left == threads) {
    for (int i = 0; i < threads; ++i)
      if (fibers[i].state == AT_BLOCK_BARRIER) fibers[i].state = RUNS;
    any = true;
  }
  return any;
}
static void run_block(int threads) {
  for (int i = 0; i < threads; ++i) fibers[i] = Fiber();
  for (int round = 0; !message[0]; ++round) {
    int left = 0;
    for (int j = 0; j < threads && !message[0]; ++j) {
      const int i = (blockIdx.x + round + backwards) % 2 ? threads - 1 - j : j;
      if (fibers[i].state == RUNS) resume(i);
    }
    for (int i = 0; i < threads; ++i) left += fibers[i].state == LEFT;
    if (left == threads || message[0]) return;
    if (!release(threads) && !message[0])
      snprintf(message, sizeof message, "a barrier that not all threads reach (block %u)",
               blockIdx.x);
  }
}
// 0, or what went wrong.
static const char* launch(void (*kernel)(), int blocks, int threads, int bytes) {
  body = kernel;
  message[0] = 0;
  if (!stacks) stacks = (char*)malloc((size_t)MOST * STACK);
  if (threads % 32 || threads > MOST) return "blocks are whole warps, at most 32 of them";
  unsigned char* const memory =
      (unsigned char*)aligned_alloc(128, (bytes + GUARD + 127) / 128 * 128);
  for (int b = 0; b < blocks && !message[0]; ++b) {
    blockIdx.x = backwards ? blocks - 1 - b : b;
    shared = memory;
    memset(memory, 0xee, bytes + GUARD);
    run_block(threads);
    for (int i = 0; i < GUARD && !message[0]; ++i)
      if (memory[bytes + i] != 0xee)
        snprintf(message, sizeof message, "shared memory written at byte %d of %d", bytes + i,
                 bytes);
  }
  free(memory);
  return message[0] ? message : nullptr;
}
template <auto kernel, class... A, size_t... I>
static const char* launch_with(void (*)(A...), std::index_sequence<I...>, int blocks, int threads,
                               int bytes, void** arguments) {
  static void** given;
  given = arguments;
  return launch([] { kernel(*(std::remove_const_t<A>*)given[I]...); }, blocks, threads, bytes);
}
template <auto kernel, class... A>
static const char* launch_kernel(void (*self)(A...), int blocks, int threads, int bytes,
                                 void** arguments) {
  return launch_with<kernel>(self, std::index_sequence_for<A...>(), blocks, threads, bytes,
                             arguments);
}

// ---- meetings -----------------------------------------------------------------------------------
static inline void __syncthreads() { wait(AT_BLOCK_BARRIER, 0); }
static inline void __syncwarp() { wait(AT_WARP, 1); }

// What the lanes of each warp bring along: words for this meeting, and for the one before it, which
// slower lanes may still read.
static unsigned brought[MOST / 32][2][32][8];
static unsigned (*meet(int operation, const unsigned* words, int count))[8] {
  const int warp = current / 32, lane = current % 32, turn = fibers[current].meetings++ % 2;
  memcpy(brought[warp][turn][lane], words, 4 * count);
  wait(AT_WARP, operation);
  return brought[warp][turn];
}
template <class T>
static T from_lane(T x, int lane) {
  unsigned word;
  memcpy(&word, &x, 4);
  const unsigned found = meet(2, &word, 1)[lane & 31][0];
  memcpy(&x, &found, 4);
  return x;
}
template <class T>
static T __shfl_sync(unsigned, T x, int lane) {
  return from_lane(x, lane);
}
template <class T>
static T __shfl_xor_sync(unsigned, T x, int mask) {
  return from_lane(x, current % 32 ^ mask);
}
template <class T>
static T __shfl_up_sync(unsigned, T x, int by) {
  const int lane = current % 32;
  return from_lane(x, lane < by ? lane : lane - by);
}
template <class F>
static int reduce(int x, F f) {
  unsigned word = (unsigned)x;
  const auto all = meet(3, &word, 1);
  for (int i = 0; i < 32; ++i) x = f(x, (int)all[i][0]);
  return x;
}
static inline int __reduce_min_sync(unsigned, int x) {
  return reduce(x, [](int a, int b) { return a < b ? a : b; });
}
static inline int __reduce_max_sync(unsigned, int x) {
  return reduce(x, [](int a, int b) { return a > b ? a : b; });
}
static inline bool __any_sync(unsigned, bool x) { return __reduce_max_sync(0, x); }
static inline unsigned __ballot_sync(unsigned, bool x) {
  const unsigned bit = (unsigned)x << (current % 32);
  return (unsigned)reduce((int)bit, [](int a, int b) { return a | b; });
}

// ---- arithmetic ---------------------------------------------------------------------------------
template <class T, class S>
static T same_bits(S s) {
  T t;
  static_assert(sizeof t == sizeof s);
  memcpy(&t, &s, sizeof t);
  return t;
}
static inline float __uint_as_float(unsigned u) { return same_bits<float>(u); }
static inline unsigned __float_as_uint(float f) { return same_bits<unsigned>(f); }
#define __expf expf
#define __logf logf
__attribute__((noinline)) static float __fadd_rn(float a, float b) { return a + b; }  // never fused
__attribute__((noinline)) static float __fmul_rn(float a, float b) { return a * b; }
static inline long long __float2ll_rn(float x) { return llrintf(x); }
static inline int __ffs(unsigned x) { return __builtin_ffs(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)((uint64_t)a * b >> 32);
}
template <class T>
static T min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
static T max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
static T atomicAdd(T* p, T x) {
  const T before = *p;
  *p += x;
  return before;
}
static inline void atomicMin(int* p, int x) { *p = min(*p, x); }
static inline void atomicMax(int* p, int x) { *p = max(*p, x); }

// ---- mtlcli/ops/cuda_instructions.cu ------------------------------------------------------------
static inline unsigned bits_bf16(float f) {
  const unsigned u = __float_as_uint(f);
  return f != f ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}
static inline float low_bf16(unsigned w) { return __uint_as_float(w << 16); }
static inline float high_bf16(unsigned w) { return __uint_as_float(w & 0xffff0000u); }
static inline unsigned pack_bf16(float low, float high) {
  return bits_bf16(low) | bits_bf16(high) << 16;
}
static inline float low_fp16(unsigned w) { return (float)same_bits<_Float16>((uint16_t)w); }
static inline float high_fp16(unsigned w) { return low_fp16(w >> 16); }
static inline unsigned pack_fp16(float low, float high) {
  return same_bits<uint16_t>((_Float16)low) | (unsigned)same_bits<uint16_t>((_Float16)high) << 16;
}
template <class T>
static T load(const void* p) {
  if ((uintptr_t)p % sizeof(T)) fail("a load that is not aligned");
  T t;
  memcpy(&t, p, sizeof t);
  return t;
}
template <class T>
static T __ldg(const T* p) {
  return load<T>(p);
}
static inline uint4 load_16(const void* p) { return load<uint4>(p); }
static inline uint2 load_8_once(const void* p) { return load<uint2>(p); }
static inline unsigned load_4_once(const void* p) { return load<unsigned>(p); }
static inline unsigned load_2_once(const void* p) { return load<uint16_t>(p); }
static inline void keep(const char*&) {}
static inline void add_4(float* p, float a, float b, float c, float d) {
  if ((uintptr_t)p % 16) fail("an addition that is not aligned");
  p[0] += a, p[1] += b, p[2] += c, p[3] += d;
}
#ifndef VALUE
#define VALUE 1
#endif
static inline float half_of(unsigned word, int which) {
  if (VALUE == 2) return which ? high_fp16(word) : low_fp16(word);
  return which ? high_bf16(word) : low_bf16(word);
}
// a: `deep` / 8 pairs of words, b: as many words; see `multiply_16`.
static void multiply(float* sum, const unsigned* a, const unsigned* b, int deep) {
  unsigned words[6];
  const int steps = deep / 8, g = current % 32 / 4, t = current % 4;
  memcpy(words, a, 8 * steps);
  memcpy(words + 4, b, 4 * steps);
  const auto all = meet(deep, words, 6);
  for (int i = 0; i < 4; ++i) {
    const int row = g + i / 2 * 8, column = 2 * t + i % 2;
    double total = sum[i];
    for (int k = 0; k < deep; ++k) {
      const unsigned left = all[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
      const unsigned right = all[column * 4 + k % 8 / 2][4 + k / 8];
      total += (double)half_of(left, k % 2) * half_of(right, k % 2);
    }
    sum[i] = (float)total;
  }
}
static inline void multiply_16(float* sum, uint4 a, uint2 b) { multiply(sum, &a.x, &b.x, 16); }
static inline void multiply_8(float* sum, uint2 a, unsigned b) { multiply(sum, &a.x, &b, 8); }
