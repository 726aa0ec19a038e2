//! Filters: conditions beside the text.

use super::*;
use crate::ports::Media;

pub(super) async fn run<S: CatalogStore + Search>(store: &S) {
    a_filter_alone_lists_the_newest_first(store).await;
    every_filter_must_hold(store).await;
    a_price_is_found_as_it_is_now(store).await;
    ids_are_compared_to_the_letter(store).await;
}

async fn a_filter_alone_lists_the_newest_first<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    for name in ["first", "second", "third"] {
        shelf.add(name, "", json!({})).await;
    }
    let found = shelf.find(&shelf.all()).await;
    assert_eq!(
        brief(&found),
        [
            (MatchedField::PolicyMeta, "third"),
            (MatchedField::PolicyMeta, "second"),
            (MatchedField::PolicyMeta, "first")
        ]
    );
    let nothing = SearchFilter { dataset_id: Some(own_word()), ..SearchFilter::default() };
    assert_eq!(store.search(&nothing, None, 10).await.expect("an answer"), SearchPage { hits: vec![], next: None });
}

async fn every_filter_must_hold<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    let other = Shelf::new(store).await.producer;
    let media = ["video/mp4", "Video/WebM; codecs=\"vp9\"", "text/csv", "text/plain; charset=utf-8"];
    for (number, media_type) in media.into_iter().enumerate() {
        for (producer_id, price_satoshis) in [(shelf.producer, 100), (other, 250)] {
            let name = format!("film {number} {price_satoshis}");
            let media_type = Some(media_type.to_owned());
            shelf.put(NewAsset { name, media_type, producer_id, price_satoshis, ..shelf.blank() }).await;
        }
    }
    let kind = |text: &str| Some(Media::Type(text.into()));
    let family = |text: &str| Some(Media::Family(text.into()));
    let all = shelf.all();
    for (filter, hits) in [
        (all.clone(), 8),
        (SearchFilter { media: kind("video/mp4"), ..all.clone() }, 2),
        (SearchFilter { media: kind("video/webm"), ..all.clone() }, 2),
        (SearchFilter { media: kind("text/plain"), ..all.clone() }, 2),
        (SearchFilter { media: kind("video"), ..all.clone() }, 0),
        (SearchFilter { media: family("video"), ..all.clone() }, 4),
        (SearchFilter { media: family("vid"), ..all.clone() }, 0),
        (SearchFilter { media: family("text"), producer_id: Some(other), ..all.clone() }, 2),
        (SearchFilter { producer_id: Some(shelf.producer), ..all.clone() }, 4),
        (SearchFilter { producer_id: Some(ProducerId::next()), ..all.clone() }, 0),
        (SearchFilter { min_price: Some(101), ..all.clone() }, 4),
        (SearchFilter { min_price: Some(100), max_price: Some(249), ..all.clone() }, 4),
        (SearchFilter { min_price: Some(100), max_price: Some(250), ..all.clone() }, 8),
        (SearchFilter { max_price: Some(99), ..all.clone() }, 0),
        (SearchFilter { min_price: Some(250), media: family("video"), ..shelf.filter("film 1") }, 1),
        (SearchFilter { producer_id: Some(other), ..shelf.filter("film -0") }, 3),
        (SearchFilter { producer_id: Some(other), max_price: Some(100), ..shelf.filter("film") }, 0),
    ] {
        assert_eq!(shelf.find(&filter).await.len(), hits, "{filter:?}");
    }
    // A producer lists its own assets without naming a dataset.
    let own = SearchFilter { producer_id: Some(other), ..SearchFilter::default() };
    assert_eq!(shelf.find(&own).await.len(), 4);
}

async fn a_price_is_found_as_it_is_now<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    let asset = shelf.put(NewAsset { price_satoshis: 5, ..shelf.blank() }).await;
    let at = |satoshis| SearchFilter { min_price: Some(satoshis), max_price: Some(satoshis), ..shelf.all() };
    assert_eq!(shelf.find(&at(5)).await.len(), 1);
    for satoshis in [2_100_000_000_000_000, 0] {
        shelf.price(&asset, satoshis).await;
        assert_eq!(shelf.find(&at(5)).await.len(), 0);
        assert_eq!(shelf.find(&at(satoshis)).await[0].asset.price_satoshis, satoshis);
    }
}

async fn ids_are_compared_to_the_letter<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    let odd =
        [format!("{} ' \" \\ % _ 🌊", shelf.dataset), format!("{}/2026", shelf.dataset), shelf.dataset.to_uppercase()];
    for dataset in &odd {
        shelf.put(NewAsset { name: dataset.clone(), dataset_id: Some(dataset.clone()), ..shelf.blank() }).await;
    }
    for dataset in &odd {
        let found = shelf.find(&SearchFilter { dataset_id: Some(dataset.clone()), ..SearchFilter::default() }).await;
        assert_eq!(brief(&found), [(MatchedField::PolicyMeta, dataset.as_str())]);
    }
    assert_eq!(shelf.find(&shelf.all()).await, []);
}
