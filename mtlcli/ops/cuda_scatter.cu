// Backward CUDA kernel for the value: `scatter`, one addition to memory for each pixel and block.
//
// Every sample gives two entries: a row of its cell, with the weights of the row's two pixels. A
// block sorts the entries of its queries by pixel in shared memory (counting sort), and groups of
// lanes walk equal shares of the list: they add up a pixel's channels in registers and add to
// memory when they leave the pixel. A window too large for the sort goes in bands, so any offsets
// will do.
#include "cuda_entries.cu"

// A sample's cell, and where in it; NaN, which moves nothing, and what lies outside read none.
struct Sample {
  int column, row;
  float x, y;  // from the upper left pixel
  bool read;
};
INLINE Sample sample_of(const Problem& problem, const Map& map, const offset_t* offsets, int n,
                        int p) {
  const float2 step = Offsets::pair(offsets, p), reference = __ldg(problem.reference + n);
  const float x = held(coordinate(reference.x, map.width, step.x), map.width);
  const float y = held(coordinate(reference.y, map.height, step.y), map.height);
  const int column = lower(x, map.width), row = lower(y, map.height);
  const bool read =
      CLAMP ? x == x && y == y : x > -1.f && y > -1.f && x < map.width && y < map.height;
  return {column, row, x - column, y - row, read};
}
// What a block works on: a map of a tile of a head of an image.
struct Task {
  int image, head, level, tile;
  Map map;
};
INLINE Task task_of(const Problem& problem, int unit) {
  const int tiles = problem.tiles(), tile = unit % tiles, level = unit / tiles % problem.levels;
  const int head = unit / tiles / problem.levels % problem.heads;
  const int image = unit / tiles / problem.levels / problem.heads;
  return {image, head, level, tile, map_of(problem, level)};
}
// The i-th sample of the points from p0 on, and its query; false if there is none, or it reads
// none.
INLINE bool find(const Block& block, const Problem& problem, const Task& task, int p0, int i,
                 Sample& sample, int& n) {
  const int p = p0 + i % AT_ONCE;
  n = i < SAMPLES ? block.query[i / AT_ONCE] : -1;
  if (n < 0 || p >= P) return false;
  const offset_t* const offsets = problem.offsets_of(task.image, n, task.head);
  sample = sample_of(problem, task.map, offsets, n, task.level * P + p);
  return sample.read;
}

#define NONE 0xffffffffu
// The cells of a thread's samples, row * 65536 + column or NONE, and the window of the block's
// entries. All threads of the block.
INLINE Window find_cells(Block& block, const Problem& problem, const Task& task, int p0,
                         u32* cells) {
  if (threadIdx.x == 0) block.window = {0x7fffffff, 0x7fffffff, -1, -1};
  __syncthreads();
  Window w = {0x7fffffff, 0x7fffffff, -1, -1};
#pragma unroll
  for (int j = 0; j < OWN; ++j) {
    Sample s;
    int n;
    cells[j] = NONE;
    if (!find(block, problem, task, p0, threadIdx.x + j * THREADS, s, n)) continue;
    cells[j] = (u32)s.row << 16 | s.column;
    w.low_x = min(w.low_x, s.column), w.high_x = max(w.high_x, s.column);
    w.low_y = min(w.low_y, s.row), w.high_y = max(w.high_y, s.row);
  }
  w = {__reduce_min_sync(WARP, w.low_x), __reduce_min_sync(WARP, w.low_y),
       __reduce_max_sync(WARP, w.high_x), __reduce_max_sync(WARP, w.high_y)};
  if (threadIdx.x % 32 == 0) {
    atomicMin(&block.window.low_x, w.low_x), atomicMin(&block.window.low_y, w.low_y);
    atomicMax(&block.window.high_x, w.high_x), atomicMax(&block.window.high_y, w.high_y);
  }
  __syncthreads();
  w = block.window;
  if (P > AT_ONCE) __syncthreads();     // it is about to be written again
  if (task.map.height > 1) ++w.high_y;  // lower rows of the lowest cells
  return w;
}

