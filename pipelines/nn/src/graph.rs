//! Passes that are recorded on a GPU and launched again as a whole, with what a pass over a paged cache is told lying in memory whose
//! addresses stay. Apart from the models, which say what such a pass consists of; the recording itself is in `cuda`.

use candle_core::{DType, Device, Tensor};

use crate::attention::{AttentionConfig, Span, check_spans, fused};
use crate::cuda::{self, Launch};
use crate::error::{NnError, Result};
use crate::kv_cache::KvCache;

/// A recorded pass.
pub struct Graph(cuda::Graph);

/// Numbers that a pass asks for, how often it does, and the tensor, of u32 or f32, that has their bits at its beginning.
pub type Fed<'a> = (&'a [u32], usize, &'a Tensor);

impl Graph {
    /// Whether passes on this device can be recorded.
    pub fn is_possible(device: &Device) -> bool {
        cuda::Graph::is_possible(device)
    }

    /// Does the work, then once more recording it: what the first time gave, and the graph or why there is none. The work leaves nothing but what it has written to tensors that were there before.
    ///
    /// # Errors
    /// What the work says the first time.
    pub fn record<T, E: From<NnError>>(
        device: &Device,
        fed: &[Fed<'_>],
        work: &mut dyn FnMut() -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, std::result::Result<Self, E>), E> {
        let (first, recorded) = cuda::Graph::record(device, fed, work)?;
        Ok((first, recorded.map(Self)))
    }

    /// Launches all of it, with what the tensors that it was fed from have by then.
    ///
    /// # Errors
    /// What the device says.
    pub fn launch(&mut self) -> Result<()> {
        self.0.launch()
    }
}

/// Writes words to the beginning of a tensor of u32 or f32, behind all that was launched before.
///
/// # Errors
/// More words than the tensor has numbers; what the device says.
pub fn overwrite(tensor: &Tensor, words: &[u32]) -> Result<()> {
    cuda::overwrite(tensor, words)
}

/// What an attention over the cache launches: two passes whose shapes are equal differ in their numbers only.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape(Vec<Launch>);

/// What the attention of `heads` heads in `dtype` asks of the device for some spans: the shape of it, and its numbers. None where kernels
/// of ours do not compute it.
///
/// # Errors
/// As of attention for spans that are not right; what the device says.
pub fn attention_shape(
    (cache, device, dtype): (&KvCache, &Device, DType),
    heads: usize,
    spans: &[Span<'_>],
    config: &AttentionConfig,
) -> Result<Option<(Shape, Vec<u32>)>> {
    let rows = spans.last().map_or(0, |span| span.rows.end);
    check_spans(cache, rows, spans)?;
    let attention = fused(cache, heads, spans, (config, true));
    let work = cuda::attention_work(device, dtype, &attention)?;
    Ok(work.map(|work| (Shape(work.launches), work.numbers)))
}
