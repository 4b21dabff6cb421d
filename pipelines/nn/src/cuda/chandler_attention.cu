// Attention over the blocks of a key-value cache, for sequences of any length side by side; without a cache it is one block a
// sample. Scores never leave the chip: Dao, "FlashAttention-2" (2023), and for few queries over many keys the same with the keys
// shared out among thread blocks and warps (Dao et al., "Flash-Decoding", 2023). f16 and bf16, sums in f32.
//
// The queries that read one kv head are packed: packed query m of a sequence is its row m / group, head kv·group + m % group, with
// group = heads / kv_heads. A thread block of four warps has one kv head and 16 packed queries a warp along the queries:
//   many  four warps along the queries, each over all keys: prompts and pictures
//   few   one warp's queries, every warp with a quarter of each tile's keys, and thread blocks with a part of the keys each whose
//         results `join` puts together: decoding

#include "warp.cuh"

#define TILE_KEYS 64
#define THREADS 128
#define LOG2_E 1.4426950408889634f

// As attention.rs has it, field by field.
struct Call {
  uint32_t heads, kv_heads, head_dim, block_size;
  uint32_t tiles, splits;
  uint32_t causal;
  uint32_t window;  // 0: none
  float scale;
  float softcap;  // 0: none
};

// 16 or 64 packed queries of one sequence.
struct Tile {
  uint32_t row;      // the sequence's first row in q
  uint32_t rows;     // how many it has
  uint32_t context;  // keys that its last row sees
  uint32_t first;    // the tile's first packed query
  uint32_t blocks;   // where its block numbers begin in the table
};

// Keys [slots, kv_heads, head_dim] and values alike; q and out [rows, heads, head_dim]. Where `splits` is more than one, `parts`
// [splits, tiles, kv_heads, 16, head_dim] gets each part's result and `weights` [splits, tiles, kv_heads, 16] the logarithm to base
// 2 of the sum that it was divided by.
struct Data {
  const uint16_t *q, *k, *v;
  uint16_t *out;
  float *parts, *weights;
  const Tile *tiles;
  const uint32_t *blocks;
};

#if CHANDLER_HAS_MATRIX_UNITS

// The keys that one packed query sees: from `low` up to and without `high`.
struct Sight {
  uint32_t low, high;
};

CHANDLER_DEVICE Sight sight(const Call &call, const Tile &tile, uint32_t packed) {
  uint32_t group = call.heads / call.kv_heads;
  if (packed >= tile.rows * group) return {0, 0};
  if (!call.causal) return {0, tile.context};
  uint32_t high = tile.context - tile.rows + packed / group + 1;
  return {call.window && high > call.window ? high - call.window : 0, high};
}

// Where head `head` of a sequence's packed query begins in q and out.
CHANDLER_DEVICE size_t query_at(const Call &call, const Tile &tile, uint32_t packed, uint32_t kv_head) {
  uint32_t group = call.heads / call.kv_heads;
  size_t row = tile.row + packed / group;
  return (row * call.heads + kv_head * group + packed % group) * call.head_dim;
}

// Where the 16 results of a thread block's part begin, in units of head_dim.
CHANDLER_DEVICE size_t part_at(const Call &call, uint32_t split, uint32_t tile, uint32_t kv_head) {
  return ((size_t(split) * call.tiles + tile) * call.kv_heads + kv_head) * 16;
}

template <int D>
struct Stage {
  // 8 more numbers a row: the rows of an 8x8 matrix lie in different banks.
  static constexpr int PITCH = D + 8;
  uint16_t keys[TILE_KEYS][PITCH], values[TILE_KEYS][PITCH];

