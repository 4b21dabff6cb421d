//! Attention over paged keys and values, causal or over all of them: online softmax over fixed tiles of 64 keys.
//!
//! A (row, head) meets the same tiles in the same order whoever shares the batch and however its prompt was cut, and a tile
//! in which it sees nothing changes no bit of its state. Heads that share a key head, and rows of one prompt, go through a
//! tile together, so that it is read once for all of them.

use super::elementwise::{exp, tanh};
use super::lanes::Lanes;
use super::parallel::{self, Shared};
use super::{Isa, Kernel, dispatch};
use crate::attention::{AttentionConfig, Span};
use crate::kv_cache::host::{HostLayout, STRIP};

/// Strips in a tile, and keys.
const STRIPS: usize = 4;
const TILE: usize = STRIPS * STRIP;
/// Queries (rows × heads of one key head) of a task: their outputs stay in L1 and L2 while the keys pass by.
const TASK_QUERIES: usize = 64;
/// Vectors that a pass keeps per query.
const VECTORS: usize = 4;

/// One layer's keys and values, as `HostLayout` says, and the queries over them. The caller has checked every length and
/// block number.
pub(crate) struct Attention<'a> {
    pub(crate) layout: HostLayout,
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    /// [rows, heads, head_dim]
    pub(crate) queries: &'a [f32],
    pub(crate) heads: usize,
    pub(crate) config: AttentionConfig,
    /// Whether a row sees itself and what is before it, or every key of its span.
    pub(crate) causal: bool,
}

/// Attends for every span into `out` [rows, heads, head_dim].
///
/// # Safety
/// Spans are disjoint and inside the queries; their blocks are inside the layer and cover their context, which is no shorter
/// than their rows where attention is causal, and not empty where it is not.
pub(crate) unsafe fn attend(
    isa: Isa,
    attention: &Attention<'_>,
    spans: &[Span<'_>],
    out: &mut [f32],
) {
    let kv_heads = attention.layout.kv_heads;
    let group = attention.heads / kv_heads;
    let rows_per_task = (TASK_QUERIES / group).max(1);
    let out = Shared(out.as_mut_ptr());
    let mut tasks = Vec::new();
    let mut work = 0;
    for span in spans {
        work += span.rows.len() * span.context * attention.heads * attention.layout.head_dim * 2;
        let first_position = |start: usize| match attention.causal {
            true => span.context - span.rows.len() + start,
            false => span.context - 1,
        };
        for start in (0..span.rows.len()).step_by(rows_per_task) {
            let rows = rows_per_task.min(span.rows.len() - start);
            tasks.extend((0..kv_heads).map(|kv_head| Task {
                attention,
                blocks: span.blocks,
                kv_head,
                group,
                first_row: span.rows.start + start,
                first_position: first_position(start),
                rows,
                out,
            }));
        }
    }
    parallel::for_each(tasks.len(), work, |index| {
        // The last rows of a prompt see most keys: the longest tasks go first.
        if let Some(task) = tasks.get(tasks.len() - 1 - index) {
            // SAFETY: the caller's promise; tasks differ in rows or heads, so that outputs are disjoint.
            unsafe { dispatch(isa, *task) }
        }
    });
}

/// Some rows of a span, for the heads of one key head.
#[derive(Clone, Copy)]
struct Task<'a> {
    attention: &'a Attention<'a>,
    blocks: &'a [u32],
    kv_head: usize,
    group: usize,
    first_row: usize,
    first_position: usize,
    rows: usize,
    out: Shared<f32>,
}

/// What the online softmax knows of a query: the largest score so far, and the sum of e^(score − largest).
#[derive(Clone, Copy)]
struct Softmax {
    largest: f32,
    sum: f32,
}

/// Sixteen keys of a tile.
#[derive(Clone, Copy)]
struct Strip {
    keys: *const f32,
    values: *const f32,
    /// Position of its first key.
    position: usize,
    /// Keys in it: fewer than 16 at the end of an odd block, none past the last key.
    len: usize,
}

