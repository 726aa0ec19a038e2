//! Lists in parts.

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Whether items follow after the last one of this page.
    pub more: bool,
}

impl<T> Page<T> {
    /// From up to one item more than `limit`, which tells whether there are more.
    pub fn of(mut items: Vec<T>, limit: u32) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        Self { items, more }
    }
}
