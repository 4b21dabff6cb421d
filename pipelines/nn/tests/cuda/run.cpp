// Runs kernels of src/cuda on the CPU. Reads what is launched from the standard input, as src/cuda/tests/emulator.rs writes it: the
// buffers, then the launches one after the other; writes what they have left in one of the buffers. Compiled by that test.
#include "emulated.h"

#include "../../src/cuda/chandler_attention.cu"
#undef THREADS
#include "../../src/cuda/chandler_layers.cu"
#undef THREADS
#include "../../src/cuda/chandler_sampling.cu"

#include <functional>
#include <map>
#include <string>
#include <utility>

template <typename T>
static std::vector<T> take() {
  uint64_t count;
  if (fread(&count, 8, 1, stdin) != 1) exit(2);
  std::vector<T> out(count);
  if (fread(out.data(), sizeof(T), count, stdin) != count) exit(2);
  return out;
}

// Aligned as a GPU's allocations are.
struct Buffer {
  size_t bytes;
  unsigned char *at;
  explicit Buffer(const std::vector<unsigned char> &from)
      : bytes(from.size()), at(static_cast<unsigned char *>(aligned_alloc(256, (bytes + 511) / 256 * 256))) {
    memcpy(at, from.data(), bytes);
  }
};

// An argument: bytes of a value, or those of an address in a buffer.
using Argument = std::vector<unsigned char>;

template <typename A>
static A argument(const Argument &from) {
  using Value = std::remove_const_t<A>;
  Value value;
  if (from.size() != sizeof(value)) {
    fprintf(stderr, "an argument of %zu bytes where the kernel has %zu\n", from.size(), sizeof(value));
    exit(2);
  }
  memcpy(static_cast<void *>(&value), from.data(), sizeof(value));
  return value;
}

using Launch = std::function<void(const std::vector<Argument> &)>;

template <typename... A, size_t... I>
static Launch with_arguments(void (*kernel)(A...), std::index_sequence<I...>) {
  return [kernel](const std::vector<Argument> &from) {
    if (from.size() != sizeof...(A)) {
      fprintf(stderr, "%zu arguments where the kernel has %zu\n", from.size(), sizeof...(A));
      exit(2);
    }
    kernel(argument<A>(from[I])...);
  };
}

template <typename... A>
static Launch launch(void (*kernel)(A...)) {
  return with_arguments(kernel, std::index_sequence_for<A...>());
}

#define KERNEL(NAME) {#NAME, launch(NAME)}
#define ATTENTION(TYPE)                                                                                            \
  KERNEL(many_##TYPE##_64), KERNEL(many_##TYPE##_128), KERNEL(many_##TYPE##_256), KERNEL(few_##TYPE##_64),         \
      KERNEL(few_##TYPE##_128), KERNEL(few_##TYPE##_256), KERNEL(join_##TYPE)
#define LAYERS(TYPE)                                                                                               \
  KERNEL(gated_##TYPE), KERNEL(rotate_##TYPE), KERNEL(add_to_planes_##TYPE), KERNEL(group_sums_##TYPE),            \
      KERNEL(group_norm_##TYPE), KERNEL(draw_##TYPE)

int main() {
  const std::map<std::string, Launch> kernels = {ATTENTION(bf16),       ATTENTION(f16), LAYERS(bf16), LAYERS(f16), LAYERS(f32),
                                                 KERNEL(into_slots_16), KERNEL(into_slots_2), KERNEL(norm_f32_f32), KERNEL(norm_f16_f16),
                                                 KERNEL(norm_f16_f32), KERNEL(norm_bf16_bf16), KERNEL(norm_bf16_f32)};
  std::vector<Buffer> buffers;
  for (uint64_t count = take<uint64_t>().at(0); count; count--) buffers.emplace_back(take<unsigned char>());
  for (uint64_t count = take<uint64_t>().at(0); count; count--) {
    std::vector<char> name = take<char>();
    auto kernel = kernels.find(std::string(name.begin(), name.end()));
    if (kernel == kernels.end()) {
      fprintf(stderr, "no kernel %.*s\n", int(name.size()), name.data());
      return 2;
    }
    std::vector<uint32_t> sizes = take<uint32_t>();
    std::vector<Argument> arguments;
    for (uint64_t left = take<uint64_t>().at(0); left; left--) {
      std::vector<uint64_t> address = take<uint64_t>();
      Argument value = take<unsigned char>();
      if (!address.empty()) {
        unsigned char *at = buffers.at(address.at(0)).at + address.at(1);
        value.resize(sizeof(at));
        memcpy(value.data(), &at, sizeof(at));
      }
      arguments.push_back(value);
    }
    emulated::run({sizes.at(0), sizes.at(1), sizes.at(2)}, int(sizes.at(3)), sizes.at(4), [&] { kernel->second(arguments); });
  }
  const Buffer &result = buffers.at(take<uint64_t>().at(0));
  fwrite(result.at, 1, result.bytes, stdout);
}
