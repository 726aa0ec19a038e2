//! The actors of a Penstock node, and the ports they speak to.

pub mod clock;
pub mod ids;
pub mod model;
pub mod ports;
#[cfg(feature = "testkit")]
pub mod testkit;
