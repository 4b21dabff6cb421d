// src/cuda/numbers.cuh and warp.cuh for a CPU: runs a kernel thread by thread, so that its arithmetic and its indices are tested
// without a GPU. Each thread of a block is a fiber that runs until the warp or the block has to meet; what a warp does together
// happens when all its lanes are there. A meeting that not all reach, and that would hang a GPU, ends the program with a message.
// What this does not show: races between meetings, the limits of real hardware, and speed.
#define CHANDLER_NUMBERS // in their place
#define CHANDLER_WARP

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <vector>

#define CHANDLER_KERNEL extern "C"
#define CHANDLER_DEVICE static inline
#define CHANDLER_MEMBER inline
#define CHANDLER_SHARED(name) unsigned char *name = emulated::shared()
#define CHANDLER_HAS_MATRIX_UNITS 1
#define __launch_bounds__(...)
#define __syncthreads() emulated::meet(false)

struct Index {
  uint32_t x, y, z;
};

namespace emulated {

constexpr int WARP = 32;

// What a lane shows to its warp.
struct Shown {
  uint32_t words[8];
  const void *address;
};

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  Index thread;
  int at;
  enum { RUNS, WARP_MEETS, BLOCK_MEETS, DONE } state;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Shown> shown;
  std::vector<unsigned char> memory;
  ucontext_t scheduler;
  int current;
  Index block, grid;
  void (*body)(void *);
  void *with;
};

inline Block &now() {
  static Block block;
  return block;
}

inline Fiber &self() { return now().fibers[now().current]; }
inline unsigned char *shared() { return now().memory.data(); }

inline void meet(bool warp) {
  self().state = warp ? Fiber::WARP_MEETS : Fiber::BLOCK_MEETS;
  swapcontext(&self().context, &now().scheduler);
}

// Shows something to the warp, and gives what each of its lanes has shown.
inline std::vector<Shown> exchange(const Shown &mine) {
  Block &block = now();
  int first = self().at / WARP * WARP;
  block.shown[self().at] = mine;
  meet(true);
  std::vector<Shown> all(block.shown.begin() + first, block.shown.begin() + first + WARP);
  meet(true);
  return all;
}

inline void enter() {
  now().body(now().with);
  self().state = Fiber::DONE;
  swapcontext(&self().context, &now().scheduler);
}

[[noreturn]] inline void hang(const char *what) {
  fprintf(stderr, "a GPU would hang here: %s\n", what);
  exit(3);
}

// Lets those go on who have all met.
inline bool release(Block &block) {
  bool any = false;
  int count = int(block.fibers.size()), waiting = 0, done = 0;
  for (int first = 0; first < count; first += WARP) {
    int met = 0;
    for (int i = first; i < first + WARP; i++) met += block.fibers[i].state == Fiber::WARP_MEETS;
    if (met == WARP)
      for (int i = first; i < first + WARP; i++) block.fibers[i].state = Fiber::RUNS, any = true;
    else if (met)
      hang("some lanes of a warp do not reach what it does together");
  }
  for (Fiber &fiber : block.fibers) waiting += fiber.state == Fiber::BLOCK_MEETS, done += fiber.state == Fiber::DONE;
  if (waiting == count)
    for (Fiber &fiber : block.fibers) fiber.state = Fiber::RUNS, any = true;
  else if (!any && waiting)
    hang("some threads of a block do not reach a barrier");
  return any || done < count;
}

// Runs one block of threads whose shared memory holds garbage at first, as a GPU's does.
inline void run_block(Index at, Index grid, int threads, size_t memory, void (*body)(void *), void *with) {
  Block &block = now();
  block.block = at, block.grid = grid, block.body = body, block.with = with;
  block.memory.assign(memory, 0xff);
  block.shown.resize(threads);
  block.fibers.resize(threads);
  for (int i = 0; i < threads; i++) {
    Fiber &fiber = block.fibers[i];
    fiber.stack.resize(64 << 10);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    fiber.thread = {uint32_t(i), 0, 0}, fiber.at = i, fiber.state = Fiber::RUNS;
    makecontext(&fiber.context, enter, 0);
  }
  do {
    for (int i = 0; i < threads; i++) {
      if (block.fibers[i].state != Fiber::RUNS) continue;
      block.current = i;
      swapcontext(&block.scheduler, &block.fibers[i].context);
    }
  } while (release(block));
}

template <typename Body>
void run(Index grid, int threads, size_t memory, Body body) {
  for (uint32_t z = 0; z < grid.z; z++)
    for (uint32_t y = 0; y < grid.y; y++)
      for (uint32_t x = 0; x < grid.x; x++)
        run_block({x, y, z}, grid, threads, memory, [](void *with) { (*static_cast<Body *>(with))(); }, &body);
}

}  // namespace emulated

#define threadIdx (emulated::self().thread)
#define blockIdx (emulated::now().block)
#define gridDim (emulated::now().grid)

