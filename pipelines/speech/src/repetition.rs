//! How much a text repeats itself, as openai-whisper's utils.py (`compression_ratio`) counts it. Apart from the models, all of which
//! say it of their segments.

use miniz_oxide::deflate::core::{
    CompressionStrategy, CompressorOxide, TDEFLFlush, compress_to_output,
    create_comp_flags_from_zip_params,
};

/// zlib's own default.
const LEVEL: i32 = 6;
/// zlib's header and checksum, with the largest window.
const WINDOW_BITS: i32 = 15;

/// Bytes of a text over bytes of zlib's version of it.
pub fn compression_ratio(text: &str) -> f64 {
    // zlib takes the shorter of a table of its own and the standard one; this library does not weigh them for short texts.
    let strategies = [CompressionStrategy::Default, CompressionStrategy::Fixed];
    let lengths = strategies.map(|strategy| compressed(text.as_bytes(), strategy));
    let shortest = lengths.into_iter().min().unwrap_or_default().max(1);
    text.len() as f64 / shortest as f64
}

/// Bytes that zlib's format takes.
fn compressed(bytes: &[u8], strategy: CompressionStrategy) -> usize {
    let flags = create_comp_flags_from_zip_params(LEVEL, WINDOW_BITS, strategy as i32);
    let mut length = 0;
    let count = |piece: &[u8]| {
        length += piece.len();
        true
    };
    compress_to_output(
        &mut CompressorOxide::new(flags),
        bytes,
        TDEFLFlush::Finish,
        count,
    );
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_zlibs() {
        let words = [
            "the",
            "of",
            "Ἰλιάδος",
            "7",
            "and",
            "repeated",
            "words,",
            "again.",
        ];
        let text = |count: usize, step: usize| -> String {
            let words = (0..count).map(|n| words[n * step % 7 + n / 23 % 2]);
            words.collect::<Vec<_>>().join(" ")
        };
        // Bytes, and len(zlib.compress(text)) of Python with zlib 1.2.13.
        for (text, bytes, expected) in [
            (text(3, 1), 22, 31),
            (text(20, 1), 127, 58),
            (text(60, 2), 404, 74),
            (text(60, 3), 383, 72),
            (text(200, 5), 1323, 105),
            (text(900, 3), 5945, 179),
            (String::new(), 0, 8),
            ("a".to_owned(), 1, 9),
            ("hello world, hello world".to_owned(), 24, 23),
            ("the same words again ".repeat(20), 420, 34),
        ] {
            assert_eq!(text.len(), bytes);
            let found = compression_ratio(&text);
            let expected = bytes as f64 / expected as f64;
            assert!(
                (found - expected).abs() <= 0.05 * expected,
                "{text}: {found}, {expected}"
            );
        }
    }
}
