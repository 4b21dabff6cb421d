//! Snapshot directories: one file, shards, and everything that can be wrong with them.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::error::NnError;

fn put(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(dir.join(name), bytes).unwrap();
}

fn shard(name: &str, number: f32) -> Vec<u8> {
    written(&[(name, tensor(&[number], &[1]))])
}

/// Two shards, `a` in the first and `b` in the second, with this index.
fn sharded(index: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "model-00001-of-00002.safetensors",
        shard("a", 1.),
    );
    put(
        dir.path(),
        "model-00002-of-00002.safetensors",
        shard("b", 2.),
    );
    put(dir.path(), "model.safetensors.index.json", index);
    dir
}

const INDEX: &str = r#"{"metadata":{"total_size":8},"weight_map":{
    "a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;

#[track_caller]
fn refused(dir: &Path) -> String {
    match SnapshotDir::open(dir).err() {
        Some(error @ NnError::WeightFile { .. }) => error.to_string(),
        other => panic!("not refused as a weight file: {other:?}"),
    }
}

#[track_caller]
fn index_refused(index: &str, expected: &str) {
    let dir = sharded(index);
    let reason = refused(dir.path());
    assert!(
        reason.contains("model.safetensors.index.json: ") && reason.contains(expected),
        "{reason:?} lacks {expected:?}"
    );
}

#[test]
fn one_file_is_mapped_and_outlives_its_source() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "model.safetensors", shard("a", 5.));
    let source = SnapshotDir::open(dir.path()).unwrap();
    let a = source.tensor("a").unwrap();
    drop(source);
    // A mapped file may be deleted: its bytes stay.
    dir.close().unwrap();
    assert!(a.is_mapped());
    assert_eq!(f32s(&a), [5.]);
}

#[test]
fn shards_are_one_source() {
    let dir = sharded(INDEX);
    let source = SnapshotDir::open(dir.path()).unwrap();
    assert_eq!(source.names(), ["a", "b"]);
    assert_eq!(source.total_bytes(), 8);
    assert_eq!(f32s(&source.tensor("b").unwrap()), [2.]);
    assert!(matches!(
        source.tensor("c"),
        Err(NnError::MissingTensor { .. })
    ));
}

#[cfg(unix)]
#[test]
fn links_into_a_cache_are_followed_and_a_dangling_one_is_named() {
    let blobs = tempfile::tempdir().unwrap();
    put(blobs.path(), "0123", shard("a", 3.));
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(
        blobs.path().join("0123"),
        dir.path().join("model.safetensors"),
    )
    .unwrap();
    let source = SnapshotDir::open(dir.path()).unwrap();
    assert_eq!(f32s(&source.tensor("a").unwrap()), [3.]);
    fs::remove_file(blobs.path().join("0123")).unwrap();
    let error = SnapshotDir::open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
}

#[test]
fn a_missing_shard_is_named() {
    let dir = sharded(INDEX);
    fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    let reason = refused(dir.path());
    let expected = "1 of its 2 shards are not there (model-00002-of-00002.safetensors): download";
    assert!(reason.contains(expected), "{reason}");
}

