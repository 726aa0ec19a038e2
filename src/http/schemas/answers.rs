//! The forms of answers, for the document. Handlers serialize values of the actors, or build small documents in place; these types
//! say what comes out. A contract test reads the answers of a running node with them, and refuses members that they lack.

mod admin;
mod content;
mod governance;
mod lineage;
mod receipts;

pub use admin::*;
pub use content::*;
pub use governance::*;
pub use lineage::*;
pub use receipts::*;
