// Backward CUDA kernels for what places samples: `inner`, and `differentiate` for offsets and
// logits.
//
// What the softmax's gradient needs of all other samples is <gradient, output> (as in flash
// attention), so samples are independent of each other.
#include "cuda_cells.cu"

// inner (rows): <a, b> of each row of D, in float32. Eight lanes serve a row.
extern "C" __global__ void __launch_bounds__(256)
    inner(const value_t* a, const value_t* b, float* inner, i64 rows) {
  const i64 row = ((i64)blockIdx.x * 256 + threadIdx.x) / 8;
  const int part = threadIdx.x % 8;
  float sum = 0.f;
  if (row < rows) {
    const value_t *const x = a + row * D, *const y = b + row * D;
#if VALUE == 0
    for (int c = part; c < D; c += 8) sum = fmaf(__ldg(x + c), __ldg(y + c), sum);
#else
    for (int c = 2 * part; c < D; c += 16) {
      const u32 u = two_channels(x, c), v = two_channels(y, c);
      sum = fmaf(Values::low(u), Values::low(v), sum);
      sum = fmaf(Values::high(u), Values::high(v), sum);
    }
#endif
  }
  for (int o = 4; o; o /= 2) sum += __shfl_xor_sync(WARP, sum, o);
  if (row < rows && part == 0) inner[row] = sum;
}

#define WARPS (THREADS / 32)

// A query's gradient against the cell of each of 32 samples: the scalar products of the gradient
// with the four pixels. A lane owns one sample; `products` makes, of the 4 samples of each group of
// 4 lanes in turn, all 4 products, and leaves each lane its own.
//
// The load unit serves 8 lanes at once, which are two groups and so two pixels. One begins with the
// first half of a line, the other with the second half, so that they never want the same banks.
struct Cell {
  u32 pixel, right, under;  // upper left pixel, pixels to the one right of it, to the one under it
};
INLINE Cell cell_from(const Cell& own, int lane) {
  return {__shfl_sync(WARP, own.pixel, lane), __shfl_sync(WARP, own.right, lane),
          __shfl_sync(WARP, own.under, lane)};
}
INLINE u32 corner(const Cell& cell, int c) {
  return cell.pixel + (c & 1 ? cell.right : 0u) + (c & 2 ? cell.under : 0u);
}
struct Reader {
  const char *half[2],
      *units;  // of a line: what the lane reads first and second; the group's units
  INLINE Reader(const Rows& rows, int lane) : units(rows.units) {
    half[0] = rows.lines + 64 * (lane / 4 & 1) + 16 * (lane % 4);
    half[1] = rows.lines + 64 * (~(lane / 4) & 1) + 16 * (lane % 4);
    keep(half[0]);
    keep(half[1]);
    keep(units);
  }
  INLINE uint4 line(u32 pixel, int j) const {
    return load_16(half[j % 2] + (u64)pixel * (128 * LINES) + j / 2 * 128);
  }
  INLINE const char* unit(u32 pixel) const { return units + (u64)pixel * (16 * UNITS); }
};

#if VALUE == 0
// Each lane multiplies its own 4 channels of every half line, and the group adds up.
struct Gradient {
  float4 half[2 * LINES + 1], unit;
  INLINE static float4 four(const float* row, int c) {
    return make_float4(c < D ? __ldg(row + c) : 0.f, c + 1 < D ? __ldg(row + c + 1) : 0.f,
                       c + 2 < D ? __ldg(row + c + 2) : 0.f, c + 3 < D ? __ldg(row + c + 3) : 0.f);
  }
  INLINE Gradient(const float* row, int lane) {
    const int odd_group = lane / 4 & 1, t = lane % 4;
#pragma unroll
    for (int j = 0; j < 2 * LINES; ++j)
      half[j] = four(row, j / 2 * 32 + (j % 2 ^ odd_group) * 16 + 4 * t);
    unit = t < UNITS ? four(row, 32 * LINES + 4 * t) : make_float4(0.f, 0.f, 0.f, 0.f);
  }
};
INLINE float dot(uint4 read, float4 g, float sum) {
  sum = fmaf(__uint_as_float(read.w), g.w, sum);
  sum = fmaf(__uint_as_float(read.z), g.z, sum);
  sum = fmaf(__uint_as_float(read.y), g.y, sum);
  return fmaf(__uint_as_float(read.x), g.x, sum);
}
INLINE void products(float* own, const Reader& rows, const Cell& mine, const Gradient& gradient,
                     int lane) {
  const int t = lane % 4;
#pragma unroll 1
  for (int s = 0; s < 4; ++s) {
    const Cell cell = cell_from(mine, (lane & 28) + s);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const u32 pixel = corner(cell, c);
      float sum = 0.f;
#pragma unroll
      for (int j = 0; j < 2 * LINES; ++j) sum = dot(rows.line(pixel, j), gradient.half[j], sum);
      if (t < UNITS) sum = dot(load_16(rows.unit(pixel) + 16 * t), gradient.unit, sum);
      sum += __shfl_xor_sync(WARP, sum, 1);
      sum += __shfl_xor_sync(WARP, sum, 2);
      if (t == s) own[c] = sum;
    }
  }
}
#else
// The matrix unit multiplies: a pixel of each of the 8 groups by the gradient. As a lane's 16 bytes
// lie, rows 0 to 7 of the left matrix hold channels 0, 1, 4, 5 of them and rows 8 to 15 channels 2,
// 3, 6, 7 of the same pixels; even columns of the right matrix hold the gradient for the former,
// odd columns for the latter, and columns 0, 1, 4, 5 fit groups that begin with the first half of a
// line, columns 2, 3, 6, 7 the others. So of each group the lanes of its own parity find the
// product, as the sum of two numbers.
struct Gradient {
  uint2 half[2 * LINES + 1];
  u32 unit[UNITS + 1];
  INLINE Gradient(const u16* row, int lane) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int j = 0; j < 2 * LINES; ++j) {
      const int c = 8 * (j / 2 * 8 + (j % 2 ^ (g >> 1 & 1)) * 4 + t) + 2 * (g & 1);
      half[j] = make_uint2(two_channels(row, c), two_channels(row, c + 4));
    }
