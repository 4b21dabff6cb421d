//! What verifying finds, and what is baked.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::super::super::progress::Progress;
use super::*;

fn verify(cache: &Cache, remove: bool) -> Verified {
    let what = Verify {
        folder: None,
        revision: None,
        threads: 2,
        remove,
    };
    cache.verify(&what, &Progress::default()).unwrap()
}

#[test]
fn a_flipped_bit_is_named_removed_and_fetched_again() {
    for symlinks in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let mut options = CacheOptions::new(root.path());
        options.symlinks = symlinks;
        let cache = Cache::open(options);
        let mut files = model();
        files.push(lfs("same", "weights"));
        let (found, _) = fill(&cache, 1, &files, Some("main"));
        let good = verify(&cache, false);
        assert_eq!(
            (good.files, good.bytes, good.unchecked, good.broken.len()),
            (2, 9, 0, 0)
        );
        fs::write(found.dir.join("same"), "weightz").unwrap();
        let bad = verify(&cache, false);
        assert_eq!(bad.broken.len(), 1, "{bad:?}");
        assert!(bad.broken[0].reason.contains("digest") && !bad.broken[0].removed);
        assert!(cache.find(&folder(), "main", &all).unwrap().is_some()); // its size is right
        assert!(verify(&cache, true).broken[0].removed);
        assert!(cache.find(&folder(), "main", &all).unwrap().is_none());
        if symlinks {
            assert_eq!(bad.broken[0].files.len(), 2);
            assert!(matches!(
                cache.list()[0].revisions[0].state,
                State::Partial { .. }
            ));
        }
        let (again, _) = fill(&cache, 1, &files, Some("main"));
        assert_eq!(
            fs::read_to_string(again.dir.join("same")).unwrap(),
            "weights"
        );
        assert_eq!(verify(&cache, false).broken.len(), 0);
    }
}

#[test]
fn a_gap_a_wrong_size_and_a_wrong_version_are_told_apart() {
    let (_root, cache) = root();
    let (found, _) = fill(&cache, 1, &model(), Some("main"));
    let other = lfs("other", "another");
    let (second, _) = fill(&cache, 2, std::slice::from_ref(&other), None);
    let blob = fs::canonicalize(found.dir.join("config.json")).unwrap();
    fs::write(&blob, "{").unwrap();
    let weights = found.dir.join("unet/deep/model.safetensors");
    fs::remove_file(&weights).unwrap();
    std::os::unix::fs::symlink(format!("../../../../blobs/{}", other.0.blob), &weights).unwrap();
    fs::remove_file(fs::canonicalize(second.dir.join("other")).unwrap()).unwrap();
    let reasons: Vec<String> = verify(&cache, false)
        .broken
        .into_iter()
        .map(|broken| broken.reason)
        .collect();
    for wanted in ["1 bytes and should have 2", "leads nowhere"] {
        assert!(
            reasons.iter().any(|reason| reason.contains(wanted)),
            "{wanted}: {reasons:?}"
        );
    }
    assert_eq!(reasons.len(), 3, "{reasons:?}");
}

#[test]
fn looking_through_the_cache_is_no_use() {
    let (_root, cache) = root();
    let (found, in_use) = fill(&cache, 1, &model(), None);
    drop(in_use);
    age(&found, 50);
    let before = cache.list()[0].revisions[0].last_used;
    verify(&cache, false);
    assert_eq!(cache.list()[0].revisions[0].last_used, before);
    drop(cache.hold(&found).unwrap());
    assert!(cache.list()[0].revisions[0].last_used > before);
}

fn bake(cache: &Cache, dir: &Path) -> Result<Baked, WeightsError> {
    let found = cache.find(&folder(), "main", &all).unwrap().unwrap();
    let bake = Bake {
        found: &found,
        dir,
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1000),
        threads: 2,
    };
    bake.lay(&Progress::default())
}

#[test]
fn a_baked_model_is_plain_and_always_the_same() {
    let (root, cache) = root();
    fill(&cache, 1, &model(), Some("main"));
    let dir = root.path().join("layer");
    let baked = bake(&cache, &dir).unwrap();
    assert!(baked.complete);
    assert_eq!(
        baked.files["config.json"].sha256,
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    );
    for path in [
        "config.json",
        "unet/deep/model.safetensors",
        ".chandler-bake.json",
    ] {
        let metadata = fs::symlink_metadata(dir.join(path)).unwrap();
        assert!(metadata.is_file() && metadata.nlink() == 1);
        assert_eq!(
            (metadata.mtime(), metadata.permissions().mode() & 0o7777),
            (1000, 0o644),
            "{path}"
        );
    }
    assert_eq!(fs::metadata(dir.join("unet")).unwrap().mtime(), 1000);
    let manifest = fs::read(dir.join(".chandler-bake.json")).unwrap();
    fs::write(dir.join(".chandler-tmp-1"), "of a bake that was killed").unwrap();
    assert_eq!(bake(&cache, &dir).unwrap(), baked);
    assert_eq!(fs::read(dir.join(".chandler-bake.json")).unwrap(), manifest);
    assert!(!dir.join(".chandler-tmp-1").exists());

    // The next version has other files; what the last one laid goes.
    let next = [git("config.json", "{ }"), lfs("model.safetensors", "other")];
    fill(&cache, 2, &next, Some("main"));
    bake(&cache, &dir).unwrap();
    assert!(!dir.join("unet").exists() && dir.join("model.safetensors").is_file());
}

#[test]
fn bake_takes_no_damaged_bytes_and_no_strangers_directory() {
    let (root, cache) = root();
    let (found, _) = fill(&cache, 1, &model(), Some("main"));
    let dir = root.path().join("layer");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("mine.txt"), "precious").unwrap();
    let error = bake(&cache, &dir).unwrap_err().to_string();
    assert!(error.contains("other files"), "{error}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    fs::remove_file(dir.join("mine.txt")).unwrap();
    fs::write(found.dir.join("unet/deep/model.safetensors"), "weightz").unwrap();
    let error = bake(&cache, &dir).unwrap_err().to_string();
    assert!(error.contains("--repair"), "{error}");
    let manifest = fs::read_to_string(dir.join(".chandler-bake.json")).unwrap();
    assert!(manifest.contains("\"complete\": false"), "{manifest}");
}
