//! The only place that logs why requests failed on this side.

use std::{cell::RefCell, collections::HashMap, time::Instant};

use actix_web::http::StatusCode;
use penstock_actors::flow::log_budget::LogBudget;

use crate::http::Problem;

/// The log of one worker. A node that refuses thousands of requests in a second writes a few lines about them; the metrics and the
/// access log count all.
#[derive(Default)]
pub(in crate::http) struct FailureLog {
    /// By the type of the problem, so that one that is frequent hides no other.
    budgets: RefCell<HashMap<&'static str, LogBudget>>,
}

impl FailureLog {
    /// Logs an answer with status 5xx.
    pub(super) fn note(&self, status: StatusCode, problem: Option<&Problem>) {
        let kind = problem.map_or("unknown", |problem| problem.kind().name());
        let cause = problem.and_then(Problem::cause);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(problem = kind, cause, "a request failed; its client got status 500");
            return;
        }
        if let Some(left_out) = self.budgets.borrow_mut().entry(kind).or_default().spend(Instant::now()) {
            tracing::warn!(
                problem = kind,
                cause,
                left_out,
                "a request could not be served; its client got a 5xx status"
            );
        }
    }
}
