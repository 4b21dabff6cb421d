//! What a filled snapshot looks like, and what filling refuses.

use super::*;

#[test]
fn a_filled_snapshot_is_as_python_lays_it() {
    let (root, cache) = root();
    let (found, _in_use) = fill(&cache, 1, &model(), Some("refs/pr/1"));
    let dir = root.path().join("models--org--name");
    assert_eq!(
        fs::read_to_string(dir.join("refs/refs/pr/1")).unwrap(),
        commit(1)
    );
    let link = fs::read_link(found.dir.join("unet/deep/model.safetensors")).unwrap();
    let blob = &model()[1].0.blob;
    assert_eq!(link.to_str().unwrap(), format!("../../../../blobs/{blob}"));
    assert_eq!(
        fs::read_to_string(found.dir.join("unet/deep/model.safetensors")).unwrap(),
        "weights"
    );
    assert!(root.path().join("CACHEDIR.TAG").is_file());
    assert!(
        root.path()
            .join(format!(".locks/models--org--name/{blob}.lock"))
            .is_file()
    );
    let blobs: Vec<_> = fs::read_dir(dir.join("blobs")).unwrap().collect();
    assert_eq!(blobs.len(), 2); // no partial, no journal
}

#[test]
fn a_snapshot_is_not_found_before_it_is_whole() {
    let (_root, cache) = root();
    let files = model();
    let listing = listing(commit(1), &files);
    let filling = cache
        .fill(&folder(), &listing, listing.files.clone())
        .unwrap();
    let (first, bytes) = &files[0];
    let Claim::Mine(claim) = filling.claim(first).unwrap() else {
        panic!("it is nobody's");
    };
    assert!(matches!(filling.claim(first).unwrap(), Claim::Here)); // it comes with the claim that is open
    fs::write(claim.partial(), b"?").unwrap();
    let error = filling.put(claim).unwrap_err().to_string();
    assert!(error.contains("1 bytes and should have 2"), "{error}");
    let Claim::Mine(claim) = filling.claim(first).unwrap() else {
        panic!("it was given up");
    };
    fs::write(claim.partial(), bytes).unwrap();
    filling.put(claim).unwrap();
    let error = filling.finish(Some("main")).unwrap_err().to_string();
    assert!(error.contains("model.safetensors"), "{error}");
    assert!(cache.find(&folder(), "main", &all).unwrap().is_none());
    match cache.look(&folder(), &commit(1), &all).unwrap() {
        Lookup::Incomplete { missing, .. } => assert_eq!(missing, ["unet/deep/model.safetensors"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_blob_that_is_there_is_taken_and_one_of_another_size_is_replaced() {
    let (_root, cache) = root();
    let (found, _) = fill(&cache, 1, &model(), None);
    let blob = fs::canonicalize(found.dir.join("config.json")).unwrap();
    fs::write(&blob, "longer than it was").unwrap();
    let (again, _) = fill(&cache, 2, &model(), Some("main"));
    assert_eq!(
        fs::read_to_string(again.dir.join("config.json")).unwrap(),
        "{}"
    );
    let weights =
        |found: &Found| fs::canonicalize(found.dir.join("unet/deep/model.safetensors")).unwrap();
    assert_eq!(weights(&found), weights(&again));
}

#[test]
fn two_files_with_the_same_bytes_are_fetched_once() {
    for symlinks in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let mut options = CacheOptions::new(root.path());
        options.symlinks = symlinks;
        let cache = Cache::open(options);
        let files = vec![lfs("a/w", "same"), lfs("b/w", "same")];
        let (found, _) = fill(&cache, 1, &files, None);
        for path in ["a/w", "b/w"] {
            assert_eq!(fs::read_to_string(found.dir.join(path)).unwrap(), "same");
        }
    }
}

#[test]
fn without_symbolic_links_the_files_are_real() {
    let root = tempfile::tempdir().unwrap();
    let mut options = CacheOptions::new(root.path());
    options.symlinks = false;
    let cache = Cache::open(options);
    let (found, _) = fill(&cache, 1, &model(), Some("main"));
    for file in &found.files {
        assert!(
            fs::symlink_metadata(found.dir.join(&file.path))
                .unwrap()
                .is_file()
        );
    }
    assert_eq!(
        cache
            .find(&folder(), "main", &all)
            .unwrap()
            .unwrap()
            .files
            .len(),
        2
    );
    // What moved out of blobs/, as Python does it, is here all the same.
    fs::remove_dir_all(root.path().join("models--org--name/blobs")).unwrap();
    let listing = listing(commit(1), &model());
    let filling = cache
        .fill(&folder(), &listing, listing.files.clone())
        .unwrap();
    assert!(
        listing
            .files
            .iter()
            .all(|file| matches!(filling.claim(file).unwrap(), Claim::Here))
    );
}

#[test]
fn names_that_lead_out_are_refused_before_anything_is_made() {
    let (root, cache) = root();
    let mut path = listing(commit(1), &model());
    path.files[0].path = "../../../evil".into();
    let mut blob = listing(commit(1), &model());
    blob.files[1].blob = "../../evil".into();
    let mut partial = listing(commit(1), &model());
    partial.files[1].blob.push_str(".chandler-partial");
    let names = listing("../evil".into(), &model());
    let branch = listing("main".into(), &model());
    for bad in [path, blob, partial, names, branch] {
        let error = cache.fill(&folder(), &bad, bad.files.clone()).unwrap_err();
        assert!(matches!(error, WeightsError::BadName { .. }), "{error}");
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    let (_, _in_use) = fill(&cache, 1, &model(), None);
    for bad in ["../../evil", "/evil", "a/../../b"] {
        assert!(cache.point(&folder(), bad, &commit(1)).is_err());
        assert!(cache.find(&folder(), bad, &all).is_err());
    }
}

#[test]
fn nothing_is_written_through_a_link_out_of_the_cache() {
    let outside = tempfile::tempdir().unwrap();
    for planted in ["blobs", "snapshots", "refs", ".chandler"] {
        let (root, cache) = root();
        let dir = root.path().join("models--org--name");
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.join(planted)).unwrap();
        let listing = listing(commit(1), &model());
        let error = cache
            .fill(&folder(), &listing, listing.files.clone())
            .unwrap_err()
            .to_string();
        assert!(error.contains("leads out of the cache"), "{error}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);

    // A planted link in the place of a file is replaced, not followed.
    let (root, cache) = root();
    let victim = outside.path().join("victim");
    let files = model();
    let blobs = root.path().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    for name in [
        files[0].0.blob.clone(),
        format!("{}.chandler-partial", files[1].0.blob),
    ] {
        std::os::unix::fs::symlink(&victim, blobs.join(name)).unwrap();
    }
    fill(&cache, 1, &files, None);
    assert!(!victim.exists());
}

#[test]
fn refs_of_many_writers_are_always_whole() {
    let (root, cache) = root();
    for n in 1..=2 {
        fill(&cache, n, &model(), Some("main"));
    }
    let path = root.path().join("models--org--name/refs/main");
    std::thread::scope(|scope| {
        for n in 1..=2 {
            let cache = &cache;
            scope.spawn(move || {
                (0..200).for_each(|_| cache.point(&folder(), "main", &commit(n)).unwrap())
            });
        }
        for _ in 0..2000 {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text == commit(1) || text == commit(2), "{text}");
        }
    });
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    cache.point(&folder(), "main", &commit(9)).unwrap(); // not here: Python could not read the folder any more
    assert_ne!(fs::read_to_string(&path).unwrap(), commit(9));
}
