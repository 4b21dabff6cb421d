// From logits to a token, a thread block a row: penalties and bias, temperature, top-k, top-p, min-p, and the draw, in the order of
// src/sampling.rs and with its rules for ties. Probabilities are integers in units of 2^-40 of the largest, so that their sums are the
// same in any order, and a row draws the same token every time. For any capability.

#include "numbers.cuh"

#define THREADS 1024
#define WARPS (THREADS / 32)
#define BINS 256

// A row's settings, as sampling.rs writes them.
struct Settings {
  uint32_t row;         // of the logits
  float temperature;    // 0 takes the first of the largest
  uint32_t top_k;       // 0 keeps all
  float min_p;
  uint32_t spare[2];    // 1 - top_p in units of 2^-64, the lower half first; 0 keeps all
  uint32_t uniform[2];  // the number that decides, in the same units
  float repetition, presence, frequency;
  uint32_t last;   // which of the tokens just drawn the row said last and the changes do not know; NO_TOKEN: none
  uint32_t first;  // its changes: where they begin, in words from the start of the settings
  uint32_t count;
};

// A token whose logit is changed: for what was said, then by `bias`.
struct Change {
  uint32_t id;
  uint32_t times;  // in the answer; NO_TOKEN for a token that is neither in the answer nor in the prompt
  float bias;
};

#define NO_TOKEN 0xffffffffu

struct Row {
  uint32_t histogram_counts[BINS];
  uint64_t histogram[BINS];
  uint64_t scan[2][THREADS];
  float largest[THREADS];
  uint32_t places[THREADS];
  uint32_t prefix, found;
  uint64_t left, ties;
};
static_assert(sizeof(Row) == 27672, "as sampling.rs has it");

CHANDLER_DEVICE uint64_t whole(const uint32_t (&halves)[2]) { return uint64_t(halves[1]) << 32 | halves[0]; }

// Ordered as the numbers are, without a sign.
CHANDLER_DEVICE uint32_t key_of(float x) {
  uint32_t bits = bits_of(x);
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

// What is no number, and what cannot be drawn, is the smallest of all; the two zeros are one.
CHANDLER_DEVICE float known(float x) { return x > -INFINITY ? x + 0.0f : -INFINITY; }

// Of e to the power of a difference to the largest.
CHANDLER_DEVICE uint64_t mass_of(float share) { return uint64_t(share * 1099511627776.0f); }

CHANDLER_DEVICE float said(float x, uint32_t times, const Settings &settings) {
  if (settings.repetition != 1) x = x < 0 ? x * settings.repetition : x / settings.repetition;
  if (times) x -= float(times) * settings.frequency + settings.presence;
  return x;
}

// The sum of what the threads before this one have, and of what all have.
CHANDLER_DEVICE uint64_t sum_before(Row &row, uint64_t mine, uint64_t &all) {
  uint32_t thread = threadIdx.x;
  int from = 0;
  row.scan[0][thread] = mine;
  __syncthreads();
  for (uint32_t step = 1; step < THREADS; step *= 2, from ^= 1) {
    uint64_t sum = row.scan[from][thread] + (thread >= step ? row.scan[from][thread - step] : 0);
    row.scan[from ^ 1][thread] = sum;
    __syncthreads();
  }
  all = row.scan[from][THREADS - 1];
  uint64_t before = row.scan[from][thread] - mine;
  __syncthreads();
  return before;
}

// The first of the largest: of (x, place) of each thread.
CHANDLER_DEVICE void take_largest(Row &row, float &x, uint32_t &place) {
  uint32_t thread = threadIdx.x;
  row.largest[thread] = x, row.places[thread] = place;
  __syncthreads();
  for (uint32_t half = THREADS / 2; half; half /= 2) {
    if (thread < half) {
      float other = row.largest[thread + half];
      uint32_t at = row.places[thread + half];
      if (other > row.largest[thread] || (other == row.largest[thread] && at < row.places[thread]))
        row.largest[thread] = other, row.places[thread] = at;
    }
    __syncthreads();
  }
  x = row.largest[0], place = row.places[0];
  __syncthreads();
}

// The first of the largest among `vocab` numbers that `at` gives.
template <typename At>
CHANDLER_DEVICE void largest_of(Row &row, uint32_t vocab, At at, float &most, uint32_t &place) {
  most = -INFINITY, place = 0;
  for (uint32_t i = threadIdx.x; i < vocab; i += THREADS) {
    float x = at(i);
    if (x > most) most = x, place = i;
  }
  take_largest(row, most, place);
}

// Penalties and bias on one row of logits in f32.
CHANDLER_DEVICE void change(Row &row, float *x, uint32_t vocab, const Settings &settings, const uint32_t *numbers, const uint32_t *tokens) {
  uint32_t last = settings.last == NO_TOKEN ? NO_TOKEN : tokens[settings.last];
  const Change *changes = reinterpret_cast<const Change *>(numbers + settings.first);
  if (threadIdx.x == 0) row.found = 0;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < settings.count; i += THREADS) {
    Change one = changes[i];
    if (one.id >= vocab) continue;
    bool now = one.id == last;
    if (now) row.found = 1;
    float logit = x[one.id];
    if (one.times != NO_TOKEN || now) logit = said(logit, (one.times == NO_TOKEN ? 0 : one.times) + now, settings);
    x[one.id] = logit + one.bias;
  }
  __syncthreads();
  if (threadIdx.x == 0 && last < vocab && !row.found) x[last] = said(x[last], 1, settings);
  __syncthreads();
}

