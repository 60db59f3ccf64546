//! How is one thing found by its words and by its picture? Two vector spaces in one collection.
//!
//! Run it with `cargo run --example named_spaces`.
//!
//! The default space holds what the built-in model makes of the text; the space `image` holds vectors that the program
//! brings, here the mean colour of a picture. An image encoder such as CLIP would bring 512 numbers instead of three.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quiverdb::{CollectionConfig, Database, Document, Metric, Query, SpaceConfig};

fn main() -> anyhow::Result<()> {
    let db = Database::in_memory()?;
    let config = CollectionConfig::new().space("image", SpaceConfig::external(3).metric(Metric::L2));
    let shop = db.collection_with("shop", config)?;
    let wares = [
        ("scarf", "A warm scarf of merino wool.", [0.8, 0.1, 0.1]),
        ("gloves", "Leather gloves, lined with wool.", [0.2, 0.1, 0.1]),
        ("raincoat", "A light coat that keeps the rain out.", [0.9, 0.8, 0.1]),
        ("kite", "Flies high in a strong wind.", [0.9, 0.2, 0.2]),
    ];
    shop.add_many(wares.map(|(id, text, colour)| Document::new(id, text).vector_in("image", colour.to_vec())))?;

    let red = vec![0.9, 0.1, 0.1];
    let questions = [
        ("warm clothes", Query::text("something warm to wear")),
        ("red things", Query::vector(red.clone()).space("image")),
        ("red, and of wool", Query::vector(red).space("image").with_text("wool")),
    ];
    for (title, query) in questions {
        println!("{title}");
        for hit in shop.search(query.limit(2))? {
            println!("  {:.3} {}: {}", hit.score, hit.document, hit.text);
        }
    }
    Ok(())
}