// A part of a window that the sort can hold: its first pixel, columns, rows; its last column is
// never used, so that the right pixel of a row's last cell is no pixel of the next row.
struct Part {
  int x, y, wide, tall;
  INLINE int pitch() const { return wide + 1; }
  INLINE bool has(int row) const { return row >= y && row < y + tall; }
  INLINE int key(int column, int row) const { return (row - y) * pitch() + column - x; }
};
INLINE u32 count(Block& block, int key) {
  return atomicAdd(block.counts + key / 2, key % 2 ? 65536u : 1u);
}
// Counts the entries of each pixel. All threads of the block.
INLINE void count_entries(Block& block, const u32* cells, const Part& part, bool two_rows) {
  for (int i = threadIdx.x; i < (part.tall * part.pitch() + 1) / 2; i += THREADS)
    block.counts[i] = 0;
  __syncthreads();
#pragma unroll
  for (int j = 0; j < OWN; ++j) {
    const int column = cells[j] & 0xffffu, row = cells[j] >> 16;
    if (cells[j] == NONE || column < part.x || column >= part.x + part.wide) continue;
    if (part.has(row)) count(block, part.key(column, row));
    if (two_rows && part.has(row + 1)) count(block, part.key(column, row + 1));
  }
  __syncthreads();
}
// Turns counts into first places; returns their sum. All threads of the block.
INLINE int accumulate(Block& block, int words) {
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  u32 counts[WORDS], mine = 0;
#pragma unroll
  for (int j = 0; j < WORDS; ++j) {
    counts[j] = tid * WORDS + j < words ? block.counts[tid * WORDS + j] : 0u;
    mine += (counts[j] & 0xffffu) + (counts[j] >> 16);
  }
  u32 before = mine, total = 0;
#pragma unroll
  for (int o = 1; o < 32; o *= 2) {
    const u32 other = __shfl_up_sync(WARP, before, o);
    if (lane >= o) before += other;
  }
  if (lane == 31) block.sums[warp] = before;
  __syncthreads();
  before -= mine;
  for (int w = 0; w < THREADS / 32; ++w) {
    const u32 sum = block.sums[w];
    if (w < warp) before += sum;
    total += sum;
  }
#pragma unroll
  for (int j = 0; j < WORDS; ++j) {
    const u32 low = counts[j] & 0xffffu;
    if (tid * WORDS + j < words) block.counts[tid * WORDS + j] = before | (before + low) << 16;
    before += low + (counts[j] >> 16);
  }
  __syncthreads();
  return (int)total;
}

// Puts every entry at the place that its pixel has for it. All threads of the block.
INLINE void place_entries(Block& block, const Problem& problem, const Task& task, const float* lse,
                          int p0, const Part& part) {
#pragma unroll 2
  for (int i = threadIdx.x; i < SAMPLES; i += THREADS) {
    Sample s;
    int n;
    if (!find(block, problem, task, p0, i, s, n)) continue;
    if (s.column < part.x || s.column >= part.x + part.wide) continue;
    if (!part.has(s.row) && !part.has(s.row + 1)) continue;
    const logit_t* const logits = problem.logits_of(task.image, n, task.head);
    const float logit = Logits::one(logits, task.level * P + p0 + i % AT_ONCE);
    const float share = __expf(logit - __ldg(lse + problem.place(task.image, n, task.head)));
    const float2 across = hats(s.x, task.map.width), down = hats(s.y, task.map.height);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!part.has(s.row + r) || (r == 1 && task.map.height < 2)) continue;
      const int key = part.key(s.column, s.row + r);
      const u32 places = count(block, key);
      const float weight = (r ? down.y : down.x) * share;
      put(block, key % 2 ? places >> 16 : places & 0xffffu,
          {key, i / AT_ONCE, across.x * weight, across.y * weight});
    }
  }
  __syncthreads();
}

// lse (B, N, M), grad_out (B, N, M, D) -> grad_value (B, M, S, PADDED), added to; of integers,
// `scale` times as much. A block is a map of a tile of a head of an image.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    scatter(const Problem problem, const float* lse, const value_t* grad_out, const float* scale,
            sum_t* grad_value) {
  Block& block = *(Block*)shared;
  const Task task = task_of(problem, blockIdx.x);
  const Map& map = task.map;
  if (!map.filled()) return;
  for (int i = threadIdx.x; i < QUERIES; i += THREADS) block.query[i] = problem.query(task.tile, i);
  __syncthreads();
  load_gradients(block, problem, grad_out, task.image, task.head);
  const int group = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const i64 first = ((i64)task.image * problem.heads + task.head) * problem.rows + map.first;
  sum_t* const target = grad_value + first * PADDED + 4 * lane;
  for (int p0 = 0; p0 < P; p0 += AT_ONCE) {
    u32 cells[OWN];
    const Window w = find_cells(block, problem, task, p0, cells);
    Part part;
    for (part.x = w.low_x; part.x <= w.high_x; part.x += WIDEST) {
      part.wide = min(WIDEST, w.high_x - part.x + 1);
      const int most = BINS / part.pitch();
      for (part.y = w.low_y; part.y <= w.high_y; part.y += most) {
        part.tall = min(most, w.high_y - part.y + 1);
        count_entries(block, cells, part, map.height > 1);
        const int total = accumulate(block, (part.tall * part.pitch() + 1) / 2);
        place_entries(block, problem, task, lse, p0, part);
        // Shares are twice an odd number, so that groups read different banks.
        const int share = ((((total + 1) / 2 + GROUPS - 1) / GROUPS) | 1) * 2;
        const int begin = group * share, end = min(total, begin + share);
        const Band band(target + ((i64)part.y * map.width + part.x) * PADDED, part.pitch(),
                        map.width);
        if (group < GROUPS && begin < end) walk(block, band, begin, end, lane, EXACT ? __ldg(scale) : 0.f);
        __syncthreads();
      }
    }
  }
}
