// Instructions of the GPU that C has no words for. On a CPU an emulator stands in for this file.

// Two half numbers of a word: lower and upper as float32, and back, rounded to nearest even.
#define HALVES(KIND, TYPE, LOW, HIGH)                                       \
  __device__ __forceinline__ float low_##KIND(unsigned w) { return LOW; }   \
  __device__ __forceinline__ float high_##KIND(unsigned w) { return HIGH; } \
  __device__ __forceinline__ unsigned pack_##KIND(float low, float high) {  \
    unsigned w;                                                             \
    asm("cvt.rn." TYPE ".f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low)); \
    return w;                                                               \
  }
__device__ __forceinline__ float half_of(unsigned short h) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
  return x;
}
HALVES(bf16, "bf16x2", __uint_as_float(w << 16), __uint_as_float(w & 0xffff0000u))
HALVES(fp16, "f16x2", half_of((unsigned short)w), half_of((unsigned short)(w >> 16)))

// 16 aligned bytes of memory that nobody writes meanwhile.
__device__ __forceinline__ uint4 load_16(const void* p) {
  uint4 r;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
      : "l"(p));
  return r;
}

// The same of 8, 4 and 2 bytes that are read once: they stay out of the first-level cache.
__device__ __forceinline__ uint2 load_8_once(const void* p) {
  uint2 r;
  asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(r.x), "=r"(r.y) : "l"(p));
  return r;
}
__device__ __forceinline__ unsigned load_4_once(const void* p) {
  unsigned r;
  asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(r) : "l"(p));
  return r;
}
__device__ __forceinline__ unsigned load_2_once(const void* p) {
  unsigned short r;
  asm("ld.global.nc.L1::no_allocate.u16 %0, [%1];" : "=h"(r) : "l"(p));
  return r;
}

// Keeps the compiler from taking an address apart again, which costs it two instructions more a
// use.
__device__ __forceinline__ void keep(const char*& p) { asm("" : "+l"(p)); }

// Adds to four aligned numbers in memory, each by itself: at once from sm_90 on, else one by one.
__device__ __forceinline__ void add_4(float* p, float a, float b, float c, float d) {
#if __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p), "f"(a), "f"(b), "f"(c),
               "f"(d)
               : "memory");
#else
  asm volatile(
      "red.global.add.f32 [%0], %1; red.global.add.f32 [%0 + 4], %2;"
      "red.global.add.f32 [%0 + 8], %3; red.global.add.f32 [%0 + 12], %4;" ::"l"(p),
      "f"(a), "f"(b), "f"(c), "f"(d)
      : "memory");
#endif
}

// sum += a b of a warp, in float32: a is 16 x 16 (or 16 x 8) halves, b 16 x 8 (or 8 x 8). Lane
// 4 g + t holds of row g: columns 2 t, 2 t + 1 (word 0) and 2 t + 8, 2 t + 9 (word 2), of row g + 8
// the same (words 1, 3); of b's column g those rows; of the sum's rows g and g + 8 columns 2 t and
// 2 t + 1.
#if VALUE == 2
#define PRODUCT "f32.f16.f16.f32"
#else
#define PRODUCT "f32.bf16.bf16.f32"
#endif
__device__ __forceinline__ void multiply_16(float* sum, uint4 a, uint2 b) {
  asm("mma.sync.aligned.m16n8k16.row.col." PRODUCT
      " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}
__device__ __forceinline__ void multiply_8(float* sum, uint2 a, unsigned b) {
  asm("mma.sync.aligned.m16n8k8.row.col." PRODUCT
      " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a.x), "r"(a.y), "r"(b));
}

extern __shared__ __align__(16) unsigned char shared[];