// The key of the k-th largest; those as large stay with it.
CHANDLER_DEVICE uint32_t kth_largest(Row &row, const float *x, uint32_t vocab, uint32_t k) {
  uint32_t thread = threadIdx.x, prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (thread < BINS) row.histogram_counts[thread] = 0;
    __syncthreads();
    for (uint32_t i = thread; i < vocab; i += THREADS) {
      uint32_t key = key_of(x[i]);
      if (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8)) add_shared(&row.histogram_counts[key >> shift & (BINS - 1)], 1u);
    }
    __syncthreads();
    if (thread == 0) {
      uint32_t bin = BINS - 1;
      for (; bin && row.histogram_counts[bin] < k; bin--) k -= row.histogram_counts[bin];
      row.prefix = prefix | bin << shift, row.found = k;
    }
    __syncthreads();
    prefix = row.prefix, k = row.found;
    __syncthreads();
  }
  return prefix;
}

// Of the tokens from `floor` on, the least likely that are `spare` together at most go: the smallest key that stays; of those that
// have it, `ties` stay, which are the first.
CHANDLER_DEVICE uint32_t nucleus(Row &row, const float *x, uint32_t vocab, float most, uint32_t floor, uint64_t spare, uint64_t &ties) {
  uint32_t thread = threadIdx.x, prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (thread < BINS) row.histogram[thread] = 0;
    __syncthreads();
    for (uint32_t i = thread; i < vocab; i += THREADS) {
      uint32_t key = key_of(x[i]);
      uint64_t mass = mass_of(expf(x[i] - most));
      if (mass && key >= floor && (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8)))
        add_shared(&row.histogram[key >> shift & (BINS - 1)], mass);
    }
    __syncthreads();
    if (thread == 0) {
      // Where all of it could go, the most likely stays.
      uint32_t last = BINS - 1;
      while (last && !row.histogram[last]) last--;
      uint32_t bin = 0;
      for (; bin < last && row.histogram[bin] <= spare; bin++) spare -= row.histogram[bin];
      row.prefix = prefix | bin << shift, row.left = spare;
    }
    __syncthreads();
    prefix = row.prefix, spare = row.left;
    if (shift) __syncthreads();
  }
  uint64_t together = row.histogram[prefix & (BINS - 1)];
  uint32_t bits = prefix >> 31 ? prefix ^ 0x80000000u : ~prefix;
  uint64_t each = mass_of(expf(number_of(bits) - most)), count = each ? together / each : 1;
  uint64_t gone = each ? spare / each : 0;
  ties = gone < count ? count - gone : 1;
  __syncthreads();
  return prefix;
}

