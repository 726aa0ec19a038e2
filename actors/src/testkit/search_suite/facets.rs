//! Facets: counts over the results of a query.

use super::*;
use crate::ports::SearchFacets;

pub(super) async fn run<S: CatalogStore + Search>(store: &S) {
    facets_count_what_is_found(store).await;
    counting_ends_at_its_bound_and_says_so(store).await;
}

async fn facets_count_what_is_found<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    let word = own_word();
    let other = Shelf::new(store).await.producer;
    for number in 0_u32..12 {
        let media_type = Some(["video/mp4", "text/csv; header=present", "TEXT/CSV"][number as usize % 3].to_owned());
        let dataset_id = (number >= 2).then(|| format!("{word} {}", number % 4));
        let producer_id = if number % 4 == 0 { other } else { shelf.producer };
        let name = format!("{word} {number}");
        shelf.put(NewAsset { name, media_type, dataset_id, producer_id, ..shelf.blank() }).await;
    }
    let found = SearchFilter { text: TextQuery::parse(&word).ok(), ..SearchFilter::default() };
    let facets = store.facets(&found, 100, 10).await.expect("an answer");
    let dataset = |number: u32, count| (format!("{word} {number}"), count);
    assert_eq!(
        facets,
        SearchFacets {
            datasets: vec![dataset(2, 3), dataset(3, 3), dataset(0, 2), dataset(1, 2)],
            producers: vec![(shelf.producer, 9), (other, 3)],
            media_types: vec![("text/csv".into(), 8), ("video/mp4".into(), 4)],
            counted: 12,
            capped: false,
        }
    );
    let fewer = store.facets(&found, 100, 2).await.expect("an answer");
    assert_eq!(fewer.datasets, facets.datasets[..2]);
    for filter in [
        found.clone(),
        SearchFilter { producer_id: Some(other), ..found.clone() },
        SearchFilter { min_price: Some(1), ..found.clone() },
        SearchFilter { text: None, producer_id: Some(other), ..SearchFilter::default() },
    ] {
        let model = shelf.model.facets(&filter, 100, 10).await.expect("the model answers");
        assert_eq!(store.facets(&filter, 100, 10).await.expect("an answer"), model, "{filter:?}");
    }
}

async fn counting_ends_at_its_bound_and_says_so<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    for number in 0..5 {
        shelf.add(&format!("tide {number}"), "", json!({})).await;
    }
    for filter in [shelf.all(), shelf.filter("tide")] {
        for (most, counted, capped) in [(10, 5, false), (5, 5, false), (4, 4, true), (1, 1, true)] {
            let facets = store.facets(&filter, most, 10).await.expect("an answer");
            assert_eq!((facets.counted, facets.capped), (counted, capped), "at most {most}");
            assert_eq!(facets.datasets, [(shelf.dataset.clone(), counted)]);
        }
    }
}
