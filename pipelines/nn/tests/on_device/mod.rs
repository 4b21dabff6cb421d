//! Where parity tests compute, how near they have to come to the reference there, and where their fixtures are. By default the CPU
//! in f32, and the fixtures beside the sources; on a machine with a GPU, to which the compiled tests were carried (benches/gpu.py),
//! `CHANDLER_TEST_DEVICE=cuda`, `CHANDLER_TEST_DTYPE=bf16`, `CHANDLER_TEST_CUDA_TUNING=none` and `CHANDLER_TEST_FIXTURES=FOLDER` say otherwise. One file that the
//! tests of every modality take in by its path, so that the tolerances stand in one place.

#![allow(dead_code)] // Why: not every modality uses all of it.

use std::env::var_os;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use chandler_nn::device::{CudaTuning, DTypeChoice, DeviceChoice, DeviceOptions};

/// max|a−b| / max|b| in f32 elsewhere than on the CPU: cuBLAS and candle's kernels sum in orders of their own, a model's layers on
/// top of each other.
const OTHER_F32: f32 = 1e-3;
/// The same in bf16, of 8 bits: each rounding is up to 0.4 %, and some dozens of them are between an input and what comes of it.
/// transformers' own bf16 is off by up to 0.091 from its f32 on the text fixtures (the worst position of each, 0.02 in their
/// medians), and a UNet of which the weights alone are rounded by 0.1.
const BF16: f32 = 0.15;
/// The same in f16, of 11 bits: an eighth of it.
const F16: f32 = 0.02;

fn asked<T: std::str::FromStr>(variable: &str) -> Option<T>
where
    T::Err: std::fmt::Display,
{
    let text = var_os(variable)?.into_string().unwrap();
    match text.parse() {
        Ok(asked) => Some(asked),
        Err(error) => panic!("{variable}: {error}"),
    }
}

/// As pipelines take it.
pub fn options() -> DeviceOptions {
    DeviceOptions {
        choice: asked("CHANDLER_TEST_DEVICE").unwrap_or(DeviceChoice::Cpu),
        allow_cpu: true,
        tuning: asked::<CudaTuning>("CHANDLER_TEST_CUDA_TUNING").unwrap_or_default(),
        plain: false,
    }
}

/// As pipelines take it.
pub fn dtype_choice() -> DTypeChoice {
    asked("CHANDLER_TEST_DTYPE").unwrap_or(DTypeChoice::F32)
}

/// The device, opened once for all tests of a process.
pub fn device() -> Device {
    static OPENED: OnceLock<Device> = OnceLock::new();
    OPENED.get_or_init(|| options().open().unwrap()).clone()
}

/// What is computed in.
pub fn dtype() -> DType {
    dtype_choice().resolve(DType::F32, &device())
}

/// The same for candle's own operations, which widen nothing: on the CPU, where activations are f32, so are their weights.
pub fn plain_dtype() -> DType {
    match device().is_cpu() {
        true => DType::F32,
        false => dtype(),
    }
}

/// Whether what is chosen by the largest of some numbers is the same as in the reference: in fewer bits another may be as large.
pub fn has_steady_choices() -> bool {
    dtype() == DType::F32
}

/// Whether a model's numbers can be compared: a mixture that chooses other experts has others altogether (off by 0.35, seen with
/// bf16 weights).
pub fn is_comparable(name: &str) -> bool {
    has_steady_choices() || !(name.contains("mixtral") || name.contains("moe"))
}

/// Whether this is the CPU in f32, where a row has the same bits in any company.
pub fn has_exact_company() -> bool {
    device().is_cpu() && dtype() == DType::F32
}

/// How far numbers may be off, as max|a−b| / max|b|, where the CPU in f32 comes as near as `on_the_cpu`.
pub fn tolerance(on_the_cpu: f32) -> f32 {
    on_the_cpu.max(match dtype() {
        DType::F32 if device().is_cpu() => 0.0,
        DType::F32 => OTHER_F32,
        DType::F16 => F16,
        _ => BF16,
    })
}

/// How far a picture may be off: the share of its values that may differ at all, and their mean difference, of 255.
pub fn picture_tolerance() -> (f64, f64) {
    match (has_exact_company(), dtype()) {
        // A value on the edge between two bytes may fall to either side.
        (true, _) => (0.02, 0.02),
        (false, DType::F32) => (0.1, 0.1),
        // `chandler selftest` asks for the same of pictures; another one is further off by ten times.
        (false, _) => (1.0, 4.0),
    }
}

/// A tensor of a fixture, where layers are.
pub fn there(x: &Tensor) -> Tensor {
    x.to_device(&device()).unwrap()
}

/// A result, where fixtures are.
pub fn back(x: &Tensor) -> Tensor {
    let x = x.to_dtype(DType::F32).unwrap();
    x.to_device(&Device::Cpu).unwrap()
}

/// The fixtures of the crate whose tests these are.
pub fn fixtures() -> PathBuf {
    match var_os("CHANDLER_TEST_FIXTURES") {
        Some(carried) => Path::new(&carried).join(env!("CARGO_PKG_NAME")),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
    }
}

/// Where checkpoints may be made of fixtures.
pub fn scratch() -> PathBuf {
    match var_os("CHANDLER_TEST_FIXTURES") {
        Some(_) => std::env::temp_dir().join("chandler-fixtures"),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures"),
    }
}
