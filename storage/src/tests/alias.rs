//! Other names of collections.

use super::{in_memory, on_disk, sound};
use crate::testing::settings;
use crate::{AliasEdit, Error, Metric, Store};

fn named(store: &Store, name: &str) -> Option<String> {
    store.collection(name).unwrap().map(|info| info.name)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, words: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::InvalidInput(_)), "{error:?}");
    words.iter().for_each(|word| assert!(error.to_string().contains(word), "`{word}`: {error}"));
}

#[test]
fn an_alias_leads_to_its_collection_through_renames_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = on_disk(folder.path(), 1);
    store.create_collection("next", &settings(1, Metric::Dot)).unwrap();
    assert_eq!(store.aliases().unwrap(), []);
    store.change_aliases(&[AliasEdit::set("live", "notes"), AliasEdit::set("also", "live")]).unwrap();
    assert_eq!(named(&store, "live").as_deref(), Some("notes"));
    store.rename_collection("notes", "renamed").unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!((named(&store, "live"), named(&store, "also")), (Some("renamed".into()), Some("renamed".into())));
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(alias, name)| ((*alias).into(), (*name).into())).collect()
    };
    assert_eq!(store.aliases().unwrap(), pairs(&[("also", "renamed"), ("live", "renamed")]));
    store.change_aliases(&[AliasEdit::set("live", "next"), AliasEdit::remove("also")]).unwrap();
    assert_eq!(store.aliases().unwrap(), pairs(&[("live", "next")]));
    assert_eq!((named(&store, "live").as_deref(), named(&store, "also")), (Some("next"), None));
    assert!(store.dump().unwrap().starts_with("alias live of next\n"));
    sound(&store);
}

#[test]
fn several_switches_happen_together_or_not_at_all() {
    let (store, _) = in_memory(1, Metric::Dot);
    store.create_collection("next", &settings(1, Metric::Dot)).unwrap();
    store.change_aliases(&[AliasEdit::set("live", "notes")]).unwrap();
    let missing = store.change_aliases(&[AliasEdit::set("live", "next"), AliasEdit::set("old", "nothing")]);
    assert!(matches!(missing, Err(Error::UnknownCollection(name)) if name == "nothing"));
    assert_eq!((named(&store, "live").as_deref(), named(&store, "old")), (Some("notes"), None));
    store.change_aliases(&[AliasEdit::set("old", "live"), AliasEdit::set("live", "next")]).unwrap();
    assert_eq!((named(&store, "old").as_deref(), named(&store, "live").as_deref()), (Some("notes"), Some("next")));
    sound(&store);
}

#[test]
fn a_name_means_one_collection_and_what_is_in_use_stays() {
    let (store, _) = in_memory(1, Metric::Dot);
    let other = || store.create_collection("other", &settings(1, Metric::Dot));
    other().unwrap();
    store.change_aliases(&[AliasEdit::set("live", "notes"), AliasEdit::set("too", "notes")]).unwrap();
    refused(store.create_collection("live", &settings(1, Metric::Dot)), &["`live` is an alias"]);
    refused(store.rename_collection("other", "live"), &["`live` is an alias"]);
    refused(store.rename_collection("live", "x"), &["`live` is an alias and no collection"]);
    refused(store.drop_collection("live"), &["`live` is an alias and no collection"]);
    refused(store.drop_collection("notes"), &["`notes`", "`live` and `too`", "remove it"]);
    refused(store.change_aliases(&[AliasEdit::set("other", "notes")]), &["`other` is the name of a collection"]);
    refused(store.change_aliases(&[AliasEdit::set("no/slash", "notes")]), &["no/slash"]);
    refused(store.change_aliases(&[AliasEdit::remove("nobody")]), &["there is no alias `nobody`"]);
    assert!(matches!(store.drop_collection("nothing"), Err(Error::UnknownCollection(_))));
    store.change_aliases(&[AliasEdit::remove("live"), AliasEdit::set("too", "other")]).unwrap();
    store.drop_collection("notes").unwrap();
    sound(&store);
}
