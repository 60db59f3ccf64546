//! Does a collection whose model reads images find pictures by pictures and by words, and do others say why not?

use quiverdb::{CollectionConfig, Database, Document, Image, Query};

/// Colours that go from one to the next.
fn picture(from: u8, step: u8) -> Image {
    let pixels = (0..60 * 40 * 3_u32)
        .map(|at| from.wrapping_add(((at / 180) as u8).wrapping_mul(step)).wrapping_add((at % 3) as u8 * 60));
    Image::rgb(60, 40, pixels.collect()).unwrap()
}

#[test]
fn a_model_that_reads_texts_alone_says_which_one_reads_images() {
    let notes = Database::in_memory().unwrap().collection("notes").unwrap();
    notes.add(Document::new("a", "some words")).unwrap();
    assert!(!notes.model().unwrap().images);
    for message in [
        notes.search(Query::image(picture(0, 1))).unwrap_err().to_string(),
        notes.embed_images(&[picture(0, 1)]).unwrap_err().to_string(),
    ] {
        assert!(message.contains("model builtin reads no images; CLIP does"), "{message}");
    }
    let external = CollectionConfig::new().external(3);
    let bare = Database::in_memory().unwrap().collection_with("bare", external).unwrap();
    let message = bare.search(Query::image(picture(0, 1))).unwrap_err().to_string();
    assert!(message.contains("collection `bare` has no model that could read the query's image"), "{message}");
    let message = bare.embed_images(&[picture(0, 1)]).unwrap_err().to_string();
    assert!(message.contains("collection `bare` has no model that could read images"), "{message}");
    let message = notes.search(Query::image(picture(0, 1)).rerank("a")).unwrap_err().to_string();
    assert!(message.contains("it has a vector or an image only"), "{message}");
}

#[cfg(feature = "candle")]
#[test]
fn pictures_are_found_by_pictures_and_words_in_one_collection() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clip/old");
    let folder = crate::scenes::folder();
    let db = Database::open(folder.path().join("db")).unwrap();
    let album = db.collection_with("album", CollectionConfig::new().model(model)).unwrap();
    assert!(album.model().unwrap().images);
    let pictures: Vec<Image> = (0..5).map(|at| picture(at * 40, at * 3 + 1)).collect();
    let vectors = album.embed_images(&pictures).unwrap();
    for (at, vector) in vectors.rows().enumerate() {
        album.add(Document::new(at as i64, format!("{at}.png")).vector(vector.to_vec())).unwrap();
    }
    album.add(Document::new("note", "a photo of a cat")).unwrap();
    let check = |album: &quiverdb::Collection| {
        for (at, picture) in pictures.iter().enumerate() {
            let hits = album.search(Query::image(picture.clone()).limit(6)).unwrap().hits;
            assert_eq!((hits.len(), &hits[0].document), (6, &(at as i64).into()));
            assert!((hits[0].score - 1.0).abs() < 1e-5 && hits[1].score < 0.999_9, "{hits:?}");
        }
        let query = Query::image(pictures[1].clone()).with_text("photo of a cat");
        let hits = album.search(query).unwrap().hits;
        assert!(hits.iter().any(|hit| hit.document == "note".into() && hit.scores.text > Some(0.0)), "{hits:?}");
        assert_eq!(album.search(Query::text("a photo of a cat")).unwrap().hits[0].document, "note".into());
    };
    check(&album);
    drop((album, db));
    let db = Database::open(folder.path().join("db")).unwrap();
    check(&db.open_collection("album").unwrap());
}
