//! Authentication: the extractors [`Producer`] and [`Admin`], by `Authorization: Bearer KEY`; for producers, also by a
//! request that is signed with an identity key; for administrators, also by a session at the [console].
//!
//! They need only the head of a request, and handlers read bodies themselves ([`JsonBody`](super::JsonBody) and uploads
//! alike), so a call without a valid key is refused before the first byte of its body is read.

use std::sync::Arc;

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web};
use futures::future::LocalBoxFuture;
use penstock_actors::{
    ids::{KeyId, ProducerId},
    model::{ApiKey, IdentityKey, Role},
    ports::{ConsoleSession, ConsoleSessions, PortError},
};

use super::{
    Problem, ProblemType,
    credentials::{bearer, is_signed_request},
};
use crate::keys::{self, KeyRing, SecretHash};

pub(super) mod console;
mod signed;

pub use signed::SignedRequests;

/// The means to identify callers. [`app`](super::app()) takes them, so every application has them.
#[derive(Clone)]
pub struct Deps {
    pub keys: Arc<KeyRing>,
    pub signed: Arc<SignedRequests>,
    pub sessions: Arc<dyn ConsoleSessions>,
}

/// The proof of a caller: the hash of a key's secret, or of the token of a session.
#[derive(Clone, Copy)]
enum Credential {
    Key(SecretHash),
    Session(SecretHash),
}

impl Deps {
    /// The key that a credential stands for, if it is valid now.
    async fn key(&self, credential: Credential) -> Result<Option<ApiKey>, Arc<PortError>> {
        match credential {
            Credential::Key(secret) => self.keys.find(secret).await,
            Credential::Session(token) => Ok(self.session(token).await?.map(|(_, key)| key)),
        }
    }

    /// The open session with this token, and the key that signed in.
    pub(super) async fn session(&self, token: SecretHash) -> Result<Option<(ConsoleSession, ApiKey)>, Arc<PortError>> {
        let Some(session) = self.sessions.console_session(&token).await? else { return Ok(None) };
        Ok(self.keys.find(session.secret_hash).await?.map(|key| (session, key)))
    }
}

fn of_app(request: &HttpRequest) -> Result<&Deps, Problem> {
    let deps = request.app_data::<web::Data<Deps>>();
    deps.map(|deps| &***deps)
        .ok_or_else(|| Problem::new(ProblemType::Internal).caused_by("the request is not one of the application"))
}

/// A caller with a producer's or an admin's key or session, or one that signs with a producer's identity key.
#[derive(Clone, Copy)]
pub struct Producer {
    pub producer_id: ProducerId,
    pub role: Role,
    /// The key and its proof; `None` for a request that is signed.
    key: Option<(KeyId, Credential)>,
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
                return Ok(Self { producer_id: signer(&request).await?, role: Role::Producer, key: None });
            }
            let (key, credential) = authenticate(&request).await?;
            Ok(Self { producer_id: key.producer_id, role: key.role, key: Some((key.key_id, credential)) })
        })
    }
}

/// A caller with an admin's key or session. Identity keys are never admin keys.
#[derive(Clone, Copy)]
pub struct Admin {
    /// The key, which says which administrator.
    pub key_id: KeyId,
    credential: Credential,
}

impl Admin {
    /// The hash of the secret that the request has; `None` for a session.
    pub(super) fn secret_hash(&self) -> Option<SecretHash> {
        match self.credential {
            Credential::Key(secret) => Some(secret),
            Credential::Session(_) => None,
        }
    }

    /// This caller's right, to ask again while an answer is under way.
    pub(super) fn lasting(&self, request: &HttpRequest) -> Result<LastingRight, Problem> {
        Ok(LastingRight { deps: of_app(request)?.clone(), credential: self.credential })
    }
}

/// The right of an administrator, which may end while an answer is under way.
#[derive(Clone)]
pub(super) struct LastingRight {
    deps: Deps,
    credential: Credential,
}

impl LastingRight {
    /// Whether the session or the key is still an administrator's. A database that does not answer ends nothing.
    pub(super) async fn holds(&self) -> bool {
        match self.deps.key(self.credential).await {
            Ok(key) => key.is_some_and(|key| key.role == Role::Admin),
            Err(_) => true,
        }
    }
}

impl FromRequest for Admin {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Producer::from_request(request, payload);
        Box::pin(async move {
            let caller = caller.await?;
            match (caller.role, caller.key) {
                (Role::Admin, Some((key_id, credential))) => Ok(Self { key_id, credential }),
                _ => Err(Problem::new(ProblemType::Forbidden).detail("this call needs an admin key")),
            }
        })
    }
}

/// The producer of the identity key that signed a request.
async fn signer(request: &HttpRequest) -> Result<ProducerId, Problem> {
    of_app(request)?.signed.producer(request).await
}

/// The identity key that signed a request, of any party; `None` for a request that is not signed.
///
/// # Errors
/// `signature-refused`.
pub(super) fn payer(request: &HttpRequest) -> Result<Option<IdentityKey>, Problem> {
    if !is_signed_request(request.headers()) {
        return Ok(None);
    }
    of_app(request)?.signed.signer(request).map(Some)
}

async fn authenticate(request: &HttpRequest) -> Result<(ApiKey, Credential), Problem> {
    let credential = credential(request)?;
    let key = of_app(request)?.key(credential).await.map_err(|error| Problem::from(&*error))?;
    let key = key.ok_or_else(|| {
        Problem::new(ProblemType::Unauthorized).detail(match credential {
            Credential::Key(_) => "the key is not known",
            Credential::Session(_) => "the session has ended; sign in again",
        })
    })?;
    Ok((key, credential))
}

/// The credential in a request. A session counts only where no key is sent, so that a key that is not known is never overlooked.
fn credential(request: &HttpRequest) -> Result<Credential, Problem> {
    if let Some(secret) = bearer(request.headers()) {
        return Ok(Credential::Key(keys::hash(secret)));
    }
    let token = match request.headers().contains_key(header::AUTHORIZATION) {
        true => None,
        false => console::shown_token(request)?,
    };
    let token = token
        .ok_or_else(|| Problem::new(ProblemType::Unauthorized).detail("send the key as Authorization: Bearer KEY"))?;
    Ok(Credential::Session(token.hash()))
}
