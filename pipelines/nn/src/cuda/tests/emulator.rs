//! Compiles the kernels for this machine (tests/cuda) and runs work by them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};

use crate::cuda::work::{Argument, Work};

/// The kernels, compiled for this machine.
fn program() -> &'static Path {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cuda/run.cpp");
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let made = Command::new(&compiler)
            .args([
                "-std=c++17",
                "-O2",
                "-Wall",
                "-Werror",
                "-Wno-unknown-pragmas",
            ])
            .arg(source)
            .arg("-o")
            .arg(&path)
            .status()
            .unwrap_or_else(|error| {
                panic!("the tests of CUDA's kernels need a C++ compiler, {compiler}: {error}")
            });
        assert!(made.success());
        (directory, path)
    });
    path
}

/// The dtypes of the kernels.
#[derive(Debug, Clone, Copy)]
pub(super) enum Float {
    Bf16,
    F16,
    F32,
}

impl Float {
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
            Self::F32 => DType::F32,
        }
    }

    pub(super) fn bytes(self, x: &Tensor) -> Vec<u8> {
        let all: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        let bytes = |x: f32| match self {
            Self::Bf16 => half::bf16::from_f32(x).to_le_bytes().to_vec(),
            Self::F16 => half::f16::from_f32(x).to_le_bytes().to_vec(),
            Self::F32 => x.to_le_bytes().to_vec(),
        };
        all.into_iter().flat_map(bytes).collect()
    }

    pub(super) fn numbers(self, bytes: &[u8]) -> Vec<f32> {
        let two = |x: &[u8]| [x[0], x[1]];
        let number = |x: &[u8]| match self {
            Self::Bf16 => half::bf16::from_le_bytes(two(x)).to_f32(),
            Self::F16 => half::f16::from_le_bytes(two(x)).to_f32(),
            Self::F32 => f32::from_le_bytes([x[0], x[1], x[2], x[3]]),
        };
        bytes
            .chunks_exact(self.dtype().size_in_bytes())
            .map(number)
            .collect()
    }

    /// Of the largest result: half a unit in the last place of it, with 8 and 11 bits, and as much for what is rounded on the way. In
    /// f32 sums have another order.
    fn tolerance(self) -> f32 {
        match self {
            Self::Bf16 => 2f32.powi(-8),
            Self::F16 => 2f32.powi(-11),
            Self::F32 => 2e-6,
        }
    }
}

/// Numbers in -2..2 that the dtype has exactly.
pub(super) fn noise(shape: &[usize], seed: u64, float: Float) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        4.0 * (state >> 40) as f32 / (1u64 << 24) as f32 - 2.0
    };
    let made: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    let made = Tensor::from_vec(made, shape, &Device::Cpu).unwrap();
    Tensor::from_vec(float.numbers(&float.bytes(&made)), shape, &Device::Cpu).unwrap()
}

fn vector(out: &mut Vec<u8>, count: usize, bytes: impl IntoIterator<Item = u8>) {
    out.extend((count as u64).to_le_bytes());
    out.extend(bytes);
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An argument as tests/cuda/run.cpp reads it: an address or nothing, then a value or nothing.
fn argument(out: &mut Vec<u8>, argument: &Argument) {
    let value = match argument {
        Argument::Buffer(at, bytes) => {
            vector(
                out,
                2,
                [*at as u64, *bytes as u64]
                    .into_iter()
                    .flat_map(u64::to_le_bytes),
            );
            return vector(out, 0, []);
        }
        Argument::U32(value) => value.to_le_bytes().to_vec(),
        Argument::U64(value) => value.to_le_bytes().to_vec(),
        Argument::F32(value) => value.to_le_bytes().to_vec(),
        Argument::Words(all) => words(all),
    };
    vector(out, 0, []);
    vector(out, value.len(), value);
}

/// Does the work over `tensors`, given as bytes; gives the bytes of the output or else those of the second tensor. What the kernels
/// are to write begins as NaN.
pub(super) fn run(work: &Work, tensors: &[Vec<u8>], bytes_a_number: usize) -> Vec<u8> {
    let mut buffers = tensors.to_vec();
    buffers.extend(work.output.map(|count| vec![0xff; count * bytes_a_number]));
    buffers.extend(
        work.scratch
            .iter()
            .map(|count| vec![0xff; count * size_of::<f32>()]),
    );
    buffers.push(words(&work.numbers));
    let mut input = vec![];
    vector(&mut input, 1, (buffers.len() as u64).to_le_bytes());
    for buffer in buffers {
        vector(&mut input, buffer.len(), buffer);
    }
    vector(&mut input, 1, (work.launches.len() as u64).to_le_bytes());
    for launch in &work.launches {
        vector(&mut input, launch.kernel.len(), launch.kernel.bytes());
        let [x, y, z] = launch.grid;
        vector(
            &mut input,
            5,
            words(&[x, y, z, launch.threads, launch.shared]),
        );
        vector(&mut input, 1, (launch.arguments.len() as u64).to_le_bytes());
        for given in &launch.arguments {
            argument(&mut input, given);
        }
    }
    let result = work.output.map_or(1, |_| tensors.len() as u64);
    vector(&mut input, 1, result.to_le_bytes());
    let mut child = Command::new(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(done.status.success(), "{}", done.status);
    done.stdout
}

/// The same over tensors whose numbers are written in a dtype, and read from it.
pub(super) fn compute(work: &Work, float: Float, tensors: &[&Tensor]) -> Vec<f32> {
    let tensors: Vec<Vec<u8>> = tensors.iter().map(|tensor| float.bytes(tensor)).collect();
    float.numbers(&run(work, &tensors, float.dtype().size_in_bytes()))
}

/// Each number is as far from what is expected as the dtype explains.
pub(super) fn assert_close(found: &[f32], expected: &Tensor, float: Float, what: &str) {
    let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs() / largest;
        assert!(
            error <= float.tolerance(),
            "{what} {float:?}: number {at} is {found}, not {expected}"
        );
    }
}
