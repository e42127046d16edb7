// CUDA kernels of sampled channels: every number of a plane is read bilinearly at an offset of its
// own, and what lies outside the plane is zero. See mtlcli/ops/channels.py.
//
// A block works on THREADS numbers of one plane, a thread on one of them. Macros: CLAMP, 0; THREADS;
// EXACT: 1 where sums are of integers, which come out the same in any order, or 0.
#include "cuda_positions.cu"

// Where a number of a plane is read.
struct Place {
  float x, y, u, v;         // its position, and that from the upper left pixel of its cell
  int pixel, right, under;  // that pixel, and steps to the others
  INLINE bool known() const { return x == x && y == y; }
};
INLINE Place place_of(const float* offsets, int k, int height, int width) {
  const float y = (float)(k / width) + __ldg(offsets + k);
  const float x = (float)(k % width) + __ldg(offsets + (i64)height * width + k);
  const float u = held(x, width), v = held(y, height);
  const int column = lower(u, width), row = lower(v, height);
  return {x, y, u - column, v - row, row * width + column, width > 1, height > 1 ? width : 0};
}
// What weighs nothing is not read, even if it is no number.
INLINE float times(float weight, float number) { return weight == 0.f ? 0.f : weight * number; }
INLINE float mix(float2 weight, float first, float second) {
  return times(weight.x, first) + times(weight.y, second);
}

// The number that a thread works on, and its plane; false if there is none.
INLINE bool find(int area, i64& plane, int& k) {
  const int parts = (area + THREADS - 1) / THREADS;
  plane = blockIdx.x / parts;
  k = blockIdx.x % parts * THREADS + threadIdx.x;
  return k < area;
}

// x (planes, height, width), offsets (planes, 2, height, width), down and to the right -> out.
extern "C" __global__ void __launch_bounds__(THREADS)
    read_channels(const float* x, const float* offsets, float* out, int height, int width) {
  const int area = height * width;
  i64 plane;
  int k;
  if (!find(area, plane, k)) return;
  const Place at = place_of(offsets + 2 * plane * area, k, height, width);
  const float* const p = x + plane * area + at.pixel;
  const float2 across = hats(at.u, width), down = hats(at.v, height);
  out[plane * area + k] =
      mix(down, mix(across, __ldg(p), __ldg(p + at.right)),
          mix(across, __ldg(p + at.under), __ldg(p + at.under + at.right)));
}

#if EXACT
typedef u64 sum_t;
INLINE void add(sum_t* sum, float x, float scale) {
  atomicAdd(sum, (u64)__float2ll_rn(x * scale));
}
#else
typedef float sum_t;
INLINE void add(sum_t* sum, float x, float) { atomicAdd(sum, x); }
#endif

// grad_out, x, offsets -> grad_offsets, and grad_x, added to; of integers, `scale` times as much.
extern "C" __global__ void __launch_bounds__(THREADS)
    differentiate_channels(const float* grad_out, const float* x, const float* offsets,
                           const float* scale, sum_t* grad_x, float* grad_offsets, int height,
                           int width) {
  const int area = height * width;
  i64 plane;
  int k;
  if (!find(area, plane, k)) return;
  const Place at = place_of(offsets + 2 * plane * area, k, height, width);
  const float grad = __ldg(grad_out + plane * area + k);
  float* const steps = grad_offsets + 2 * plane * area + k;
  const float* const p = x + plane * area + at.pixel;
  const float a = __ldg(p), b = __ldg(p + at.right);
  const float c = __ldg(p + at.under), d = __ldg(p + at.under + at.right);
  const float2 across = hats(at.u, width), down = hats(at.v, height);
  const float2 slope_x = slopes(at.x, at.u, width), slope_y = slopes(at.y, at.v, height);
  const float steep_y = mix(slope_y, mix(across, a, b), mix(across, c, d));
  const float steep_x = mix(slope_x, mix(down, a, c), mix(down, b, d));
  steps[0] = at.known() ? grad * steep_y : 0.f;
  steps[area] = at.known() ? grad * steep_x : 0.f;
  if (!at.known()) return;
  const float weights[4] = {across.x * down.x, across.y * down.x, across.x * down.y,
                            across.y * down.y};
  sum_t* const sums = grad_x + plane * area + at.pixel;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (weights[i] != 0.f)
      add(sums + (i & 1 ? at.right : 0) + (i & 2 ? at.under : 0), weights[i] * grad, __ldg(scale));
}
