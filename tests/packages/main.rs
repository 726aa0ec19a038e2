//! What a release is installed with: the image, the unit of systemd, and the manifests of Kubernetes.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/postgres.rs"]
mod postgres;

mod container;
mod dockerfile;
mod image;
mod kubernetes;
mod systemd;
