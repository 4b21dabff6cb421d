//! Everything that a server and the line to it can do wrong: what can be mended is mended, without a byte too much, and what
//! cannot is told in words.

use std::sync::atomic::Ordering;

use super::server::Fault;
use super::*;

/// Faults that one more attempt mends.
const PASSING: &[Fault] = &[
    Fault::Status(408, ""),
    Fault::Status(429, "retry-after: 0\r\n"),
    Fault::Status(429, "ratelimit: \"resolvers\";r=0;t=0\r\n"),
    Fault::Status(500, ""),
    Fault::Status(502, ""),
    Fault::Status(503, "retry-after: 0\r\n"),
    Fault::Hangup,
    Fault::Cut(0),
    Fault::Cut(1),
    Fault::Cut(300_000),
    Fault::Silence(0),
    Fault::Silence(200_000),
    Fault::Short(1),
    Fault::Short(500_000),
    Fault::Long,
    Fault::OtherRange,
    Fault::NoContentRange,
    Fault::Gzip,
    Fault::Status(403, ""),
    Fault::Status(400, ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_passing_fault_is_mended_and_costs_only_what_it_spoiled() {
    for fault in PASSING {
        let mut bench = Bench::new();
        let (file, content) = one(&bench, 5 * MIB);
        let fault_now = fault.clone();
        // Twice: for the first request, and for a later one.
        bench
            .server
            .faults(move |asked| [0, 4].contains(&asked.number).then(|| fault_now.clone()));
        let done = bench.fetch(std::slice::from_ref(&file)).await;
        done.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        bench.assert_here(&file, &content);
        bench.assert_no_leftovers();
        let served = bench.server.served();
        let spoiled = match fault {
            Fault::OtherRange | Fault::NoContentRange | Fault::Gzip => 3 * MIB as u64,
            Fault::Long => 2000 + 20,
            _ => 0,
        };
        assert!(served <= file.size + spoiled, "{fault:?}: {served}");
        let totals = bench.totals();
        assert_eq!(
            (totals.received, totals.verified),
            (file.size, file.size),
            "{fault:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_that_do_not_pass_are_told_and_the_next_run_goes_on() {
    for fault in PASSING {
        let mut bench = Bench::new();
        let (file, content) = one(&bench, 6 * MIB);
        let fault_now = fault.clone();
        // The first ranges arrive, and then nothing any more.
        bench.server.faults(move |asked| {
            (asked.range.start >= 4 << 20).then(|| match &fault_now {
                // With bytes each time, there is progress, and no reason to give up.
                Fault::Cut(_) | Fault::Silence(_) | Fault::Short(_) => Fault::Cut(0),
                Fault::Long => Fault::Hangup,
                other => other.clone(),
            })
        });
        bench.options.read_timeout = Duration::from_millis(100);
        // One at a time, so that what is before the fault has come when it strikes.
        bench.options.connections = 1;
        let error = bench.fetch(std::slice::from_ref(&file)).await.unwrap_err();
        match fault {
            Fault::Status(400 | 403, _) => {
                assert!(matches!(error, WeightsError::Denied { .. }), "{error}")
            }
            Fault::Status(429, _) => {
                assert!(matches!(error, WeightsError::RateLimited { .. }), "{error}")
            }
            Fault::OtherRange | Fault::NoContentRange | Fault::Gzip => {
                assert!(matches!(error, WeightsError::Malformed { .. }), "{error}");
            }
            _ => assert!(matches!(error, WeightsError::Unreachable { .. }), "{error}"),
        }
        assert!(!error.to_string().contains("link="), "{error}");
        assert!(bench.whole.lock().unwrap().is_empty(), "{fault:?}");
        bench.server.faults(|_| None);
        bench.server.asked();
        bench.options = options();
        bench.fetch(std::slice::from_ref(&file)).await.unwrap();
        bench.assert_here(&file, &content);
        bench.assert_no_leftovers();
        assert_eq!(
            bench.server.wanted(),
            2 << 20,
            "{fault:?}: only what was missing"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_cut_again_and_again_makes_progress() {
    let mut bench = Bench::new();
    let (file, content) = one(&bench, 2 * MIB);
    // Fewer than there are cuts; not one, since a connection that has just been closed may be tried once more.
    bench.options.tries = 8;
    bench.server.faults(|_| Some(Fault::Cut(50_000)));
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    assert!(bench.server.asked().len() > 40);
    assert_eq!(bench.server.served(), file.size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_link_is_asked_for_once_however_many_ranges_want_it() {
    let mut bench = Bench::new();
    let (file, content) = one(&bench, 24 * MIB);
    bench.server.state.rate.store(8_000_000, Ordering::Relaxed);
    bench.options.connections = 8;
    let state = bench.server.state.clone();
    // All links that are out expire, twice.
    bench.server.faults(move |asked| {
        if (asked.link == 1 && asked.number >= 9) || (asked.link == 2 && asked.number >= 18) {
            state.valid.store(asked.link + 1, Ordering::Relaxed);
        }
        None
    });
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    assert_eq!(bench.server.state.links.load(Ordering::Relaxed), 3);
    assert_eq!(bench.server.served(), file.size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_is_asked_for_is_kept_by_all_ranges() {
    let mut bench = Bench::new();
    let (file, content) = one(&bench, 8 * MIB);
    bench.options.connections = 4;
    let begun = std::time::Instant::now();
    bench
        .server
        .faults(|asked| (asked.number == 2).then_some(Fault::Status(429, "retry-after: 1\r\n")));
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // A pause that nobody would sit out is told at once.
    bench.server.asked();
    bench
        .server
        .faults(|_| Some(Fault::Status(429, "retry-after: 9999\r\n")));
    let begun = std::time::Instant::now();
    let error = bench
        .fetch(std::slice::from_ref(&file))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("for another 9999 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_and_what_is_denied_is_told_at_once() {
    let mut bench = Bench::new();
    let (mut file, _) = one(&bench, 3 * MIB);
    file.path = "gone.safetensors".to_owned();
    let error = bench.fetch(&[file]).await.unwrap_err();
    assert!(matches!(error, WeightsError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("gone.safetensors"), "{error}");

    // Too short for two ranges.
    let (file, _) = one(&bench, MIB / 8);
    bench.server.asked();
    for status in [401, 403] {
        bench
            .server
            .faults(move |_| Some(Fault::Status(status, "")));
        let error = bench.fetch(std::slice::from_ref(&file)).await.unwrap_err();
        assert!(matches!(error, WeightsError::Denied { .. }), "{error}");
        assert_eq!(bench.server.asked().len(), 2, "once more, with a new link");
    }
    bench
        .server
        .faults(|_| Some(Fault::Status(302, "location: http://elsewhere.test/\r\n")));
    let error = bench.fetch(std::slice::from_ref(&file)).await.unwrap_err();
    assert!(matches!(error, WeightsError::Malformed { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_byte_is_found_and_the_file_fetched_anew() {
    let mut bench = Bench::new();
    let (file, content) = one(&bench, 5 * MIB);
    bench
        .server
        .faults(|asked| (asked.number == 1).then_some(Fault::WrongByte));
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    bench.assert_no_leftovers();
    let served = bench.server.served();
    assert_eq!(served, 2 * file.size);
    assert_eq!(bench.totals().received, file.size);
    assert_eq!(bench.totals().verified, file.size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_are_never_handed_over() {
    for size in [MIB / 2, 5 * MIB] {
        let mut bench = Bench::new();
        let (file, content) = one(&bench, size);
        bench
            .server
            .faults(|asked| (asked.range.start == 0).then_some(Fault::WrongByte));
        let error = bench.fetch(std::slice::from_ref(&file)).await.unwrap_err();
        let WeightsError::Corrupt { times, reason, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*times, 3);
        assert!(reason.contains(&file.blob), "{error}");
        assert!(bench.whole.lock().unwrap().is_empty());
        // The wrong bytes are not taken for right ones later.
        bench.server.faults(|_| None);
        bench.server.asked();
        bench.fetch(std::slice::from_ref(&file)).await.unwrap();
        bench.assert_here(&file, &content);
        assert_eq!(bench.server.wanted(), file.size);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_ranges_gives_the_file_in_one() {
    let mut bench = Bench::new();
    let (file, content) = one(&bench, 5 * MIB);
    bench.server.faults(|asked| match asked.number {
        // Ranges at first, then none; and once the line is cut.
        0..=2 => None,
        _ => Some(Fault::Whole),
    });
    bench.options.connections = 1;
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    assert_eq!(bench.totals().received, file.size);
    let asked = bench.server.asked();
    assert_eq!(
        asked.len(),
        5,
        "three ranges, the one that told, the rest: {asked:?}"
    );
    assert_eq!(asked[4].range, 3 << 20..5 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_is_fetched_anew_once_and_never_mixed() {
    // With a digest, its bytes decide: another mark for the same bytes is no harm.
    let mut bench = Bench::new();
    let (mut file, content) = one(&bench, 5 * MIB);
    file.etag = Some("\"one\"".to_owned());
    bench.server.mark("model.safetensors", "\"one\"");
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    assert!(
        bench
            .server
            .asked()
            .iter()
            .all(|asked| asked.if_match.as_deref() == Some("\"one\""))
    );
    bench.server.mark("model.safetensors", "\"two\"");
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    // Other bytes are.
    bench.server.add("model.safetensors", bytes(99, 5 * MIB));
    let error = bench.fetch(std::slice::from_ref(&file)).await.unwrap_err();
    assert!(matches!(error, WeightsError::Changed { .. }), "{error}");

    // Without one, only the mark tells.
    file.digest = None;
    let error = bench.fetch(std::slice::from_ref(&file)).await.unwrap_err();
    assert!(matches!(error, WeightsError::Changed { .. }), "{error}");
    bench.server.mark("model.safetensors", "\"one\"");
    for fault in [
        Fault::OtherEtag,
        Fault::OtherSize,
        Fault::Status(412, ""),
        Fault::Status(416, ""),
    ] {
        bench.server.asked();
        let once = fault.clone();
        bench
            .server
            .faults(move |asked| (asked.number == 2).then(|| once.clone()));
        bench.fetch(std::slice::from_ref(&file)).await.unwrap();
        bench.assert_here(&file, &bytes(99, 5 * MIB));
        bench.server.faults(move |_| Some(fault.clone()));
        let error = bench.fetch(std::slice::from_ref(&file)).await.unwrap_err();
        assert!(matches!(error, WeightsError::Changed { .. }), "{error}");
    }
    // A weak mark would never match: it is compared here.
    let mut bench = Bench::new();
    let (mut file, _) = one(&bench, 5 * MIB);
    bench.server.mark("model.safetensors", "W/\"one\"");
    file.etag = Some("W/\"one\"".to_owned());
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    assert!(
        bench
            .server
            .asked()
            .iter()
            .all(|asked| asked.if_match.is_none())
    );
}