/// What queries are multiplied by at a time.
struct Tile {
    strips: [Strip; STRIPS],
    /// Those that come after, for the first queries to ask for: few queries wait for memory, of which a head's keys are short
    /// stretches that the processor does not foresee.
    ahead: Option<[Strip; STRIPS]>,
}

impl Strip {
    /// The lanes that a query at `position` sees.
    #[inline(always)]
    fn visible(&self, position: usize, window: Option<usize>) -> (usize, usize) {
        let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
        let end = (position + 1).saturating_sub(self.position).min(self.len);
        (first.saturating_sub(self.position).min(end), end)
    }
}

impl Kernel for Task<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let layout = self.attention.layout;
        let width = layout.value_width();
        let queries = self.rows * self.group;
        let mut outputs = vec![0.0f32; queries * width];
        let mut states = vec![
            Softmax {
                largest: f32::MIN,
                sum: 0.0,
            };
            queries
        ];
        let last = self.position(self.rows - 1);
        let first = match self.attention.config.window {
            Some(window) => (self.first_position + 1).saturating_sub(window),
            None => 0,
        };
        let last_strip = layout.strip_of(last);
        for tile in layout.strip_of(first) / STRIPS..=last_strip / STRIPS {
            // SAFETY: the caller's promise: blocks cover the context.
            unsafe {
                let strips =
                    |tile| std::array::from_fn(|i| self.strip(tile * STRIPS + i, last_strip));
                let mut tile = Tile {
                    strips: strips(tile),
                    ahead: Some(strips(tile + 1)),
                };
                let mut query = 0;
                while query < queries {
                    let left = queries - query;
                    // 32 registers keep four queries' scores of a tile, 16 registers two.
                    if left >= 4 && L::TILE_ROWS == 8 {
                        self.tile::<L, 4>(query, &tile, &mut states, &mut outputs);
                        query += 4;
                    } else if left >= 2 {
                        self.tile::<L, 2>(query, &tile, &mut states, &mut outputs);
                        query += 2;
                    } else {
                        self.tile::<L, 1>(query, &tile, &mut states, &mut outputs);
                        query += 1;
                    }
                    tile.ahead = None;
                }
            }
        }
        // SAFETY: every query's output is its own.
        unsafe { self.finish(&states, &outputs) }
    }
}

