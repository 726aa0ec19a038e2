//! A fault under load, from the first request to the audit.

use std::time::Instant;

use tokio::time::sleep;

use crate::{
    accounts::{compare, compare_windows},
    load::Load,
    producer::Producer,
    scene::{Plan, Scene},
    still::nothing_held,
    table::{Row, Times},
};

/// A test of a fault: its name, the part and the fault as the table names them, what it needs, and how the fault begins and is mended.
macro_rules! scenario {
    ($name:ident, $part:literal, $fault:literal, $plan:expr, $begin:expr, $mend:expr $(,)?) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let row = $crate::table::Row { test: stringify!($name), part: $part, fault: $fault };
            Box::pin($crate::scenario::run(&row, &$plan, $begin, $mend)).await;
        }
    };
}

/// The same for the long part, which runs with `./test --all`.
macro_rules! long_scenario {
    ($name:ident, $part:literal, $fault:literal, $plan:expr, $begin:expr, $mend:expr $(,)?) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "long: runs in ./test --all"]
        async fn $name() {
            let row = $crate::table::Row { test: stringify!($name), part: $part, fault: $fault };
            Box::pin($crate::scenario::run(&row, &$plan, $begin, $mend)).await;
        }
    };
}

pub(crate) async fn run(
    row: &Row,
    plan: &Plan,
    begin: impl AsyncFnOnce(&mut Scene),
    mend: impl AsyncFnOnce(&mut Scene),
) {
    let mut scene = Scene::set_up(plan).await;
    let (load, clients) = Load::start(scene.places(), scene.products().await);
    let producer = Producer::start(scene.places());
    load.everything_is_served().await;

    let began = Instant::now();
    begin(&mut scene).await;
    sleep(plan.lasts).await;
    mend(&mut scene).await;
    let mended = Instant::now();
    scene.is_ready().await;
    load.everything_is_served().await;

    let acknowledged = producer.stop().await;
    let requests = load.stop(clients).await;
    for instance in &scene.instances {
        nothing_held(&instance.node).await;
    }
    let accounts = compare(&scene, &load.products, &requests).await;
    acknowledged.is_there(&scene.instances[0].node).await;
    for instance in &mut scene.instances {
        instance.node.finish().await;
    }
    compare_windows(&scene, &load.products, &accounts).await;
    row.write(&Times { began, mended }, &requests, &accounts, acknowledged.count());
}
