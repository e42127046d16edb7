// Forward CUDA kernels of deformable attention: `pack` lays the value out, `forward` reads it.
#include "cuda_cells.cu"

// value (B, S, M, D) -> packed (B, M, bytes of `Rows`). A thread writes 16 bytes, also of the
// pixels that do not exist and of the channels from D on, which are zero; grid: as many blocks as
// it takes.
extern "C" __global__ void __launch_bounds__(256)
    pack(const value_t* value, uint4* packed, int images, int rows, int heads) {
  const int row_units = 8 * LINES + UNITS;
  const i64 stored = Rows::stored(rows), i = (i64)blockIdx.x * 256 + threadIdx.x;
  const int unit = (int)(i % row_units), head = (int)(i / row_units % heads);  // as the value lies
  const i64 pixel = i / row_units / heads % stored, image = i / row_units / heads / stored;
  if (image >= images) return;
  const value_t* const row = value + ((image * rows + pixel) * heads + head) * D;
  u32 w[4] = {0u, 0u, 0u, 0u};
  if (pixel < rows) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#if VALUE == 0
      const int c = unit * EACH + j;
      w[j] = c < D ? __float_as_uint(__ldg(row + c)) : 0u;
#else
      w[j] = two_channels(row, unit * EACH + 2 * j);
#endif
    }
  }
  const bool in_line = unit < 8 * LINES;
  const i64 at = in_line ? pixel * (8 * LINES) + unit
                         : stored * (8 * LINES) + pixel * UNITS + unit - 8 * LINES;
  packed[(image * heads + head) * (Rows::bytes(rows) / 16) + at] =
      make_uint4(w[0], w[1], w[2], w[3]);
}

#define CHUNK 16  // samples whose records are made at once
#define WARPS (THREADS / 32)
#define NARROW 0x80000000u  // in a record's step: the map has no column to the right
#define LINE_SUMS (LINES > 0 ? LINES : 1)
#define UNIT_SUMS (UNITS > 0 ? UNITS : 1)
static_assert(QUERIES == 4 * WARPS, "a warp serves four queries");

// What a lane adds up: 16 bytes of channels in each line, and in each unit, of the corners it
// reads.
struct Sums {
  float line[LINE_SUMS][EACH], unit[UNIT_SUMS][EACH];
  INLINE void scale(float factor) {
#pragma unroll
    for (int j = 0; j < LINE_SUMS; ++j)
#pragma unroll
      for (int i = 0; i < EACH; ++i) line[j][i] *= factor;
#pragma unroll
    for (int j = 0; j < UNIT_SUMS; ++j)
#pragma unroll
      for (int i = 0; i < EACH; ++i) unit[j][i] *= factor;
  }
};
INLINE void add(float* sum, float weight, uint4 read) {
  const u32 w[4] = {read.x, read.y, read.z, read.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#if VALUE == 0
    sum[i] = fmaf(weight, __uint_as_float(w[i]), sum[i]);
#else
    sum[2 * i] = fmaf(weight, Values::low(w[i]), sum[2 * i]);
    sum[2 * i + 1] = fmaf(weight, Values::high(w[i]), sum[2 * i + 1]);
#endif
  }
}

// The records of a warp's chunk, in shared memory: of sample s of query q at 4 s + q.
struct Records {
  float4
      weight[4 * CHUNK];  // of the cell's pixels: upper left, upper right, lower left, lower right
  uint2 cell[4 * CHUNK];  // the upper left pixel; pixels from it to the lower left one, NARROW
};

