// What a warp does with its matrix units, in the few forms that the kernels here use: matrix products, loads of matrices, copies
// that arrive later. Apart from the kernels because tests/cuda/emulated.h has the same names for a CPU, where the kernels are run
// thread by thread and held against the plain path without a GPU.
#ifndef CHANDLER_WARP
#define CHANDLER_WARP

#include "numbers.cuh"

// Matrix products of these shapes and copies from global to shared memory begin with capability 8.0; below it the kernels
// trap, and are never launched.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define CHANDLER_HAS_MATRIX_UNITS 1
#else
#define CHANDLER_HAS_MATRIX_UNITS 0
#endif

// Two floats as two 16-bit ones, `low` in the lower half.
template <typename T>
CHANDLER_DEVICE uint32_t pack(float low, float high);

// d += a·b of a 16x16 matrix by rows and a 16x8 matrix by columns, spread over the warp as PTX has it (m16n8k16).
template <typename T>
CHANDLER_DEVICE void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

#if CHANDLER_HAS_MATRIX_UNITS
template <>
__device__ __forceinline__ uint32_t pack<Bf16>(float low, float high) {
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

template <>
__device__ __forceinline__ uint32_t pack<F16>(float low, float high) {
  uint32_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

#define CHANDLER_MULTIPLY(TAG, TYPE)                                                                             \
  template <>                                                                                                    \
  __device__ __forceinline__ void multiply<TAG>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 "                                  \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                               \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                            \
  }
CHANDLER_MULTIPLY(Bf16, "bf16")
CHANDLER_MULTIPLY(F16, "f16")
#undef CHANDLER_MULTIPLY

// Four 8x8 matrices of 16-bit numbers from shared memory: lane i gives the address of row i % 8 of matrix i / 8, and gets of each
// matrix the two numbers of row lane / 4 at column 2 (lane % 4); transposed, of column lane / 4 at row 2 (lane % 4).
CHANDLER_DEVICE void load_matrices(uint32_t (&out)[4], const void *row) {
  uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(at)
               : "memory");
}

CHANDLER_DEVICE void load_matrices_transposed(uint32_t (&out)[4], const void *row) {
  uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(at)
               : "memory");
}

// 16 bytes from global to shared memory, which are there after `copies_arrived` and a barrier; zeros when `there` is false, and
// then `from` is not read.
CHANDLER_DEVICE void copy_16(void *to, const void *from, bool there) {
  uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  int bytes = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
}

CHANDLER_DEVICE void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most LATER of the groups closed last are still under way.
template <int LATER>
CHANDLER_DEVICE void copies_arrived() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
}
#endif

#endif