#pragma unroll
    for (int u = 0; u < UNITS; ++u) unit[u] = two_channels(row, 64 * LINES + 8 * u + 2 * t);
  }
};
INLINE void products(float* own, const Reader& rows, const Cell& mine, const Gradient& gradient,
                     int lane) {
  const int g = lane / 4, t = lane % 4;
  float kept[2][4];  // of samples 0, 1 in lanes 0, 1 of a group, of samples 2, 3 in lanes 2, 3
#pragma unroll 1
  for (int pair = 0; pair < 2; ++pair) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const Cell cell = cell_from(mine, (lane & 28) + 2 * pair + h);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const u32 pixel = corner(cell, c);
        float sum[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
        for (int j = 0; j < 2 * LINES; ++j) multiply_16(sum, rows.line(pixel, j), gradient.half[j]);
#pragma unroll
        for (int u = 0; u < UNITS; ++u) {  // all columns alike, nothing in rows 8 to 15
          const u32 two = __ldg((const u32*)(rows.unit(pixel) + 16 * u) + t);
          multiply_8(sum, make_uint2(two, 0u), gradient.unit[u]);
        }
        if (t / 2 == pair) kept[h][c] = sum[0] + sum[3];
      }
    }
  }
#pragma unroll
  for (int c = 0; c < 4; ++c) {  // lanes of the group's parity keep their own and give the other
    const float given = __shfl_xor_sync(WARP, g & 1 ? kept[0][c] : kept[1][c], 1);
    own[c] = (t ^ g) & 1 ? given : g & 1 ? kept[1][c] : kept[0][c];
  }
}
#endif

// packed, lse (B, N, M), inner, grad_out (B, N, M, D) -> grad_offsets (B, N, M, L, P, 2),
// grad_logits (B, N, M, L, P). A block is 32 consecutive samples of a tile of a head of an image; a
// warp takes one query after the other, a lane one sample of it.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    differentiate(const Problem problem, const void* packed, const float* lse, const float* inner,
                  const value_t* grad_out, offset_t* grad_offsets, logit_t* grad_logits) {
  const int lane = threadIdx.x % 32, warp = __shfl_sync(WARP, (int)threadIdx.x / 32, 0);
  const int tiles = problem.tiles(), samples = problem.levels * P, chunks = (samples + 31) / 32;
  int unit = blockIdx.x;
  const int tile = unit % tiles;
  unit /= tiles;
  const int k = unit % chunks * 32 + lane;
  unit /= chunks;
  const int head = unit % problem.heads, image = unit / problem.heads;
  const bool live = k < samples;
  const Map map = map_of(problem, min(k, samples - 1) / P);
  const bool filled = map.filled();
  const Reader rows(Rows(packed, problem, image, head), lane);
  for (int i = warp; i < QUERIES; i += WARPS) {
    const int n = problem.query(tile, i);
    if (n < 0) continue;  // the whole warp
    const i64 place = problem.place(image, n, head);
    float2 step = make_float2(0.f, 0.f);
    float share = 0.f;
    if (live) {
      step = Offsets::pair(problem.offsets_of(image, n, head), k);
      share = __expf(Logits::one(problem.logits_of(image, n, head), k) - __ldg(lse + place));
    }
    const float2 reference = __ldg(problem.reference + n);
    const float x = coordinate(reference.x, map.width, step.x),
                y = coordinate(reference.y, map.height, step.y);
    float u = held(x, map.width), v = held(y, map.height);
    const int column = lower(u, map.width), row = lower(v, map.height);
    u -= column;
    v -= row;
    Cell cell = {(u32)problem.rows, 0u, 0u};  // the blank pixel
    if (filled)
      cell = {(u32)(map.first + row * map.width + column), map.width > 1 ? 1u : 0u,
              map.height > 1 ? (u32)map.width : 0u};
    float dot[4];
    products(dot, rows, cell, Gradient(grad_out + place * D, lane), lane);

    const float2 across = hats(u, map.width), down = hats(v, map.height);
    const float2 slope_x = slopes(x, u, map.width), slope_y = slopes(y, v, map.height);
    const float upper = across.x * dot[0] + across.y * dot[1],
                under = across.x * dot[2] + across.y * dot[3];
    const float steep_upper = slope_x.x * dot[0] + slope_x.y * dot[1],
                steep_under = slope_x.x * dot[2] + slope_x.y * dot[3];
    float grad_x = share * (down.x * steep_upper + down.y * steep_under);
    float grad_y = share * (slope_y.x * upper + slope_y.y * under);
    float grad_logit = share * (down.x * upper + down.y * under);
    if (!filled) grad_x = grad_y = grad_logit = 0.f;
    grad_logit -= share * __ldg(inner + place);
    if (live) {
      Offsets::put_pair(grad_offsets, place * samples + k, grad_x, grad_y);
      Logits::put(grad_logits, place * samples + k, grad_logit);
    }
  }
}
