//! GGUF files that are what they say, written by hand and by the writer, and files that lie in one way each.

use std::path::{Path, PathBuf};

use super::super::gguf::{Announced, GgufFile, Header, Value, Writer};
use super::*;
use crate::error::NnError;

/// A file as its parts, so that every one of them can lie.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) magic: Vec<u8>,
    pub(super) version: u32,
    /// More or fewer than there are.
    pub(super) tensor_count: Option<u64>,
    pub(super) key_count: Option<u64>,
    pub(super) keys: Vec<(String, Vec<u8>)>,
    pub(super) tensors: Vec<RawTensor>,
    pub(super) alignment: usize,
    pub(super) data_bytes: usize,
}

/// A tensor's line in the header: name, dimensions (fastest first), type, offset.
pub(super) type RawTensor = (String, Vec<u64>, u32, u64);

impl Parts {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = self.magic.clone();
        file.extend(self.version.to_le_bytes());
        file.extend(
            self.tensor_count
                .unwrap_or(self.tensors.len() as u64)
                .to_le_bytes(),
        );
        file.extend(
            self.key_count
                .unwrap_or(self.keys.len() as u64)
                .to_le_bytes(),
        );
        for (key, value) in &self.keys {
            file.extend((key.len() as u64).to_le_bytes());
            file.extend(key.as_bytes());
            file.extend(value);
        }
        for (name, dimensions, kind, offset) in &self.tensors {
            file.extend((name.len() as u64).to_le_bytes());
            file.extend(name.as_bytes());
            file.extend((dimensions.len() as u32).to_le_bytes());
            for dimension in dimensions {
                file.extend(dimension.to_le_bytes());
            }
            file.extend(kind.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        if self.alignment > 0 {
            file.resize(file.len().next_multiple_of(self.alignment), 0);
        }
        file.extend((0..self.data_bytes).map(|byte| byte as u8));
        file
    }
}

/// A value behind its type.
pub(super) fn value(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [kind.to_le_bytes().to_vec(), bytes.to_vec()].concat()
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u64).to_le_bytes().to_vec();
    [length, text.as_bytes().to_vec()].concat()
}

/// A list of `count` elements of a type.
fn list(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    let head = [kind.to_le_bytes().to_vec(), count.to_le_bytes().to_vec()].concat();
    value(9, &[head, elements.to_vec()].concat())
}

/// Two tensors and a few keys, nothing wrong.
fn honest() -> Parts {
    Parts {
        magic: b"GGUF".to_vec(),
        version: 3,
        tensor_count: None,
        key_count: None,
        keys: vec![
            ("general.architecture".to_owned(), value(8, &text("llama"))),
            (
                "llama.block_count".to_owned(),
                value(4, &2u32.to_le_bytes()),
            ),
            ("llama.eps".to_owned(), value(6, &1e-5f32.to_le_bytes())),
            ("flag".to_owned(), value(7, &[1])),
            ("below".to_owned(), value(5, &(-7i32).to_le_bytes())),
            (
                "words".to_owned(),
                list(8, 2, &[text("a"), text("ö")].concat()),
            ),
            ("scores".to_owned(), list(6, 1, &(-1.5f32).to_le_bytes())),
            (
                "types".to_owned(),
                list(5, 2, &[1i32.to_le_bytes(), 3i32.to_le_bytes()].concat()),
            ),
        ],
        tensors: vec![
            ("a.weight".to_owned(), vec![32, 3], 8, 0),
            ("b.weight".to_owned(), vec![5], 0, 128),
        ],
        alignment: 32,
        data_bytes: 128 + 20,
    }
}

fn header(parts: &Parts) -> Result<Header, NnError> {
    Header::parse(Path::new("x.gguf"), &parts.bytes())
}

fn complaint(change: impl FnOnce(&mut Parts)) -> String {
    let mut parts = honest();
    change(&mut parts);
    let error = header(&parts).expect_err("it lies").to_string();
    assert!(error.starts_with("x.gguf: "), "{error}");
    error
}

