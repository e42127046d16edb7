// What all CUDA kernels of deformable attention share: types, sample positions, tiles of queries.
//
// Letters: B images, N queries, M heads, L maps, P points on each, D channels of a head, S pixels
// of all maps. mtlcli/ops/cuda_launch.py compiles each file for a case and defines: D, P; CLAMP: 1,
// or 0 for zeros; VALUE, OFFSET, LOGIT: how value and output, offsets, and logits are stored, each
// as its gradient (see `Stored`); LINES, UNITS: of a pixel's row, see `Rows`; COPIES, TALL, WIDE: a
// tile of queries; THREADS of a block, BLOCKS on a multiprocessor.
#include "cuda_positions.cu"
#ifdef __CUDACC__
#include "cuda_instructions.cu"
#endif

#define WARP 0xffffffffu
#define MINUS_INFINITY __uint_as_float(0xff800000u)
#define QUERIES (COPIES * TALL * WIDE)  // of a tile
#define PADDED ((D + 7) / 8 * 8)        // numbers of a row of the value's gradient

// Numbers as they are stored: 0 float32, 1 bfloat16, 2 float16; as they are computed with: float.
// `once`: not to be kept in the first-level cache. Pairs are aligned to their own size.
template <int KIND>
struct Stored {
  typedef u16 type;
  INLINE static float low(u32 w) { return KIND == 2 ? low_fp16(w) : low_bf16(w); }
  INLINE static float high(u32 w) { return KIND == 2 ? high_fp16(w) : high_bf16(w); }
  INLINE static u32 pack(float a, float b) { return KIND == 2 ? pack_fp16(a, b) : pack_bf16(a, b); }
  INLINE static float2 pair_of(u32 w) { return make_float2(low(w), high(w)); }
  INLINE static float2 pair(const u16* p, i64 i) { return pair_of(__ldg((const u32*)p + i)); }
  INLINE static float2 pair_once(const u16* p, i64 i) {
    return pair_of(load_4_once((const u32*)p + i));
  }
  INLINE static float one(const u16* p, i64 i) { return low(__ldg(p + i)); }
  INLINE static float one_once(const u16* p, i64 i) { return low(load_2_once(p + i)); }
  INLINE static void put_pair(u16* p, i64 i, float a, float b) { ((u32*)p)[i] = pack(a, b); }
  INLINE static void put(u16* p, i64 i, float a) { p[i] = (u16)pack(a, 0.f); }
};
template <>
struct Stored<0> {
  typedef float type;
  INLINE static float2 pair(const float* p, i64 i) { return __ldg((const float2*)p + i); }
  INLINE static float2 pair_once(const float* p, i64 i) {
    const uint2 w = load_8_once((const float2*)p + i);
    return make_float2(__uint_as_float(w.x), __uint_as_float(w.y));
  }
  INLINE static float one(const float* p, i64 i) { return __ldg(p + i); }
  INLINE static float one_once(const float* p, i64 i) {
    return __uint_as_float(load_4_once(p + i));
  }
  INLINE static void put_pair(float* p, i64 i, float a, float b) {
    ((float2*)p)[i] = make_float2(a, b);
  }
  INLINE static void put(float* p, i64 i, float a) { p[i] = a; }
};
typedef Stored<VALUE> Values;
typedef Stored<OFFSET> Offsets;
typedef Stored<LOGIT> Logits;
typedef Values::type value_t;
typedef Offsets::type offset_t;
typedef Logits::type logit_t;
#define EACH (16 / (int)sizeof(value_t))  // channels in 16 bytes

// What all kernels are told: `Problem` of mtlcli/ops/cuda_launch.py, field by field.
struct Problem {
  const int* maps;          // (L, 3): height, width, first row
  const float2* reference;  // (N)
  const offset_t* offsets;  // (B, N, M, L, P, 2): a query's are contiguous, pairs are aligned
  const logit_t* logits;    // (B, N, M, L, P): a query's are contiguous
  i64 offsets_per_image, offsets_per_query, logits_per_image, logits_per_query;  // strides
  int queries, height, width;  // N; the raster that the queries are copies of
  int rows, heads, levels;     // S, M, L

  INLINE i64 place(int image, int query, int head) const {
    return ((i64)image * queries + query) * heads + head;
  }
  INLINE const offset_t* offsets_of(int image, int query, int head) const {
    return offsets + image * offsets_per_image + query * offsets_per_query +
           (i64)head * levels * P * 2;
  }
  INLINE const logit_t* logits_of(int image, int query, int head) const {
    return logits + image * logits_per_image + query * logits_per_query + (i64)head * levels * P;
  }
  INLINE int tiles() const {
    const int groups = (queries / (height * width) + COPIES - 1) / COPIES;
    return groups * ((height + TALL - 1) / TALL) * ((width + WIDE - 1) / WIDE);
  }
  // The i-th query of a tile, or -1. Nothing but speed depends on which queries share a tile.
  INLINE int query(int tile, int i) const {
    const int across = (width + WIDE - 1) / WIDE, down = (height + TALL - 1) / TALL;
    const int place = tile % (across * down),
              copy = tile / (across * down) * COPIES + i / (TALL * WIDE);
    const int y = place / across * TALL + i / WIDE % TALL, x = place % across * WIDE + i % WIDE;
    return y < height && x < width && copy < queries / (height * width)
               ? (copy * height + y) * width + x
               : -1;
  }
};

struct Map {
  int height, width, first;
  INLINE bool filled() const { return height > 0 && width > 0; }
};
INLINE Map map_of(const Problem& problem, int level) {
  const int* const p = problem.maps + 3 * level;
  return {__ldg(p), __ldg(p + 1), __ldg(p + 2)};
}

// The value of one head of an image, as `pack` lays it out: LINES whole lines of 128 bytes for each
// pixel, then UNITS of 16 bytes for each, so that eight lanes that read together never want the
// same banks twice. Behind the last pixel stands a blank one, all zeros, for samples of empty maps.
struct Rows {
  const char *lines, *units;
  static INLINE i64 stored(int rows) { return (i64)(rows + 8) / 8 * 8; }
  static INLINE i64 bytes(int rows) { return stored(rows) * (128 * LINES + 16 * UNITS); }
  INLINE Rows(const void* packed, const Problem& problem, int image, int head) {
    lines = (const char*)packed + ((i64)image * problem.heads + head) * bytes(problem.rows);
    units = lines + stored(problem.rows) * (128 * LINES);
  }
};

// Channels c and c + 1 of a row of D, the second in the upper half; zero from D on.
INLINE u32 two_channels(const u16* row, int c) {
  if (D % 2 == 0) return c < D ? __ldg((const u32*)(row + c)) : 0u;
  return (c < D ? (u32)__ldg(row + c) : 0u) | (c + 1 < D ? (u32)__ldg(row + c + 1) << 16 : 0u);
}
