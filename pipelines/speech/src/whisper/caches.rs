//! What the decoder remembers: its own keys and values in small shared blocks, so that beams fork and diverge without copying what
//! they share; and the keys and values of what the encoder gave, one large block for each window, shared by all its sequences.
//! All of it is taken when the model is loaded.

use candle_core::DType;
use chandler_nn::error::NnError;
use chandler_nn::kv_cache::{BLOCK_SIZE, BlockPool, BlockTable, CacheShape, KvCache};

use super::config::WhisperConfig;
use crate::error::{Result, SpeechError};
use crate::layers::Placement;

/// How much is decoded at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Windows whose encoding is at hand.
    pub windows: usize,
    /// Sequences: beams and samples of all windows together.
    pub sequences: usize,
}

/// The decoder's caches.
pub struct Caches {
    pub(super) own: KvCache,
    pool: BlockPool,
    pub(super) cross: KvCache,
    free_windows: Vec<u32>,
}

impl Caches {
    /// Empty caches.
    ///
    /// # Errors
    /// When limits are 0 or there is no memory for them.
    pub fn new(config: &WhisperConfig, limits: CacheLimits, placement: &Placement) -> Result<Self> {
        let (own, cross) = shapes(config, limits);
        let Placement { device, plain, .. } = placement;
        let dtype = placement.activations();
        let make = match plain {
            true => KvCache::plain,
            false => KvCache::new,
        };
        Ok(Self {
            own: make(own, device, dtype)?,
            pool: BlockPool::new(own.blocks, own.block_size)?,
            cross: make(cross, device, dtype)?,
            // Popped from the end: window 0 first.
            free_windows: (0..limits.windows as u32).rev().collect(),
        })
    }

    /// Bytes that caches of these limits take when all of them is in use.
    pub fn bytes_for(config: &WhisperConfig, limits: CacheLimits, dtype: DType) -> usize {
        let (own, cross) = shapes(config, limits);
        own.bytes(dtype).saturating_add(cross.bytes(dtype))
    }

    /// Bytes that they take when all of them is in use.
    pub fn bytes(&self) -> usize {
        self.own.bytes() + self.cross.bytes()
    }

    /// Gives their memory up until [`take_up`](Self::take_up). Called when nothing is in them.
    pub fn give_up(&mut self) {
        self.own.give_up();
        self.cross.give_up();
    }

    /// Takes the memory again that was given up: all of it or none.
    ///
    /// # Errors
    /// When there is none.
    pub fn take_up(&mut self) -> Result<(), NnError> {
        let taken = self.own.take_up().and_then(|()| self.cross.take_up());
        if taken.is_err() {
            self.give_up();
        }
        taken
    }

    /// Windows that there is room for.
    pub fn free_windows(&self) -> usize {
        self.free_windows.len()
    }

    /// Blocks of the decoder's own cache: in use, and all.
    pub fn blocks(&self) -> (usize, usize) {
        let all = self.pool.blocks();
        (all - self.pool.free_blocks(), all)
    }

    /// Makes room for `tokens` more of a sequence, and gives their slots; what it shares with others and is about to write to is
    /// copied.
    ///
    /// # Errors
    /// [`NnError::CacheFull`](chandler_nn::error::NnError::CacheFull) when there is no room.
    pub fn append(&mut self, table: &mut BlockTable, tokens: usize) -> Result<Vec<u32>> {
        let appended = self.pool.append(table, tokens)?;
        self.own.copy_blocks(&appended.copies)?;
        Ok(appended.slots)
    }

    /// A second sequence with the same tokens.
    pub fn fork(&mut self, table: &BlockTable) -> BlockTable {
        self.pool.fork(table)
    }

    /// Gives a sequence's room back.
    pub fn free(&mut self, table: BlockTable) {
        self.pool.free(table);
    }

    /// Takes room for a window.
    ///
    /// # Errors
    /// [`SpeechError::Input`] when there is none.
    pub fn take_window(&mut self) -> Result<u32> {
        self.free_windows
            .pop()
            .ok_or_else(|| SpeechError::Input("there is no room for another window".into()))
    }

    /// Gives a window's room back.
    pub fn give_window(&mut self, window: u32) {
        debug_assert!(!self.free_windows.contains(&window), "given back twice");
        self.free_windows.push(window);
    }
}

fn shapes(config: &WhisperConfig, limits: CacheLimits) -> (CacheShape, CacheShape) {
    let own = CacheShape {
        layers: config.decoder.layers,
        blocks: config
            .target_positions
            .div_ceil(BLOCK_SIZE)
            .saturating_mul(limits.sequences),
        block_size: BLOCK_SIZE,
        kv_heads: config.decoder.heads,
        head_dim: config.width / config.decoder.heads,
    };
    let cross = CacheShape {
        blocks: limits.windows,
        block_size: config.source_positions,
        ..own
    };
    (own, cross)
}
