//! Lists in pages.

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Whether more items follow this page.
    pub more: bool,
}

impl<T> Page<T> {
    /// A page made of up to one item more than `limit`; that item shows that there are more.
    pub fn of(mut items: Vec<T>, limit: u32) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        Self { items, more }
    }
}
