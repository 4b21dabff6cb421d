//! What a safetensors header may say, and what is answered to each lie.

use std::path::Path;

use super::super::safetensors::{Header, MAX_HEADER_BYTES};
use super::*;
use crate::error::NnError;

/// The reason for which a file is refused.
fn refused(file: &[u8]) -> String {
    let leaked: &'static [u8] = file.to_vec().leak();
    match StaticSource::new("model.safetensors", leaked).err() {
        Some(NnError::WeightFile { file, reason }) => {
            assert_eq!(file, Path::new("model.safetensors"));
            reason
        }
        other => panic!("not refused as a weight file: {other:?}"),
    }
}

/// That the header, over so many data bytes, is refused with this in the reason.
#[track_caller]
fn refuses(header: &str, data_bytes: usize, expected: &str) {
    let reason = refused(&file_of(header, data_bytes));
    assert!(reason.contains(expected), "{reason:?} lacks {expected:?}");
}

#[test]
fn a_file_of_the_safetensors_crate_is_read() {
    let bytes = written(&[
        ("a", tensor(&[1., 2., 3., 4., 5., 6.], &[2, 3])),
        ("b", tensor(&[7.], &[]).to_dtype(DType::BF16).unwrap()),
        (
            "c",
            Tensor::from_slice(&[1i64, -1], 2, &Device::Cpu).unwrap(),
        ),
    ]);
    let source = StaticSource::new("demo", bytes.leak()).unwrap();
    assert_eq!(source.names(), ["a", "b", "c"]);
    assert_eq!(source.total_bytes(), 24 + 2 + 16);
    assert!(source.contains("a") && !source.contains("d"));
    let a = source.tensor("a").unwrap();
    assert_eq!(
        (a.name(), a.shape(), a.is_mapped()),
        ("a", &[2, 3][..], false)
    );
    assert_eq!(f32s(&a), [1., 2., 3., 4., 5., 6.]);
    assert_eq!(source.tensor("b").unwrap().to_f32().unwrap(), [7.]);
    assert_eq!(source.tensor("c").unwrap().dtype(), DType::I64);
}

#[test]
fn a_file_without_tensors_is_read() {
    let file = file_of(r#"{"__metadata__":{"format":"pt"}}   "#, 0);
    let source = StaticSource::new("demo", file.leak()).unwrap();
    assert!(source.names().is_empty());
    source
        .prefetch(&|done, total| assert_eq!((done, total), (0, 0)))
        .unwrap();
}

#[test]
fn a_short_file_is_refused() {
    assert!(refused(b"").contains("it has 0 bytes, too few"));
    assert!(refused(&[1, 0, 0, 0, 0, 0, 0]).contains("it has 7 bytes, too few"));
}

#[test]
fn a_header_beyond_the_file_is_refused() {
    let mut file = 8123u64.to_le_bytes().to_vec();
    file.resize(512, b' ');
    assert_eq!(
        refused(&file),
        "download it again: the header announces 8123 bytes and the file has 512"
    );
    let exact = file_of("{}", 0);
    assert!(refused(&exact[..9]).contains("announces 2 bytes and the file has 9"));
}

#[test]
fn an_enormous_header_is_refused() {
    for header_bytes in [MAX_HEADER_BYTES + 1, u64::MAX, u64::MAX - 7, 1 << 63] {
        let mut file = header_bytes.to_le_bytes().to_vec();
        file.resize(64, b' ');
        assert!(refused(&file).contains("100000000 are the most"));
    }
    // Also when the file would be long enough.
    let start = (MAX_HEADER_BYTES + 1).to_le_bytes();
    assert!(Header::bytes_needed(Path::new("x"), &start, 1 << 40).is_err());
    let start = MAX_HEADER_BYTES.to_le_bytes();
    assert_eq!(
        Header::bytes_needed(Path::new("x"), &start, 1 << 40).unwrap() as u64,
        MAX_HEADER_BYTES + 8
    );
}

#[test]
fn another_kind_of_file_is_named() {
    for (start, expected) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:4665"[..],
            "Git LFS pointer",
        ),
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00", "pickle"),
        (b"GGUF\x03\x00\x00\x00\x00\x00", "GGUF"),
    ] {
        let reason = refused(start);
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn a_header_that_is_not_text_or_json_is_refused() {
    let mut file = file_of("{\"a\":1}", 0);
    file[10] = 0xff;
    assert!(refused(&file).contains("not UTF-8"));
    refuses("", 0, "not what safetensors writes (EOF");
    refuses("{", 0, "not what safetensors writes (EOF");
    refuses("[]", 0, "expected an object of tensors");
    refuses("{} {}", 0, "trailing characters");
    refuses(r#"{"a":7}"#, 0, "not what safetensors writes");
    refuses(
        r#"{"__metadata__":{"a":{"b":"c"}}}"#,
        0,
        "expected a string",
    );
}

#[test]
fn a_missing_or_unknown_field_is_refused() {
    refuses(
        r#"{"a":{"dtype":"F32","shape":[1]}}"#,
        4,
        "missing field `data_offsets`",
    );
    refuses(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}"#,
        4,
        "unknown field `more`",
    );
    refuses(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#,
        4,
        "not what safetensors writes",
    );
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    refuses(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
        2,
        "`a` is there twice",
    );
    refuses(
        r#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        1,
        "duplicate field `dtype`",
    );
    refuses(
        r#"{"__metadata__":{},"__metadata__":{}}"#,
        0,
        "`__metadata__` is there twice",
    );
}

#[test]
fn offsets_beyond_the_file_are_refused() {
    refuses(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        7,
        "it is cut short: its tensors need 8 bytes and 7 are there",
    );
    let far = u64::MAX;
    refuses(
        &format!(
            r#"{{"a":{{"dtype":"U8","shape":[1],"data_offsets":[{},{far}]}}}}"#,
            far - 1
        ),
        1,
        "beyond any file",
    );
}

#[test]
fn negative_fractional_and_backward_offsets_are_refused() {
    for offsets in [
        "-1,3",
        "0,-4",
        "0.0,4.0",
        "\"0\",4",
        "0,18446744073709551616",
    ] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[{offsets}]}}}}"#);
        refuses(&header, 4, "not what safetensors writes");
    }
    refuses(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        4,
        "tensor `a` begins at 4 and ends before, at 0",
    );
}