  // Asks for a tile of keys and values; zeros from key `high` on, and in the columns that a head does not have. Each lane finds the
  // slots of two keys, and has the others from its neighbours.
  CHANDLER_MEMBER void fill(const Call &call, const Data &data, const Tile &tile, uint32_t kv_head, uint32_t start, uint32_t high) {
    constexpr int CHUNKS = D / 8, ROWS = THREADS / CHUNKS;
    uint32_t slots[2], column = threadIdx.x % CHUNKS * 8;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      uint32_t key = start + threadIdx.x % 32 + 32 * half;
      slots[half] = key < high ? data.blocks[tile.blocks + key / call.block_size] * call.block_size + key % call.block_size : 0;
    }
#pragma unroll
    for (int first = 0; first < TILE_KEYS; first += ROWS) {
      uint32_t row = first + threadIdx.x / CHUNKS, slot = from_lane(slots[first / 32], row % 32);
      bool there = start + row < high && column < call.head_dim;
      size_t at = there ? (size_t(slot) * call.kv_heads + kv_head) * call.head_dim + column : 0;
      copy_16(&keys[row][column], data.k + at, there);
      copy_16(&values[row][column], data.v + at, there);
    }
  }
};

// What a warp knows of its 16 queries: sums not yet divided, as the accumulators of a product lie in its lanes. Lane l has rows l / 4
// and l / 4 + 8, and of each 8 columns the two at 2 (l % 4).
template <typename T, int D>
struct Queries {
  uint32_t q[D / 16][4];
  float sums[D / 8][4];
  float largest[2], weight[2];
  Sight seen[2];

  CHANDLER_MEMBER void begin(const Call &call, const Data &data, const Tile &tile, uint32_t kv_head, uint32_t first) {
    int lane = threadIdx.x % 32;
    size_t at[2];
    for (int half = 0; half < 2; half++) {
      uint32_t packed = first + lane / 4 + 8 * half;
      seen[half] = sight(call, tile, packed);
      at[half] = query_at(call, tile, packed, kv_head);
      largest[half] = -INFINITY;
      weight[half] = 0;
    }
#pragma unroll
    for (int step = 0; step < D / 16; step++)
#pragma unroll
      for (int part = 0; part < 4; part++) {
        uint32_t column = step * 16 + lane % 4 * 2 + part / 2 * 8;
        bool there = seen[part % 2].high > 0 && column < call.head_dim;
        q[step][part] = there ? *reinterpret_cast<const uint32_t *>(data.q + at[part % 2] + column) : 0;
      }
#pragma unroll
    for (int i = 0; i < D / 8; i++) sums[i][0] = sums[i][1] = sums[i][2] = sums[i][3] = 0;
  }

  // Takes KEYS keys of a stage from `offset` on, the first of which is key `start` of the sequence.
  template <int KEYS>
  CHANDLER_MEMBER void take(const Call &call, const Stage<D> &stage, int offset, uint32_t start) {
    int lane = threadIdx.x % 32, matrix = lane / 8, row = lane % 8;
    float scores[KEYS / 8][4];
#pragma unroll
    for (int i = 0; i < KEYS / 8; i++) scores[i][0] = scores[i][1] = scores[i][2] = scores[i][3] = 0;
#pragma unroll
    for (int step = 0; step < D / 16; step++)
#pragma unroll
      for (int pair = 0; pair < KEYS / 16; pair++) {
        uint32_t b[4];
        load_matrices(b, &stage.keys[offset + pair * 16 + matrix / 2 * 8 + row][step * 16 + matrix % 2 * 8]);
        multiply<T>(scores[2 * pair], q[step], {b[0], b[1]});
        multiply<T>(scores[2 * pair + 1], q[step], {b[2], b[3]});
      }
    weigh<KEYS>(call, scores, start);
#pragma unroll
    for (int pair = 0; pair < KEYS / 16; pair++) {
      float(&low)[4] = scores[2 * pair], (&high)[4] = scores[2 * pair + 1];
      uint32_t a[4] = {pack<T>(low[0], low[1]), pack<T>(low[2], low[3]), pack<T>(high[0], high[1]), pack<T>(high[2], high[3])};
#pragma unroll
      for (int step = 0; step < D / 16; step++) {
        uint32_t b[4];
        load_matrices_transposed(b, &stage.values[offset + pair * 16 + matrix % 2 * 8 + row][step * 16 + matrix / 2 * 8]);
        multiply<T>(sums[2 * step], a, {b[0], b[1]});
        multiply<T>(sums[2 * step + 1], a, {b[2], b[3]});
      }
    }
  }

