// The floats of tensors, how functions and kernels are declared, and what lanes of a warp tell each other: what every GPU has.
// Apart from the kernels because tests/cuda/emulated.h has the same names for a CPU.
#ifndef CHANDLER_NUMBERS
#define CHANDLER_NUMBERS

#include <cuda_fp16.h>
#include <stdint.h>

#define CHANDLER_KERNEL extern "C" __global__
#define CHANDLER_DEVICE static __device__ __forceinline__
#define CHANDLER_MEMBER __device__ __forceinline__
#define CHANDLER_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

struct Bf16 {
  using Stored = uint16_t;
};
struct F16 {
  using Stored = uint16_t;
};
struct F32 {
  using Stored = float;
};

// As f32, and rounded back to the nearest.
template <typename T>
CHANDLER_DEVICE float widen(typename T::Stored x);
template <typename T>
CHANDLER_DEVICE typename T::Stored narrow(float x);

template <>
__device__ __forceinline__ float widen<F32>(float x) {
  return x;
}
template <>
__device__ __forceinline__ float narrow<F32>(float x) {
  return x;
}
template <>
__device__ __forceinline__ float widen<F16>(uint16_t x) {
  return __half2float(__ushort_as_half(x));
}
template <>
__device__ __forceinline__ uint16_t narrow<F16>(float x) {
  return __half_as_ushort(__float2half_rn(x));
}
// By their bits: below capability 8.0 there is no instruction for it.
template <>
__device__ __forceinline__ float widen<Bf16>(uint16_t x) {
  return __uint_as_float(uint32_t(x) << 16);
}
template <>
__device__ __forceinline__ uint16_t narrow<Bf16>(float x) {
  uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The bits of a float, and the float that they are.
CHANDLER_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
CHANDLER_DEVICE float number_of(uint32_t bits) { return __uint_as_float(bits); }

// Adds to what all threads of a block count together.
CHANDLER_DEVICE void add_shared(uint32_t *to, uint32_t x) { atomicAdd(to, x); }
// Of 64 bits by halves: as one it is a loop that tries until nobody else has been there, and most go to the same few places. Nobody reads
// the sum before all have added to it.
CHANDLER_DEVICE void add_shared(uint64_t *to, uint64_t x) {
  uint32_t *halves = reinterpret_cast<uint32_t *>(to), low = uint32_t(x), before = atomicAdd(halves, low);
  uint32_t high = uint32_t(x >> 32) + (before + low < before);
  if (high) atomicAdd(halves + 1, high);
}

// x times a fraction in units of 2^-64, rounded down.
CHANDLER_DEVICE uint64_t times_fraction(uint64_t x, uint64_t fraction) { return __umul64hi(x, fraction); }

// What the lane has whose number differs in the bits of `mask`.
CHANDLER_DEVICE float from_lane_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }

// What lane `lane` has.
template <typename T>
CHANDLER_DEVICE T from_lane(T x, uint32_t lane) {
  return __shfl_sync(0xffffffffu, x, lane);
}

#endif
