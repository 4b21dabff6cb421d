//! No bytes make the reader panic or reach outside the file: arbitrary ones, and valid files with something changed.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::safetensors::Header;
use super::*;
use crate::error::NnError;

/// Reads bytes as a checkpoint: refused as a weight file, or tensors whose bytes are inside.
fn read(bytes: &[u8]) -> Result<(), TestCaseError> {
    let header = match Header::parse(Path::new("x"), bytes, bytes.len() as u64) {
        Ok(header) => header,
        Err(NnError::WeightFile { reason, .. }) => {
            prop_assert!(!reason.is_empty() && reason.len() < 2000);
            return Ok(());
        }
        Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
    };
    let mut tensor_bytes = 0;
    for name in header.names() {
        let (_, entry) = header
            .get(name)
            .ok_or_else(|| TestCaseError::fail("lost"))?;
        prop_assert!(bytes.get(entry.range.clone()).is_some());
        tensor_bytes += entry.range.len();
    }
    prop_assert_eq!(tensor_bytes, header.data().len());
    prop_assert_eq!(header.data().end, bytes.len());
    // The same through the public door, from memory that outlives the source.
    let source = StaticSource::new("x", bytes.to_vec().leak())
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    for name in source.names() {
        match source.tensor(&name) {
            Ok(tensor) => {
                prop_assert_eq!(
                    tensor.bytes().len(),
                    tensor.elements() * tensor.dtype().size_in_bytes()
                );
            }
            Err(NnError::DType { .. } | NnError::WeightFile { .. }) => {}
            Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }
    Ok(())
}

/// A header's text and the number of data bytes behind it: what a writer would write.
fn valid() -> impl Strategy<Value = (String, usize)> {
    let tensor = (
        prop::sample::select(vec![
            ("F32", 4),
            ("BF16", 2),
            ("I64", 8),
            ("BOOL", 1),
            ("F8_E4M3", 1),
        ]),
        vec(0usize..4, 0..4),
    );
    vec(tensor, 0..6).prop_map(|tensors| {
        let mut entries = vec![r#""__metadata__":{"format":"pt"}"#.to_owned()];
        let mut reached = 0;
        for (place, ((dtype, size), shape)) in tensors.into_iter().enumerate() {
            let end = reached + size * shape.iter().product::<usize>();
            entries.push(format!(
                r#""layer.{place}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{reached},{end}]}}"#
            ));
            reached = end;
        }
        (format!("{{{}}}", entries.join(",")), reached)
    })
}

/// Numbers that break arithmetic.
fn lie() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "0",
            "-1",
            "1",
            "7",
            "4294967296",
            "1099511627776",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e30",
            "0.5",
            "null",
            "[]",
            "\"F16\"",
        ])
        .prop_map(str::to_owned),
        any::<u64>().prop_map(|number| number.to_string()),
    ]
}

/// The text with its `which`th run of digits replaced.
fn with_number(text: &str, which: usize, number: &str) -> String {
    let mut runs = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices() {
        match (character.is_ascii_digit(), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                runs.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    let mut changed = text.to_owned();
    if !runs.is_empty() {
        changed.replace_range(runs[which % runs.len()].clone(), number);
    }
    changed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..300)) {
        read(&bytes)?;
    }

    #[test]
    fn arbitrary_bytes_behind_an_honest_length(header in vec(any::<u8>(), 0..200), data_bytes in 0usize..20) {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.resize(file.len() + data_bytes, 0);
        read(&file)?;
    }

    #[test]
    fn valid_files_are_read((header, data_bytes) in valid()) {
        let file = file_of(&header, data_bytes);
        prop_assert!(Header::parse(Path::new("x"), &file, file.len() as u64).is_ok());
        read(&file)?;
    }

    #[test]
    fn another_length((header, data_bytes) in valid(), length in any::<u64>(), near in -20i64..20, far in any::<bool>()) {
        let mut file = file_of(&header, data_bytes);
        let length = if far { length } else { (header.len() as u64).saturating_add_signed(near) };
        file[..8].copy_from_slice(&length.to_le_bytes());
        read(&file)?;
    }

    #[test]
    fn cut_short_or_grown((header, data_bytes) in valid(), keep in any::<prop::sample::Index>(), more in 0usize..9) {
        let mut file = file_of(&header, data_bytes);
        read(&file[..keep.index(file.len() + 1)])?;
        file.resize(file.len() + more, 1);
        read(&file)?;
    }

    #[test]
    fn other_numbers((header, data_bytes) in valid(), lies in vec((any::<usize>(), lie()), 1..4)) {
        let header = lies.iter().fold(header, |header, (which, number)| with_number(&header, *which, number));
        read(&file_of(&header, data_bytes))?;
    }

    #[test]
    fn flipped_bytes((header, data_bytes) in valid(), flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut file = file_of(&header, data_bytes);
        for (place, byte) in flips {
            let place = place.index(file.len());
            file[place] ^= byte;
        }
        read(&file)?;
    }

    #[test]
    fn a_file_longer_than_what_was_read((header, data_bytes) in valid(), announced in any::<u64>()) {
        let file = file_of(&header, data_bytes);
        // The download's case: the first bytes and a length. No lie about the length may panic.
        let _ = Header::parse(Path::new("x"), &file, announced);
        let _ = Header::bytes_needed(Path::new("x"), &file, announced);
    }
}