// Adds up the first `count` samples (rounded up to even) for the lane's query. Lane `part` of eight
// reads 16 bytes of every line of all four pixels; of units it reads those of one pixel of every
// second sample. MIXED: some map of the chunk is narrow.
template <bool MIXED>
INLINE void gather(Sums& sum, const Records& records, const Rows& rows, int count, int query,
                   int part) {
  const char *lines = rows.lines + 16 * part, *units = rows.units;
  keep(lines);
  keep(units);
  const float4* weights = records.weight + query;
  const uint2* cells = records.cell + query;
  const int mine = 4 * (part / 4);  // whose units
#pragma unroll 1
  for (int s = 0; s < count; s += 2, weights += 8, cells += 8) {
    if (LINES > 0) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float4 weight = weights[4 * h];
        const uint2 cell = cells[4 * h];
        const char* const upper = lines + (u64)cell.x * (128 * LINES);
        const char* const under = upper + (u64)(MIXED ? cell.y & ~NARROW : cell.y) * (128 * LINES);
        const int right = MIXED && cell.y & NARROW ? 0 : 128 * LINES;
#pragma unroll
        for (int j = 0; j < LINES; ++j) {
          const uint4 a = load_16(upper + 128 * j), b = load_16(upper + right + 128 * j);
          const uint4 c = load_16(under + 128 * j), d = load_16(under + right + 128 * j);
          add(sum.line[j], weight.x, a);
          add(sum.line[j], weight.y, b);
          add(sum.line[j], weight.z, c);
          add(sum.line[j], weight.w, d);
        }
      }
    }
    if (UNITS > 0) {
      const float weight = ((const float*)(weights + mine))[part % 4];
      const uint2 cell = cells[mine];
      u32 pixel = cell.x + (part & 2 ? cell.y & ~NARROW : 0u);
      if (part & 1 && !(MIXED && cell.y & NARROW)) ++pixel;
      const char* const p = units + (u64)pixel * (16 * UNITS);
#pragma unroll
      for (int u = 0; u < UNITS; ++u)  // lower pixels read the other one of two first: other banks
        add(sum.unit[u], weight, load_16(p + 16 * (UNITS % 2 ? u : u ^ (part >> 1 & 1))));
    }
  }
}

// EACH channels from c on, of those that exist.
INLINE void write(value_t* row, int c, const float* x) {
#if VALUE == 0
#pragma unroll
  for (int i = 0; i < EACH; ++i)
    if (c + i < D) row[c + i] = x[i];
#else
#pragma unroll
  for (int i = 0; i < EACH; i += 2) {
    const u32 w = Values::pack(x[i], x[i + 1]);
    if (D % 2 == 0) {
      if (c + i < D) *(u32*)(row + c + i) = w;
    } else {
      if (c + i < D) row[c + i] = (u16)w;
      if (c + i + 1 < D) row[c + i + 1] = (u16)(w >> 16);
    }
  }
#endif
}

// Makes the record of one sample; says whether its map has no column to the right.
INLINE bool record(Records& records, int at, const Problem& problem, int k, float2 reference,
                   float2 step, float share) {
  const int samples = problem.levels * P;
  const Map map = map_of(problem, min(k, samples - 1) / P);
  const bool read = k < samples && map.filled(), narrow = !read || map.width < 2;
  const float x = held(coordinate(reference.x, map.width, step.x), map.width);
  const float y = held(coordinate(reference.y, map.height, step.y), map.height);
  const int column = lower(x, map.width), row = lower(y, map.height);
  const float2 across = hats(x - column, map.width), down = hats(y - row, map.height);
  const float upper = share * down.x, under = share * down.y;
  const float4 weight =
      make_float4(across.x * upper, across.y * upper, across.x * under, across.y * under);
  records.weight[at] = read ? weight : make_float4(0.f, 0.f, 0.f, 0.f);
  const u32 pixel =
      read ? (u32)(map.first + row * map.width + column) : (u32)problem.rows;  // the blank one
  records.cell[at] =
      make_uint2(pixel, (read && map.height > 1 ? (u32)map.width : 0u) | (narrow ? NARROW : 0u));
  return narrow;
}

