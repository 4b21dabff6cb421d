//! What a GPU is asked to do, as data: kernels by name, their grids and arguments. Made where no GPU is needed, and run by one
//! (`gpu`) or by the tests.

use candle_core::DType;

/// Launches over the same buffers, which are numbered: the tensors that are given, then the output if there is one, then the
/// scratch, then the numbers if there are any.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Work {
    pub launches: Vec<Launch>,
    /// Numbers that the output has, of the first tensor's dtype. All that is read of it is written.
    pub output: Option<usize>,
    /// Numbers of f32 that live as long as the launches, each a buffer. None is read before it is written.
    pub scratch: Vec<usize>,
    /// What the kernels need to know and is too much for arguments.
    pub numbers: Vec<u32>,
}

/// One kernel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Launch {
    pub kernel: String,
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory.
    pub shared: u32,
    pub arguments: Vec<Argument>,
}

/// An argument as the kernel declares it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Argument {
    /// The address of a buffer, from this byte on.
    Buffer(usize, usize),
    U32(u32),
    U64(u64),
    F32(f32),
    /// A structure of numbers of 32 bits.
    Words([u32; 10]),
}

/// A dtype as the kernels' names have it.
pub(crate) fn suffix(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => Some("f32"),
        DType::F16 => Some("f16"),
        DType::BF16 => Some("bf16"),
        _ => None,
    }
}
