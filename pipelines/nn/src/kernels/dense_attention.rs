//! Attention of every query over every key, read as linear layers give them: [batch, length, heads · head_dim].
//! Apart from `attention`, whose keys lie in a cache in an order of their own: here a register holds sixteen queries, keys and
//! values are broadcast from where they are, and softmax never looks across lanes.
//!
//! A query meets the keys in blocks that begin with the first, whoever shares its registers and its batch: it has the same bits
//! in any company.

use super::buffer::Buffer;
use super::elementwise::exp_of_small;
use super::lanes::Lanes;
use super::parallel::{self, Shared};
use super::tile::{Factors, VECTORS, Vectors, add_products, lanes, load_some, store_some};
use super::windows::panel_of;
use super::{Isa, Kernel, dispatch};
use crate::error::Result;
use std::cell::Cell;
use std::ops::Range;

/// Keys of a block: the weights that a panel of queries gives them stay in L1.
const KEYS: usize = 128;
/// Vectors of queries of a task, at most: keys and values that come out of L3 serve so many.
const MOST_VECTORS: usize = 4 * VECTORS;
/// Tasks for each thread, so that the end of the work is not one thread's.
const TASKS: usize = 4;

thread_local! {
    /// Room for what tasks keep, from one attention to the next: fresh pages are faults.
    static ROOM: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Queries, keys and values; lengths have been checked by whoever makes it.
#[derive(Clone, Copy)]
pub(crate) struct DenseAttention<'a> {
    /// [batch, queries, heads · head_dim]
    pub(crate) q: &'a [f32],
    /// [batch, keys, heads · head_dim]
    pub(crate) k: &'a [f32],
    /// As `k`.
    pub(crate) v: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    /// At least one.
    pub(crate) keys: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) scale: f32,
    pub(crate) bias: Option<Bias<'a>>,
}

/// What is added to scores: matrices [queries, keys].
#[derive(Clone, Copy)]
pub(crate) struct Bias<'a> {
    pub(crate) numbers: &'a [f32],
    /// Numbers from one sample's matrices to the next one's, and from one head's to the next: 0 where they share.
    pub(crate) sample: usize,
    pub(crate) head: usize,
}

/// Attends into `out` [batch, queries, heads · head_dim], of which every number is written and none read.
///
/// # Errors
/// [`NnError::HostMemory`](crate::error::NnError::HostMemory) when there is no memory for a block's weights.
///
/// # Safety
/// All lengths fit, and `out` is as long as `q`.
pub(crate) unsafe fn attend(isa: Isa, attention: &DenseAttention<'_>, out: *mut f32) -> Result<()> {
    let DenseAttention {
        queries,
        heads,
        head_dim,
        ..
    } = *attention;
    let lanes = lanes(isa);
    let vectors = queries.div_ceil(lanes);
    let pairs = attention.batch * heads;
    if pairs * vectors == 0 {
        return Ok(());
    }
    let wanted = parallel::threads() * TASKS;
    let each = (pairs * vectors / wanted).clamp(VECTORS, MOST_VECTORS);
    let tiles = vectors.div_ceil(each);
    let each = vectors.div_ceil(tiles);
    let room_each = room_for(each, lanes, head_dim);
    let needed = parallel::threads() * room_each;
    let kept = ROOM.take().filter(|room| room.as_slice().len() >= needed);
    let mut room = match kept {
        Some(room) => room,
        None => Buffer::zeroed(needed)?,
    };
    let (at, out) = (Shared(room.as_mut_slice().as_mut_ptr()), Shared(out));
    let work = 2 * pairs * queries * attention.keys * head_dim;
    parallel::for_each_of(pairs * tiles, work, |thread, task| {
        let (pair, tile) = (task / tiles, task % tiles);
        let first = tile * each * lanes;
        let task = Task {
            attention,
            sample: pair / heads,
            head: pair % heads,
            queries: first..queries.min(first + each * lanes),
            // SAFETY: one stretch of the room per thread.
            room: unsafe { at.get().add(thread * room_each) },
            out,
        };
        // SAFETY: the caller's promise; tasks differ in sample, head or queries.
        unsafe { dispatch(isa, task) }
    });
    ROOM.set(Some(room));
    Ok(())
}