// packed -> out (B, N, M, D) and lse (B, N, M), the log of the softmax's sum. A block is one tile
// of a head of an image, heads slowest but for images; eight lanes serve a query, and the four
// queries of a warp are as far apart as the tile allows. Softmax and sum in one pass: what was
// added is scaled when a larger logit turns up.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    forward(const Problem problem, const void* packed, value_t* out, float* lse) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, query = lane / 8, part = lane % 8;
  const int tiles = problem.tiles(), samples = problem.levels * P;
  const int tile = blockIdx.x % tiles, head = blockIdx.x / tiles % problem.heads,
            image = blockIdx.x / tiles / problem.heads;
  Records& records = ((Records*)shared)[warp];
  const int own = problem.query(tile, query * WARPS + warp);
  const u32 present = __ballot_sync(WARP, own >= 0);
  if (!present) return;  // the whole warp
  const int other = __shfl_sync(WARP, own, __ffs(present) - 1),
            n = own >= 0 ? own : other;  // lanes without one repeat another's
  const Rows rows(packed, problem, image, head);
  const float2 reference = __ldg(problem.reference + n);
  const offset_t* const offsets = problem.offsets_of(image, n, head);
  const logit_t* const logits = problem.logits_of(image, n, head);

  Sums sum = {};
  float largest = -3.402823466e38f, total = 0.f;
  float2 next_step[2];
  float next_logit[2];
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int k = part + 8 * j;
    next_step[j] = k < samples ? Offsets::pair_once(offsets, k) : make_float2(0.f, 0.f);
    next_logit[j] = k < samples ? Logits::one_once(logits, k) : MINUS_INFINITY;
  }
  for (int start = 0; start < samples; start += CHUNK) {
    const float2 step[2] = {next_step[0], next_step[1]};
    const float logit[2] = {next_logit[0], next_logit[1]};
#pragma unroll
    for (int j = 0; j < 2; ++j) {  // the next chunk's are under way while this one is worked on
      const int k = start + CHUNK + part + 8 * j;
      next_step[j] = k < samples ? Offsets::pair_once(offsets, k) : make_float2(0.f, 0.f);
      next_logit[j] = k < samples ? Logits::one_once(logits, k) : MINUS_INFINITY;
    }
    float top = fmaxf(logit[0], logit[1]);
#pragma unroll
    for (int o = 1; o < 8; o *= 2) top = fmaxf(top, __shfl_xor_sync(WARP, top, o));
    top = fmaxf(top, largest);
    const float factor = __expf(largest - top);
    largest = top;
    total *= factor;
    sum.scale(factor);
    bool narrow = false;
    __syncwarp();  // the chunk before has been read
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float share = __expf(logit[j] - largest);
      total += share;
      narrow |= record(records, 4 * (part + 8 * j) + query, problem, start + part + 8 * j,
                       reference, step[j], share);
    }
    narrow = __any_sync(WARP, narrow);
    __syncwarp();
    const int count = min(CHUNK, samples - start);
    if (narrow) gather<true>(sum, records, rows, count, query, part);
    else gather<false>(sum, records, rows, count, query, part);
  }

  if (UNITS == 2 && part & 2) {
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
      const float x = sum.unit[0][i];
      sum.unit[0][i] = sum.unit[UNIT_SUMS - 1][i];
      sum.unit[UNIT_SUMS - 1][i] = x;
    }
  }
#pragma unroll
  for (int o = 1; o < 8; o *= 2) {
    total += __shfl_xor_sync(WARP, total, o);
#pragma unroll
    for (int u = 0; u < UNITS; ++u)
#pragma unroll
      for (int i = 0; i < EACH; ++i) sum.unit[u][i] += __shfl_xor_sync(WARP, sum.unit[u][i], o);
  }
  if (own < 0) return;
  sum.scale(1.f / total);
  const i64 place = problem.place(image, own, head);
#pragma unroll
  for (int j = 0; j < LINES; ++j) write(out + place * D, (8 * j + part) * EACH, sum.line[j]);
#pragma unroll
  for (int u = 0; u < UNITS; ++u)
    if (part == u) write(out + place * D, (8 * LINES + u) * EACH, sum.unit[u]);
  if (part == 0) lse[place] = largest + __logf(total);
}
