//! How many events of a stream go into one chunk: few at first, so that the first words come at once, and more later, since
//! each chunk is a request to the platform.

/// Sizes of a stream's chunks, in events: the first, how they grow, and where they stop growing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Events of the first chunk.
    pub first: usize,
    /// How many times larger each next one is.
    pub factor: f64,
    /// Events of the largest.
    pub most: usize,
}

impl Default for Growth {
    /// worker-vllm's numbers (runpod.md 11.1).
    fn default() -> Self {
        Self {
            first: 1,
            factor: 3.0,
            most: 50,
        }
    }
}

impl Growth {
    /// The sizes, one after the other.
    pub(super) fn sizes(self) -> impl Iterator<Item = usize> + Send {
        let most = self.most.max(1);
        let first = self.first.clamp(1, most);
        std::iter::successors(Some(first), move |size| {
            let next = *size as f64 * self.factor.max(1.0);
            Some((next as usize).clamp(*size, most))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(first: usize, factor: f64, most: usize) -> Vec<usize> {
        let growth = Growth {
            first,
            factor,
            most,
        };
        growth.sizes().take(6).collect()
    }

    #[test]
    fn chunks_grow_to_the_largest_and_never_shrink_or_vanish() {
        assert_eq!(
            Growth::default().sizes().take(6).collect::<Vec<_>>(),
            [1, 3, 9, 27, 50, 50]
        );
        assert_eq!(sizes(4, 1.5, 20), [4, 6, 9, 13, 19, 20]);
        assert_eq!(sizes(0, 0.0, 0), [1; 6]);
        assert_eq!(sizes(9, f64::NAN, 5), [5; 6]);
        assert_eq!(sizes(1, f64::INFINITY, 5), [1, 5, 5, 5, 5, 5]);
    }
}
