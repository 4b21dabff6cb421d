//! How attention is cut up for `chandler_attention.cu`: which thread block has which queries and keys, by which kernel. Pure
//! arithmetic.

use candle_core::DType;

use super::work::{Argument, Launch, Work, suffix};
use crate::attention::Span;

/// Keys that a thread block has in shared memory at a time, `TILE_KEYS` there.
const TILE_KEYS: usize = 64;
/// Threads of a block, `THREADS` there.
const THREADS: u32 = 128;
/// Packed queries of a tile of `few` and of `many`.
const FEW: usize = 16;
const MANY: usize = 64;
/// The smallest and the largest size of heads that there are kernels for; there is one for 128, too.
const SMALLEST_KERNEL: usize = 64;
const LARGEST_HEAD: usize = 256;
/// Fewer tiles of keys than this are not worth a thread block of their own.
const TILES_A_PART: usize = 4;
/// Of which each lane of a warp knows one, where they are joined.
const MOST_PARTS: usize = 32;

/// An attention that may be computed by the kernels: queries [rows, heads, head_dim] over keys and values [slots, kv_heads,
/// head_dim] of the same dtype.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Slots in a block of the cache.
    pub block_size: usize,
    /// Checked: they lie one after the other, their blocks are there and cover their contexts.
    pub spans: &'a [Span<'a>],
    /// Whether a row sees no keys after its own.
    pub causal: bool,
    /// With `causal`: a row sees itself and the `window - 1` keys before it.
    pub window: Option<usize>,
    pub scale: f32,
    pub softcap: Option<f32>,
}

/// The buffers, as [`Work`] numbers them.
const QUERIES: usize = 0;
const KEYS: usize = 1;
const VALUES: usize = 2;
const OUT: usize = 3;
const PARTS: usize = 4;
const WEIGHTS: usize = 5;
const NUMBERS: usize = 6;

/// A tile as the kernels have it: row, rows, context, first packed query, first block.
type Tile = [u32; 5];

/// Tiles of one kind: `few` or `many`.
struct Tiles {
    few: bool,
    /// The first among all.
    first: usize,
    count: usize,
    /// Parts that the keys are shared out into.
    splits: usize,
}

