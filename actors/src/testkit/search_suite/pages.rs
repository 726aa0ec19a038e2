//! Pages: they are parts of one list, whatever is added meanwhile.

use super::*;

pub(super) async fn run<S: CatalogStore + Search>(store: &S) {
    pages_of_any_size_make_up_the_whole(store).await;
    pages_stay_as_they_were_while_assets_are_added(store).await;
}

async fn filled<S: CatalogStore + Search>(store: &S) -> Shelf<'_, S> {
    let shelf = Shelf::new(store).await;
    for number in 0..30 {
        let name = if number % 3 == 0 { "tide" } else { "sea" };
        let description = if number % 2 == 0 { "of the tide" } else { "of the land" };
        shelf.add(&format!("{name} {number}"), description, json!({ "about": "tides and tide" })).await;
    }
    shelf
}

async fn page<S: CatalogStore + Search>(
    shelf: &Shelf<'_, S>,
    filter: &SearchFilter,
    behind: Option<SearchPosition>,
    limit: u32,
) -> SearchPage {
    let page = shelf.store.search(filter, behind, limit).await.expect("an answer");
    assert!(page.hits.len() <= limit as usize);
    page
}

async fn pages_of_any_size_make_up_the_whole<S: CatalogStore + Search>(store: &S) {
    let shelf = filled(store).await;
    for filter in [shelf.all(), shelf.filter("tide"), shelf.filter("sea -4")] {
        let whole = shelf.find(&filter).await;
        assert!(whole.len() > 15);
        for limit in [1, 2, 7, 29, 30] {
            let mut found = Vec::new();
            let mut behind = None;
            loop {
                let page = page(&shelf, &filter, behind, limit).await;
                assert!(!page.hits.is_empty(), "no page but the only one is empty");
                found.extend(page.hits);
                behind = page.next;
                if behind.is_none() {
                    break;
                }
            }
            assert_eq!(brief(&found), brief(&whole), "pages of {limit}");
        }
    }
}

async fn pages_stay_as_they_were_while_assets_are_added<S: CatalogStore + Search>(store: &S) {
    let shelf = filled(store).await;
    for filter in [shelf.all(), shelf.filter("tide")] {
        let before = shelf.find(&filter).await;
        let mut found = Vec::new();
        let mut behind = None;
        loop {
            let page = page(&shelf, &filter, behind, 4).await;
            found.extend(page.hits);
            behind = page.next;
            if behind.is_none() {
                break;
            }
            // One for each place where words are found.
            shelf.add("tide, late", "", json!({})).await;
            shelf.add("late", "tide", json!({})).await;
            shelf.add("late", "", json!({ "about": "tide" })).await;
        }
        assert_eq!(brief(&found), brief(&before));
        let after = shelf.find(&filter).await;
        assert!(after.len() > before.len(), "a new search finds what was added");
    }
}