  // Scores become weights relative to the largest score so far, and what was summed before is made relative to it too.
  template <int KEYS>
  CHANDLER_MEMBER void weigh(const Call &call, float (&scores)[KEYS / 8][4], uint32_t start) {
    int lane = threadIdx.x % 32;
    float top[2] = {largest[0], largest[1]}, factor = call.softcap > 0 ? call.softcap * LOG2_E : call.scale * LOG2_E;
#pragma unroll
    for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
      for (int part = 0; part < 4; part++) {
        float score = scores[i][part];
        scores[i][part] = factor * (call.softcap > 0 ? tanhf(score * call.scale / call.softcap) : score);
      }
    bool whole = start >= seen[0].low && start >= seen[1].low && start + KEYS <= seen[0].high && start + KEYS <= seen[1].high;
    if (!whole) {
#pragma unroll
      for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
        for (int part = 0; part < 4; part++) {
          uint32_t key = start + i * 8 + lane % 4 * 2 + part % 2;
          if (key < seen[part / 2].low || key >= seen[part / 2].high) scores[i][part] = -INFINITY;
        }
    }
#pragma unroll
    for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
      for (int part = 0; part < 4; part++) top[part / 2] = fmaxf(top[part / 2], scores[i][part]);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      top[half] = fmaxf(top[half], from_lane_xor(top[half], 1));
      top[half] = fmaxf(top[half], from_lane_xor(top[half], 2));
      // Without a key so far there is nothing to be relative to.
      float base = top[half] == -INFINITY ? 0 : top[half];
      float before = exp2f(largest[half] - base);
      largest[half] = top[half];
      weight[half] *= before;
#pragma unroll
      for (int i = 0; i < D / 8; i++) sums[i][2 * half] *= before, sums[i][2 * half + 1] *= before;
#pragma unroll
      for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
        for (int part = 2 * half; part < 2 * half + 2; part++) {
          scores[i][part] = exp2f(scores[i][part] - base);
          weight[half] += scores[i][part];
        }
    }
  }

  // The lanes of a row have each summed the weights of their own columns.
  CHANDLER_MEMBER void end() {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      weight[half] += from_lane_xor(weight[half], 1);
      weight[half] += from_lane_xor(weight[half], 2);
    }
  }
};

// Two neighbouring numbers of a result, divided already.
template <typename T>
CHANDLER_DEVICE void store(uint16_t *at, float low, float high) {
  *reinterpret_cast<uint32_t *>(at) = pack<T>(low, high);
}

CHANDLER_DEVICE float inverse(float weight) { return weight > 0 ? 1 / weight : 0; }

// All tiles of keys from `start` up to `high`; of each the warp takes KEYS from `offset` on. While it computes with one stage the next
// is filled, where two have room.
template <typename T, int D, int KEYS>
CHANDLER_DEVICE void over_keys(const Call &call, const Data &data, const Tile &tile, uint32_t kv_head, uint32_t start, uint32_t high,
                               int offset, Queries<T, D> &queries) {
  CHANDLER_SHARED(memory);
  constexpr int STAGES = D <= 128 ? 2 : 1;
  Stage<D> *stages = reinterpret_cast<Stage<D> *>(memory);
  if (STAGES > 1 && start < high) stages[0].fill(call, data, tile, kv_head, start, high);
  close_copies();
  for (int turn = 0; start < high; turn++, start += TILE_KEYS) {
    if (STAGES == 1)
      stages[0].fill(call, data, tile, kv_head, start, high);
    else if (start + TILE_KEYS < high)
      stages[(turn + 1) % STAGES].fill(call, data, tile, kv_head, start + TILE_KEYS, high);
    close_copies();
    copies_arrived<STAGES - 1>();
    __syncthreads();
    queries.template take<KEYS>(call, stages[turn % STAGES], offset, start + offset);
    __syncthreads();
  }
}

