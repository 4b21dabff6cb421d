//! The one error type of this crate: what can be wrong with weights, shapes and devices.

use std::path::PathBuf;

/// What goes wrong below a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// A weight file that is not what it says: truncated, lying about sizes, or of a kind that is not read.
    #[error("{}: {reason}", file.display())]
    WeightFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and what would do.
        reason: String,
    },
    /// A file of a snapshot, other than weights, that cannot be read.
    #[error("{}: {reason}", file.display())]
    SnapshotFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and what would do.
        reason: String,
    },
    /// A field of one of the model's JSON files.
    #[error("{field}: {message}")]
    Config {
        /// File and field, such as `config.json: d_model`.
        field: String,
        /// The value, and what would do.
        message: String,
    },
    /// A tensor that the model needs is not in the checkpoint.
    #[error("tensor `{name}` is missing from the checkpoint{hint}")]
    MissingTensor {
        /// The tensor's name in the Hugging Face layout.
        name: String,
        /// Empty, or names near it that are there.
        hint: String,
    },
    /// A tensor is there with another shape than config.json says.
    #[error("tensor `{name}` has shape {found:?}, and config.json asks for {expected:?}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape the model wants.
        expected: Vec<usize>,
    },
    /// A tensor whose bytes are not as many as its shape and dtype need.
    #[error("tensor `{name}` of {dtype} {shape:?} does not fit its {found} bytes")]
    TensorBytes {
        /// The tensor's name.
        name: String,
        /// Its dtype.
        dtype: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The bytes that were there.
        found: usize,
    },
    /// A quantised tensor whose rows are no whole blocks.
    #[error(
        "tensor `{name}` of {kind} has rows of {columns} numbers; a multiple of {block} is wanted"
    )]
    Blocks {
        /// The tensor's name.
        name: String,
        /// The block format.
        kind: &'static str,
        /// Numbers in a row.
        columns: usize,
        /// Numbers in a block.
        block: usize,
    },
    /// Rows that a tensor does not have.
    #[error("tensor `{name}` has {have} rows, and {len} from row {start} were asked for")]
    Rows {
        /// The tensor's name.
        name: String,
        /// The first row asked for.
        start: usize,
        /// How many were asked for.
        len: usize,
        /// How many there are; 0 for a scalar.
        have: usize,
    },
    /// A dtype that nothing here computes with.
    #[error("tensor `{name}` has dtype {found}; f32, f16 and bf16 are read")]
    DType {
        /// The tensor's name.
        name: String,
        /// The dtype in the file.
        found: String,
    },
    /// The device that was asked for cannot be had.
    #[error("{0}")]
    Device(String),
    /// A layer was given what it cannot take: a shape, a dtype, a number out of range.
    #[error("{what}: {reason}")]
    Input {
        /// The layer, or the tensor.
        what: &'static str,
        /// What it was given, and what it takes.
        reason: String,
    },
    /// The host has no memory left for a buffer.
    #[error("no memory for a buffer of {bytes} bytes")]
    HostMemory {
        /// The size that was asked for.
        bytes: usize,
    },
    /// The cache has fewer blocks than are needed.
    #[error("the key-value cache has {free} free blocks and {needed} are needed")]
    CacheFull {
        /// Blocks that a call needed.
        needed: usize,
        /// Blocks that were free.
        free: usize,
    },
    /// Reading a file failed.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl NnError {
    /// An error of a config field.
    pub fn config(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// What the functions of this crate return.
pub type Result<T, E = NnError> = std::result::Result<T, E>;
