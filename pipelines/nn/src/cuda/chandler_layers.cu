// The small layers around products and attention, each in one pass over memory: norms of rows with the addition before them, gated
// activations, rotary embeddings, new keys and values into their slots, what is added to a convolution; and GroupNorm in two. Of f32,
// f16 and bf16; sums in f32. For any capability.

#include "numbers.cuh"

#define THREADS 256

// Numbers that a thread reads at a time: 16 bytes.
template <typename T>
struct alignas(16) Some {
  static constexpr int COUNT = 16 / sizeof(typename T::Stored);
  typename T::Stored x[COUNT];
};

// Over the first `some` of them: by numbers that are known when it is compiled, so that they stay in registers.
#define EACH(T, some) _Pragma("unroll") for (int i = 0; i < Some<T>::COUNT; i++) if (i < some)

// Calls body(i, count) for stretches of [from, to) that are a thread's, at most Some<T>::COUNT long; longer ones are whole and begin
// at a multiple of 16 bytes of the tensor.
template <typename T, typename Body>
CHANDLER_DEVICE void stretches(uint64_t from, uint64_t to, uint64_t thread, uint64_t threads, Body body) {
  constexpr int COUNT = Some<T>::COUNT;
  for (uint64_t i = from / COUNT + thread; i * COUNT < to; i += threads) {
    uint64_t start = i * COUNT < from ? from : i * COUNT, end = (i + 1) * COUNT > to ? to : (i + 1) * COUNT;
    body(start, int(end - start));
  }
}

template <typename T>
CHANDLER_DEVICE Some<T> read(const typename T::Stored *x, uint64_t at, int count) {
  Some<T> out;
  if (count == Some<T>::COUNT) return *reinterpret_cast<const Some<T> *>(x + at);
  EACH(T, count) out.x[i] = x[at + i];
  return out;
}

template <typename T>
CHANDLER_DEVICE void write(typename T::Stored *x, uint64_t at, int count, const Some<T> &from) {
  if (count == Some<T>::COUNT) {
    *reinterpret_cast<Some<T> *>(x + at) = from;
    return;
  }
  EACH(T, count) x[at + i] = from.x[i];
}

// As layers.rs numbers them.
enum Curve { NONE, SILU, GELU, GELU_TANH, QUICK_GELU, RELU };

CHANDLER_DEVICE float activate(uint32_t curve, float x) {
  switch (curve) {
    case SILU:
      return x / (1 + expf(-x));
    case GELU:
      return 0.5f * x * (1 + erff(x * 0.70710678f));
    case GELU_TANH:
      return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case QUICK_GELU:
      return x / (1 + expf(-1.702f * x));
    case RELU:
      return fmaxf(x, 0);
    default:
      return x;
  }
}

// out = activation(gate) * up.
template <typename T>
CHANDLER_DEVICE void gated(const typename T::Stored *gate, const typename T::Stored *up, typename T::Stored *out, uint64_t count,
                           uint32_t curve) {
  uint64_t thread = uint64_t(blockIdx.x) * THREADS + threadIdx.x;
  stretches<T>(0, count, thread, uint64_t(gridDim.x) * THREADS, [&](uint64_t at, int some) {
    Some<T> a = read<T>(gate, at, some), b = read<T>(up, at, some);
    EACH(T, some) a.x[i] = narrow<T>(activate(curve, widen<T>(a.x[i])) * widen<T>(b.x[i]));
    write<T>(out, at, some, a);
  });
}

// x and out [rows, heads, head_dim], cos and sin [rows, rotary / 2]: the first `rotary` numbers of each head are turned in pairs, which
// are neighbours or half of `rotary` apart; the others stay. A row is shared out to gridDim.y thread blocks.
template <typename T>
CHANDLER_DEVICE void rotate(const typename T::Stored *x, const float *cos, const float *sin, typename T::Stored *out, uint32_t heads,
                            uint32_t head_dim, uint32_t rotary, uint32_t interleaved) {
  uint32_t half = head_dim / 2, turned = rotary / 2, row = blockIdx.x;
  uint64_t start = uint64_t(row) * heads * head_dim;
  for (uint32_t i = blockIdx.y * THREADS + threadIdx.x; i < heads * half; i += gridDim.y * THREADS) {
    uint32_t head = i / half, pair = i - head * half;
    bool neighbours = interleaved || pair >= turned;
    uint32_t first = neighbours ? 2 * pair : pair, apart = neighbours ? 1 : turned;
    uint64_t at = start + head * head_dim + first;
    float a = widen<T>(x[at]), b = widen<T>(x[at + apart]), c = 1, s = 0;
    if (pair < turned) c = cos[row * turned + pair], s = sin[row * turned + pair];
    out[at] = narrow<T>(a * c - b * s);
    out[at + apart] = narrow<T>(b * c + a * s);
  }
}

