//! The scenarios. Those that are files are all run by `planned`; each other one is a plain struct whose fields are its sizes, and whose
//! phases are its methods, in the order of a run.

pub(crate) mod fleet;
pub(crate) mod overload;
pub(crate) mod planned;
pub(crate) mod scrape;
pub(crate) mod smoke;
pub(crate) mod thousand;