impl Attention<'_> {
    /// Cuts it up for a GPU of so many multiprocessors; none when there is no kernel for the dtype or for heads of this size.
    pub(crate) fn work(&self, dtype: DType, multiprocessors: usize) -> Option<Work> {
        // Rows are copied by 16 bytes.
        let fits = self.head_dim.is_multiple_of(8) && (8..=LARGEST_HEAD).contains(&self.head_dim);
        let dtype = suffix(dtype).filter(|_| fits && dtype.size_in_bytes() == 2)?;
        let (starts, blocks) = self.blocks();
        let (tiles, kinds) = self.kinds(&starts, multiprocessors);
        let parts = kinds.iter().filter(|kind| kind.splits > 1);
        let parts = parts
            .map(|kind| kind.splits * kind.count * self.kv_heads * FEW)
            .max()
            .unwrap_or(0);
        let all = tiles.len();
        // Made for every layer of a pass: copied whole, as there may be tens of thousands of blocks.
        let mut numbers = tiles.concat();
        numbers.extend_from_slice(&blocks);
        let launches = kinds
            .iter()
            .flat_map(|kind| self.launches(kind, all, dtype));
        Some(Work {
            launches: launches.collect(),
            output: Some(
                self.spans.last().map_or(0, |span| span.rows.end) * self.heads * self.head_dim,
            ),
            scratch: vec![parts * self.head_dim, parts],
            numbers,
        })
    }

    /// The tiles of all sequences, those of few queries first, and where each kind's are.
    fn kinds(&self, starts: &[u32], multiprocessors: usize) -> (Vec<Tile>, Vec<Tiles>) {
        // Where tiles of many queries would leave a part of the GPU without work, the keys are shared out to all of it.
        let longer = self
            .spans
            .iter()
            .map(|span| self.packed(span))
            .filter(|packed| *packed > FEW);
        let busy = longer.map(|packed| packed.div_ceil(MANY)).sum::<usize>() * self.kv_heads;
        let most = if busy < multiprocessors {
            usize::MAX
        } else {
            FEW
        };
        let (mut tiles, mut kinds) = (vec![], vec![]);
        for few in [true, false] {
            let first = tiles.len();
            let mut longest = 0;
            for (span, blocks) in self.spans.iter().zip(starts) {
                if (self.packed(span) <= most) == few {
                    tiles.extend(self.tiles(span, if few { FEW } else { MANY }, *blocks));
                    longest = longest.max(span.context);
                }
            }
            // Those that see most keys first, so that none of them is alone in the end.
            tiles[first..].reverse();
            let count = tiles.len() - first;
            if count > 0 {
                let splits = match few {
                    true => self.splits(count, longest, multiprocessors),
                    false => 1,
                };
                kinds.push(Tiles {
                    few,
                    first,
                    count,
                    splits,
                });
            }
        }
        (tiles, kinds)
    }

    /// The blocks that keys are in, of all sequences, and where each sequence's begin.
    fn blocks(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut starts, mut blocks) = (vec![], vec![]);
        for span in self.spans {
            starts.push(blocks.len() as u32);
            blocks.extend(&span.blocks[..span.context.div_ceil(self.block_size)]);
        }
        (starts, blocks)
    }

    /// Queries of a sequence that read one kv head.
    fn packed(&self, span: &Span<'_>) -> usize {
        span.rows.len() * (self.heads / self.kv_heads)
    }

    fn tiles(
        &self,
        span: &Span<'_>,
        step: usize,
        blocks: u32,
    ) -> impl Iterator<Item = Tile> + use<> {
        let [row, rows, context] =
            [span.rows.start, span.rows.len(), span.context].map(|number| number as u32);
        let firsts = (0..self.packed(span)).step_by(step);
        firsts.map(move |first| [row, rows, context, first as u32, blocks])
    }

    /// Into how many parts keys are shared out, so that two thread blocks a multiprocessor have something to do.
    fn splits(&self, tiles: usize, longest: usize, multiprocessors: usize) -> usize {
        let seen = self
            .window
            .map_or(longest, |window| longest.min(window + TILE_KEYS));
        let useful = seen.div_ceil(TILE_KEYS).div_ceil(TILES_A_PART);
        // In powers of two, so that a sequence that grows changes its launches a few times and not at every hundred tokens: recorded
        // passes stay good. A part without keys ends at once.
        let useful = useful.next_power_of_two();
        let wanted = (2 * multiprocessors) / (tiles * self.kv_heads);
        wanted.clamp(1, useful.clamp(1, MOST_PARTS))
    }

    fn launches(&self, kind: &Tiles, tiles: usize, dtype: &str) -> Vec<Launch> {
        let size = self.head_dim.next_power_of_two().max(SMALLEST_KERNEL);
        let stages = if size <= 128 { 2 } else { 1 };
        let stage = 2 * TILE_KEYS * (size + 8) * 2;
        let launch = |kernel: String, depth: usize, shared: usize| Launch {
            kernel,
            grid: [kind.count, self.kv_heads, depth].map(|number| number as u32),
            threads: THREADS,
            shared: shared as u32,
            arguments: [QUERIES, KEYS, VALUES, OUT, PARTS, WEIGHTS]
                .map(|buffer| Argument::Buffer(buffer, 0))
                .into_iter()
                .chain([
                    Argument::Buffer(NUMBERS, size_of::<Tile>() * kind.first),
                    Argument::Buffer(NUMBERS, size_of::<Tile>() * tiles),
                    Argument::Words(self.call(kind)),
                ])
                .collect(),
        };
        if !kind.few {
            return vec![launch(format!("many_{dtype}_{size}"), 1, stages * stage)];
        }
        // What the warps have found lies where the keys were.
        let found = 4 * FEW * (size + 2) * 4;
        let mut all = vec![launch(
            format!("few_{dtype}_{size}"),
            kind.splits,
            found.max(stages * stage),
        )];
        if kind.splits > 1 {
            // A thread block for each four of a tile's rows.
            all.push(launch(format!("join_{dtype}"), FEW / 4, 0));
        }
        all
    }

    /// The kernels' `Call`, field by field.
    fn call(&self, kind: &Tiles) -> [u32; 10] {
        let sizes = [
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.block_size,
            kind.count,
            kind.splits,
        ];
        let [heads, kv_heads, head_dim, block_size, tiles, splits] =
            sizes.map(|number| number as u32);
        [
            heads,
            kv_heads,
            head_dim,
            block_size,
            tiles,
            splits,
            self.causal.into(),
            self.window.unwrap_or(0) as u32,
            self.scale.to_bits(),
            self.softcap.unwrap_or(0.0).to_bits(),
        ]
    }
}