// Rows of `units` units each go to their slots.
template <typename Unit>
CHANDLER_DEVICE void into_slots(const Unit *from, Unit *to, const uint32_t *slots, uint32_t rows, uint32_t units) {
  uint64_t all = uint64_t(rows) * units;
  for (uint64_t i = uint64_t(blockIdx.x) * THREADS + threadIdx.x; i < all; i += uint64_t(gridDim.x) * THREADS)
    to[uint64_t(slots[i / units]) * units + i % units] = from[i];
}

CHANDLER_DEVICE float sum_of_warp(float x) {
  for (int mask = 16; mask; mask /= 2) x += from_lane_xor(x, mask);
  return x;
}

// The sum over all threads of a block, to all of them.
CHANDLER_DEVICE float sum_of_block(float x, float *shared) {
  x = sum_of_warp(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < THREADS / 32; warp++) sum += shared[warp];
  return sum;
}

// A row a thread block, or where `by_warp` is not 0 a row a warp of as many rows: out = (x + residual) normed, and the sum itself to `sum`; without a residual x alone, and no sum. RMSNorm, or
// LayerNorm where `centred`; `weight` and `bias` (null: none) in a dtype of their own.
template <typename T, typename W>
CHANDLER_DEVICE void norm(const typename T::Stored *x, const typename T::Stored *residual, const typename W::Stored *weight,
                          const typename W::Stored *bias, typename T::Stored *sum, typename T::Stored *out, uint32_t width, float eps,
                          uint32_t centred, uint32_t by_warp) {
  CHANDLER_SHARED(memory);
  float *shared = reinterpret_cast<float *>(memory), total = 0, squares = 0, mean = 0;
  uint32_t row = by_warp ? blockIdx.x * (THREADS / 32) + threadIdx.x / 32 : blockIdx.x;
  uint32_t thread = by_warp ? threadIdx.x % 32 : threadIdx.x, threads = by_warp ? 32 : THREADS;
  if (by_warp && row >= by_warp) return;
  auto sum_of_row = [&](float x) { return by_warp ? sum_of_warp(x) : sum_of_block(x, shared); };
  uint64_t from = uint64_t(row) * width, to = from + width;
  stretches<T>(from, to, thread, threads, [&](uint64_t at, int some) {
    Some<T> numbers = read<T>(x, at, some);
    if (residual) {
      Some<T> more = read<T>(residual, at, some);
      EACH(T, some) numbers.x[i] = narrow<T>(widen<T>(numbers.x[i]) + widen<T>(more.x[i]));
      write<T>(sum, at, some, numbers);
    }
    EACH(T, some) {
      float number = widen<T>(numbers.x[i]);
      total += number, squares += number * number;
    }
  });
  // From here on each thread reads what it has written itself.
  const typename T::Stored *summed = residual ? sum : x;
  if (centred) {
    mean = sum_of_row(total) / width, squares = 0;
    stretches<T>(from, to, thread, threads, [&](uint64_t at, int some) {
      Some<T> numbers = read<T>(summed, at, some);
      EACH(T, some) {
        float distance = widen<T>(numbers.x[i]) - mean;
        squares += distance * distance;
      }
    });
  }
  float scale = 1 / sqrtf(sum_of_row(squares) / width + eps);
  stretches<T>(from, to, thread, threads, [&](uint64_t at, int some) {
    Some<T> numbers = read<T>(summed, at, some);
    EACH(T, some) {
      uint32_t column = uint32_t(at - from) + i;
      float shift = bias ? widen<W>(bias[column]) : 0;
      numbers.x[i] = narrow<T>((widen<T>(numbers.x[i]) - mean) * scale * widen<W>(weight[column]) + shift);
    }
    write<T>(out, at, some, numbers);
  });
}

