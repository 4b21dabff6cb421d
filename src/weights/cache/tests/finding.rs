//! What is found, and what only looks as if it were there.

use super::*;

fn lay(root: &Path, name: &str, n: u8, files: &[(&str, &str)]) -> std::path::PathBuf {
    let dir = root.join(name).join("snapshots").join(commit(n));
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::create_dir_all(root.join(name).join("refs")).unwrap();
    fs::write(root.join(name).join("refs/main"), commit(n)).unwrap();
    dir
}

#[test]
fn without_a_list_the_rule_decides_over_what_is_there() {
    let (root, cache) = root();
    lay(
        root.path(),
        "models--org--name",
        1,
        &[("config.json", "{}"), ("x.incomplete", "half")],
    );
    let rule = |wanted: &'static str| {
        move |candidate: &Candidate<'_>| {
            assert!(!candidate.listed && candidate.recorded.is_none());
            assert_eq!(candidate.files.len(), 1);
            Some(vec![wanted.to_owned()])
        }
    };
    let found = cache
        .find(&folder(), "main", &rule("config.json"))
        .unwrap()
        .unwrap();
    assert_eq!(
        found.files,
        [FileSize {
            path: "config.json".into(),
            size: 2
        }]
    );
    assert!(
        cache
            .find(&folder(), &commit(1), &rule("config.json"))
            .unwrap()
            .is_some()
    );
    assert!(
        cache
            .find(&folder(), "main", &rule("model.safetensors"))
            .unwrap()
            .is_none()
    );
    assert!(
        cache
            .find(&folder(), "main", &|_: &Candidate<'_>| None)
            .unwrap()
            .is_none()
    );
    assert!(cache.find(&folder(), "v2", &all).unwrap().is_none());
    assert!(
        cache
            .find(&Folder::model("org/other").unwrap(), "main", &all)
            .unwrap()
            .is_none()
    );
}

#[test]
fn links_two_deep_are_read_and_broken_ones_are_not_there() {
    let (root, cache) = root();
    let dir = lay(root.path(), "models--org--name", 1, &[]);
    fs::create_dir_all(&dir).unwrap();
    let blobs = root.path().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let hash = "ab".repeat(32);
    let store = root.path().join("blobs/ab");
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join(&hash), "weights").unwrap();
    let link = |to: &str, at: std::path::PathBuf| std::os::unix::fs::symlink(to, at).unwrap();
    link(&format!("../../blobs/ab/{hash}"), blobs.join("one"));
    link("../../blobs/one", dir.join("model.safetensors"));
    link("../../blobs/gone", dir.join("config.json"));
    let found = cache.find(&folder(), "main", &all).unwrap().unwrap();
    assert_eq!(
        found.files,
        [FileSize {
            path: "model.safetensors".into(),
            size: 7
        }]
    );
    let State::Broken { broken } = &cache.list()[0].revisions[0].state else {
        panic!("a link leads nowhere");
    };
    assert_eq!(broken, &["config.json"]);
}

#[test]
fn read_only_roots_come_first_whatever_their_spelling_and_are_never_written() {
    let (image, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    lay(
        image.path(),
        "models--ORG--name",
        1,
        &[("config.json", "{}")],
    );
    let mut options = CacheOptions::new(root.path());
    options.read_only = vec![image.path().to_owned()];
    let cache = Cache::open(options);
    let found = cache.find(&folder(), "main", &all).unwrap().unwrap();
    assert!(found.dir.starts_with(image.path()));
    let _in_use = cache.hold(&found).unwrap();
    let before = fs::read_dir(image.path().join("models--ORG--name"))
        .unwrap()
        .count();
    assert_eq!(before, 2); // refs and snapshots: no mark
    fill(&cache, 2, &model(), Some("main"));
    assert_eq!(
        cache.find(&folder(), "main", &all).unwrap().unwrap().commit,
        commit(1)
    );
    assert_eq!(
        cache
            .find(&folder(), &commit(2), &all)
            .unwrap()
            .unwrap()
            .commit,
        commit(2)
    );
    let pruned = cache
        .prune(&PruneOptions {
            budget: Some(0),
            ..Default::default()
        })
        .unwrap();
    assert_eq!(pruned.removed.len(), 1);
    assert!(found.dir.join("config.json").is_file());
    let error = cache
        .remove(&Folder::model("ORG/name").unwrap(), None, false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("nothing is ever removed"), "{error}");
}

#[test]
fn refs_that_name_no_commit_and_lists_that_lead_out_find_nothing() {
    let (root, cache) = root();
    let dir = lay(
        root.path(),
        "models--org--name",
        1,
        &[("config.json", "{}")],
    );
    let secret = root.path().join("secret");
    fs::write(&secret, "s3cr").unwrap();
    let reference = root.path().join("models--org--name/refs/main");
    for bad in [
        "../../../..",
        "main",
        "",
        &"0".repeat(41),
        &"g".repeat(40),
        "/etc",
    ] {
        fs::write(&reference, bad).unwrap();
        assert!(
            cache.find(&folder(), "main", &all).unwrap().is_none(),
            "{bad}"
        );
    }
    fs::write(&reference, format!("{}\n", commit(1))).unwrap(); // some write it with a newline
    let tree = root.path().join("models--org--name/trees");
    fs::create_dir(&tree).unwrap();
    let out = r#"{"format_version":1,"files":{"../../../secret":{"size":4,"blob_id":"x"},"config.json":{"size":2,"blob_id":"y"}}}"#;
    fs::write(tree.join(format!("{}.json", commit(1))), out).unwrap();
    let asks = |path: &'static str| move |_: &Candidate<'_>| Some(vec![path.to_owned()]);
    assert!(
        cache
            .find(&folder(), "main", &asks("../../../secret"))
            .unwrap()
            .is_none()
    );
    let found = cache.find(&folder(), "main", &all).unwrap().unwrap();
    assert_eq!(found.files.len(), 1);
    assert_eq!(found.dir, dir);
    // A file of another size than the list says is not there.
    fs::write(dir.join("config.json"), "{} ").unwrap();
    assert!(cache.find(&folder(), "main", &all).unwrap().is_none());
}
