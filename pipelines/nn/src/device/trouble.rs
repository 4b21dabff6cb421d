//! What CUDA's errors mean for whoever runs the worker: one row per code with its consequence and one sentence that says what to
//! do. Apart from the code that calls CUDA, so that it is tested, and can be asked, in every build.

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Consequence {
    /// The device's memory did not hold what was asked for; smaller things may fit.
    OutOfMemory,
    /// The device or its context is gone: only another process, perhaps on another machine, goes on.
    Lost,
    /// Machine, driver and build do not fit together, or the device is not ours: the same every time until a person acts.
    Setup,
}

/// An error that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// The code, as CUDA spells it.
    pub code: &'static str,
    /// What follows from it.
    pub consequence: Consequence,
    /// What it means and what would do, as the middle of a sentence.
    pub meaning: &'static str,
}

const NO_DRIVER: &str = "libcuda.so.1, the driver's library, is not on this machine: start the container with its GPUs (`docker run \
                         --gpus all`, on a host with the NVIDIA container toolkit), or install the NVIDIA driver";
const OLD_DRIVER: &str = "the driver is older than this build's CUDA toolkit allows: take a host with a newer driver, or an image that \
                          was built with an older toolkit";
const NO_CODE: &str = "this build has no code that this GPU's compute capability can run: take a build whose capabilities name it \
                       (`docker/build-cuda.sh --capabilities`)";
const CRASHED: &str = "a kernel crashed and took the process's GPU context with it: the worker has to be started again";
const HARDWARE: &str = "the GPU reported a hardware error (`dmesg | grep Xid` on the host has it): the worker has to move to another GPU, \
                        and this one wants a reset or a replacement";
const GONE: &str = "the GPU's context is gone: the worker has to be started again";
const FULL: &str = "the GPU's memory is full: ask for less at once (--max-rows, --kv-cache, --quantize), or take a GPU with more";

use Consequence::{Lost, OutOfMemory, Setup};

const fn row(code: &'static str, consequence: Consequence, meaning: &'static str) -> Trouble {
    Trouble {
        code,
        consequence,
        meaning,
    }
}

