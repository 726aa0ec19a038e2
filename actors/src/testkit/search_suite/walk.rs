//! Random texts and queries, each compared with the model.

use super::*;
use crate::{ports::Media, testkit::dice::Dice};

/// Each seed gives some dozens of assets, and queries that use every part of the syntax many times.
pub(super) const SEEDS: [u64; 2] = [4, 20_261];
const ASSETS: u64 = 40;
const WISHES: u64 = 150;

/// Few enough that queries match texts, with common beginnings, accents and a script without spaces.
const WORDS: [&str; 14] =
    ["sea", "seas", "season", "séa", "deep", "deeply", "tide", "tides", "a", "4", "東", "京", "of-the", "İs"];

struct Chance(Dice);

impl Chance {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0.roll(sides)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.roll(from.len() as u64)).expect("small")]
    }

    fn text(&mut self, most: u64) -> String {
        let count = self.roll(most + 1);
        let words: Vec<_> = (0..count).map(|_| self.pick(&WORDS)).collect();
        words.join(self.pick(&[" ", " ", ", ", "-"]))
    }

    /// A query that a person may type, or one with odd syntax.
    fn typed(&mut self) -> String {
        let mut typed = String::new();
        for _ in 0..=self.roll(4) {
            typed += self.pick(&["", "", "", "", "-", "or ", "\""]);
            typed += self.pick(&WORDS);
            typed += self.pick(&[" ", " ", " ", "\" ", "-", " OR ", "* ", "&"]);
        }
        typed
    }
}

/// # Panics
/// When the store and the model differ.
pub(super) async fn what_is_found_is_what_the_model_finds<S: CatalogStore + Search>(store: &S, seed: u64) {
    let mut dice = Chance(Dice(seed));
    let shelf = Shelf::new(store).await;
    let other = Shelf::new(store).await.producer;
    for _ in 0..ASSETS {
        let policy_meta = json!({ "tags": [dice.text(2), dice.text(3)], "more": { "text": dice.text(2) } });
        let new = NewAsset {
            name: format!("{} {}", dice.pick(&WORDS), dice.text(3)),
            description: dice.text(8),
            policy_meta,
            media_type: Some(dice.pick(&["video/mp4", "video/webm", "text/csv"]).into()),
            producer_id: if dice.roll(3) == 0 { other } else { shelf.producer },
            price_satoshis: dice.roll(4),
            ..shelf.blank()
        };
        shelf.put(new).await;
    }
    for _ in 0..WISHES {
        let mut filter = shelf.all();
        filter.text = TextQuery::parse(&dice.typed()).ok();
        if dice.roll(4) == 0 {
            filter.producer_id = Some(other);
        }
        match dice.roll(6) {
            0 => filter.media = Some(Media::Family("video".into())),
            1 => filter.media = Some(Media::Type("video/webm".into())),
            2 => filter.min_price = Some(dice.roll(4)),
            3 => (filter.min_price, filter.max_price) = (Some(1), Some(1 + dice.roll(2))),
            _ => {}
        }
        shelf.find(&filter).await;
        let facets = shelf.store.facets(&filter, 10, 3).await.expect("an answer");
        assert_eq!(
            facets,
            shelf.model.facets(&filter, 10, 3).await.expect("the model answers"),
            "seed {seed}: {filter:?}"
        );
    }
}
