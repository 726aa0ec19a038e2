//! Authentication: the extractors [`Producer`] and [`Admin`], by `Authorization: Bearer KEY` or, for producers, by a
//! request that is signed with an identity key.
//!
//! They need only the head of a request, and handlers read bodies themselves ([`JsonBody`](super::JsonBody) and uploads
//! alike), so a call without a valid key is refused before the first byte of its body is read.

use std::sync::Arc;

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use futures::future::LocalBoxFuture;
use penstock_actors::{
    ids::{KeyId, ProducerId},
    model::{ApiKey, Role},
};

use super::{
    Problem, ProblemType,
    credentials::{bearer, is_signed_request},
};
use crate::keys::KeyRing;

mod signed;

pub use signed::SignedRequests;

/// The means to identify callers. [`app`](super::app()) takes them, so every application has them.
#[derive(Clone)]
pub struct Deps {
    pub keys: Arc<KeyRing>,
    pub signed: Arc<SignedRequests>,
}

fn of_app(request: &HttpRequest) -> Result<&Deps, Problem> {
    let deps = request.app_data::<web::Data<Deps>>();
    deps.map(|deps| &***deps)
        .ok_or_else(|| Problem::new(ProblemType::Internal).caused_by("the request is not one of the application"))
}

/// A caller with a producer's or an admin's key, or one that signs with a producer's identity key.
#[derive(Debug, Clone, Copy)]
pub struct Producer {
    pub producer_id: ProducerId,
    pub role: Role,
    /// The key; `None` for a request that is signed.
    key_id: Option<KeyId>,
}

impl Producer {
    /// The producer whose resources the caller may change: itself, or any producer (`None`) for an admin.
    pub fn scope(&self) -> Option<ProducerId> {
        match self.role {
            Role::Producer => Some(self.producer_id),
            Role::Admin => None,
        }
    }

    /// Whether the caller is this owner or an admin.
    pub fn owns(&self, owner: ProducerId) -> bool {
        self.scope().is_none_or(|own| own == owner)
    }

    /// Refuses a caller that is neither the owner of a public resource nor an admin.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn must_own(&self, owner: ProducerId) -> Result<(), Problem> {
        if self.owns(owner) {
            return Ok(());
        }
        Err(Problem::new(ProblemType::Forbidden).detail("this belongs to another producer"))
    }
}

impl FromRequest for Producer {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            if is_signed_request(request.headers()) {
                return Ok(Self { producer_id: signer(&request).await?, role: Role::Producer, key_id: None });
            }
            let key = authenticate(&request).await?;
            Ok(Self { producer_id: key.producer_id, role: key.role, key_id: Some(key.key_id) })
        })
    }
}

/// A caller with an admin's key. Identity keys are never admin keys.
#[derive(Debug, Clone, Copy)]
pub struct Admin {
    /// The key, which says which administrator.
    pub key_id: Option<KeyId>,
}

impl FromRequest for Admin {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Producer::from_request(request, payload);
        Box::pin(async move {
            let caller = caller.await?;
            match caller.role {
                Role::Admin => Ok(Self { key_id: caller.key_id }),
                Role::Producer => Err(Problem::new(ProblemType::Forbidden).detail("this call needs an admin key")),
            }
        })
    }
}

/// The producer of the identity key that signed a request.
async fn signer(request: &HttpRequest) -> Result<ProducerId, Problem> {
    of_app(request)?.signed.producer(request).await
}

async fn authenticate(request: &HttpRequest) -> Result<ApiKey, Problem> {
    let secret = bearer(request.headers())
        .ok_or_else(|| Problem::new(ProblemType::Unauthorized).detail("send the key as Authorization: Bearer KEY"))?;
    let key = of_app(request)?.keys.find(secret).await.map_err(|error| Problem::from(&*error))?;
    key.ok_or_else(|| Problem::new(ProblemType::Unauthorized).detail("the key is not known"))
}
