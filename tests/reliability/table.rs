//! The rows of `docs/reliability.md`, which `tests/reliability/table.sh` makes of a run.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    accounts::Accounts,
    load::{End, Request},
};

/// The folder that a run puts its rows in.
const ROWS: &str = "PENSTOCK_TEST_RELIABILITY_ROWS";

/// What a row is about.
pub(crate) struct Row {
    pub(crate) test: &'static str,
    pub(crate) part: &'static str,
    pub(crate) fault: &'static str,
}

/// Of the fault.
pub(crate) struct Times {
    pub(crate) began: Instant,
    pub(crate) mended: Instant,
}

impl Row {
    /// Writes the row where the run wants it, and to the output of the test.
    pub(crate) fn write(&self, times: &Times, requests: &[Request], accounts: &Accounts, acknowledged: usize) {
        let Times { began, mended } = *times;
        let since: Vec<_> = requests.iter().filter(|request| request.ended >= began).collect();
        let meanwhile = since.iter().filter(|request| request.end == End::Whole && request.ended < mended).count();
        let failed: Vec<_> = since.iter().filter(|request| request.end != End::Whole).collect();
        let (first, last) = (failed.iter().map(|it| it.ended).min(), failed.iter().map(|it| it.ended).max());
        let failing = first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first);
        let recovered = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(mended));
        let longest = since.iter().map(|request| request.ended - request.began).max().unwrap_or_default();
        let cells = [
            self.part.to_owned(),
            self.fault.to_owned(),
            seconds(mended - began),
            meanwhile.to_string(),
            kinds(&failed),
            seconds(failing),
            seconds(longest),
            seconds(recovered),
            megabytes(accounts.received),
            megabytes(accounts.charged),
            if accounts.lost == 0 { "0".to_owned() } else { megabytes(accounts.lost) },
            acknowledged.to_string(),
            format!("`{}`", self.test),
        ];
        let line = format!("| {} |\n", cells.join(" | "));
        eprint!("{line}");
        if let Ok(folder) = env::var(ROWS) {
            fs::write(Path::new(&folder).join(self.test), line).expect("the folder of the run is there");
        }
    }
}

/// How the requests failed, and how many of each kind.
fn kinds(failed: &[&&Request]) -> String {
    let mut kinds = BTreeMap::<String, usize>::new();
    for request in failed {
        let kind = match request.end {
            End::Refused(status) => status.to_string(),
            End::Cut => "cut".to_owned(),
            End::Unanswered => "no answer".to_owned(),
            End::Whole => continue,
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Names of the scenarios, in the order of the table.
fn scenarios() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reliability");
    let files = ["services.rs", "instances.rs", "pairs.rs", "limits.rs"].map(|file| folder.join(file));
    let texts = files.map(|file| fs::read_to_string(file).unwrap());
    let names = texts.iter().flat_map(|text| text.split("scenario!(").skip(1));
    names.map(|rest| rest.split(',').next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn the_table_in_the_documents_has_a_row_for_each_scenario() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md")).unwrap();
    let (_, made) = table.split_once("<!-- made by").expect("the line above the table");
    let rows = made.lines().filter(|line| line.starts_with("| ")).skip(1);
    let tests: Vec<_> = rows.filter_map(|row| row.trim_end_matches(" |").rsplit('`').nth(1)).collect();
    assert_eq!(tests, scenarios(), "make the table anew with tests/reliability/table.sh");
}