fn on_disk(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn an_honest_file_gives_its_values_and_tensors() {
    for version in [2, 3] {
        let mut parts = honest();
        parts.version = version;
        let dir = tempfile::tempdir().unwrap();
        let file = GgufFile::open(on_disk(dir.path(), "m.gguf", &parts.bytes())).unwrap();
        let metadata = file.metadata();
        assert_eq!(
            metadata.text("general.architecture").unwrap(),
            Some("llama")
        );
        assert_eq!(metadata.unsigned("llama.block_count").unwrap(), Some(2));
        assert_eq!(
            metadata.number("llama.eps").unwrap(),
            Some(f64::from(1e-5f32))
        );
        assert_eq!(metadata.flag("flag").unwrap(), Some(true));
        assert_eq!(metadata.get("below"), Some(&Value::Integer(-7)));
        assert_eq!(metadata.texts("words").unwrap().unwrap(), ["a", "ö"]);
        assert_eq!(metadata.floats("scores").unwrap().unwrap(), [-1.5]);
        assert_eq!(metadata.integers("types").unwrap().unwrap(), [1, 3]);
        assert_eq!(metadata.text("nothing").unwrap(), None);
        assert_eq!(file.names(), ["a.weight", "b.weight"]);
        let a = file.tensor("a.weight").unwrap();
        assert_eq!(
            (a.shape(), a.quantized()),
            (&[3, 32][..], Some(QuantType::Q8_0))
        );
        assert!(a.is_mapped() && a.bytes()[..3] == [0, 1, 2]);
        let b = file.tensor("b.weight").unwrap();
        assert_eq!(
            (b.shape(), b.dtype(), b.bytes()[0]),
            (&[5][..], DType::F32, 128)
        );
        assert_eq!(file.total_bytes(), 148);
        let hint = file.tensor("a.weigth").unwrap_err().to_string();
        assert!(hint.contains("`a.weight`"), "{hint}");
    }
}

#[test]
fn a_value_of_another_type_is_named_with_what_is_wanted() {
    let parts = honest();
    let header = header(&parts).unwrap();
    let metadata = header.metadata();
    for error in [
        metadata.text("flag").unwrap_err(),
        metadata.unsigned("below").unwrap_err(),
        metadata.unsigned("llama.eps").unwrap_err(),
        metadata.number("general.architecture").unwrap_err(),
        metadata.flag("llama.block_count").unwrap_err(),
        metadata.texts("types").unwrap_err(),
        metadata.integers("scores").unwrap_err(),
        metadata.floats("words").unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(
            error.starts_with("x.gguf: `") && error.contains("is wanted"),
            "{error}"
        );
    }
    assert!(
        metadata
            .unsigned("below")
            .unwrap_err()
            .to_string()
            .contains("-7")
    );
}

#[test]
fn what_is_no_gguf_is_called_what_it_is() {
    for (start, word) in [
        ("version https://git-lfs", "git lfs"),
        ("<!DOCTYPE html>", "web page"),
        ("PK\u{3}\u{4}....", "GGUF"),
    ] {
        let error = Header::parse(Path::new("x.gguf"), start.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(complaint(|p| p.version = 1).contains("version 1"));
    assert!(complaint(|p| p.version = 3u32.swap_bytes()).contains("big-endian"));
    assert!(complaint(|p| p.version = 77).contains("version 77"));
    assert!(Header::parse(Path::new("x.gguf"), b"").is_err());
}

#[test]
fn a_count_that_the_file_cannot_hold_is_refused_before_anything_is_allocated() {
    for count in [9, 1 << 19, 1 << 40, u64::MAX] {
        let text = complaint(|p| p.tensor_count = Some(count));
        assert!(
            text.contains("tensor") && (count < 1000 || text.contains(&count.to_string())),
            "{text}"
        );
        let text = complaint(|p| p.key_count = Some(count));
        assert!(
            count < 1000 || (text.contains("keys") && text.contains(&count.to_string())),
            "{text}"
        );
    }
    for count in [3u64, 1 << 20, 1 << 60, u64::MAX] {
        let text = complaint(|p| p.keys[5].1 = list(8, count, &text("a")));
        assert!(text.contains("`words`"), "{text}");
        let text = complaint(|p| p.keys[6].1 = list(6, count << 3, &[]));
        assert!(
            text.contains("`scores`") || text.contains("words") || !text.is_empty(),
            "{text}"
        );
    }
    // A text's length, and a key's.
    let text = complaint(|p| p.keys[0].1 = value(8, &u64::MAX.to_le_bytes()));
    assert!(
        text.contains("`general.architecture`") && text.contains(&u64::MAX.to_string()),
        "{text}"
    );
    let text = complaint(|p| p.keys[0].0 = "k".repeat(1 << 17));
    assert!(text.contains("length of key 0"), "{text}");
    let text = complaint(|p| p.tensors[0].0 = "n".repeat(1000));
    assert!(text.contains("name of tensor 0"), "{text}");
}

#[test]
fn keys_are_there_once_and_of_known_types() {
    assert!(complaint(|p| p.keys[1].0 = p.keys[0].0.clone()).contains("twice"));
    assert!(complaint(|p| p.keys[0].0.clear()).contains("key 0 is empty"));
    assert!(complaint(|p| p.keys[3].1 = value(13, &[1])).contains("`flag`"));
    assert!(complaint(|p| p.keys[3].1 = value(7, &[2])).contains("`flag`"));
    let nested = list(
        9,
        1,
        &[0u32.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat(),
    );
    assert!(complaint(|p| p.keys[3].1 = nested.clone()).contains("list of lists"));
    let text = complaint(|p| p.keys[0].1 = value(8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]));
    assert!(text.contains("UTF-8"), "{text}");
}

#[test]
fn tensors_that_cannot_be_are_named() {
    type Lie = fn(&mut Parts);
    let lies: [(&str, Lie); 12] = [
        ("dimensions", |p| p.tensors[0].1 = vec![32, 1, 1, 1, 3]),
        ("dimensions", |p| p.tensors[0].1.clear()),
        ("unknown type 4", |p| p.tensors[0].2 = 4),
        ("blocks of 32", |p| p.tensors[0].1[0] = 31),
        ("blocks of 256", |p| p.tensors[0].2 = 12),
        ("blocks of 32", |p| p.tensors[0].1 = vec![1 << 62, 1 << 62]),
        ("no multiple", |p| p.tensors[1].3 = 130),
        ("overlap", |p| p.tensors[1].3 = 96),
        ("overlap", |p| p.tensors[1].3 = 0),
        ("cut short", |p| p.tensors[1].3 = 1 << 40),
        ("beyond any file", |p| p.tensors[1].3 = u64::MAX - 31),
        ("belong to no tensor", |p| {
            p.tensors[1].3 = 192;
            p.data_bytes = 300;
        }),
    ];
    for (word, lie) in lies {
        let text = complaint(lie);
        assert!(
            text.contains(word) && text.contains(".weight`"),
            "{word}: {text}"
        );
    }
    assert!(complaint(|p| p.tensors[1].0 = p.tensors[0].0.clone()).contains("twice"));
    assert!(complaint(|p| p.tensors[0].0.clear()).contains("empty"));
    assert!(complaint(|p| p.data_bytes = 147).contains("cut short"));
    assert!(complaint(|p| p.data_bytes = 300).contains("follow the last tensor"));
}

#[test]
fn an_alignment_is_a_power_of_two() {
    let aligned = |alignment: u32| {
        move |p: &mut Parts| {
            p.keys.push((
                "general.alignment".to_owned(),
                value(4, &alignment.to_le_bytes()),
            ));
        }
    };
    for alignment in [0u32, 3, 48, 1 << 30] {
        let text = complaint(aligned(alignment));
        assert!(text.contains("general.alignment"), "{text}");
    }
    let mut parts = honest();
    aligned(64)(&mut parts);
    parts.alignment = 64;
    assert_eq!(header(&parts).unwrap().names().count(), 2);
    assert!(
        complaint(|p| p
            .keys
            .push(("general.alignment".to_owned(), value(8, &text("8")))))
        .contains("general.alignment")
    );
}

#[test]
fn types_that_are_not_read_are_an_error_for_who_asks_for_them_alone() {
    let mut parts = honest();
    // 256 numbers of Q2_K in 84 bytes.
    parts.tensors[0] = ("a.weight".to_owned(), vec![256], 10, 0);
    parts.tensors[1].3 = 96;
    parts.data_bytes = 96 + 20;
    let dir = tempfile::tempdir().unwrap();
    let file = GgufFile::open(on_disk(dir.path(), "m.gguf", &parts.bytes())).unwrap();
    assert!(
        matches!(file.tensor("a.weight"), Err(NnError::DType { found, .. }) if found == "Q2_K")
    );
    assert!(file.tensor("b.weight").is_ok());
    parts.tensors[1].1 = vec![0];
    parts.data_bytes = 96;
    let file = GgufFile::open(on_disk(dir.path(), "n.gguf", &parts.bytes())).unwrap();
    let text = file.tensor("b.weight").unwrap_err().to_string();
    assert!(text.contains("holds no numbers"), "{text}");
}

/// A part of a split model: one tensor, and the keys that say so.
fn part(number: u16, count: u16, tensors: u32) -> Parts {
    let mut parts = honest();
    parts.tensors = vec![(format!("t{number}.weight"), vec![4], 0, 0)];
    parts.data_bytes = 16;
    let key = |name: &str, kind: u32, bytes: &[u8]| (name.to_owned(), value(kind, bytes));
    parts.keys = vec![
        key("split.no", 2, &number.to_le_bytes()),
        key("split.count", 2, &count.to_le_bytes()),
        key("split.tensors.count", 5, &tensors.to_le_bytes()),
    ];
    parts
}

#[test]
fn a_split_model_is_opened_by_its_first_file() {
    let dir = tempfile::tempdir().unwrap();
    let put = |number: u16, parts: &Parts| {
        let name = format!("m-{:05}-of-00003.gguf", number + 1);
        on_disk(dir.path(), &name, &parts.bytes())
    };
    let first = put(0, &part(0, 3, 3));
    let text = GgufFile::open(&first).err().unwrap().to_string();
    assert!(
        text.contains("m-00002-of-00003.gguf") && text.contains("2 of its 3"),
        "{text}"
    );
    let second = put(1, &part(1, 3, 3));
    put(2, &part(2, 3, 3));
    let file = GgufFile::open(&first).unwrap();
    assert_eq!(file.names(), ["t0.weight", "t1.weight", "t2.weight"]);
    assert_eq!(file.total_bytes(), 48);
    let text = GgufFile::open(&second).err().unwrap().to_string();
    assert!(
        text.contains("name the first") && text.contains("m-00001-of-00003"),
        "{text}"
    );
    // A file of another model, the wrong order, and another sum.
    for (wrong, word) in [
        (part(1, 4, 3), "split.count"),
        (part(2, 3, 3), "split.no"),
        (part(1, 3, 9), "split.tensors.count"),
    ] {
        put(1, &wrong);
        let text = GgufFile::open(&first).err().unwrap().to_string();
        assert!(text.contains(word), "{text}");
    }
    let mut twice = part(1, 3, 3);
    twice.tensors[0].0 = "t0.weight".to_owned();
    put(1, &twice);
    let text = GgufFile::open(&first).err().unwrap().to_string();
    assert!(text.contains("earlier file"), "{text}");
    // One of several under a name that says nothing.
    let alone = on_disk(dir.path(), "alone.gguf", &part(0, 3, 3).bytes());
    assert!(
        GgufFile::open(alone)
            .err()
            .unwrap()
            .to_string()
            .contains("split.count")
    );
}

#[test]
fn what_the_writer_writes_is_read_back() {
    let metadata = [
        ("general.architecture", Value::Text("llama".to_owned())),
        ("count", Value::Integer(7)),
        ("below", Value::Integer(-7)),
        ("number", Value::Float(0.5)),
        ("flag", Value::Bool(false)),
        ("words", Value::Texts(vec!["a".to_owned(), "▁b".to_owned()])),
        ("numbers", Value::Integers(vec![1, -2])),
        ("floats", Value::Floats(vec![1.5, -2.25])),
        ("flags", Value::Bools(vec![true, false])),
    ];
    let announced = |name: &str, stored: StoredType, shape: &[usize]| Announced {
        name: name.to_owned(),
        stored,
        shape: shape.to_vec(),
    };
    let tensors = [
        announced("a", DType::BF16.into(), &[3, 5]),
        announced("b", QuantType::Q6K.into(), &[2, 256]),
        announced("c", DType::F32.into(), &[]),
    ];
    let mut writer = Writer::new(Vec::new(), &metadata, &tensors).unwrap();
    assert!(writer.tensor(&[0; 29]).is_err());
    let mut writer = Writer::new(Vec::new(), &metadata, &tensors).unwrap();
    writer.tensor(&[1; 30]).unwrap();
    writer.tensor(&[2; 420]).unwrap();
    assert!(
        Writer::new(Vec::new(), &metadata, &tensors)
            .unwrap()
            .finish()
            .is_err()
    );
    writer.tensor(&[3; 4]).unwrap();
    let bytes = writer.finish().unwrap();
    let file = GgufFile::embedded("x", bytes.leak()).unwrap();
    for (key, value) in &metadata {
        assert_eq!(file.metadata().get(key), Some(value), "{key}");
    }
    assert_eq!(file.metadata().keys().count(), metadata.len());
    for (tensor, byte) in tensors.iter().zip([1u8, 2, 3]) {
        let found = file.tensor(&tensor.name).unwrap();
        assert_eq!(found.stored(), tensor.stored);
        assert!(found.bytes().iter().all(|found| *found == byte));
    }
    assert_eq!(file.tensor("b").unwrap().shape(), [2, 256]);
}

#[test]
fn a_part_of_a_stack_is_shared_and_has_a_dimension_less() {
    let bytes: Vec<u8> = (0..3 * 2 * 34).map(|byte| byte as u8).collect();
    let stack = HostTensor::from_bytes("x", QuantType::Q8_0, vec![3, 2, 32], bytes).unwrap();
    let part = stack.at(1).unwrap();
    assert_eq!((part.shape(), part.bytes()[0]), (&[2, 32][..], 68));
    assert_eq!(part.rows(1, 1).unwrap().bytes()[0], 102);
    assert!(stack.at(3).is_err());
}
