// Loads machine code in the place of candle's PTX. candle hands the driver a text, which the driver would compile anew in every
// fresh container; lazy_link.py has put a fat binary of the same source into the program, under the text's length and hash. What
// no fat binary is known for, or the driver does not take, is loaded as it came.
#include <stddef.h>
#include <stdint.h>

struct module {
  uint64_t length, hash;
  const void *fat_binary;
};

extern const struct module chandler_cuda_modules[] __attribute__((visibility("hidden")));  // the last one has length 0
extern int chandler_driver_cuModuleLoadData(void **module, const void *image);

enum { OUT_OF_MEMORY = 2 };

static const void *machine_code(const char *text) {
  uint64_t length = 0, hash = 0xcbf29ce484222325u;  // FNV-1a
  for (; text[length]; length++) hash = (hash ^ (unsigned char)text[length]) * 0x100000001b3u;
  for (const struct module *module = chandler_cuda_modules; module->length; module++)
    if (module->length == length && module->hash == hash) return module->fat_binary;
  return NULL;
}

int cuModuleLoadData(void **module, const void *image) {
  const char *text = image;
  // PTX begins with a comment or a directive; anything else is binary and has no end that could be looked for.
  const void *code = text[0] == '/' || text[0] == '.' ? machine_code(text) : NULL;
  if (code) {
    int done = chandler_driver_cuModuleLoadData(module, code);
    if (done == 0 || done == OUT_OF_MEMORY) return done;
  }
  return chandler_driver_cuModuleLoadData(module, image);
}
