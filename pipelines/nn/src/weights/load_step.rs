//! What loading a model tells of itself. Apart from the models, which all say the same.

/// What loading tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadStep {
    /// Bytes of weights that are in memory, of all.
    Weights {
        /// In memory.
        done: u64,
        /// All.
        total: u64,
    },
    /// Bytes of the checkpoint that are quantised, of all.
    Quantizing {
        /// Quantised.
        done: u64,
        /// All.
        total: u64,
    },
    /// Layers are being put together.
    Building,
}
