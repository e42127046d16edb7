// Where a sample lies in a map, and what the pixels around it weigh, along one axis.
//
// A sample at pixel coordinate x lies in the cell of columns c and c + 1, and a column weighs as
// the hat max(0, 1 - |x - column|). With c kept in [0, W - 2] the same two columns serve samples
// outside the map: their hats are zero there (zeros), unless x was moved to the edge first (clamp).
// So every pixel that is read exists. CLAMP: 1, or 0 for zeros.
#pragma once
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;
#define INLINE __device__ __forceinline__

// The coordinate of a sample, rounded as plain PyTorch does: at whole pixels every bit counts.
INLINE float coordinate(float reference, int size, float step) {
  return __fadd_rn(__fadd_rn(__fmul_rn(reference, (float)size), -.5f), step);
}
// The same, moved to where weights change; NaN stays.
INLINE float held(float x, int size) {
  const float low = CLAMP ? 0.f : -1.f, high = CLAMP ? (float)(size - 1) : (float)size;
  x = x < low ? low : x;
  return x > high ? high : x;
}
// The lower pixel of its cell; for NaN any.
INLINE int lower(float held, int size) { return max(min((int)held, size - 2), 0); }
// Weights of the pixels at distance u and u - 1; a map of one pixel has no second.
INLINE float2 hats(float u, int size) {
  if (CLAMP) return make_float2(1.f - u, u);
  float near = 1.f - fabsf(u), far = 1.f - fabsf(u - 1.f);
  near = near < 0.f ? 0.f : near;
  far = far < 0.f ? 0.f : far;
  return make_float2(near, size > 1 ? far : 0.f);
}
// Their derivatives by x, to the right where they have kinks; 0 where x was moved.
INLINE float2 slopes(float x, float u, int size) {
  if (CLAMP) {
    const float inside = x >= 0.f && x < (float)(size - 1) ? 1.f : 0.f;
    return make_float2(-inside, inside);
  }
  const bool inside = x >= -1.f && x < (float)size;
  const float near = u < 0.f   ? 1.f
                     : u < 1.f ? -1.f
                               : 0.f,
              far = u < 0.f   ? 0.f
                    : u < 1.f ? 1.f
                              : -1.f;
  return make_float2(inside ? near : 0.f, inside && size > 1 ? far : 0.f);
}
