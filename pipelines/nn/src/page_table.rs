//! What a kernel over a paged cache is told of a batch. Apart from the kernel that takes it (`flash_attention`) because it needs no
//! GPU, and is tested without one.

use crate::attention::Span;
use crate::error::Result;
use candle_core::{Device, Tensor};

/// The spans of a batch that have rows, as flash-attn's kernels take them.
pub(crate) struct PageTable {
    /// Where each sequence's rows begin, and where the last one's end: [sequences + 1].
    pub(crate) rows: Tensor,
    /// The same of its keys, as if those of all sequences lay behind each other: only the differences are looked at.
    pub(crate) keys: Tensor,
    /// Each sequence's blocks, [sequences, pages]; behind the last one that it needs there is 0, which is never read.
    pub(crate) blocks: Tensor,
    /// The rows of the sequence that has most.
    pub(crate) most_rows: usize,
    /// The keys of the sequence that has most.
    pub(crate) most_keys: usize,
}

impl PageTable {
    /// `None` when no span has rows. What `attention::check` has seen to be right is not checked again.
    pub(crate) fn new(
        spans: &[Span<'_>],
        block_size: usize,
        device: &Device,
    ) -> Result<Option<Self>> {
        let spans: Vec<_> = spans.iter().filter(|span| !span.rows.is_empty()).collect();
        let most_rows = spans.iter().map(|span| span.rows.len()).max();
        let most_keys = spans.iter().map(|span| span.context).max();
        let (Some(most_rows), Some(most_keys)) = (most_rows, most_keys) else {
            return Ok(None);
        };
        let pages = most_keys.div_ceil(block_size);
        let starts = spans.len() + 1;
        // One tensor of which the others are parts: each would be a copy to the GPU of its own.
        let mut numbers = Vec::with_capacity(2 * starts + spans.len() * pages);
        numbers.push(0);
        numbers.extend(spans.iter().map(|span| span.rows.end as u32));
        numbers.push(0);
        numbers.extend(spans.iter().scan(0, |end, span| {
            *end += span.context as u32;
            Some(*end)
        }));
        for span in &spans {
            let needed = span.context.div_ceil(block_size);
            numbers.extend(span.blocks.iter().copied().take(needed));
            numbers.extend(std::iter::repeat_n(0, pages - needed));
        }
        let numbers = Tensor::new(numbers, device)?;
        Ok(Some(Self {
            rows: numbers.narrow(0, 0, starts)?,
            keys: numbers.narrow(0, starts, starts)?,
            blocks: numbers
                .narrow(0, 2 * starts, spans.len() * pages)?
                .reshape((spans.len(), pages))?,
            most_rows,
            most_keys,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_without_rows_are_left_out_and_blocks_are_as_many_as_the_longest_needs() {
        let span = |rows, context, blocks| Span {
            rows,
            context,
            blocks,
        };
        let spans = [
            span(0..0, 9, &[8, 9, 1][..]),
            span(0..3, 3, &[5, 6][..]),
            span(3..3, 0, &[][..]),
            span(3..4, 9, &[4, 7, 2][..]),
        ];
        let table = PageTable::new(&spans, 4, &Device::Cpu).unwrap().unwrap();
        assert_eq!(table.rows.to_vec1::<u32>().unwrap(), [0, 3, 4]);
        assert_eq!(table.keys.to_vec1::<u32>().unwrap(), [0, 3, 12]);
        let blocks = table.blocks.to_vec2::<u32>().unwrap();
        assert_eq!(blocks, [[5, 0, 0], [4, 7, 2]]);
        assert_eq!((table.most_rows, table.most_keys), (3, 9));
    }

    #[test]
    fn a_batch_without_rows_has_no_table() {
        let spans = [Span {
            rows: 0..0,
            context: 1,
            blocks: &[0],
        }];
        for spans in [&spans[..], &[]] {
            assert!(PageTable::new(spans, 4, &Device::Cpu).unwrap().is_none());
        }
    }
}
