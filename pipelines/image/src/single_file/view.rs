//! One part's tensors under diffusers' names, over the file that holds them all. Apart from the tables of names, which say where
//! each comes from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::DType;
use chandler_nn::error::NnError;
use chandler_nn::weights::{HostTensor, TensorSource};

/// Where a tensor comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its name in the file.
    pub(super) stored: String,
    /// What is done to it.
    pub(super) change: Change,
}

/// Tensors by their names in diffusers.
pub(super) type Pieces = BTreeMap<String, Piece>;

/// What is done to a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// Rows are cut into three, of which this is one: a fused projection's queries, keys, values.
    Third(usize),
    /// These rows alone: where they begin, and how many.
    Rows(usize, usize),
    /// Rows from here on.
    From(usize),
    /// Rows are cut into halves, which change places: a shift and a scale that diffusers has the other way round.
    Swapped,
    /// It is not looked at but for its type: this many rows of an identity.
    Identity(usize),
    /// Rows and columns are exchanged.
    Transposed,
    /// What comes after rows and columns is dropped, of which there is one: a 1×1 convolution becomes a matrix.
    Matrix,
}

impl Piece {
    pub(super) fn new(stored: impl Into<String>, change: Change) -> Self {
        Self {
            stored: stored.into(),
            change,
        }
    }
}

/// The file, and whether its bytes have been asked for.
pub(super) struct Whole {
    source: Arc<dyn TensorSource>,
    asked: AtomicBool,
}

impl Whole {
    pub(super) fn new(source: Arc<dyn TensorSource>) -> Self {
        Self {
            source,
            asked: AtomicBool::new(false),
        }
    }
}

/// One part's tensors.
pub(super) struct View {
    whole: Arc<Whole>,
    pieces: Pieces,
}

impl View {
    pub(super) fn new(whole: Arc<Whole>, pieces: Pieces) -> Self {
        Self { whole, pieces }
    }
}

impl TensorSource for View {
    fn tensor(&self, name: &str) -> Result<HostTensor, NnError> {
        let Some(piece) = self.pieces.get(name) else {
            return Err(NnError::MissingTensor {
                name: name.to_owned(),
                hint: ": nothing in the checkpoint is called so in the original layout".to_owned(),
            });
        };
        piece
            .change
            .of(&self.whole.source.tensor(&piece.stored)?, &piece.stored)
    }

    fn contains(&self, name: &str) -> bool {
        self.pieces.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        self.pieces.keys().cloned().collect()
    }

    fn total_bytes(&self) -> u64 {
        let tensors = self.pieces.keys().filter_map(|name| self.tensor(name).ok());
        tensors.map(|tensor| tensor.bytes().len() as u64).sum()
    }

    fn stamp(&self) -> String {
        self.whole.source.stamp()
    }

    /// All parts lie in one file, which whoever comes first brings.
    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<(), NnError> {
        let own = self.total_bytes();
        progress(0, own);
        if !self.whole.asked.swap(true, Ordering::SeqCst) {
            let scaled = |done: u64, all: u64| {
                let share = u128::from(own) * u128::from(done) / u128::from(all.max(1));
                progress(share as u64, own);
            };
            self.whole.source.prefetch(&scaled)?;
        }
        progress(own, own);
        Ok(())
    }
}

impl Change {
    fn of(self, tensor: &HostTensor, name: &str) -> Result<HostTensor, NnError> {
        let refuse = |reason: &str| NnError::Input {
            what: "a tensor of the original layout",
            reason: format!("`{name}` of shape {:?} {reason}", tensor.shape()),
        };
        match self {
            Self::None => Ok(tensor.clone()),
            Self::Transposed => tensor.transposed(),
            Self::Third(n) => match tensor.shape().first() {
                Some(rows) if rows.is_multiple_of(3) => tensor.rows(n * rows / 3, rows / 3),
                _ => Err(refuse("is not queries, keys and values in one")),
            },
            Self::Rows(start, len) => tensor.rows(start, len),
            Self::From(start) => match tensor.shape().first() {
                Some(rows) if *rows > start => tensor.rows(start, rows - start),
                _ => Err(refuse(&format!("has no rows past {start}"))),
            },
            Self::Swapped => match tensor.shape().first() {
                Some(rows) if rows.is_multiple_of(2) => swapped(tensor, rows / 2),
                _ => Err(refuse("is not a shift and a scale in one")),
            },
            Self::Identity(side) => identity(name, side)?.to_dtype(tensor.dtype()),
            Self::Matrix => match tensor.shape() {
                [rows, columns, rest @ ..] if rest.iter().all(|side| *side == 1) => {
                    tensor.reshaped(vec![*rows, *columns])
                }
                _ => Err(refuse("is neither a matrix nor a 1×1 convolution")),
            },
        }
    }
}

/// The rows from `half` on, and then those before.
fn swapped(tensor: &HostTensor, half: usize) -> Result<HostTensor, NnError> {
    let (first, second) = (tensor.rows(0, half)?, tensor.rows(half, half)?);
    let bytes = [second.bytes(), first.bytes()].concat();
    let shape = tensor.shape().to_vec();
    HostTensor::from_bytes(tensor.name(), tensor.stored(), shape, bytes)
}

/// In f32.
fn identity(name: &str, side: usize) -> Result<HostTensor, NnError> {
    let mut bytes = vec![0; side * side * size_of::<f32>()];
    // From one on the diagonal to the next it is a row and a number.
    let numbers = bytes.chunks_exact_mut(size_of::<f32>());
    for number in numbers.step_by(side + 1) {
        number.copy_from_slice(&1f32.to_le_bytes());
    }
    HostTensor::from_bytes(name, DType::F32, vec![side; 2], bytes)
}
