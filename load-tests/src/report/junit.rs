//! The checks of a run as a JUnit report, for what shows test results.

use quick_xml::escape::escape;

use super::Report;

/// A test suite with a case for each check, for the errors of each phase, and for the bill.
pub(crate) fn suite(report: &Report) -> String {
    let mut cases: Vec<(String, Option<String>)> = Vec::new();
    for phase in &report.phases {
        let errors: Vec<_> = phase.faults.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
        cases.push((format!("phase {}: no errors", phase.name), failure(&errors)));
    }
    for check in &report.checks {
        cases.push((check.promise.clone(), (!check.kept).then(|| check.seen.clone())));
    }
    cases.push(("what was billed is what was received".to_owned(), failure(&report.billing.differences)));
    let seconds: f64 = report.phases.iter().map(|phase| phase.seconds).sum();
    let failures = cases.iter().filter(|(_, failure)| failure.is_some()).count();
    let name = escape(report.scenario.as_str());
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuite name=\"load-tests {name}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{seconds:.3}\" \
         timestamp=\"{}\">\n",
        cases.len(),
        escape(report.started.as_str())
    );
    for (promise, failure) in &cases {
        let promise = escape(promise.as_str());
        text += &match failure {
            None => format!("  <testcase classname=\"load-tests.{name}\" name=\"{promise}\"/>\n"),
            Some(seen) => format!(
                "  <testcase classname=\"load-tests.{name}\" name=\"{promise}\">\n    \
                 <failure message=\"{}\"/>\n  </testcase>\n",
                escape(seen.as_str())
            ),
        };
    }
    text + "</testsuite>\n"
}

fn failure(differences: &[String]) -> Option<String> {
    (!differences.is_empty()).then(|| differences.join("; "))
}