#[test]
fn a_path_out_of_the_snapshot_is_refused() {
    for path in [
        "../x.safetensors",
        "/etc/x.safetensors",
        "sub/x.safetensors",
        "./x.safetensors",
        "..",
        "",
        "x/../../y.safetensors",
        "..\\\\x.safetensors",
        "C:x.safetensors",
        "x\\u0000.safetensors",
        "config.json",
        "pytorch_model.bin",
    ] {
        let index = format!(r#"{{"weight_map":{{"a":"{path}"}}}}"#);
        index_refused(
            &index,
            "a shard is a file of the same directory whose name ends in .safetensors",
        );
    }
}

#[test]
fn a_tensor_that_is_not_in_its_shard_is_named() {
    let swapped = r#"{"weight_map":{"b":"model-00001-of-00002.safetensors"}}"#;
    index_refused(
        swapped,
        "tensor `b` is not in model-00001-of-00002.safetensors",
    );
}

#[test]
fn an_index_of_another_shape_is_refused() {
    for index in [
        "",
        "[]",
        "{}",
        r#"{"weight_map":[]}"#,
        r#"{"weight_map":{"a":1}}"#,
        "\u{0}",
    ] {
        index_refused(index, "it is not an index of shards");
    }
    index_refused(&"[".repeat(100_000), "it is not an index of shards");
    index_refused(r#"{"weight_map":{}}"#, "names no tensor");
    index_refused(
        r#"{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}"#,
        "`a` is there twice",
    );
}

#[test]
fn a_damaged_shard_is_named() {
    let dir = sharded(INDEX);
    let path = dir.path().join("model-00002-of-00002.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let reason = refused(dir.path());
    assert!(
        reason.contains("model-00002-of-00002.safetensors: it is cut short"),
        "{reason}"
    );
}

#[test]
fn pickle_files_are_never_opened() {
    for name in ["pytorch_model.bin", "consolidated.00.pth", "model.pt"] {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), name, b"\x80\x02");
        let reason = refused(dir.path());
        assert!(
            reason.contains(name) && reason.contains("never opened"),
            "{reason}"
        );
        assert!(reason.contains("convert it to safetensors"), "{reason}");
    }
}

#[test]
fn a_directory_without_weights_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "config.json", "{}");
    let reason = refused(dir.path());
    assert!(
        reason.starts_with(&dir.path().display().to_string()),
        "{reason}"
    );
    assert!(
        reason.ends_with("looked for model.safetensors or model.safetensors.index.json"),
        "{reason}"
    );
    put(dir.path(), "adapter_model.safetensors", shard("a", 1.));
    assert!(refused(dir.path()).ends_with("only adapter_model.safetensors"));
    assert!(matches!(
        SnapshotDir::open(dir.path().join("absent")),
        Err(NnError::Io { .. })
    ));
}

#[test]
fn a_directory_in_the_place_of_the_weights_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert!(refused(dir.path()).contains("it is not a file"));
}

#[test]
fn prefetch_reports_up_to_the_last_byte_and_never_backwards() {
    // Two and a half chunks, sparse on the disk.
    let bytes = 40 << 20;
    let header =
        format!(r#"{{"a":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "model.safetensors", file_of(&header, 0));
    let file = fs::File::options()
        .write(true)
        .open(dir.path().join("model.safetensors"))
        .unwrap();
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
    let source = SnapshotDir::open(dir.path()).unwrap();
    let reports = Mutex::new(Vec::new());
    source
        .prefetch(&|done, total| reports.lock().unwrap().push((done, total)))
        .unwrap();
    let reports = reports.into_inner().unwrap();
    assert_eq!(reports.len(), 4);
    assert_eq!((reports[0], reports[3]), ((0, bytes), (bytes, bytes)));
    assert!(reports.is_sorted());
}

#[cfg(target_os = "linux")]
#[test]
fn prefetch_of_a_file_that_was_cut_meanwhile_does_not_end_the_process() {
    use memmap2::{Advice, Mmap};
    let dir = tempfile::tempdir().unwrap();
    let bytes = 1 << 20;
    let header =
        format!(r#"{{"a":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    put(dir.path(), "model.safetensors", file_of(&header, bytes));
    let path = dir.path().join("model.safetensors");
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    // SAFETY: only asked whether the kernel offers the advice, and never read.
    let probe = unsafe { Mmap::map(&file) }.unwrap();
    if probe.advise(Advice::PopulateRead).is_err() {
        // Without it pages are touched, and the signal cannot be caught.
        return;
    }
    let source = SnapshotDir::open(dir.path()).unwrap();
    file.set_len(4096).unwrap();
    let error = source.prefetch(&|_, _| {}).unwrap_err();
    assert!(matches!(error, NnError::Io { .. }), "{error}");
}