// GroupNorm over groups of `count` numbers that lie together, each `part`s for as many thread blocks. Of each part the sum of the
// distances to the group's first number, and of their squares: sums of the numbers themselves would cancel where the mean is large.
template <typename T>
CHANDLER_DEVICE void group_sums(const typename T::Stored *x, float *sums, uint64_t count, uint64_t part) {
  CHANDLER_SHARED(memory);
  uint64_t begin = uint64_t(blockIdx.x) * count, from = begin + blockIdx.y * part, to = from + part;
  if (to > begin + count) to = begin + count;
  float pivot = widen<T>(x[begin]), sum = 0, squares = 0;
  stretches<T>(from, to, threadIdx.x, THREADS, [&](uint64_t at, int some) {
    Some<T> numbers = read<T>(x, at, some);
    EACH(T, some) {
      float distance = widen<T>(numbers.x[i]) - pivot;
      sum += distance, squares += distance * distance;
    }
  });
  float *shared = reinterpret_cast<float *>(memory);
  sum = sum_of_block(sum, shared), squares = sum_of_block(squares, shared);
  if (threadIdx.x) return;
  uint64_t at = 2 * (uint64_t(blockIdx.x) * gridDim.y + blockIdx.y);
  sums[at] = sum, sums[at + 1] = squares;
}

// out = activation((x - mean) / sqrt(variance + eps) * weight + bias), weight and bias a number a channel of `plane` numbers; a group
// has count / plane channels, and there are `groups` of them in a sample.
template <typename T>
CHANDLER_DEVICE void group_norm(const typename T::Stored *x, const float *sums, const typename T::Stored *weight,
                                const typename T::Stored *bias, typename T::Stored *out, uint64_t count, uint64_t part,
                                uint32_t plane, uint32_t groups, float eps, uint32_t curve) {
  uint64_t begin = uint64_t(blockIdx.x) * count, from = begin + blockIdx.y * part, to = from + part;
  if (to > begin + count) to = begin + count;
  float sum = 0, squares = 0;
  for (uint32_t i = 0; i < gridDim.y; i++) {
    uint64_t at = 2 * (uint64_t(blockIdx.x) * gridDim.y + i);
    sum += sums[at], squares += sums[at + 1];
  }
  float distance = sum / count, variance = squares / count - distance * distance;
  if (variance < 0) variance = 0;  // and not by fmaxf, which would make 0 of what is no number
  float mean = widen<T>(x[begin]) + distance, scale = 1 / sqrtf(variance + eps);
  uint32_t first_channel = blockIdx.x % groups * uint32_t(count / plane);
  stretches<T>(from, to, threadIdx.x, THREADS, [&](uint64_t at, int some) {
    Some<T> numbers = read<T>(x, at, some);
    uint32_t channel = uint32_t(at - begin) / plane, next = (channel + 1) * plane;
    EACH(T, some) {
      if (uint32_t(at - begin) + i == next) channel++, next += plane;
      float gain = widen<T>(weight[first_channel + channel]), shift = widen<T>(bias[first_channel + channel]);
      numbers.x[i] = narrow<T>(activate(curve, (widen<T>(numbers.x[i]) - mean) * scale * gain + shift));
    }
    write<T>(out, at, some, numbers);
  });
}

// y + bias + residual in the place of y [.., channels, plane]: bias (null: none) a number a channel, residual (null: none) of y's shape.
template <typename T>
CHANDLER_DEVICE void add_to_planes(typename T::Stored *y, const typename T::Stored *bias, const typename T::Stored *residual,
                                   uint64_t count, uint32_t channels, uint32_t plane) {
  uint64_t thread = uint64_t(blockIdx.x) * THREADS + threadIdx.x;
  stretches<T>(0, count, thread, uint64_t(gridDim.x) * THREADS, [&](uint64_t at, int some) {
    Some<T> numbers = read<T>(y, at, some), more = {};
    if (residual) more = read<T>(residual, at, some);
    uint32_t row = uint32_t(at) / plane, channel = row % channels;
    uint64_t next = uint64_t(row + 1) * plane;
    EACH(T, some) {
      if (at + i == next) channel = channel + 1 == channels ? 0 : channel + 1, next += plane;
      float sum = widen<T>(numbers.x[i]);
      if (bias) sum += widen<T>(bias[channel]);
      if (residual) sum += widen<T>(more.x[i]);
      numbers.x[i] = narrow<T>(sum);
    }
    write<T>(y, at, some, numbers);
  });
}

