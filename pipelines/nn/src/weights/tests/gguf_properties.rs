//! No bytes make the GGUF reader panic, reach outside the file or allocate what is not there: arbitrary ones, and valid files
//! with something changed.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::gguf::{GgufFile, Header};
use super::gguf::{Parts, text, value};
use super::*;
use crate::error::NnError;

/// Reads bytes as a model: refused as a weight file, or tensors whose bytes are inside.
fn read(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let header = match Header::parse(Path::new("x"), bytes) {
        Ok(header) => header,
        Err(NnError::WeightFile { reason, .. }) => {
            prop_assert!(!reason.is_empty() && reason.len() < 2000, "{reason}");
            return Ok(false);
        }
        Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
    };
    prop_assert!(header.data().end <= bytes.len());
    for name in header.names() {
        let (_, entry) = header
            .get(name)
            .ok_or_else(|| TestCaseError::fail("lost"))?;
        prop_assert!(bytes.get(entry.range.clone()).is_some());
    }
    // The same through the public door, from memory that outlives the source.
    let source = GgufFile::embedded("x", bytes.to_vec().leak())
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    for name in source.names() {
        match source.tensor(&name) {
            Ok(tensor) => {
                prop_assert_eq!(
                    tensor.stored().byte_len(tensor.shape()),
                    Some(tensor.bytes().len())
                );
            }
            Err(NnError::DType { .. } | NnError::WeightFile { .. }) => {}
            Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }
    Ok(true)
}

/// Type number, numbers in a block, bytes of a block.
const KINDS: [(u32, u64, u64); 6] = [
    (0, 1, 4),
    (1, 1, 2),
    (8, 32, 34),
    (12, 256, 144),
    (14, 256, 210),
    (10, 256, 84),
];

/// What a writer would write.
fn valid() -> impl Strategy<Value = Parts> {
    let tensor = (0..KINDS.len(), 1u64..3, vec(0u64..4, 0..3));
    let key = prop_oneof![
        any::<u32>().prop_map(|number| value(4, &number.to_le_bytes())),
        any::<f32>().prop_map(|number| value(6, &number.to_le_bytes())),
        "[a-zö▁]{0,12}".prop_map(|word| value(8, &text(&word))),
        vec("[a-z]{0,4}", 0..4).prop_map(|words| {
            let texts: Vec<u8> = words.iter().flat_map(|word| text(word)).collect();
            value(
                9,
                &[
                    8u32.to_le_bytes().to_vec(),
                    (words.len() as u64).to_le_bytes().to_vec(),
                    texts,
                ]
                .concat(),
            )
        }),
        vec(any::<i32>(), 0..4).prop_map(|numbers| {
            let bytes: Vec<u8> = numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect();
            value(
                9,
                &[
                    5u32.to_le_bytes().to_vec(),
                    (numbers.len() as u64).to_le_bytes().to_vec(),
                    bytes,
                ]
                .concat(),
            )
        }),
    ];
    (vec(tensor, 0..5), vec(key, 0..5)).prop_map(|(tensors, keys)| {
        let mut reached = 0u64;
        let mut end = 0;
        let tensors = tensors
            .into_iter()
            .enumerate()
            .map(|(place, (kind, blocks, outer))| {
                let (number, block, block_bytes) = KINDS[kind];
                let bytes = blocks * block_bytes * outer.iter().product::<u64>();
                let offset = reached;
                end = offset + bytes;
                reached = end.next_multiple_of(32);
                let dimensions = [vec![blocks * block], outer].concat();
                (format!("blk.{place}.weight"), dimensions, number, offset)
            })
            .collect();
        Parts {
            magic: b"GGUF".to_vec(),
            version: 3,
            tensor_count: None,
            key_count: None,
            keys: keys
                .into_iter()
                .enumerate()
                .map(|(place, value)| (format!("key.{place}"), value))
                .collect(),
            tensors,
            alignment: 32,
            data_bytes: end as usize,
        }
    })
}

/// Numbers that break arithmetic.
fn lie() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![
            0,
            1,
            31,
            32,
            255,
            1 << 20,
            1 << 31,
            1 << 32,
            1 << 40,
            u64::MAX / 34,
            u64::MAX / 2,
            u64::MAX - 31,
            u64::MAX
        ]),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..300)) {
        read(&bytes)?;
    }

    #[test]
    fn arbitrary_bytes_behind_an_honest_start(counts in (0u64..4, 0u64..4), bytes in vec(any::<u8>(), 0..300)) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(counts.0.to_le_bytes());
        file.extend(counts.1.to_le_bytes());
        file.extend(bytes);
        read(&file)?;
    }

    #[test]
    fn valid_files_are_read(parts in valid()) {
        prop_assert!(read(&parts.bytes())?);
    }

    #[test]
    fn cut_short_or_grown(parts in valid(), keep in any::<prop::sample::Index>(), more in 0usize..100) {
        let mut file = parts.bytes();
        let kept = keep.index(file.len() + 1);
        let whole = kept == file.len() || parts.tensors.is_empty();
        // Padding before the tensors may be lost when none of them has bytes.
        prop_assert!(!read(&file[..kept])? || whole || parts.data_bytes == 0);
        file.resize(file.len() + more, 1);
        read(&file)?;
    }

    #[test]
    fn other_counts(parts in valid(), tensors in lie(), keys in lie(), both in any::<bool>()) {
        let mut parts = parts;
        parts.tensor_count = Some(tensors);
        parts.key_count = both.then_some(keys);
        read(&parts.bytes())?;
    }

    #[test]
    fn other_tensors(parts in valid(), place in any::<prop::sample::Index>(), number in lie(), which in 0..4) {
        let mut parts = parts;
        if !parts.tensors.is_empty() {
            let place = place.index(parts.tensors.len());
            let (name, dimensions, kind, offset) = &mut parts.tensors[place];
            match which {
                0 => *offset = number,
                1 => *kind = number as u32 % 50,
                2 => dimensions[0] = number,
                _ => *name = "blk.0.weight".to_owned(),
            }
        }
        read(&parts.bytes())?;
    }

    #[test]
    fn flipped_bytes(parts in valid(), flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut file = parts.bytes();
        for (place, byte) in flips {
            let place = place.index(file.len());
            file[place] ^= byte;
        }
        read(&file)?;
    }

    #[test]
    fn eight_bytes_anywhere(parts in valid(), place in any::<prop::sample::Index>(), number in lie()) {
        let mut file = parts.bytes();
        let place = place.index(file.len() - 7);
        file[place..place + 8].copy_from_slice(&number.to_le_bytes());
        read(&file)?;
    }
}
