//! A run that is killed at any request is finished by the next, and a deletion too.

use chandler::provision::runpod::Options;
use chandler::provision::{Name, Platform as _};
use cloud_doubles::{Fault, When};

use super::*;
use crate::provision::command::killed_at;

const WAIT: [&str; 3] = ["--wait", "--start-timeout", "60s"];

async fn kill_everywhere(fault: Fault) {
    let queue = queue().await;
    let _worker = mock_worker(&queue);
    let mut n = 0;
    loop {
        let world = World::on(Arc::clone(&queue));
        let killed = killed_at(
            (&world.machine, &world.server),
            &world.line(&WAIT),
            n,
            fault.clone(),
        );
        if killed {
            let again = world.run(&WAIT);
            assert_eq!(again.code, Some(0), "killed at {n}: {again:?}");
        }
        assert_eq!(world.double.endpoints().len(), 1, "killed at {n}");
        if !killed {
            break;
        }
        n += 1;
    }
    assert!(n >= 5, "only {n} requests were made");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_any_request_is_carried_out_there_is_one_endpoint_in_the_end() {
    kill_everywhere(Fault::HoldBefore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_any_request_was_carried_out_there_is_one_endpoint_in_the_end() {
    kill_everywhere(Fault::HoldAfter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_deletes_nothing_is_left_in_the_end() {
    let line = ["endpoints", "delete", "chandler-mock"];
    let queue = queue().await;
    for fault in [Fault::HoldBefore, Fault::HoldAfter] {
        let mut n = 0;
        loop {
            let world = World::on(Arc::clone(&queue));
            world.well(&[]);
            let made = world.server.seen().len();
            let killed = killed_at(
                (&world.machine, &world.server),
                &line,
                made + n,
                fault.clone(),
            );
            if killed {
                world.machine.well(&line);
            }
            assert_eq!(world.double.endpoints().len(), 0, "killed at {n}");
            if !killed {
                break;
            }
            n += 1;
        }
        assert!(n >= 3, "only {n} requests were made");
    }
}

/// Nothing is remembered between calls, so a future that is dropped is a process that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_cut_short_anywhere_is_finished_by_the_next() {
    for fault in [Fault::HoldBefore, Fault::HoldAfter] {
        let mut n = 0;
        loop {
            let world = World::new().await;
            let cloud = world.cloud(Options {
                cached_model: true,
                ..Options::default()
            });
            let wanted = gpu::wanted("rest", &["l4"]);
            cloud.apply(&wanted, &|_| {}).await.unwrap();
            let made = world.server.seen().len();
            world.server.fault(When::Nth(made + n), fault.clone());
            let name = Name::parse("rest").unwrap();
            let held = async {
                while !world.server.wait_held(Duration::from_millis(5)) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let cut = tokio::select! {
                done = cloud.delete(&name, &|_| {}) => { done.unwrap(); false },
                () = held => true,
            };
            if cut {
                cloud.delete(&name, &|_| {}).await.unwrap();
            }
            assert_eq!(world.double.endpoints().len(), 0, "cut at {n}");
            assert_eq!(world.double.templates(), 0);
            if !cut {
                break;
            }
            n += 1;
        }
        assert!(n >= 4, "only {n} requests were made");
    }
}
