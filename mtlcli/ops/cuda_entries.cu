// The entries that `scatter` sorts: how they lie in shared memory, and the walk along the sorted
// list. EXACT: 1 where sums are of integers, which come out the same in any order, or 0.
#include "cuda_cells.cu"

#define AT_ONCE (P < 16 ? P : 16)  // points of a query sorted together
#define SAMPLES (QUERIES * AT_ONCE)
#define OWN ((SAMPLES + THREADS - 1) / THREADS)  // samples of a thread
#define ENTRIES (2 * SAMPLES)
#define BINS 2560                                   // of the sort, even, at most 4096
#define WIDEST 500                                  // columns of a band
#define WORDS ((BINS / 2 + THREADS - 1) / THREADS)  // of counts, of a thread
#define LANES (PADDED / 8)                          // of a group: 8 channels each
#define GROUPS (THREADS / LANES)
static_assert(THREADS % 32 == 0 && QUERIES <= 256 && ENTRIES < 65536 && GROUPS > 0 && WIDEST < BINS,
              "sizes");

struct Window {
  int low_x, low_y, high_x, high_y;  // of pixels, inclusive
};
// What a block keeps in shared memory.
struct Block {
#if VALUE == 0
  float2 weights[ENTRIES];  // left, right
  u32 ids[ENTRIES];         // key * 256 + query of the tile
#else
  uint2 entries[ENTRIES];  // the weights, query and key in the place of their lowest 8 and 12 bits
#endif
  value_t gradient[QUERIES * PADDED];  // of the output; see `load_gradients`
  u32 counts[BINS / 2];                // two of 16 bits each
  int query[QUERIES];                  // -1: none
  Window window;                       // of all entries
  u32 sums[THREADS / 32];
};
struct Entry {
  int key, query;
  float left, right;
};
#if VALUE != 0
INLINE u32 labelled(float weight, u32 label, u32 mask) {  // rounded; NaN stays NaN
  const u32 w = min(__float_as_uint(weight), 0x7fc00000u);
  return ((max(w, label) - label + (mask + 1) / 2) & ~mask) | label;
}
#endif
INLINE void put(Block& block, int place, const Entry& e) {
#if VALUE == 0
  block.weights[place] = make_float2(e.left, e.right);
  block.ids[place] = e.key << 8 | e.query;
#else
  block.entries[place] =
      make_uint2(labelled(e.left, e.query, 0xffu), labelled(e.right, e.key, 0xfffu));
#endif
}
INLINE void get_two(const Block& block, int place, Entry* e) {  // place is even
#if VALUE == 0
  const float4 w = *(const float4*)(block.weights + place);
  const uint2 id = *(const uint2*)(block.ids + place);
  e[0] = {(int)(id.x >> 8), (int)(id.x & 0xffu), w.x, w.y};
  e[1] = {(int)(id.y >> 8), (int)(id.y & 0xffu), w.z, w.w};
#else
  const uint4 w = *(const uint4*)(block.entries + place);
  e[0] = {(int)(w.y & 0xfffu), (int)(w.x & 0xffu), __uint_as_float(w.x), __uint_as_float(w.y)};
  e[1] = {(int)(w.w & 0xfffu), (int)(w.z & 0xffu), __uint_as_float(w.z), __uint_as_float(w.w)};
#endif
}

