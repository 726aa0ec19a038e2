//! Words: the results for a text, and their order.

use super::*;

pub(super) async fn run<S: CatalogStore + Search>(store: &S) {
    the_name_comes_before_the_description_and_that_before_the_policy_meta(store).await;
    the_syntax_of_web_searches_is_understood(store).await;
    the_last_word_stands_for_longer_ones(store).await;
    case_accents_and_forms_do_not_matter(store).await;
    scripts_without_spaces_are_searched_inside(store).await;
    a_phrase_does_not_reach_from_one_text_into_another(store).await;
    texts_are_found_at_any_depth_of_the_policy_meta(store).await;
    an_asset_is_found_from_the_moment_it_was_made(store).await;
    whatever_is_typed_gets_an_answer(store).await;
    long_words_and_long_texts_are_found(store).await;
}

async fn the_name_comes_before_the_description_and_that_before_the_policy_meta<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    shelf.add("In the name: tide tables", "", json!({})).await;
    shelf.add("In the policy meta", "tide", json!({ "keywords": ["tables"] })).await;
    shelf.add("In both: tide", "tables", json!({})).await;
    shelf.add("In the description", "tables of every tide", json!({ "keywords": ["tide tables"] })).await;
    shelf.add("Newer: tables of tides, tide", "", json!({})).await;
    shelf.add("Only one: tide", "tide tide tide", json!({})).await;
    let found = shelf.find(&shelf.filter("tide tables")).await;
    assert_eq!(
        brief(&found),
        [
            (MatchedField::Name, "Newer: tables of tides, tide"),
            (MatchedField::Name, "In the name: tide tables"),
            (MatchedField::Description, "In the description"),
            (MatchedField::Description, "In both: tide"),
            (MatchedField::PolicyMeta, "In the policy meta"),
        ]
    );
}

async fn the_syntax_of_web_searches_is_understood<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    shelf.add("1", "deep sea charts", json!({})).await;
    shelf.add("2", "charts of the sea, deep", json!({ "license": "CC-BY-4.0" })).await;
    shelf.add("3", "shallow water", json!({ "license": "CC0-1.0" })).await;
    shelf.add("4", "deep water", json!({ "said": ["by", "cc"] })).await;
    for (typed, found) in [
        ("deep sea", vec!["2", "1"]),
        ("\"deep sea\"", vec!["1"]),
        ("deep -sea", vec!["4"]),
        ("deep -\"deep sea\"", vec!["4", "2"]),
        ("sea or water", vec!["4", "3", "2", "1"]),
        ("deep sea or shallow", vec!["3", "2", "1"]),
        ("-deep", vec!["3"]),
        ("-deep or charts", vec!["2", "1", "3"]),
        ("-deep or -charts", vec!["4", "3"]),
        ("cc-by", vec!["2"]),
        ("CC-BY-4.0", vec!["2"]),
        ("\"cc by\"", vec!["2"]),
        ("by cc", vec!["4", "2"]),
        ("desert", vec![]),
        ("deep desert", vec![]),
        ("-deep -shallow", vec![]),
    ] {
        assert_eq!(shelf.names(typed).await, found, "{typed}");
    }
}

async fn the_last_word_stands_for_longer_ones<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    shelf.add("harbour", "", json!({})).await;
    shelf.add("harbours of the north", "", json!({})).await;
    shelf.add("north harvest", "", json!({})).await;
    shelf.add("har", "", json!({})).await;
    for (typed, found) in [
        ("har", vec!["har", "north harvest", "harbours of the north", "harbour"]),
        ("harb", vec!["harbours of the north", "harbour"]),
        ("\"harb\"", vec![]),
        ("harb north", vec![]),
        ("north harb", vec!["harbours of the north"]),
        ("north -harb", vec!["north harvest", "harbours of the north"]),
        ("the no", vec!["harbours of the north"]),
        ("the-no", vec!["harbours of the north"]),
        ("n", vec![]),
    ] {
        assert_eq!(shelf.names(typed).await, found, "{typed}");
    }
}

async fn case_accents_and_forms_do_not_matter<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    let name = "São Paulo: É́té à İstanbul, Ελλάδα ΟΔΟΣ, Ёлка, ＷＩＤＥ ﬁne co\u{ad}op, STRAẞE, Łódź, مُحَمَّد, l’eau";
    shelf.add(name, "", json!({})).await;
    for typed in [
        "sao paulo",
        "SÃO PAULO",
        "ete",
        "e\u{301}te\u{301}",
        "istanbul",
        "ελλαδα",
        "ΕΛΛΆΔΑ",
        "οδος",
        "οδοσ",
        "елка",
        "wide",
        "fine",
        "coop",
        "straße",
        "strasse",
        "lodz",
        "محمد",
        "l'eau",
        "“ete a istanbul”",
        "ｐａｕｌｏ",
    ] {
        assert_eq!(shelf.names(typed).await, [name], "{typed}");
    }
    for typed in ["strase", "pau1o", "oδος"] {
        assert_eq!(shelf.names(typed).await, [""; 0], "{typed}");
    }
}

