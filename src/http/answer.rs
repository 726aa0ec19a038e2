//! Successful answers, and work that must not end with the client.

use actix_web::{HttpResponse, HttpResponseBuilder, http::header};
use serde::Serialize;

use penstock_actors::task_span::InTaskSpan as _;

use super::{Problem, ProblemType};

/// 200 with a document that must not be cached: it belongs to one caller, or may change at any moment.
pub fn ok(body: &impl Serialize) -> HttpResponse {
    no_store(HttpResponse::Ok()).json(body)
}

/// 201 with the address of the new resource.
pub fn created(location: &str, body: &impl Serialize) -> HttpResponse {
    no_store(HttpResponse::Created()).insert_header((header::LOCATION, location)).json(body)
}

/// Forbids every cache to store the answer.
pub fn no_store(mut answer: HttpResponseBuilder) -> HttpResponseBuilder {
    answer.insert_header((header::CACHE_CONTROL, "no-store"));
    answer
}

/// Runs a change to its end even when the client leaves. A handler's future is dropped with its connection; between a
/// commit and the message to the other instances, that would leave old data in their caches.
///
/// # Errors
/// The work's own problem; `internal` when it panicked.
pub async fn to_the_end<T: 'static>(work: impl Future<Output = Result<T, Problem>> + 'static) -> Result<T, Problem> {
    actix_web::rt::spawn(work.in_task_span())
        .await
        .unwrap_or_else(|error| Err(Problem::new(ProblemType::Internal).caused_by(error)))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[actix_web::test]
    async fn a_change_ends_although_its_client_has_left() {
        let (client_left, may_go_on) = tokio::sync::oneshot::channel();
        let (ended, end) = tokio::sync::oneshot::channel();
        let done = Rc::new(Cell::new(false));
        let call = to_the_end({
            let done = Rc::clone(&done);
            async move {
                let () = may_go_on.await.map_err(|_| Problem::from(ProblemType::Internal))?;
                done.set(true);
                ended.send(()).map_err(|()| Problem::from(ProblemType::Internal))
            }
        });
        let mut call = Box::pin(call);
        assert!(futures::poll!(&mut call).is_pending());
        drop(call);
        client_left.send(()).expect("the change still waits");
        end.await.expect("the change came to its end");
        assert!(done.get());
    }
}
