#!/usr/bin/env python3
"""Makes what `-lcuda`, `-lcublas` and so on link to: functions of the right names that look for the real ones when first called.

    lazy_link.py --cudarc DIRECTORY --major 12 [--modules DIRECTORY] [--cudnn] OUT

The names are those that the crate cudarc declares, so that no list of them has to be kept. --modules has candle's kernels, NAME.ptx
with NAME.fatbin beside it, which are put into the program (modules.c). x86-64 only.
"""

import argparse
import os
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent

# Library: module of cudarc, and the status of a call that finds nothing: CUDA_ERROR_STUB_LIBRARY, *_NOT_INITIALIZED and their like.
LIBRARIES = {
    "cuda": ("driver", 34),
    "cublas": ("cublas", 1),
    "cublasLt": ("cublaslt", 1),
    "curand": ("curand", 203),
    "nvrtc": ("nvrtc", 11),
}
CUDNN = {"cudnn": ("cudnn", 1001)}

# All that may hold an argument is saved: six integer registers and eight vector registers.
INTEGERS = ["rdi", "rsi", "rdx", "rcx", "r8", "r9"]


def files(library, major):
    """The names that the loader is given."""
    if library == "cuda":
        return ["libcuda.so.1"]
    number = {"curand": 10, "cudnn": 9}.get(library, major)
    return [f"lib{library}.so.{number}"]


def names(cudarc, module):
    text = (cudarc / "src" / module / "sys" / "mod.rs").read_text()
    return sorted(set(re.findall(r"^pub unsafe fn ((?:cu[A-Z]|cublas|curand|cudnn|nvrtc)\w+)\(", text, re.M)))


def trampolines(library, functions, renamed):
    lines = [".text"]
    for at, function in enumerate(functions):
        function = renamed.get(function, function)
        lines += [
            f".globl {function}",
            f".type {function},@function",
            ".p2align 4",
            f"{function}:",
            "  endbr64",
            f"  jmp *.Lslots+{8 * at}(%rip)",
            f".Lfirst{at}:",
            f"  pushq ${at}",
            "  jmp .Lslow",
        ]
    lines += [".Lslow:"]
    lines += [f"  pushq %{register}" for register in INTEGERS]
    lines += ["  subq $128, %rsp"]
    lines += [f"  movups %xmm{k}, {16 * k}(%rsp)" for k in range(8)]
    lines += [f"  leaq chandler_library_{library}(%rip), %rdi", f"  movq {128 + 8 * len(INTEGERS)}(%rsp), %rsi"]
    lines += ["  call chandler_cuda_resolve", "  movq %rax, %r11"]
    lines += [f"  movups {16 * k}(%rsp), %xmm{k}" for k in range(8)]
    lines += ["  addq $128, %rsp"]
    lines += [f"  popq %{register}" for register in reversed(INTEGERS)]
    lines += ["  addq $8, %rsp", "  jmp *%r11"]
    lines += [".data", ".p2align 3", f".globl chandler_slots_{library}", f".hidden chandler_slots_{library}"]
    lines += [f"chandler_slots_{library}:", ".Lslots:"]
    lines += [f"  .quad .Lfirst{at}" for at in range(len(functions))]
    lines += ['.section .note.GNU-stack,"",@progbits']
    return "\n".join(lines) + "\n"


def table(library, functions, status, major):
    def array(name, texts):
        quoted = "".join(f'"{text}", ' for text in texts)
        return f"static const char *const {name}[] = {{{quoted}0}};\n"

    return (
        "struct library { const char *const *files, *const *names; void **slots, *absent, *handle; int tried; };\n"
        + array("files", files(library, major))
        + array("names", functions)
        + f'extern void *chandler_slots_{library}[] __attribute__((visibility("hidden")));\n'
        + f"static long absent(void) {{ return {status}; }}\n"
        + f'__attribute__((visibility("hidden"))) struct library chandler_library_{library} = '
        + f"{{files, names, chandler_slots_{library}, (void *)absent, 0, 0}};\n"
    )


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def modules(directory):
    """The fat binaries as data, and the table that modules.c looks them up in."""
    data, rows = [".section .rodata", ".p2align 4"], []
    for at, ptx in enumerate(sorted(directory.glob("*.ptx"))):
        fat, text = ptx.with_suffix(".fatbin"), ptx.read_bytes()
        if not fat.is_file():
            raise SystemExit(f"{fat} is missing: the kernels were not compiled through docker/cuda/nvcc.sh")
        data += [".p2align 4", f".Lmodule{at}:", f'  .incbin "{fat.resolve()}"']
        rows += [f"  .quad {len(text)}, {fnv(text):#x}, .Lmodule{at}"]
    if not rows:
        raise SystemExit(f"{directory} has no kernels")
    data += ['.section .data.rel.ro,"aw"', ".p2align 3", ".globl chandler_cuda_modules", ".hidden chandler_cuda_modules"]
    data += ["chandler_cuda_modules:", *rows, "  .quad 0, 0, 0", '.section .note.GNU-stack,"",@progbits']
    return "\n".join(data) + "\n", len(rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cudarc", type=pathlib.Path, required=True)
    parser.add_argument("--major", type=int, required=True)
    parser.add_argument("--modules", type=pathlib.Path)
    parser.add_argument("--cudnn", action="store_true")
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    objects = []

    def build(source, text=None):
        path = HERE / source
        if text is not None:
            path = out / source
            path.write_text(text)
        made = out / (path.name + ".o")
        subprocess.run([os.environ.get("CC", "cc"), "-c", "-O2", "-fPIC", "-Wall", "-o", made, path], check=True)
        objects.append(made)

    build("lazy.c")
    renamed = {}
    if options.modules:
        text, count = modules(options.modules)
        build("modules_data.S", text)
        build("modules.c")
        renamed["cuModuleLoadData"] = "chandler_driver_cuModuleLoadData"
        print(f"{count} modules of kernels as machine code")
    libraries = LIBRARIES | (CUDNN if options.cudnn else {})
    for library, (module, status) in libraries.items():
        functions = names(options.cudarc, module)
        if not functions:
            raise SystemExit(f"cudarc declares no functions of {library} where they are looked for")
        build(f"{library}.S", trampolines(library, functions, renamed))
        build(f"{library}.c", table(library, functions, status, options.major))
        print(f"{library}: {len(functions)} functions, {files(library, options.major)[0]}")
    archive = out / "libchandler_cuda.a"
    archive.unlink(missing_ok=True)
    subprocess.run(["ar", "rcs", archive, *objects], check=True)
    for library in libraries:
        # A text that linkers read in the place of a shared library.
        (out / f"lib{library}.so").write_text(f"INPUT({archive.resolve()} -ldl)\n")


main()
