// Breaks the GPU's context of the process that it is preloaded into (LD_PRELOAD), as a kernel with a bug would: recovery.py shows with it
// how an unchanged program ends. It waits until the file FAULT_WHEN is there, launches the kernel FAULT_KERNEL on a stream of its own in
// the context that the process computes in, and writes what came of it to FAULT_SAID. Nothing of it is in the program.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// The driver compiles it for any GPU from 7.5 on.
static const char KERNELS[] =
    ".version 6.3\n.target sm_75\n.address_size 64\n"
    ".visible .entry trapped()\n{\n trap;\n ret;\n}\n"
    ".visible .entry astray()\n{\n .reg .b64 %where;\n .reg .b32 %what;\n mov.u64 %where, 16;\n mov.u32 %what, 1;\n"
    " st.global.u32 [%where], %what;\n ret;\n}\n";

enum { NON_BLOCKING = 1 };

static void *driver;

static int said(const char *what, int code) {
  // Written beside it and renamed, so that nobody reads a half.
  const char *path = getenv("FAULT_SAID");
  char beside[4096];
  if (!path || snprintf(beside, sizeof beside, "%s.unfinished", path) >= (int)sizeof beside) return code;
  FILE *out = fopen(beside, "w");
  if (!out) return code;
  fprintf(out, "%s %d\n", what, code);
  fclose(out);
  rename(beside, path);
  return code;
}

// A call of the driver's; the first one that fails is what came of it.
#define CALL(TYPE, NAME, ...)                                       \
  do {                                                              \
    int (*call)TYPE = (int (*)TYPE)dlsym(driver, NAME);             \
    int code = call ? call(__VA_ARGS__) : -1;                       \
    if (code) return said(NAME, code);                              \
  } while (0)

static int launch(void) {
  driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) return said("libcuda.so.1", -1);
  int device = 0, active = 0;
  unsigned flags = 0;
  void *context = NULL, *module = NULL, *function = NULL, *stream = NULL;
  CALL((unsigned), "cuInit", 0);
  CALL((int *, int), "cuDeviceGet", &device, 0);
  CALL((int, unsigned *, int *), "cuDevicePrimaryCtxGetState", device, &flags, &active);
  if (!active) return said("no context", -1);  // the process computes elsewhere, and nothing would be shown
  CALL((void **, int), "cuDevicePrimaryCtxRetain", &context, device);
  CALL((void *), "cuCtxSetCurrent", context);
  CALL((void **, const void *), "cuModuleLoadData", &module, KERNELS);
  const char *kernel = getenv("FAULT_KERNEL");
  CALL((void **, void *, const char *), "cuModuleGetFunction", &function, module, kernel ? kernel : "trapped");
  CALL((void **, unsigned), "cuStreamCreate", &stream, NON_BLOCKING);
  CALL((void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **), "cuLaunchKernel", function, 1, 1,
       1, 1, 1, 1, 0, stream, NULL, NULL);
  CALL((void *), "cuStreamSynchronize", stream);
  return said("nothing", 0);
}

static void *wait_for_it(void *when) {
  while (access(when, F_OK)) usleep(5000);
  launch();
  return NULL;
}

__attribute__((constructor)) static void begin(void) {
  char *when = getenv("FAULT_WHEN");
  pthread_t thread;
  if (when && !pthread_create(&thread, NULL, wait_for_it, when)) pthread_detach(thread);
}
