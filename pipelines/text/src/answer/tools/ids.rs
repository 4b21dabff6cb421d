//! Ids of tool calls: the same request has the same ones, and two requests of one seed and different prompts do not.

use chandler_core::random::Stream;

use super::format::Ids;

/// A lane of the stream that sampling does not draw from.
const LANE: u32 = 0x1d5;

/// Where a request's ids come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdSource {
    seed: u64,
    row: u32,
}

impl IdSource {
    pub(crate) fn new(seed: u64, prompt: &[u32], row: u32) -> Self {
        // FNV-1a over the prompt: a conversation's next turn must not repeat the ids of the one before.
        let mixed = prompt.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, id| {
            (hash ^ u64::from(*id)).wrapping_mul(0x0100_0000_01b3)
        });
        let seed = seed ^ mixed;
        Self { seed, row }
    }

    pub(super) fn id(self, kind: Ids, index: u32) -> String {
        let words = Stream::new(self.seed, self.row).words(u64::from(index), LANE);
        let mut bits = words
            .iter()
            .fold(0u128, |bits, word| bits << 32 | u128::from(*word));
        match kind {
            Ids::Long => format!("call_{:024x}", bits & ((1 << 96) - 1)),
            Ids::Nine => {
                const ALPHABET: &[u8; 62] =
                    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
                let mut id = String::with_capacity(9);
                for _ in 0..9 {
                    let letter = ALPHABET.get((bits % 62) as usize).copied().unwrap_or(b'0');
                    id.push(char::from(letter));
                    bits /= 62;
                }
                id
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_shape_and_differ_by_prompt_row_and_index() {
        let source = IdSource::new(7, &[1, 2], 0);
        let long = source.id(Ids::Long, 0);
        assert_eq!(long.len(), 29);
        assert!(long.starts_with("call_"));
        assert!(long[5..].bytes().all(|b| b.is_ascii_hexdigit()));
        let nine = source.id(Ids::Nine, 0);
        assert!(nine.len() == 9 && nine.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(long, IdSource::new(7, &[1, 2], 0).id(Ids::Long, 0));
        assert_ne!(long, source.id(Ids::Long, 1));
        assert_ne!(long, IdSource::new(7, &[1, 2], 1).id(Ids::Long, 0));
        assert_ne!(long, IdSource::new(7, &[1, 2, 3], 0).id(Ids::Long, 0));
    }
}
