//! Bytes from strangers: whatever they are, there is an error or a result, in bounded time and memory, and no panic gets
//! out.

use std::time::{Duration, Instant};

use chandler_speech::audio::{AudioError, Layout, Options, Reader};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::decoding::{all, fixture};

/// Far above what any of these takes (milliseconds), far below a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads everything; returns how many samples came, and the error if there was one.
fn drain(bytes: Vec<u8>) -> (usize, Option<AudioError>) {
    let options = Options {
        max_duration: Some(Duration::from_secs(60)),
        layout: Layout::Separate,
        ..Options::default()
    };
    let began = Instant::now();
    let mut reader = match Reader::open(bytes, options) {
        Ok(reader) => reader,
        Err(error) => return (0, Some(error)),
    };
    let mut count = 0;
    let error = loop {
        match reader.read() {
            Ok(Some(block)) => {
                let lengths: Vec<usize> = block.channels().iter().map(Vec::len).collect();
                assert!(lengths.iter().all(|l| *l == lengths[0]), "{lengths:?}");
                assert!(block.channels().iter().flatten().all(|s| s.is_finite()));
                count += lengths[0];
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(
        reader.read().unwrap().is_none(),
        "after the end there is nothing"
    );
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    (count, error)
}

#[test]
fn a_file_cut_anywhere_gives_what_it_has_or_says_what_is_wrong() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for fixture in all() {
        let whole = drain(fixture.bytes.clone()).0;
        for _ in 0..12 {
            let cut = (0..fixture.bytes.len())
                .new_tree(&mut runner)
                .unwrap()
                .current();
            let (count, error) = drain(fixture.bytes[..cut].to_vec());
            assert!(
                count <= whole + 1024,
                "{} cut at {cut}: {count} of {whole}",
                fixture.file
            );
            assert!(
                count > 0 || error.is_some(),
                "{} cut at {cut}: nothing, and no error",
                fixture.file
            );
        }
    }
}

#[test]
fn bits_turned_anywhere_give_a_result_or_an_error() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    // Enough to see a mistake of ours; 3000 were run once, and what they found is in the commit's message.
    let rounds = 30;
    for fixture in all() {
        for round in 0..rounds {
            let mut bytes = fixture.bytes.clone();
            // Mostly in the headers, where they do most.
            let reach = if round % 3 == 0 {
                bytes.len()
            } else {
                bytes.len().min(300)
            };
            let flips = proptest::collection::vec((0..reach, any::<u8>()), 1..6);
            for (at, value) in flips.new_tree(&mut runner).unwrap().current() {
                bytes[at] = value;
            }
            let (count, error) = drain(bytes);
            assert!(
                count > 0 || error.is_some(),
                "{}: nothing, and no error",
                fixture.file
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_end_in_an_error_or_a_result(
        magic in prop::sample::select(vec![
            &b""[..], b"RIFF\xff\xff\xff\xffWAVEfmt ", b"fLaC\0\0\0\x22", b"OggS\0\x02\0\0\0\0\0\0\0\0", b"\xff\xfb\x90\x64",
            b"\xff\xf1\x50\x80", b"ID3\x04\0\0\0\0\x02\x01", b"\0\0\0\x20ftypM4A ", b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01",
            b"FORM\0\0\xff\xffAIFFCOMM", b"caff\0\x01\0\0desc", b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..4000),
    ) {
        let (count, error) = drain([magic, &rest].concat());
        prop_assert!(count > 0 || error.is_some());
    }
}

#[test]
fn wav_headers_that_lie_ask_for_no_memory_and_are_answered() {
    let header = |channels: u16, rate: u32, block: u16, bits: u16, data: u32| {
        let mut out = b"RIFF".to_vec();
        out.extend(data.wrapping_add(36).to_le_bytes());
        out.extend(b"WAVEfmt \x10\0\0\0\x01\0");
        out.extend(channels.to_le_bytes());
        out.extend(rate.to_le_bytes());
        out.extend(rate.wrapping_mul(u32::from(block)).to_le_bytes());
        out.extend(block.to_le_bytes());
        out.extend(bits.to_le_bytes());
        out.extend(b"data");
        out.extend(data.to_le_bytes());
        out.extend([1u8; 64]);
        out
    };
    // Four gigabytes that are not there: what is there is decoded.
    assert_eq!(drain(header(1, 16_000, 2, 16, u32::MAX)).0, 32);
    assert_eq!(drain(header(1, 16_000, 2, 16, u32::MAX - 100)).0, 32);
    let refused = |bytes| drain(bytes).1.unwrap().to_string();
    assert!(refused(header(0, 16_000, 2, 16, 64)).contains("number of channels is 0"));
    assert!(refused(header(1, 0, 2, 16, 64)).contains("sample rate is 0"));
    assert!(refused(header(1, 16_000, 0, 16, 64)).contains("block alignment is 0"));
    assert!(refused(header(1, 2_000_000_000, 2, 16, 64)).contains("sample rate is 2000000000"));
    assert!(
        refused(header(65_535, 16_000, 65_534, 16, 64)).contains("number of channels is 65535")
    );
    assert!(refused(header(2, 16_000, 2, 16, 64)).contains("do not make blocks"));
}

#[test]
fn many_streams_in_one_file_end_in_an_error() {
    let one = fixture("silk.opus").bytes;
    let (count, error) = drain(one.repeat(1_200));
    assert!(count > 0);
    // 300 s of sound, of which 60 are allowed.
    assert!(
        matches!(error, Some(AudioError::TooLong { .. })),
        "{error:?}"
    );
}

#[test]
fn ten_hours_of_silence_in_a_small_flac_take_little_memory() {
    let file = silent_flac(16_000, 10 * 3600);
    assert!(file.len() < 200_000, "{} bytes", file.len());
    let options = Options::default();
    let before = peak_kilobytes();
    let mut reader = Reader::open(file.clone(), options).unwrap();
    assert_eq!(
        reader.declared_duration(),
        Some(Duration::from_secs(36_000))
    );
    let mut count = 0u64;
    while let Some(block) = reader.read().unwrap() {
        assert!(block.mono().iter().all(|s| *s == 0.0));
        count += block.mono().len() as u64;
    }
    assert_eq!(count, 16_000 * 36_000);
    // Held whole it would be 2.3 GB.
    let grown = peak_kilobytes() - before;
    assert!(grown < 100_000, "{grown} kB");
    // And with a limit it ends there.
    let limit = Duration::from_secs(3600);
    let options = Options {
        max_duration: Some(limit),
        ..Options::default()
    };
    let error = Reader::open(file, options)
        .unwrap()
        .read_to_end()
        .unwrap_err();
    assert!(matches!(error, AudioError::TooLong { limit: l } if l == limit));
}

fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// A FLAC file of silence: constant subframes of 65 535 samples, 16 bytes each (RFC 9639).
fn silent_flac(rate: u32, seconds: u64) -> Vec<u8> {
    let block = 65_535u64;
    let total = u64::from(rate) * seconds;
    let mut out = b"fLaC\x80\0\0\x22".to_vec();
    out.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    // 20 bits of rate, 3 of channels - 1, 5 of bits - 1, 36 of samples.
    let packed = u64::from(rate) << 44 | 15 << 36 | total;
    out.extend(packed.to_be_bytes());
    out.extend([0; 16]);
    let mut at = 0;
    for number in 0.. {
        let count = block.min(total - at);
        if count == 0 {
            break;
        }
        let mut frame = vec![0xff, 0xf8, 0x70, 0x08];
        frame.extend(utf8(number));
        frame.extend(u16::try_from(count - 1).unwrap().to_be_bytes());
        frame.push(crc(&frame, 8, 0x07) as u8);
        // A constant subframe of the value 0.
        frame.extend([0, 0, 0]);
        let check = crc(&frame, 16, 0x8005);
        frame.extend(check.to_be_bytes());
        out.extend(frame);
        at += count;
    }
    out
}

/// A number as FLAC writes it.
fn utf8(number: u32) -> Vec<u8> {
    match number {
        0..0x80 => vec![number as u8],
        0x80..0x800 => vec![0xc0 | (number >> 6) as u8, 0x80 | (number & 0x3f) as u8],
        _ => vec![
            0xe0 | (number >> 12) as u8,
            0x80 | (number >> 6 & 0x3f) as u8,
            0x80 | (number & 0x3f) as u8,
        ],
    }
}

fn crc(bytes: &[u8], width: u32, polynomial: u32) -> u16 {
    let mut value = 0u32;
    for byte in bytes {
        value ^= u32::from(*byte) << (width - 8);
        for _ in 0..8 {
            let top = value >> (width - 1) & 1;
            value = ((value << 1) ^ (top * polynomial)) & ((1 << width) - 1);
        }
    }
    value as u16
}