async fn scripts_without_spaces_are_searched_inside<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    shelf.add("新東京タワー", "日本の地図", json!({ "言語": "日本語" })).await;
    shelf.add("京東商城", "中国", json!({})).await;
    shelf.add("한국어 지도", "", json!({})).await;
    for (typed, found) in [
        ("東京", vec!["新東京タワー"]),
        ("タワ", vec!["新東京タワー"]),
        ("日本語", vec!["新東京タワー"]),
        ("東", vec!["京東商城", "新東京タワー"]),
        ("地図 東京", vec!["新東京タワー"]),
        ("東京 or 京東", vec!["京東商城", "新東京タワー"]),
        ("한국", vec!["한국어 지도"]),
        ("言語", vec![]),
    ] {
        assert_eq!(shelf.names(typed).await, found, "{typed}");
    }
}

async fn a_phrase_does_not_reach_from_one_text_into_another<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    shelf.add("salt water", "taffy", json!({ "a": ["fresh", "bread"], "b": "crust" })).await;
    for (typed, hits) in [
        ("\"salt water\"", 1),
        ("\"water taffy\"", 0),
        ("\"taffy fresh\"", 0),
        ("\"fresh bread\"", 0),
        ("\"bread crust\"", 0),
        ("fresh bread crust taffy salt", 1),
    ] {
        assert_eq!(shelf.names(typed).await.len(), hits, "{typed}");
    }
}

async fn texts_are_found_at_any_depth_of_the_policy_meta<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    let meta =
        json!({ "owner": { "name": "Zoë Müller", "tags": [["nested"], 42, null, true, "a \"quoted\" \\ 'text'"] } });
    shelf.add("A", "", meta).await;
    for (typed, hits) in
        [("zoe muller", 1), ("nested", 1), ("quoted text", 1), ("owner", 0), ("name", 0), ("42", 0), ("true", 0)]
    {
        assert_eq!(shelf.names(typed).await.len(), hits, "{typed}");
    }
}

async fn an_asset_is_found_from_the_moment_it_was_made<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    let word = own_word();
    let filter = SearchFilter { text: TextQuery::parse(&word).ok(), ..SearchFilter::default() };
    assert_eq!(store.search(&filter, None, 10).await.expect("an answer").hits, []);
    let asset = shelf.put(NewAsset { name: word, ..shelf.blank() }).await;
    let hits = store.search(&filter, None, 10).await.expect("an answer").hits;
    assert_eq!(hits, [Hit { asset: asset.clone(), found: MatchedField::Name }]);
    // A call repeated because its answer was lost adds nothing.
    let again = NewAsset { version_id: asset.version_id, ..shelf.blank() };
    assert_eq!(store.create_asset(&again).await.expect("a repeated call succeeds"), asset);
    assert_eq!(store.search(&filter, None, 10).await.expect("an answer").hits.len(), 1);
}

async fn whatever_is_typed_gets_an_answer<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    shelf.add("and or not near", "it's 100% a_b \\ \"quoted\"", json!({})).await;
    let many = "\"a b\" -c or ".repeat(8);
    for typed in [
        "'",
        "a'b",
        "\"",
        "a\"b",
        "\\",
        "a\\",
        "%",
        "_",
        "a & b | !c",
        "a <-> b",
        "a:*",
        "*a",
        "(a",
        "a)",
        "NEAR(a b, 2)",
        "a NOT b",
        "{name} : a",
        "^a",
        "a + b",
        "name:a",
        "AND",
        "or or or",
        "-or",
        "--",
        "tags : a",
        "\u{a6}a",
        "@p #0 *",
        "$1",
        "a\u{0}b",
        "a\u{7f}b",
        "\u{202e}a",
        "🌊 a 🌊",
        "سلام",
        "a;--",
        "/*a*/",
        "'; DROP TABLE assets; --",
        &many,
    ] {
        if let Ok(text) = TextQuery::parse(typed) {
            shelf.find(&SearchFilter { text: Some(text), ..shelf.all() }).await;
        }
    }
    assert_eq!(shelf.names("or not").await.len(), 1);
    assert_eq!(shelf.names("\"and or\"").await.len(), 1);
}

async fn long_words_and_long_texts_are_found<S: CatalogStore + Search>(store: &S) {
    let shelf = Shelf::new(store).await;
    let long = "Ω".repeat(5000);
    // The largest text of an asset: every letter a word.
    let description = "a ".repeat(4000) + "last";
    shelf.add("Long", &description, json!({ "one": long, "more": "b ".repeat(16_000), "end": "final" })).await;
    for typed in [&long, "last", "final", "a b final"] {
        assert_eq!(shelf.names(typed).await, ["Long"], "{typed:.20}");
    }
}
