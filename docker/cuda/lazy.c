// Finds a function of one of CUDA's libraries at its first call: what the trampolines of lazy_link.py jump to. So the program has
// no library of CUDA's among those that it needs to start, and says itself what is missing on a machine without a driver.
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

struct library {
  const char *const *files;  // its names for the loader, the best first
  const char *const *names;  // its functions
  void **slots;              // where each trampoline jumps
  void *absent;              // what is called in place of a function that is not there
  void *handle;
  int tried;
};

static const char *no_text(void) { return "a library of CUDA's that is not on this machine"; }

// These return a text themselves, where all others return a status.
static int returns_text(const char *name) {
  size_t length = strlen(name);
  int text = length > 6 && strcmp(name + length - 6, "String") == 0;
  return text && strncmp(name, "cuGet", 5) != 0;
}

// Two threads that come here at once do the same twice: the loader counts, and both store the same address.
__attribute__((visibility("hidden"))) void *chandler_cuda_resolve(struct library *library, unsigned long at) {
  if (!__atomic_load_n(&library->tried, __ATOMIC_ACQUIRE)) {
    void *handle = NULL;
    for (const char *const *file = library->files; !handle && *file; file++) handle = dlopen(*file, RTLD_NOW | RTLD_GLOBAL);
    if (handle) __atomic_store_n(&library->handle, handle, __ATOMIC_RELEASE);
    __atomic_store_n(&library->tried, 1, __ATOMIC_RELEASE);
  }
  void *handle = __atomic_load_n(&library->handle, __ATOMIC_ACQUIRE);
  void *found = handle ? dlsym(handle, library->names[at]) : NULL;
  if (!found) found = returns_text(library->names[at]) ? (void *)no_text : library->absent;
  __atomic_store_n(&library->slots[at], found, __ATOMIC_RELEASE);
  return found;
}
