// Included before candle's kernels when capabilities below 8.0 are compiled together with later ones: leaves the bf16 kernels out
// of the machine code of the former only. candle itself can only leave them out of all. On such a GPU chandler computes in f16 or
// f32, and never asks for them.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800 && !defined(NO_BF16_KERNEL)
#define NO_BF16_KERNEL
#endif