template <typename T, int D>
CHANDLER_DEVICE void many(const Call &call, const Data &data) {
  Tile tile = data.tiles[blockIdx.x];
  uint32_t kv_head = blockIdx.y, group = call.heads / call.kv_heads, end = tile.first + 64;
  if (end > tile.rows * group) end = tile.rows * group;
  uint32_t low = sight(call, tile, tile.first).low, high = sight(call, tile, end - 1).high;
  uint32_t mine = tile.first + threadIdx.x / 32 * 16;
  Queries<T, D> queries;
  queries.begin(call, data, tile, kv_head, mine);

  over_keys<T, D, TILE_KEYS>(call, data, tile, kv_head, low / TILE_KEYS * TILE_KEYS, high, 0, queries);
  queries.end();

  int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    uint32_t packed = mine + lane / 4 + 8 * half;
    if (packed >= end) continue;
    uint16_t *out = data.out + query_at(call, tile, packed, kv_head);
    float share = inverse(queries.weight[half]);
#pragma unroll
    for (int i = 0; i < D / 8; i++) {
      uint32_t column = i * 8 + lane % 4 * 2;
      if (column < call.head_dim) store<T>(out + column, queries.sums[i][2 * half] * share, queries.sums[i][2 * half + 1] * share);
    }
  }
}

// What the four warps have found of the same 16 queries.
template <int D>
struct Found {
  float sums[4][16][D], largest[4][16], weight[4][16];
};

template <typename T, int D>
CHANDLER_DEVICE void few(const Call &call, const Data &data) {
  CHANDLER_SHARED(memory);
  constexpr int KEYS = TILE_KEYS / 4;
  Tile tile = data.tiles[blockIdx.x];
  uint32_t kv_head = blockIdx.y, group = call.heads / call.kv_heads, end = tile.first + 16;
  if (end > tile.rows * group) end = tile.rows * group;
  uint32_t low = sight(call, tile, tile.first).low / TILE_KEYS, high = sight(call, tile, end - 1).high;
  // This thread block's part of the tiles of keys.
  uint32_t all = (high + TILE_KEYS - 1) / TILE_KEYS - low, each = (all + call.splits - 1) / call.splits;
  uint32_t start = (low + blockIdx.z * each) * TILE_KEYS;
  if (start + each * TILE_KEYS < high) high = start + each * TILE_KEYS;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Queries<T, D> queries;
  queries.begin(call, data, tile, kv_head, tile.first);

  over_keys<T, D, KEYS>(call, data, tile, kv_head, start, high, warp * KEYS, queries);
  queries.end();

  // The stages are done with: their memory takes what the warps have found.
  Found<D> &found = *reinterpret_cast<Found<D> *>(memory);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = lane / 4 + 8 * half;
    found.largest[warp][row] = queries.largest[half];
    found.weight[warp][row] = queries.weight[half];
#pragma unroll
    for (int i = 0; i < D / 8; i++) {
      found.sums[warp][row][i * 8 + lane % 4 * 2] = queries.sums[i][2 * half];
      found.sums[warp][row][i * 8 + lane % 4 * 2 + 1] = queries.sums[i][2 * half + 1];
    }
  }
  __syncthreads();
  size_t part = part_at(call, blockIdx.z, blockIdx.x, kv_head);
  for (int i = threadIdx.x; i < 16 * D / 2; i += THREADS) {
    uint32_t row = i / (D / 2), column = i % (D / 2) * 2;
    if (tile.first + row >= end || column >= call.head_dim) continue;
    float top = -INFINITY, weight = 0, sum[2] = {0, 0};
    for (int w = 0; w < 4; w++) top = fmaxf(top, found.largest[w][row]);
    float base = top == -INFINITY ? 0 : top;
    for (int w = 0; w < 4; w++) {
      float share = exp2f(found.largest[w][row] - base);
      weight += share * found.weight[w][row];
      sum[0] += share * found.sums[w][row][column];
      sum[1] += share * found.sums[w][row][column + 1];
    }
    float share = inverse(weight);
    if (call.splits == 1) {
      uint16_t *out = data.out + query_at(call, tile, tile.first + row, kv_head);
      store<T>(out + column, sum[0] * share, sum[1] * share);
    } else {
      float *out = data.parts + (part + row) * call.head_dim + column;
      out[0] = sum[0] * share, out[1] = sum[1] * share;
      if (column == 0) data.weights[part + row] = weight > 0 ? base + log2f(weight) : -INFINITY;
    }
  }
}