/// Numbers that a task keeps: queries and outputs, largest score and sum of each query, what outputs are scaled by, and the
/// weights of a panel.
fn room_for(vectors: usize, lanes: usize, head_dim: usize) -> usize {
    (vectors + VECTORS) * lanes * (2 * head_dim + 2) + VECTORS * lanes * (KEYS + 1)
}

/// Some queries of one head of one sample.
struct Task<'a> {
    attention: &'a DenseAttention<'a>,
    sample: usize,
    head: usize,
    queries: Range<usize>,
    room: *mut f32,
    out: Shared<f32>,
}

/// Where the parts of a panel of queries are in the room.
#[derive(Clone, Copy)]
struct Panel {
    /// Its first query, of the sample's.
    first: usize,
    /// [head_dim][lane], the queries multiplied by the scale.
    queries: *mut f32,
    /// [head_dim][lane]
    outputs: *mut f32,
    /// The largest score so far, and the sum of e^(score − largest): [2][lane].
    state: *mut f32,
    /// What the outputs so far are to be multiplied by.
    scales: *mut f32,
    /// The present block's scores, and then weights: [key][lane].
    weights: *mut f32,
}

impl Kernel for Task<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let vectors = self.queries.len().div_ceil(L::WIDTH);
        // SAFETY: the caller's promise.
        unsafe {
            // Panels as wide as the others, or one vector of a rest that does not go up in them.
            match panel_of(vectors) {
                1 => self.with::<L, 1>(vectors),
                2 => self.with::<L, 2>(vectors.next_multiple_of(2)),
                _ => self.with::<L, VECTORS>(vectors.next_multiple_of(VECTORS)),
            }
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    unsafe fn with<L: Lanes, const V: usize>(&self, vectors: usize) {
        let head_dim = self.attention.head_dim;
        let (lanes, keys) = (V * L::WIDTH, self.attention.keys);
        // SAFETY: `room_for` has counted these, with a panel to spare.
        unsafe {
            let each = lanes * (2 * head_dim + 2);
            let shared = self.room.add(vectors / V * each);
            let panel = |index: usize| {
                let at = self.room.add(index * each);
                Panel {
                    first: self.queries.start + index * lanes,
                    queries: at,
                    outputs: at.add(head_dim * lanes),
                    state: at.add(2 * head_dim * lanes),
                    scales: shared,
                    weights: shared.add(lanes),
                }
            };
            for index in 0..vectors / V {
                self.begin::<L, V>(&panel(index));
            }
            for start in (0..keys).step_by(KEYS) {
                let block = start..keys.min(start + KEYS);
                for index in 0..vectors / V {
                    let panel = panel(index);
                    self.score::<L, V>(&panel, &block);
                    if let Some(bias) = self.attention.bias {
                        self.add_bias::<L, V>(&panel, &block, bias);
                    }
                    soften::<L, V>(&panel, block.len());
                    self.gather::<L, V>(&panel, &block);
                }
            }
            for index in 0..vectors / V {
                self.finish::<L, V>(&panel(index));
            }
        }
    }

    /// Where this head's numbers of a row of `q`, `k`, `v` or `out` start; `rows` is how many a sample has.
    #[inline(always)]
    fn row(&self, rows: usize, row: usize) -> usize {
        let DenseAttention {
            heads, head_dim, ..
        } = *self.attention;
        ((self.sample * rows + row) * heads + self.head) * head_dim
    }

    /// Lays out a panel's queries, scaled, and empties what it has so far. Lanes past the last query are the last again.
    #[inline(always)]
    unsafe fn begin<L: Lanes, const V: usize>(&self, panel: &Panel) {
        let DenseAttention {
            q, head_dim, scale, ..
        } = *self.attention;
        let last = self.queries.end - 1;
        // SAFETY: queries of the sample; inside the panel.
        unsafe {
            for v in 0..V {
                for d in (0..head_dim).step_by(L::WIDTH) {
                    let mut rows = [L::splat(0.0); 16];
                    for lane in 0..L::WIDTH {
                        let query = (panel.first + v * L::WIDTH + lane).min(last);
                        let at = self.row(self.attention.queries, query) + d;
                        rows[lane] = load_some::<L>(q.as_ptr().add(at), head_dim - d);
                    }
                    L::transpose(&mut rows);
                    for i in 0..L::WIDTH.min(head_dim - d) {
                        let at = ((d + i) * V + v) * L::WIDTH;
                        L::store(panel.queries.add(at), L::mul(rows[i], L::splat(scale)));
                        L::store(panel.outputs.add(at), L::splat(0.0));
                    }
                }
                let state = panel.state.add(v * L::WIDTH);
                L::store(state, L::splat(f32::MIN));
                L::store(state.add(V * L::WIDTH), L::splat(0.0));
            }
        }
    }

    /// weights[key][query] = key · query, one chain of multiply-adds along head_dim.
    #[inline(always)]
    unsafe fn score<L: Lanes, const V: usize>(&self, panel: &Panel, block: &Range<usize>) {
        let mut key = 0;
        // SAFETY: keys of the sample; inside the panel.
        unsafe {
            while key < block.len() {
                match (block.len() - key).min(L::TILE_ROWS) {
                    8 => key += self.score_rows::<L, 8, V>(panel, block, key),
                    4.. => key += self.score_rows::<L, 4, V>(panel, block, key),
                    2.. => key += self.score_rows::<L, 2, V>(panel, block, key),
                    _ => key += self.score_rows::<L, 1, V>(panel, block, key),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn score_rows<L: Lanes, const R: usize, const V: usize>(
        &self,
        panel: &Panel,
        block: &Range<usize>,
        key: usize,
    ) -> usize {
        let DenseAttention {
            k, heads, head_dim, ..
        } = *self.attention;
        // SAFETY: R keys from `key` on; inside the panel.
        unsafe {
            let at = self.row(self.attention.keys, block.start + key);
            let factors = Factors {
                at: k.as_ptr().add(at),
                row: heads * head_dim,
                step: 1,
            };
            let vectors = Vectors {
                at: panel.queries,
                step: V * L::WIDTH,
            };
            let sums = [[L::splat(0.0); V]; R];
            let sums = add_products::<L, R, V>(sums, factors, vectors, head_dim);
            for r in 0..R {
                for v in 0..V {
                    L::store(
                        panel.weights.add(((key + r) * V + v) * L::WIDTH),
                        sums[r][v],
                    );
                }
            }
        }
        R
    }

    #[inline(always)]
    unsafe fn add_bias<L: Lanes, const V: usize>(
        &self,
        panel: &Panel,
        block: &Range<usize>,
        bias: Bias<'_>,
    ) {
        let DenseAttention { keys, .. } = *self.attention;
        let last = self.queries.end - 1;
        let matrix = self.sample * bias.sample + self.head * bias.head;
        // SAFETY: queries and keys of this matrix; inside the panel.
        unsafe {
            for key in (0..block.len()).step_by(L::WIDTH) {
                for v in 0..V {
                    let mut rows = [L::splat(0.0); 16];
                    for lane in 0..L::WIDTH {
                        let query = (panel.first + v * L::WIDTH + lane).min(last);
                        let at = matrix + query * keys + block.start + key;
                        rows[lane] =
                            load_some::<L>(bias.numbers.as_ptr().add(at), block.len() - key);
                    }
                    L::transpose(&mut rows);
                    for i in 0..L::WIDTH.min(block.len() - key) {
                        let at = panel.weights.add(((key + i) * V + v) * L::WIDTH);
                        L::store(at, L::add(L::load(at), rows[i]));
                    }
                }
            }
        }
    }

    /// outputs[d][query] = outputs[d][query] · scales[query] + Σ value[key][d] · weights[key][query].
    #[inline(always)]
    unsafe fn gather<L: Lanes, const V: usize>(&self, panel: &Panel, block: &Range<usize>) {
        let head_dim = self.attention.head_dim;
        let mut d = 0;
        // SAFETY: numbers of the head; inside the panel.
        unsafe {
            while d < head_dim {
                match (head_dim - d).min(L::TILE_ROWS) {
                    8 => d += self.gather_rows::<L, 8, V>(panel, block, d),
                    4.. => d += self.gather_rows::<L, 4, V>(panel, block, d),
                    2.. => d += self.gather_rows::<L, 2, V>(panel, block, d),
                    _ => d += self.gather_rows::<L, 1, V>(panel, block, d),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn gather_rows<L: Lanes, const R: usize, const V: usize>(
        &self,
        panel: &Panel,
        block: &Range<usize>,
        d: usize,
    ) -> usize {
        let DenseAttention {
            v: values,
            heads,
            head_dim,
            ..
        } = *self.attention;
        // SAFETY: R numbers of the head from `d` on; inside the panel.
        unsafe {
            let factors = Factors {
                at: values
                    .as_ptr()
                    .add(self.row(self.attention.keys, block.start) + d),
                row: 1,
                step: heads * head_dim,
            };
            let vectors = Vectors {
                at: panel.weights,
                step: V * L::WIDTH,
            };
            let outputs = panel.outputs.add(d * V * L::WIDTH);
            let mut sums = [[L::splat(0.0); V]; R];
            for v in 0..V {
                let scale = L::load(panel.scales.add(v * L::WIDTH));
                for r in 0..R {
                    let so_far = L::load(outputs.add((r * V + v) * L::WIDTH));
                    sums[r][v] = L::mul(so_far, scale);
                }
            }
            let sums = add_products::<L, R, V>(sums, factors, vectors, block.len());
            for r in 0..R {
                for v in 0..V {
                    L::store(outputs.add((r * V + v) * L::WIDTH), sums[r][v]);
                }
            }
        }
        R
    }

    /// Divides by the sums, and writes the queries that there are.
    #[inline(always)]
    unsafe fn finish<L: Lanes, const V: usize>(&self, panel: &Panel) {
        let head_dim = self.attention.head_dim;
        // SAFETY: inside the panel; a query's output is its own.
        unsafe {
            for v in 0..V {
                let first = panel.first + v * L::WIDTH;
                let sum = L::load(panel.state.add((V + v) * L::WIDTH));
                for d in (0..head_dim).step_by(L::WIDTH) {
                    let count = head_dim - d;
                    let mut rows = [L::splat(0.0); 16];
                    for i in 0..L::WIDTH.min(count) {
                        let at = panel.outputs.add(((d + i) * V + v) * L::WIDTH);
                        rows[i] = L::div(L::load(at), sum);
                    }
                    L::transpose(&mut rows);
                    for lane in 0..L::WIDTH.min(self.queries.end.saturating_sub(first)) {
                        let at = self.row(self.attention.queries, first + lane) + d;
                        store_some::<L>(self.out.get().add(at), count, rows[lane]);
                    }
                }
            }
        }
    }
}

/// Turns a block's scores into e^(score − largest), in every lane for itself, and keeps what the outputs so far are scaled by.
#[inline(always)]
unsafe fn soften<L: Lanes, const V: usize>(panel: &Panel, keys: usize) {
    let step = V * L::WIDTH;
    // SAFETY: inside the panel.
    unsafe {
        let mut largest = [L::splat(0.0); V];
        for v in 0..V {
            largest[v] = L::load(panel.state.add(v * L::WIDTH));
        }
        for key in 0..keys {
            for v in 0..V {
                let score = L::load(panel.weights.add(key * step + v * L::WIDTH));
                largest[v] = L::max(largest[v], score);
            }
        }
        let mut sums = [L::splat(0.0); V];
        for key in 0..keys {
            for v in 0..V {
                let at = panel.weights.add(key * step + v * L::WIDTH);
                let weight = exp_of_small::<L>(L::sub(L::load(at), largest[v]));
                L::store(at, weight);
                sums[v] = L::add(sums[v], weight);
            }
        }
        for v in 0..V {
            let state = panel.state.add(v * L::WIDTH);
            let scale = exp_of_small::<L>(L::sub(L::load(state), largest[v]));
            L::store(panel.scales.add(v * L::WIDTH), scale);
            L::store(state, largest[v]);
            let state = state.add(step);
            L::store(state, L::mul_add(L::load(state), scale, sums[v]));
        }
    }
}
