//! WAV headers that lie about lengths, put right before the demuxer sees them. Programs that write to a pipe cannot know
//! the length and leave 0, 0x7ffff000 or 0xffffffff; a cut file says more than it holds; RF64 files hold the true
//! length elsewhere. All of them play everywhere else, and the demuxer refuses some and stops early in others.

use super::error::AudioError;
use super::source::Source;

/// How far the chunks before the samples are followed; a picture among the tags may be large.
const FARTHEST_DATA: u64 = 64 << 20;
/// Chunks looked at, so that a file of empty chunks takes no time.
const MOST_CHUNKS: usize = 4096;
/// "To the end of the file", as ffmpeg writes it and symphonia reads it.
const UNKNOWN: [u8; 4] = [0xff; 4];

/// Corrects the lengths in a RIFF/WAVE or RF64 header that contradict the file; leaves every other file as it is.
///
/// # Errors
/// The source cannot be read, or the format chunk says what no sound has (no channels, a rate of 0).
pub(crate) fn correct_lengths(source: &mut Source) -> Result<(), AudioError> {
    let head = source.peek(0, 12)?;
    let riff = match head.get(..4) {
        Some(b"RIFF") => true,
        Some(b"RF64" | b"BW64") => false,
        _ => return Ok(()),
    };
    if head.get(8..12) != Some(b"WAVE") {
        return Ok(());
    }
    if !riff {
        source.patch(0, *b"RIFF");
    }
    let Some((data, declared)) = find_data(source)? else {
        return Ok(());
    };
    let present = source.length() - data;
    let outer = u32_at(&head, 4).unwrap_or(0);
    // A file that says it is empty and whose outer length is right is empty.
    let counted = declared != 0 || u64::from(outer) + 8 == source.length();
    let truthful = counted && u64::from(declared) <= present;
    if !truthful {
        source.patch(data - 4, UNKNOWN);
    }
    // The outer length must hold the data chunk, or the demuxer refuses the file.
    let inner_end = data
        + if truthful {
            u64::from(declared)
        } else {
            present
        };
    if !truthful || u64::from(outer) + 8 < inner_end {
        source.patch(4, UNKNOWN);
    }
    Ok(())
}

/// Where the samples begin and how many bytes of them the header claims.
fn find_data(source: &mut Source) -> Result<Option<(u64, u32)>, AudioError> {
    let mut offset = 12;
    for _ in 0..MOST_CHUNKS {
        let chunk = source.peek(offset, 8 + 16)?;
        let (Some(id), Some(length)) = (chunk.get(..4), u32_at(&chunk, 4)) else {
            return Ok(None);
        };
        match id {
            b"data" => return Ok(Some((offset + 8, length))),
            b"fmt " => check_format(&chunk)?,
            _ => {}
        }
        // Chunks begin at even offsets.
        offset += 8 + u64::from(length) + u64::from(length % 2);
        if offset > FARTHEST_DATA.min(source.length()) {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Values that no decoder can do anything with, named before one trips over them.
fn check_format(chunk: &[u8]) -> Result<(), AudioError> {
    let half = |at: usize| {
        let bytes = chunk.get(at..at + 2)?;
        Some(u64::from(u16::from_le_bytes([
            *bytes.first()?,
            *bytes.get(1)?,
        ])))
    };
    let (Some(tag), Some(channels), Some(block), Some(bits)) =
        (half(8), half(10), half(20), half(22))
    else {
        return Err(AudioError::damaged_at_start(
            "wav: the format chunk is cut short",
        ));
    };
    let refused = |field, value, accepted| {
        Err(AudioError::OutOfRange {
            field,
            value,
            accepted,
        })
    };
    if channels == 0 || channels > super::MOST_CHANNELS as u64 {
        return refused("the number of channels", channels, super::ACCEPTED_CHANNELS);
    }
    if u32_at(chunk, 12) == Some(0) {
        return refused("the sample rate", 0, super::ACCEPTED_RATES);
    }
    if block == 0 {
        return refused("the WAV header's block alignment", 0, "it must be above 0");
    }
    let integers = matches!(tag, 1 | 0xfffe);
    if integers && (bits == 0 || bits > 64 || (tag == 1 && block != channels * bits.div_ceil(8))) {
        return Err(AudioError::damaged_at_start(format!(
            "wav: {bits} bits by {channels} channels do not make blocks of {block} bytes"
        )));
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    four.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn wav(riff: u32, data: u32, bytes: usize) -> Vec<u8> {
        let mut out = b"RIFF".to_vec();
        out.extend(riff.to_le_bytes());
        out.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
        out.extend(data.to_le_bytes());
        out.extend(vec![0; bytes]);
        out
    }

    fn corrected(bytes: Vec<u8>) -> Vec<u8> {
        let mut source = Source::from_memory(bytes);
        correct_lengths(&mut source).unwrap();
        let mut out = Vec::new();
        source.read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn a_true_header_is_left_alone() {
        let bytes = wav(136, 100, 100);
        assert_eq!(corrected(bytes.clone()), bytes);
        // With a chunk after the samples.
        let mut bytes = wav(148, 100, 100);
        bytes.extend(b"LIST\x04\0\0\0INFO");
        assert_eq!(corrected(bytes.clone()), bytes);
    }

    #[test]
    fn a_length_that_cannot_be_becomes_unknown() {
        for (riff, data) in [
            (0, 0),
            (u32::MAX, u32::MAX),
            (0x7fff_f024, 0x7fff_f000),
            (136, 200),
        ] {
            let out = corrected(wav(riff, data, 100));
            assert_eq!(out[4..8], UNKNOWN, "riff length {riff:#x}");
            assert_eq!(out[40..44], UNKNOWN, "data length {data:#x}");
        }
        // Only the outer one lies.
        let out = corrected(wav(20, 100, 100));
        assert_eq!(
            (&out[4..8], &out[40..44]),
            (&UNKNOWN[..], &100u32.to_le_bytes()[..])
        );
    }

    #[test]
    fn rf64_reads_as_riff_of_unknown_length() {
        let mut bytes = wav(u32::MAX, u32::MAX, 10);
        bytes[..4].copy_from_slice(b"RF64");
        let out = corrected(bytes);
        assert_eq!(&out[..8], b"RIFF\xff\xff\xff\xff");
    }

    #[test]
    fn a_format_that_is_no_format_is_named() {
        for (at, value, says) in [
            (22, [0u8, 0], "number of channels is 0"),
            (24, [0, 0], "sample rate is 0"),
            (32, [0, 0], "block alignment is 0"),
            (34, [0, 0], "0 bits"),
        ] {
            let mut bytes = wav(136, 100, 100);
            bytes[at..at + 2].copy_from_slice(&value);
            let error = correct_lengths(&mut Source::from_memory(bytes)).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