/// Every code that says more than that the work failed.
pub const TROUBLES: &[Trouble] = &[
    row("CUDA_ERROR_OUT_OF_MEMORY", OutOfMemory, FULL),
    row("CUBLAS_STATUS_ALLOC_FAILED", OutOfMemory, FULL),
    row("CURAND_STATUS_ALLOCATION_FAILED", OutOfMemory, FULL),
    row("CUDNN_STATUS_ALLOC_FAILED", OutOfMemory, FULL),
    // The same of cuDNN 9.
    row(
        "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        OutOfMemory,
        FULL,
    ),
    row("cudaErrorMemoryAllocation", OutOfMemory, FULL),
    row("CUDA_ERROR_ILLEGAL_ADDRESS", Lost, CRASHED),
    row("CUDA_ERROR_LAUNCH_FAILED", Lost, CRASHED),
    row(
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        Lost,
        "a kernel ran longer than the driver lets it, as on a GPU that drives a display: the worker has to be started again",
    ),
    row("CUDA_ERROR_ASSERT", Lost, CRASHED),
    row("CUDA_ERROR_ILLEGAL_INSTRUCTION", Lost, CRASHED),
    row("CUDA_ERROR_MISALIGNED_ADDRESS", Lost, CRASHED),
    row("CUDA_ERROR_INVALID_ADDRESS_SPACE", Lost, CRASHED),
    row("CUDA_ERROR_INVALID_PC", Lost, CRASHED),
    row("CUDA_ERROR_HARDWARE_STACK_ERROR", Lost, HARDWARE),
    row("CUDA_ERROR_ECC_UNCORRECTABLE", Lost, HARDWARE),
    row("CUDA_ERROR_NVLINK_UNCORRECTABLE", Lost, HARDWARE),
    row("CUDA_ERROR_CONTAINED", Lost, HARDWARE),
    row("CUDA_ERROR_EXTERNAL_DEVICE", Lost, HARDWARE),
    row("CUDA_ERROR_CONTEXT_IS_DESTROYED", Lost, GONE),
    row("CUDA_ERROR_INVALID_CONTEXT", Lost, GONE),
    row("CUDA_ERROR_DEINITIALIZED", Lost, GONE),
    row("CUDA_ERROR_MPS_CLIENT_TERMINATED", Lost, GONE),
    row(
        "CUDA_ERROR_MPS_RPC_FAILURE",
        Lost,
        "the MPS server that shares the GPU is gone: start it and the worker again",
    ),
    row(
        "CUDA_ERROR_UNKNOWN",
        Lost,
        "the driver is not in order (`dmesg | grep -i nvrm` on the host says more; at a start it is often the module nvidia-uvm, which `nvidia-modprobe -u` loads): start again, or take another host",
    ),
    row("CUDA_ERROR_STUB_LIBRARY", Setup, NO_DRIVER),
    row(
        "CUDA_ERROR_NO_DEVICE",
        Setup,
        "the driver shows this process no GPU: see whether `nvidia-smi -L` lists one here, whether CUDA_VISIBLE_DEVICES or NVIDIA_VISIBLE_DEVICES hides it, and whether a GPU in MIG mode has an instance that was given to this container",
    ),
    row(
        "CUDA_ERROR_INVALID_DEVICE",
        Setup,
        "there is no GPU of this number, or it cannot be opened as it is (MIG mode without an instance, as `nvidia-smi -L` shows): give the number of one that is listed",
    ),
    row(
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
        Setup,
        "another process has the GPU to itself, or its compute mode forbids it: end that process, or `nvidia-smi -c DEFAULT` on the host",
    ),
    row(
        "CUDA_ERROR_DEVICE_NOT_LICENSED",
        Setup,
        "the virtual GPU has no licence: the host's vGPU licensing has to be put in order",
    ),
    row(
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        Setup,
        "the kernels' PTX was made by a CUDA toolkit that is newer than the driver knows: take a host with a newer driver, or a build that has machine code for this GPU (`docker/build-cuda.sh --capabilities`)",
    ),
    row("cudaErrorInsufficientDriver", Setup, OLD_DRIVER),
    row("CUDA_ERROR_NO_BINARY_FOR_GPU", Setup, NO_CODE),
    row("CUDA_ERROR_INVALID_IMAGE", Setup, NO_CODE),
    row("CUDA_ERROR_INVALID_PTX", Setup, NO_CODE),
    row("CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC", Setup, NO_CODE),
    row(
        "CUBLAS_STATUS_ARCH_MISMATCH",
        Setup,
        "libcublas has no code for this GPU: take the libcublas of this image's toolkit, or a newer one",
    ),
    row(
        "CURAND_STATUS_ARCH_MISMATCH",
        Setup,
        "libcurand has no code for this GPU: take the libcurand of this image's toolkit, or a newer one",
    ),
    row(
        "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
        Setup,
        "the driver's PTX compiler (libnvidia-ptxjitcompiler) was not given to this container: set NVIDIA_DRIVER_CAPABILITIES=compute,utility, or take a build that has machine code for this GPU",
    ),
    row(
        "CUDA_ERROR_JIT_COMPILATION_DISABLED",
        Setup,
        "compiling PTX is switched off (CUDA_DISABLE_PTX_JIT) and this build has no machine code for this GPU: unset it, or take a build whose capabilities name this GPU",
    ),
    row(
        "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        Setup,
        "the driver's library and its kernel module are of different versions: restart the host after a driver update, or take a libcuda of your own out of the image",
    ),
    row(
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        Setup,
        "a forward-compatibility libcuda (cuda-compat) is in use and this GPU does not allow it: take it out of LD_LIBRARY_PATH, or take a host with a newer driver",
    ),
    row(
        "CUDA_ERROR_SYSTEM_NOT_READY",
        Setup,
        "the host's GPUs are not ready, as when nvidia-fabricmanager does not run on one with NVSwitch: start it on the host, or take another host",
    ),
    row(
        "CUDA_ERROR_OPERATING_SYSTEM",
        Setup,
        "the operating system refused the driver a call: give the container the devices /dev/nvidia*, /dev/nvidiactl and /dev/nvidia-uvm",
    ),
    row(
        "CUDA_ERROR_NOT_PERMITTED",
        Setup,
        "this process may not use the GPU so: give the container the devices /dev/nvidia*, /dev/nvidiactl and /dev/nvidia-uvm",
    ),
    row(
        "CUDA_ERROR_MPS_CONNECTION_FAILED",
        Setup,
        "the MPS server that shares the GPU does not answer: start it on the host, or unset CUDA_MPS_PIPE_DIRECTORY",
    ),
    row(
        "CUDA_ERROR_MPS_SERVER_NOT_READY",
        Setup,
        "the MPS server that shares the GPU is not ready: start again in a moment",
    ),
    row(
        "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED",
        Setup,
        "the MPS server has as many clients as it takes: end one of them",
    ),
    row(
        "CUBLAS_STATUS_NOT_INITIALIZED",
        Setup,
        "cuBLAS does not start: libcublas and libcublasLt of this build's toolkit have to be where the loader finds them (LD_LIBRARY_PATH), and some of the GPU's memory free",
    ),
    row(
        "CURAND_STATUS_INITIALIZATION_FAILED",
        Setup,
        "cuRAND does not start: libcurand has to be where the loader finds it (LD_LIBRARY_PATH)",
    ),
    row(
        "CUDNN_STATUS_NOT_INITIALIZED",
        Setup,
        "cuDNN does not start: libcudnn has to be where the loader finds it (LD_LIBRARY_PATH)",
    ),
];