impl Task<'_> {
    /// The last key that a row of this task sees.
    #[inline(always)]
    fn position(&self, row: usize) -> usize {
        match self.attention.causal {
            true => self.first_position + row,
            false => self.first_position,
        }
    }

    /// The strip with this number, counted over the sequence's blocks; an empty one past `last`.
    #[inline(always)]
    unsafe fn strip(&self, number: usize, last: usize) -> Strip {
        let layout = self.attention.layout;
        let (index, within) = (
            number.min(last) / layout.strips(),
            number.min(last) % layout.strips(),
        );
        // SAFETY: the caller's promise: the blocks reach the last strip, and are inside the layer.
        unsafe {
            let block = *self.blocks.get_unchecked(index) as usize;
            let keys = layout.key_strip(block, self.kv_head, within);
            let values = layout.value_row(block, self.kv_head, within * STRIP);
            Strip {
                keys: self.attention.keys.as_ptr().add(keys),
                values: self.attention.values.as_ptr().add(values),
                position: index * layout.block_size + within * STRIP,
                len: if number > last {
                    0
                } else {
                    STRIP.min(layout.block_size - within * STRIP)
                },
            }
        }
    }

    /// Where query `index` of this task starts in `queries` and in `out`.
    #[inline(always)]
    fn offset(&self, index: usize) -> usize {
        let head = self.kv_head * self.group + index % self.group;
        let row = self.first_row + index / self.group;
        (row * self.attention.heads + head) * self.attention.layout.head_dim
    }

    #[inline(always)]
    unsafe fn tile<L: Lanes, const Q: usize>(
        &self,
        first: usize,
        tile: &Tile,
        states: &mut [Softmax],
        outputs: &mut [f32],
    ) {
        let strips = &tile.strips;
        let mut scores = [[0.0f32; TILE]; Q];
        let mut scales = [0.0f32; Q];
        // Lanes that any of the queries sees: the values of the others are not read.
        let mut seen = [(STRIP, 0); STRIPS];
        // SAFETY: `first..first + Q` are queries of this task, the strips are inside the layer.
        unsafe {
            let queries = std::array::from_fn(|q| {
                self.attention.queries.as_ptr().add(self.offset(first + q))
            });
            self.score::<L, Q>(queries, tile, &mut scores);
            for q in 0..Q {
                let position = self.position((first + q) / self.group);
                let state = states.get_unchecked_mut(first + q);
                scales[q] = self.soften::<L>(position, strips, &mut scores[q], &mut seen, state);
            }
            self.gather::<L, Q>(first, strips, &seen, &scores, &scales, outputs);
        }
    }

    /// scores[q][key] = query · key, each one chain of multiply-adds along head_dim.
    #[inline(always)]
    unsafe fn score<L: Lanes, const Q: usize>(
        &self,
        queries: [*const f32; Q],
        tile: &Tile,
        scores: &mut [[f32; TILE]; Q],
    ) {
        for pass in (0..TILE).step_by(VECTORS * L::WIDTH) {
            // SAFETY: a strip has head_dim vectors of 16 keys; a query head_dim numbers.
            unsafe {
                let keys: [*const f32; VECTORS] = std::array::from_fn(|v| {
                    let key = pass + v * L::WIDTH;
                    tile.strips[key / STRIP].keys.add(key % STRIP)
                });
                let mut sums = [[L::splat(0.0); VECTORS]; Q];
                for d in 0..self.attention.layout.head_dim {
                    if let (Some(ahead), 0) = (&tile.ahead, pass) {
                        for strip in ahead {
                            // A line of each: of values a strip has as many numbers as of keys.
                            L::prefetch_far(strip.keys.wrapping_add(d * STRIP).cast());
                            L::prefetch_far(strip.values.wrapping_add(d * STRIP).cast());
                        }
                    }
                    let mut vectors = [L::splat(0.0); VECTORS];
                    for v in 0..VECTORS {
                        vectors[v] = L::load(keys[v].add(d * STRIP));
                    }
                    for q in 0..Q {
                        let x = L::splat(*queries[q].add(d));
                        for v in 0..VECTORS {
                            sums[q][v] = L::mul_add(x, vectors[v], sums[q][v]);
                        }
                    }
                }
                for q in 0..Q {
                    for v in 0..VECTORS {
                        L::store(scores[q].as_mut_ptr().add(pass + v * L::WIDTH), sums[q][v]);
                    }
                }
            }
        }
    }

    /// Turns a tile's scores into e^(score − largest), and gives back what the sums so far are to be scaled by.
    #[inline(always)]
    unsafe fn soften<L: Lanes>(
        &self,
        position: usize,
        strips: &[Strip; STRIPS],
        scores: &mut [f32; TILE],
        seen: &mut [(usize, usize); STRIPS],
        state: &mut Softmax,
    ) -> f32 {
        let config = &self.attention.config;
        let at = scores.as_mut_ptr();
        // SAFETY: every vector is inside the 64 scores.
        unsafe {
            for key in (0..TILE).step_by(L::WIDTH) {
                let mut score = L::mul(L::load(at.add(key)), L::splat(config.scale));
                if let Some(cap) = config.softcap {
                    score = L::mul(tanh::<L>(L::div(score, L::splat(cap))), L::splat(cap));
                }
                L::store(at.add(key), score);
            }
            for (s, strip) in strips.iter().enumerate() {
                let (start, end) = strip.visible(position, config.window);
                for lane in (0..start).chain(end..STRIP) {
                    *at.add(s * STRIP + lane) = f32::NEG_INFINITY;
                }
                if start < end {
                    seen[s] = (seen[s].0.min(start), seen[s].1.max(end));
                }
            }
            let mut largest = L::splat(state.largest);
            for key in (0..TILE).step_by(L::WIDTH) {
                largest = L::max(largest, L::load(at.add(key)));
            }
            let largest = L::max_lane(largest);
            let mut sum = L::splat(0.0);
            for key in (0..TILE).step_by(L::WIDTH) {
                let weight = exp::<L>(L::sub(L::load(at.add(key)), L::splat(largest)));
                L::store(at.add(key), weight);
                sum = L::add(sum, weight);
            }
            let scale = L::max_lane(exp::<L>(L::splat(state.largest - largest)));
            *state = Softmax {
                largest,
                sum: state.sum * scale + L::sum(sum),
            };
            scale
        }
    }

    /// outputs[q] = outputs[q]·scales[q] + Σ scores[q][key]·value[key].
    #[inline(always)]
    unsafe fn gather<L: Lanes, const Q: usize>(
        &self,
        first: usize,
        strips: &[Strip; STRIPS],
        seen: &[(usize, usize); STRIPS],
        scores: &[[f32; TILE]; Q],
        scales: &[f32; Q],
        outputs: &mut [f32],
    ) {
        let width = self.attention.layout.value_width();
        let mut d = 0;
        // SAFETY: `width` is a multiple of every vector's width, and what is left is taken a vector at a time.
        unsafe {
            let at = outputs.as_mut_ptr().add(first * width);
            while d + VECTORS * L::WIDTH <= width {
                self.columns::<L, Q, VECTORS>(at, d, strips, seen, scores, scales);
                d += VECTORS * L::WIDTH;
            }
            while d < width {
                self.columns::<L, Q, 1>(at, d, strips, seen, scores, scales);
                d += L::WIDTH;
            }
        }
    }

    /// `gather` for V vectors of the head, from number `d` on.
    #[inline(always)]
    unsafe fn columns<L: Lanes, const Q: usize, const V: usize>(
        &self,
        outputs: *mut f32,
        d: usize,
        strips: &[Strip; STRIPS],
        seen: &[(usize, usize); STRIPS],
        scores: &[[f32; TILE]; Q],
        scales: &[f32; Q],
    ) {
        let width = self.attention.layout.value_width();
        // SAFETY: as for `gather`; `seen` lanes are inside their strips.
        unsafe {
            // Loops and no closures, which are not inlined this deep: what is not inlined has no instruction set.
            let mut sums = [[L::splat(0.0); V]; Q];
            for q in 0..Q {
                let scale = L::splat(scales[q]);
                for v in 0..V {
                    let so_far = L::load(outputs.add(q * width + d + v * L::WIDTH));
                    sums[q][v] = L::mul(so_far, scale);
                }
            }
            for s in 0..STRIPS {
                let (start, end) = seen[s];
                for lane in start..end {
                    let row = strips[s].values.add(lane * width + d);
                    let mut values = [L::splat(0.0); V];
                    for v in 0..V {
                        values[v] = L::load(row.add(v * L::WIDTH));
                    }
                    for q in 0..Q {
                        let weight = L::splat(*scores[q].as_ptr().add(s * STRIP + lane));
                        for v in 0..V {
                            sums[q][v] = L::mul_add(weight, values[v], sums[q][v]);
                        }
                    }
                }
            }
            for q in 0..Q {
                for v in 0..V {
                    L::store(outputs.add(q * width + d + v * L::WIDTH), sums[q][v]);
                }
            }
        }
    }

    unsafe fn finish(&self, states: &[Softmax], outputs: &[f32]) {
        let (head_dim, width) = (
            self.attention.layout.head_dim,
            self.attention.layout.value_width(),
        );
        for (index, (state, output)) in states.iter().zip(outputs.chunks_exact(width)).enumerate() {
            for (d, value) in output.iter().take(head_dim).enumerate() {
                // SAFETY: this query's own output.
                unsafe { *self.out.get().add(self.offset(index) + d) = value / state.sum }
            }
        }
    }
}
