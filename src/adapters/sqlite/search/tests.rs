//! Searches that run out of time; the conformance suite tests the promises of the port.

use penstock_actors::search::TextQuery;

use super::*;
use crate::adapters::sqlite::testing::Database;

/// Assets of which every twentieth has a price.
const TIDES: &str = "
    PRAGMA foreign_keys = OFF;
    INSERT INTO producers VALUES (zeroblob(16), 'producer', 1);
    INSERT INTO overlay_storage_index VALUES (zeroblob(32), 1, 'text/plain', 'stored', 'hot', zeroblob(16), 1, 1);
    CREATE TEMP TABLE ids AS
        WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        SELECT i, CAST(printf('%016d', i) AS BLOB) AS id FROM n;
    INSERT INTO assets SELECT id, zeroblob(32), 'tide ' || i, '', 'text/plain', NULL, '{}', zeroblob(16), i FROM ids;
    INSERT INTO prices SELECT id, i % 20 = 0, i FROM ids;";

fn tides() -> (Database, Connection) {
    let database = Database::new();
    let conn = database.raw();
    conn.execute_batch(TIDES).expect("assets");
    (database, conn)
}

fn at(price: u64) -> SearchFilter {
    SearchFilter { min_price: Some(price), ..SearchFilter::default() }
}

#[test]
fn a_page_that_takes_too_long_ends_early_and_the_next_goes_on() {
    let (_database, conn) = tides();
    let (mut names, mut pages, mut behind) = (Vec::new(), 0, None);
    loop {
        let page = search(&conn, &at(1), behind, 200, Duration::ZERO).expect("a page");
        names.extend(page.hits.into_iter().map(|hit| hit.asset.name));
        pages += 1;
        behind = page.next;
        if behind.is_none() {
            break;
        }
    }
    assert_eq!(names, (1..=100).rev().map(|n| format!("tide {}", 20 * n)).collect::<Vec<_>>());
    assert!(pages > 2, "no page is full: {pages}");
    let counted = facets(&conn, &at(1), 200, 10, Duration::ZERO).expect("counted");
    assert!(counted.capped && counted.counted < 100, "{counted:?}");
    let in_time = facets(&conn, &at(1), 200, 10, PATIENCE).expect("counted");
    assert!(!in_time.capped && in_time.counted == 100, "the clock of the last one has gone: {in_time:?}");
}

#[test]
fn a_search_that_has_found_nothing_when_its_time_is_over_says_so() {
    let (_database, conn) = tides();
    for filter in [at(5), SearchFilter { text: TextQuery::parse("tide").ok(), ..at(5) }] {
        let late = search(&conn, &filter, None, 10, Duration::ZERO);
        assert!(matches!(late, Err(JobFailure::Port(PortError::Unavailable { .. }))), "{late:?}");
        assert_eq!(search(&conn, &filter, None, 10, PATIENCE).expect("a page"), SearchPage::default());
    }
}