/// The first known code in an error's text. Codes are found as whole words, so that none is taken for the beginning of another.
pub fn of(text: &str) -> Option<&'static Trouble> {
    words(text).find_map(|word| TROUBLES.iter().find(|trouble| trouble.code == word))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// What happened in one line: the meaning of a known code with the code, else the error's own first line.
pub fn explain(text: &str) -> String {
    match of(text) {
        Some(trouble) => format!("{} ({})", trouble.meaning, trouble.code),
        // Below the first line stands a backtrace, where one was asked for.
        None => text.lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// As cudarc and candle print them.
    fn driver(code: &str) -> String {
        format!("DriverError({code}, \"what the driver says\")")
    }

    #[test]
    fn codes_have_their_consequence() {
        for (code, consequence) in [
            ("CUDA_ERROR_OUT_OF_MEMORY", OutOfMemory),
            ("CUDA_ERROR_ILLEGAL_ADDRESS", Lost),
            ("CUDA_ERROR_LAUNCH_FAILED", Lost),
            ("CUDA_ERROR_ECC_UNCORRECTABLE", Lost),
            ("CUDA_ERROR_UNKNOWN", Lost),
            ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", Setup),
            ("CUDA_ERROR_NO_BINARY_FOR_GPU", Setup),
            ("CUDA_ERROR_STUB_LIBRARY", Setup),
            ("CUDA_ERROR_NO_DEVICE", Setup),
            ("CUDA_ERROR_SYSTEM_NOT_READY", Setup),
        ] {
            let found = of(&driver(code)).unwrap();
            assert_eq!((found.code, found.consequence), (code, consequence));
        }
        let cublas = of("CublasError(CUBLAS_STATUS_ALLOC_FAILED)").unwrap();
        assert_eq!(cublas.consequence, OutOfMemory);
        let load = of("DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"\") when loading conv");
        assert_eq!(load.unwrap().consequence, Setup);
    }

    #[test]
    fn a_code_that_only_begins_like_a_known_one_is_not_it() {
        for text in [
            driver("CUDA_ERROR_OUT_OF_MEMORY_OF_SOME_NEW_KIND"),
            driver("CUDA_ERROR_INVALID_VALUE"),
            "the answer was out of memory and the device lost its way".to_owned(),
            "CublasError(CUBLAS_STATUS_EXECUTION_FAILED)".to_owned(),
            String::new(),
        ] {
            assert_eq!(of(&text), None, "{text}");
        }
    }

    #[test]
    fn every_row_is_one_sentence_with_a_remedy_and_stands_once() {
        let mut codes = BTreeSet::new();
        for trouble in TROUBLES {
            assert!(codes.insert(trouble.code), "{} stands twice", trouble.code);
            assert!(
                trouble.meaning.contains(": "),
                "{}: no remedy",
                trouble.code
            );
            assert!(!trouble.meaning.ends_with('.') && !trouble.meaning.contains('\n'));
        }
    }

    #[test]
    fn an_explanation_is_one_line() {
        let text = format!(
            "{}\n   0: backtrace\n   1: main",
            driver("CUDA_ERROR_NO_DEVICE")
        );
        let explained = explain(&text);
        assert!(explained.contains("CUDA_VISIBLE_DEVICES") && explained.contains("MIG"));
        assert!(explained.ends_with("(CUDA_ERROR_NO_DEVICE)") && !explained.contains('\n'));
        assert_eq!(explain("something else\n0: backtrace"), "something else");
    }
}
