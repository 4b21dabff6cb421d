//! What is removed, in which order, and what never is.

use super::*;

fn budget(bytes: u64) -> PruneOptions {
    PruneOptions {
        budget: Some(bytes),
        ..PruneOptions::default()
    }
}

/// Three snapshots of ten bytes of their own and two in common, the second used last.
fn three(cache: &Cache) -> Vec<Found> {
    let mut all = Vec::new();
    for (n, hours) in [(1, 30), (2, 10), (3, 20)] {
        let files = [git("config.json", "{}"), lfs("w", &format!("weights#{n}!"))];
        let (found, in_use) = fill(cache, n, &files, Some(&format!("v{n}")));
        drop(in_use);
        all.push((found, hours));
    }
    all.iter().for_each(|(found, hours)| age(found, *hours));
    all.into_iter().map(|(found, _)| found).collect()
}

#[test]
fn the_least_recently_used_goes_first_with_what_only_it_needs() {
    let (root, cache) = root();
    let found = three(&cache);
    let plan = cache
        .prune(&PruneOptions {
            dry_run: true,
            ..budget(25)
        })
        .unwrap();
    assert_eq!((plan.before, plan.after), (32, 22));
    assert!(found[0].dir.exists());
    let pruned = cache.prune(&budget(25)).unwrap();
    assert_eq!(
        (pruned.before, pruned.after, pruned.removed.len()),
        (32, 22, 1)
    );
    assert_eq!(
        (&pruned.removed[0].commit, pruned.removed[0].bytes),
        (&commit(1), 10)
    );
    let dir = root.path().join("models--org--name");
    let gone = [
        found[0].dir.clone(),
        dir.join("refs/v1"),
        dir.join(format!("trees/{}.json", commit(1))),
        dir.join(format!(".chandler/{}.use", commit(1))),
    ];
    assert!(gone.iter().all(|path| !path.exists()));
    assert_eq!(
        fs::read_to_string(found[1].dir.join("config.json")).unwrap(),
        "{}"
    );
    let pruned = cache.prune(&budget(12)).unwrap();
    assert_eq!(pruned.removed[0].commit, commit(3)); // 2 was used later
    assert_eq!(cache.prune(&budget(0)).unwrap().after, 0);
    assert_eq!(fs::read_dir(dir.join("blobs")).unwrap().count(), 0);
}

#[test]
fn what_is_in_use_or_being_filled_stays() {
    for locks in [Locks::Auto, Locks::Leases] {
        let root = tempfile::tempdir().unwrap();
        let open = || {
            let mut options = CacheOptions::new(root.path());
            options.locks = locks;
            options.silence = Duration::from_millis(800);
            Cache::open(options)
        };
        let cache = open();
        let found = three(&cache);
        let other = open(); // another process's eyes
        let held = cache.hold(&found[0]).unwrap();
        age(&found[0], 40);
        let pruned = other.prune(&budget(15)).unwrap();
        assert!(
            pruned.in_use[0].ends_with(&commit(1)),
            "{:?}",
            pruned.in_use
        );
        assert_eq!(pruned.removed.len(), 2);
        assert!(found[0].dir.join("w").is_file());
        let error = other
            .remove(&folder(), None, false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("in use"), "{error}");
        assert!(other.list()[0].revisions[0].in_use);
        let clone = held.clone();
        drop(held);
        assert_eq!(other.prune(&budget(0)).unwrap().removed.len(), 0);
        drop(clone);

        let listing = listing(commit(1), &model());
        let filling = cache
            .fill(&folder(), &listing, listing.files.clone())
            .unwrap();
        assert_eq!(other.prune(&budget(0)).unwrap().removed.len(), 0);
        drop(filling);
        assert_eq!(other.prune(&budget(0)).unwrap().removed.len(), 1);
        assert!(matches!(
            cache.hold(&found[0]),
            Err(WeightsError::Cache { .. })
        ));
    }
}