#[test]
fn overlaps_holes_and_trailing_bytes_are_refused() {
    let two = |second: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"b":{{"dtype":"F32","shape":[1],"data_offsets":[{second}]}}}}"#
        )
    };
    refuses(
        &two("2,6"),
        6,
        "the bytes of the tensors `a` and `b` overlap",
    );
    refuses(&two("0,4"), 4, "overlap");
    refuses(
        &two("6,10"),
        10,
        "2 bytes before tensor `b` belong to no tensor",
    );
    refuses(&two("4,8"), 11, "3 bytes follow the last tensor");
    refuses("{}", 5, "5 bytes follow the last tensor");
}

#[test]
fn a_shape_that_does_not_fit_its_bytes_is_refused() {
    refuses(
        r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}}"#,
        20,
        "tensor `a` of F32 [2, 3] needs 24 bytes, and its offsets hold 20",
    );
}

#[test]
fn a_shape_that_overflows_is_refused() {
    for shape in [
        "1099511627776,1099511627776",
        "18446744073709551615,2",
        // 2^61 numbers of 8 bytes wrap to no bytes at all.
        "2305843009213693952",
        "1099511627776,1099511627776,0",
    ] {
        refuses(
            &format!(r#"{{"a":{{"dtype":"F64","shape":[{shape}],"data_offsets":[0,0]}}}}"#),
            0,
            "no whole number of bytes that could be addressed",
        );
    }
}

#[test]
fn an_unknown_dtype_is_refused() {
    refuses(
        r#"{"a":{"dtype":"Q4_K","shape":[1],"data_offsets":[0,1]}}"#,
        1,
        "tensor `a` has the unknown dtype `Q4_K`: save the checkpoint in f32, f16 or bf16",
    );
}

#[test]
fn half_a_byte_is_refused() {
    refuses(
        r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#,
        1,
        "no whole number of bytes",
    );
}

#[test]
fn a_dtype_that_is_not_read_is_named_when_it_is_asked_for() {
    let header = r#"{"a":{"dtype":"F8_E5M2","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
    let source = StaticSource::new("demo", file_of(header, 6).leak()).unwrap();
    let error = source.tensor("a").unwrap_err();
    assert!(matches!(error, NnError::DType { .. }));
    assert_eq!(
        error.to_string(),
        "tensor `a` has dtype F8_E5M2; f32, f16 and bf16 are read"
    );
    source.tensor("b").unwrap();
}

#[test]
fn a_tensor_without_numbers_is_refused_when_it_is_asked_for() {
    let header = r#"{"a":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let source = StaticSource::new("demo", file_of(header, 4).leak()).unwrap();
    let error = source.tensor("a").unwrap_err();
    assert!(matches!(error, NnError::WeightFile { .. }));
    assert_eq!(
        error.to_string(),
        "demo: tensor `a` of shape [0, 4] holds no numbers"
    );
    source.tensor("b").unwrap();
}

#[test]
fn a_json_bomb_is_refused() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for prefix in ["", r#"{"a":"#, r#"{"__metadata__":"#, r#"{"a":{"more":"#] {
            let deep = 200_000;
            let bomb = format!("{prefix}{}1{}", open.repeat(deep), close.repeat(deep));
            refuses(&bomb, 0, "not what safetensors writes");
        }
    }
}

#[test]
fn a_reason_shows_little_of_what_the_file_says() {
    let name = "x\\u0007\\u001b[31m".repeat(10_000);
    let header = format!(r#"{{"{name}":{{"dtype":"Q9","shape":[1],"data_offsets":[0,1]}}}}"#);
    let reason = refused(&file_of(&header, 1));
    assert!(
        reason.len() < 1000 && !reason.contains(char::is_control),
        "{reason}"
    );
    let header = format!(r#"{{"a":"{}"}}"#, "y".repeat(100_000));
    assert!(refused(&file_of(&header, 1)).len() < 1000);
}

#[test]
fn a_missing_tensor_comes_with_near_names() {
    let bytes = written(&[
        ("model.embed_tokens.weight", tensor(&[1.], &[1])),
        ("model.norm.weight", tensor(&[1.], &[1])),
        ("lm_head.weight", tensor(&[1.], &[1])),
    ]);
    let source = StaticSource::new("demo", bytes.leak()).unwrap();
    let message = |name: &str| source.tensor(name).unwrap_err().to_string();
    assert_eq!(
        message("embed_tokens.weight"),
        "tensor `embed_tokens.weight` is missing from the checkpoint; near it is `model.embed_tokens.weight`"
    );
    assert!(message("model.norms.weight").contains("near it is `model.norm.weight`"));
    assert_eq!(
        message("zzz"),
        "tensor `zzz` is missing from the checkpoint"
    );
}