// The parts of each result, weighed by the sums that they were divided by: a warp a row, whose lanes each know the weight of one part.
// There are at most 32, and four rows a thread block.
template <typename T>
CHANDLER_DEVICE void join(const Call &call, const Data &data) {
  Tile tile = data.tiles[blockIdx.x];
  uint32_t kv_head = blockIdx.y, group = call.heads / call.kv_heads, row = blockIdx.z * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  uint32_t packed = tile.first + row;
  if (packed >= tile.rows * group) return;
  float mine = lane < call.splits ? data.weights[part_at(call, lane, blockIdx.x, kv_head) + row] : -INFINITY, top = mine;
  for (int mask = 16; mask; mask /= 2) top = fmaxf(top, from_lane_xor(top, mask));
  float share = exp2f(mine - (top == -INFINITY ? 0 : top)), weight = share;
  for (int mask = 16; mask; mask /= 2) weight += from_lane_xor(weight, mask);
  share *= inverse(weight);
  uint16_t *out = data.out + query_at(call, tile, packed, kv_head);
  for (uint32_t first = 0; first < call.head_dim; first += 64) {
    uint32_t column = first + 2 * lane;
    float sum[2] = {0, 0};
    for (uint32_t split = 0; split < call.splits; split++) {
      float part = from_lane(share, split);
      if (column >= call.head_dim) continue;
      const float *from = data.parts + (part_at(call, split, blockIdx.x, kv_head) + row) * call.head_dim + column;
      sum[0] += part * from[0], sum[1] += part * from[1];
    }
    if (column < call.head_dim) store<T>(out + column, sum[0], sum[1]);
  }
}

#define CHANDLER_RUN(...) __VA_ARGS__
#else
#define CHANDLER_RUN(...) __trap();  // launched by mistake: an error, and not numbers that nobody computed
#endif

#define CHANDLER_ATTENTION(NAME, BODY)                                                                                            \
  CHANDLER_KERNEL void __launch_bounds__(THREADS) NAME(const uint16_t *q, const uint16_t *k, const uint16_t *v, uint16_t *out,    \
                                                       float *parts, float *weights, const Tile *tiles, const uint32_t *blocks, \
                                                       Call call) {                                                               \
    CHANDLER_RUN(BODY(call, {q, k, v, out, parts, weights, tiles, blocks});)                                                      \
  }
#define CHANDLER_SIZES(TYPE, TAG)                                 \
  CHANDLER_ATTENTION(many_##TYPE##_64, (many<TAG, 64>))           \
  CHANDLER_ATTENTION(many_##TYPE##_128, (many<TAG, 128>))         \
  CHANDLER_ATTENTION(many_##TYPE##_256, (many<TAG, 256>))         \
  CHANDLER_ATTENTION(few_##TYPE##_64, (few<TAG, 64>))             \
  CHANDLER_ATTENTION(few_##TYPE##_128, (few<TAG, 128>))           \
  CHANDLER_ATTENTION(few_##TYPE##_256, (few<TAG, 256>))           \
  CHANDLER_ATTENTION(join_##TYPE, (join<TAG>))
CHANDLER_SIZES(bf16, Bf16)
CHANDLER_SIZES(f16, F16)