// Draws from what stays. `floor` and `ties` as `nucleus` has them. First each warp sums a stretch of the vocabulary, its lanes side by
// side; then all threads look into the stretch that the number falls into, each with neighbouring tokens.
CHANDLER_DEVICE void draw_kept(Row &row, const float *x, uint32_t vocab, float most, uint32_t floor, uint64_t ties, const Settings &settings,
                               uint32_t *out) {
  uint32_t thread = threadIdx.x, stretch = (vocab + WARPS - 1) / WARPS;
  auto mass_at = [&](uint32_t i) -> uint64_t {
    float share = expf(x[i] - most);
    return share >= settings.min_p ? mass_of(share) : 0;
  };
  uint32_t bits = floor >> 31 ? floor ^ 0x80000000u : ~floor;
  float share = expf(number_of(bits) - most);
  uint64_t each = share >= settings.min_p ? mass_of(share) : 0, mine = 0;
  uint32_t alike = 0, start = thread / 32 * stretch, end = start + stretch < vocab ? start + stretch : vocab;
  for (uint32_t i = start + thread % 32; i < end; i += 32) {
    uint32_t key = key_of(x[i]);
    if (key > floor) mine += mass_at(i);
    alike += key == floor;
  }
  row.scan[0][thread] = mine, row.places[thread] = alike;
  __syncthreads();
  if (thread % 32 == 0)
    for (uint32_t lane = 1; lane < 32; lane++) mine += row.scan[0][thread + lane], alike += row.places[thread + lane];
  __syncthreads();
  if (thread % 32 == 0) row.histogram[thread / 32] = mine, row.histogram_counts[thread / 32] = alike;
  __syncthreads();
  if (thread == 0) {
    // Of the stretches: what stays of each, and which the number falls into.
    uint64_t all = 0, left = ties;
    for (uint32_t warp = 0; warp < WARPS; warp++) {
      uint64_t kept = row.histogram_counts[warp] < left ? row.histogram_counts[warp] : left;
      left -= kept, row.histogram[warp] += kept * each, all += row.histogram[warp];
    }
    uint64_t target = times_fraction(all, whole(settings.uniform));
    uint32_t warp = 0;
    for (left = ties; warp < WARPS - 1 && target >= row.histogram[warp]; warp++) {
      target -= row.histogram[warp];
      left -= row.histogram_counts[warp] < left ? row.histogram_counts[warp] : left;
    }
    row.prefix = warp, row.left = target, row.ties = left;
  }
  __syncthreads();
  start = row.prefix * stretch, end = start + stretch < vocab ? start + stretch : vocab;
  uint32_t count = (stretch + THREADS - 1) / THREADS, from = start + thread * count;
  uint32_t to = from + count < end ? from + count : end;
  uint64_t target = row.left, kept = row.ties, all;
  mine = 0;
  for (uint32_t i = from; i < to; i++) mine += key_of(x[i]) == floor;
  uint64_t rank = sum_before(row, mine, all), first = rank;
  auto kept_at = [&](uint32_t i) -> uint64_t {
    uint32_t key = key_of(x[i]);
    if (key == floor) return rank++ < kept ? each : 0;
    return key > floor ? mass_at(i) : 0;
  };
  mine = 0;
  for (uint32_t i = from; i < to; i++) mine += kept_at(i);
  uint64_t before = sum_before(row, mine, all);
  if (!mine || target < before || target >= before + mine) return;
  rank = first;
  for (uint32_t i = from; i < to; i++) {
    before += kept_at(i);
    if (target < before) {
      *out = i;
      return;
    }
  }
}

// logits [rows, vocab]; out and gridDim.x as many as tokens are drawn; tokens: those drawn before, which `Settings::last` numbers;
// scratch [drawn, vocab].
template <typename T>
CHANDLER_DEVICE void draw(const typename T::Stored *logits, uint32_t *out, const uint32_t *tokens, float *scratch, const uint32_t *numbers,
                          uint32_t vocab) {
  CHANDLER_SHARED(shared);
  Row &row = *reinterpret_cast<Row *>(shared);
  Settings settings = reinterpret_cast<const Settings *>(numbers)[blockIdx.x];
  logits += uint64_t(settings.row) * vocab, out += blockIdx.x;
  float most;
  uint32_t place;
  bool changed = settings.count || settings.last != NO_TOKEN;
  if (settings.temperature == 0 && !changed) {
    largest_of(row, vocab, [&](uint32_t i) { return widen<T>(logits[i]); }, most, place);
    if (threadIdx.x == 0) *out = place;
    return;
  }
  float *x = scratch + uint64_t(blockIdx.x) * vocab;
  for (uint32_t i = threadIdx.x; i < vocab; i += THREADS) x[i] = widen<T>(logits[i]);
  __syncthreads();
  if (changed) change(row, x, vocab, settings, numbers, tokens);
  if (settings.temperature != 0)
    for (uint32_t i = threadIdx.x; i < vocab; i += THREADS) x[i] = known(x[i] / settings.temperature);
  __syncthreads();
  largest_of(row, vocab, [&](uint32_t i) { return x[i]; }, most, place);
  // Stays where nothing can be drawn.
  if (threadIdx.x == 0) *out = place;
  __syncthreads();
  if (settings.temperature == 0 || most == -INFINITY) return;
  uint32_t floor = key_of(-INFINITY);
  uint64_t ties = vocab;
  if (settings.top_k && settings.top_k < vocab) floor = kth_largest(row, x, vocab, settings.top_k);
  if (whole(settings.spare)) {
    uint64_t mine = 0, all;
    for (uint32_t i = threadIdx.x; i < vocab; i += THREADS) mine += key_of(x[i]) >= floor ? mass_of(expf(x[i] - most)) : 0;
    sum_before(row, mine, all);
    floor = nucleus(row, x, vocab, most, floor, times_fraction(all, whole(settings.spare)), ties);
  }
  draw_kept(row, x, vocab, most, floor, ties, settings, out);
}

#define DRAW(TYPE, NAME)                                                                                                            \
  CHANDLER_KERNEL void __launch_bounds__(THREADS, 1) draw_##NAME(const TYPE::Stored *logits, uint32_t *out, const uint32_t *tokens,     \
                                                              float *scratch, const uint32_t *numbers, uint32_t vocab) {            \
    draw<TYPE>(logits, out, tokens, scratch, numbers, vocab);                                                                       \
  }
DRAW(Bf16, bf16)
DRAW(F16, f16)
DRAW(F32, f32)
