//! The conformance suite of its port.