#[test]
fn unfinished_files_and_blobs_without_a_snapshot_go_when_they_are_old() {
    let (root, cache) = root();
    fill(&cache, 1, &model(), Some("main"));
    let blobs = root.path().join("models--org--name/blobs");
    let own = root.path().join("models--org--name/.chandler");
    let old = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    for name in [
        "a.chandler-partial",
        "a.chandler-journal",
        "b.incomplete",
        "c.01234567.incomplete",
        "d",
        "held.chandler-partial",
    ] {
        let file = fs::File::create(blobs.join(name)).unwrap();
        file.set_len(100).unwrap();
        file.set_modified(old).unwrap();
    }
    fs::write(blobs.join("new.chandler-partial"), [0; 50]).unwrap();
    fs::write(blobs.join("new"), [0; 50]).unwrap();
    let temporary = fs::File::create(own.join(".chandler-tmp-x")).unwrap();
    temporary.set_modified(old).unwrap();
    let held = cache.locker().attempt(
        &root.path().join(".locks/models--org--name/held.lock"),
        lock::Kind::Alone,
    );
    let pruned = cache.prune(&PruneOptions::default()).unwrap();
    assert_eq!(
        (pruned.partials, pruned.orphans, pruned.leftover_bytes),
        (5, 1, 500)
    );
    drop(held);
    let mut left: Vec<_> = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort_by_key(String::len);
    assert_eq!(
        left[..3],
        ["new", "new.chandler-partial", "held.chandler-partial"]
    );
    assert_eq!(left.len(), 5);
    assert!(cache.find(&folder(), "main", &all).unwrap().is_some());
}

#[test]
fn a_revision_or_a_whole_model_is_removed() {
    let (root, cache) = root();
    let found = three(&cache);
    let plan = cache.remove(&folder(), None, true).unwrap();
    assert_eq!(plan.iter().map(|removed| removed.bytes).sum::<u64>(), 32);
    let removed = cache.remove(&folder(), Some("v2"), false).unwrap();
    assert_eq!(
        (removed[0].commit.as_str(), removed[0].bytes),
        (commit(2).as_str(), 10)
    );
    assert!(!found[1].dir.exists() && found[0].dir.exists());
    for gone in [Some("v2"), Some("none")] {
        let error = cache
            .remove(&folder(), gone, false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no revision"), "{error}");
    }
    assert_eq!(cache.remove(&folder(), None, false).unwrap().len(), 2);
    assert!(!root.path().join("models--org--name").exists());
    assert!(matches!(
        cache.remove(&folder(), None, false),
        Err(WeightsError::NotFound { .. })
    ));
    fill(&cache, 1, &model(), Some("main")); // and it can be filled again
}

/// Python 2.x's shared store: a link in `blobs/`, the copy's list of links beside it.
fn share(root: &Path, folder: &str, blob: &str, hash: &str) {
    let store = root.join("blobs").join(&hash[..2]);
    fs::create_dir_all(&store).unwrap();
    fs::write(root.join("blobs/.huggingface-shared-blobs"), "1\n").unwrap();
    let own = root.join(folder).join("blobs").join(blob);
    if own.is_file() {
        fs::rename(&own, store.join(hash)).unwrap();
    }
    std::os::unix::fs::symlink(format!("../../blobs/{}/{hash}", &hash[..2]), &own).unwrap();
    let list = store.join(format!("{hash}.refs"));
    let before = fs::read_to_string(&list).unwrap_or_default();
    fs::write(list, format!("{before}{folder}/blobs/{blob}\n")).unwrap();
}

#[test]
fn a_shared_copy_stays_until_nobody_links_to_it() {
    let (root, cache) = root();
    let hash = "cd".repeat(32);
    fill(&cache, 1, &model(), Some("main"));
    let blob = model()[1].0.blob.clone();
    share(root.path(), "models--org--name", &blob, &hash);
    let other = root.path().join("datasets--a--b/blobs");
    fs::create_dir_all(&other).unwrap();
    share(root.path(), "datasets--a--b", "x", &hash);
    let copy = root.path().join("blobs/cd").join(&hash);
    let whole = cache.find(&folder(), "main", &all).unwrap().unwrap();
    assert_eq!(
        fs::read_to_string(whole.dir.join("unet/deep/model.safetensors")).unwrap(),
        "weights"
    );
    cache.remove(&folder(), None, false).unwrap();
    assert!(copy.is_file()); // a dataset has it, too
    fs::remove_file(other.join("x")).unwrap();
    fill(&cache, 1, &model(), Some("main"));
    share(root.path(), "models--org--name", &blob, &hash);
    assert_eq!(cache.prune(&budget(0)).unwrap().after, 0);
    assert!(!copy.exists());
}

#[test]
fn a_copy_that_no_list_clears_is_never_removed() {
    let (root, cache) = root();
    let hash = "cd".repeat(32);
    fill(&cache, 1, &model(), Some("main"));
    share(root.path(), "models--org--name", &model()[1].0.blob, &hash);
    let copy = root.path().join("blobs/cd").join(&hash);
    fs::remove_file(copy.with_file_name(format!("{hash}.refs"))).unwrap();
    cache.remove(&folder(), None, false).unwrap();
    assert!(copy.is_file());
}