struct Bf16 {
  using Stored = uint16_t;
};
struct F16 {
  using Stored = uint16_t;
};
struct F32 {
  using Stored = float;
};

template <typename T>
float widen(typename T::Stored x);
template <typename T>
typename T::Stored narrow(float x);

template <>
inline float widen<F32>(float x) {
  return x;
}

template <>
inline float narrow<F32>(float x) {
  return x;
}

template <>
inline float widen<Bf16>(uint16_t x) {
  uint32_t bits = uint32_t(x) << 16;
  float out;
  memcpy(&out, &bits, 4);
  return out;
}

template <>
inline uint16_t narrow<Bf16>(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <>
inline float widen<F16>(uint16_t x) {
  int exponent = x >> 10 & 31, mantissa = x & 1023;
  float size = exponent == 0 ? ldexpf(mantissa, -24) : exponent == 31 ? (mantissa ? NAN : INFINITY) : ldexpf(1024 + mantissa, exponent - 25);
  return x & 0x8000 ? -size : size;
}

template <>
inline uint16_t narrow<F16>(float x) {
  uint16_t sign = signbit(x) ? 0x8000 : 0;
  float size = fabsf(x);
  if (isnan(x)) return sign | 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size == 0) return sign;
  int exponent;
  frexpf(size, &exponent);
  // The last place of the number: 2^-24 for the smallest ones, 11 bits below the first otherwise.
  int place = exponent - 11 < -24 ? -24 : exponent - 11;
  uint32_t units = uint32_t(nearbyintf(ldexpf(size, -place)));
  // Above the smallest ones the first bit is not stored, and what rounds up carries into the exponent by itself.
  return sign | uint16_t(units + (uint32_t(place + 24) << 10));
}

template <typename T>
uint32_t pack(float low, float high) {
  return uint32_t(narrow<T>(low)) | uint32_t(narrow<T>(high)) << 16;
}

template <typename T>
float half_of(uint32_t word, int which) {
  return widen<T>(uint16_t(word >> 16 * which));
}

template <typename T>
void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  std::vector<emulated::Shown> lanes = emulated::exchange({{a[0], a[1], a[2], a[3], b[0], b[1]}, nullptr});
  int lane = emulated::self().at % 32;
  for (int part = 0; part < 4; part++) {
    int row = lane / 4 + part / 2 * 8, column = lane % 4 * 2 + part % 2;
    for (int k = 0; k < 16; k++) {
      // Of a: rows 8 apart in neighbouring words, columns 8 apart in words two apart.
      uint32_t left = lanes[row % 8 * 4 + k % 8 / 2].words[row / 8 + k / 8 * 2];
      uint32_t right = lanes[column * 4 + k % 8 / 2].words[4 + k / 8];
      d[part] += half_of<T>(left, k % 2) * half_of<T>(right, k % 2);
    }
  }
}

inline void matrices(uint32_t (&out)[4], const void *address, bool transposed) {
  std::vector<emulated::Shown> lanes = emulated::exchange({{}, address});
  int lane = emulated::self().at % 32, one = lane / 4, two = lane % 4 * 2;
  for (int matrix = 0; matrix < 4; matrix++) {
    auto at = [&](int row, int column) { return static_cast<const uint16_t *>(lanes[matrix * 8 + row].address)[column]; };
    uint16_t low = transposed ? at(two, one) : at(one, two), high = transposed ? at(two + 1, one) : at(one, two + 1);
    out[matrix] = uint32_t(low) | uint32_t(high) << 16;
  }
}

inline void load_matrices(uint32_t (&out)[4], const void *row) { matrices(out, row, false); }
inline void load_matrices_transposed(uint32_t (&out)[4], const void *row) { matrices(out, row, true); }

inline void copy_16(void *to, const void *from, bool there) {
  if (reinterpret_cast<uintptr_t>(to) % 16 || (there && reinterpret_cast<uintptr_t>(from) % 16)) emulated::hang("16 bytes that are not aligned");
  if (there)
    memcpy(to, from, 16);
  else
    memset(to, 0, 16);
}

inline void close_copies() {}
template <int LATER>
void copies_arrived() {}

inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

inline float number_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

// One thread runs at a time.
template <typename T>
void add_shared(T *to, T x) {
  *to += x;
}

inline uint64_t times_fraction(uint64_t x, uint64_t fraction) { return uint64_t((unsigned __int128)x * fraction >> 64); }

// Of 32 bits, as a shuffle has it.
template <typename T>
T from_lane(T x, uint32_t lane) {
  static_assert(sizeof(T) == 4);
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = emulated::exchange({{bits}, nullptr}).at(lane).words[0];
  memcpy(&x, &bits, 4);
  return x;
}

inline float from_lane_xor(float x, int mask) { return from_lane(x, emulated::self().at % 32 ^ mask); }