#define CHANDLER_LAYERS(TYPE, TAG)                                                                                                  \
  CHANDLER_KERNEL void __launch_bounds__(THREADS) gated_##TYPE(const TAG::Stored *gate, const TAG::Stored *up, TAG::Stored *out,    \
                                                               uint64_t count, uint32_t curve) {                                    \
    gated<TAG>(gate, up, out, count, curve);                                                                                        \
  }                                                                                                                                 \
  CHANDLER_KERNEL void __launch_bounds__(THREADS) rotate_##TYPE(const TAG::Stored *x, const float *cos, const float *sin,           \
                                                                TAG::Stored *out, uint32_t heads, uint32_t head_dim,                \
                                                                uint32_t rotary, uint32_t interleaved) {                            \
    rotate<TAG>(x, cos, sin, out, heads, head_dim, rotary, interleaved);                                                            \
  }                                                                                                                                 \
  CHANDLER_KERNEL void __launch_bounds__(THREADS)                                                                                   \
      add_to_planes_##TYPE(TAG::Stored *y, const TAG::Stored *bias, const TAG::Stored *residual, uint64_t count, uint32_t channels, \
                           uint32_t plane) {                                                                                        \
    add_to_planes<TAG>(y, bias, residual, count, channels, plane);                                                                  \
  }                                                                                                                                 \
  CHANDLER_KERNEL void __launch_bounds__(THREADS) group_sums_##TYPE(const TAG::Stored *x, float *sums, uint64_t count,              \
                                                                    uint64_t part) {                                                \
    group_sums<TAG>(x, sums, count, part);                                                                                          \
  }                                                                                                                                 \
  CHANDLER_KERNEL void __launch_bounds__(THREADS)                                                                                   \
      group_norm_##TYPE(const TAG::Stored *x, const float *sums, const TAG::Stored *weight, const TAG::Stored *bias,                \
                        TAG::Stored *out, uint64_t count, uint64_t part, uint32_t plane, uint32_t groups, float eps,                \
                        uint32_t curve) {                                                                                           \
    group_norm<TAG>(x, sums, weight, bias, out, count, part, plane, groups, eps, curve);                                            \
  }
CHANDLER_LAYERS(f32, F32)
CHANDLER_LAYERS(f16, F16)
CHANDLER_LAYERS(bf16, Bf16)

#define CHANDLER_NORM(NAME, TAG, GAIN)                                                                                              \
  CHANDLER_KERNEL void __launch_bounds__(THREADS)                                                                                   \
      NAME(const TAG::Stored *x, const TAG::Stored *residual, const GAIN::Stored *weight, const GAIN::Stored *bias,                 \
           TAG::Stored *sum, TAG::Stored *out, uint32_t width, float eps, uint32_t centred, uint32_t by_warp) {                     \
    norm<TAG, GAIN>(x, residual, weight, bias, sum, out, width, eps, centred, by_warp);                                             \
  }
CHANDLER_NORM(norm_f32_f32, F32, F32)
CHANDLER_NORM(norm_f16_f16, F16, F16)
CHANDLER_NORM(norm_f16_f32, F16, F32)
CHANDLER_NORM(norm_bf16_bf16, Bf16, Bf16)
CHANDLER_NORM(norm_bf16_f32, Bf16, F32)

CHANDLER_KERNEL void __launch_bounds__(THREADS) into_slots_16(const Some<F32> *from, Some<F32> *to, const uint32_t *slots, uint32_t rows,
                                                              uint32_t units) {
  into_slots(from, to, slots, rows, units);
}
CHANDLER_KERNEL void __launch_bounds__(THREADS) into_slots_2(const uint16_t *from, uint16_t *to, const uint32_t *slots, uint32_t rows,
                                                             uint32_t units) {
  into_slots(from, to, slots, rows, units);
}