// The gradients of the tile's queries, from (B, N, M, D). Halves: channels 4 c.. and PADDED / 2 +
// 4 c.. lie together, for lane c.
INLINE void load_gradients(Block& block, const Problem& problem, const value_t* grad_out, int image,
                           int head) {
#if VALUE == 0
  for (int i = threadIdx.x; i < QUERIES * PADDED; i += THREADS) {
    const int n = block.query[i / PADDED], c = i % PADDED;
    block.gradient[i] =
        n >= 0 && c < D ? __ldg(grad_out + problem.place(image, n, head) * D + c) : 0.f;
  }
#else
  for (int i = threadIdx.x; i < QUERIES * (PADDED / 2); i += THREADS) {
    const int q = i / (PADDED / 2), n = block.query[q], c = i % (PADDED / 2) * 2;
    const int half = c >= PADDED / 2, in_half = c - half * (PADDED / 2);
    u32* const to = (u32*)(block.gradient + q * PADDED + in_half / 4 * 8 + half * 4 + in_half % 4);
    *to = n >= 0 ? two_channels(grad_out + problem.place(image, n, head) * D, c) : 0u;
  }
#endif
}
INLINE void gradient_of(const Block& block, int query, int lane, float* g) {
#if VALUE == 0
  const float4* const row = (const float4*)(block.gradient + query * PADDED) + lane;
  const float4 a = row[0], b = row[PADDED / 8];
  g[0] = a.x, g[1] = a.y, g[2] = a.z, g[3] = a.w, g[4] = b.x, g[5] = b.y, g[6] = b.z, g[7] = b.w;
#else
  const uint4 r = *((const uint4*)(block.gradient + query * PADDED) + lane);
  g[0] = Values::low(r.x), g[1] = Values::high(r.x), g[2] = Values::low(r.y),
  g[3] = Values::high(r.y);
  g[4] = Values::low(r.z), g[5] = Values::high(r.z), g[6] = Values::low(r.w),
  g[7] = Values::high(r.w);
#endif
}

#if EXACT
typedef i64 sum_t;
INLINE sum_t added(sum_t sum, float weight, float x, float scale) {
  return sum + __float2ll_rn(weight * x * scale);
}
INLINE void flush(sum_t* p, const sum_t* sum) {
#pragma unroll
  for (int j = 0; j < 8; ++j) atomicAdd((u64*)p + j / 4 * (PADDED / 2) + j % 4, (u64)sum[j]);
}
#else
typedef float sum_t;
INLINE sum_t added(sum_t sum, float weight, float x, float) { return fmaf(weight, x, sum); }
INLINE void flush(sum_t* p, const sum_t* sum) {
  add_4(p, sum[0], sum[1], sum[2], sum[3]);
  add_4(p + PADDED / 2, sum[4], sum[5], sum[6], sum[7]);
}
#endif

// Walking a band: a key is row * pitch + column, `first` its first pixel in memory.
struct Band {
  sum_t* first;
  int skip;     // pixels of the map between the band's rows, whose last column is never used
  u32 inverse;  // of the columns of the band, exact for keys below 4096
  bool single;  // the map has one column
  INLINE Band(sum_t* first, int pitch, int width)
      : first(first),
        skip(width - pitch),
        inverse(0xffffffffu / (u32)pitch + 1),
        single(width < 2) {}
  INLINE sum_t* pixel(int key) const {
    return first + (i64)(key + (int)__umulhi((u32)key, inverse) * skip) * PADDED;
  }
};
// Adds up the sorted entries begin to end - 1 for 8 channels.
INLINE void walk(const Block& block, const Band& band, int begin, int end, int lane, float scale) {
  sum_t left[8], right[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) left[j] = right[j] = 0;
  Entry e[2];
  get_two(block, begin, e);
  int now = e[0].key;
  for (int i = begin; i < end; i += 2) {
    get_two(block, i, e);
    if (i + 1 >= end) e[1] = {e[0].key, e[0].query, 0.f, 0.f};
    float g[2][8];
#pragma unroll
    for (int h = 0; h < 2; ++h) gradient_of(block, e[h].query, lane, g[h]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (e[h].key != now) {
        const bool next = e[h].key == now + 1;  // then the right pixel is this one
        sum_t* const pixel = band.pixel(now);
        flush(pixel, left);
        if (!next && !band.single) flush(pixel + PADDED, right);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          left[j] = next ? right[j] : 0;
          right[j] = 0;
        }
        now = e[h].key;
      }
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        left[j] = added(left[j], e[h].left, g[h][j], scale);
        right[j] = added(right[j], e[h].right, g[h][j], scale);
      }
    }
  }
  sum_t* const pixel = band.pixel(now);
  flush(pixel, left);
  if (!band.single) flush(pixel + PADDED, right);
}
