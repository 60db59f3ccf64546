//! Are edits right where others write meanwhile, and does what nobody waits for end?

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::shape::Shape;
use super::{query, read, scope, write};
use crate::server::app::{Answer, App};
use crate::server::{Settings, Stop};
use crate::{Collection, CollectionConfig, Database, Document};

/// A server's state, and its collection `c` of points with one number and `points` payloads `{"k": id}`.
fn with_points(points: i64) -> (App, Collection) {
    let database = Database::in_memory().unwrap();
    let collection = database.collection_with("c", CollectionConfig::new().external(1)).unwrap();
    collection.add_many((0..points).map(|id| point(id, json!({"k": id})))).unwrap();
    (App::new(database, Settings::default(), Stop::new()).unwrap(), collection)
}

fn point(id: i64, payload: Value) -> Document {
    Document::new(id, "").vector(vec![1.0]).metadata(payload)
}

fn given<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// A question that may be given a filter.
type Ask = fn(&App, &AtomicBool, Value) -> Answer<Value>;

/// Sets `a` of what is selected; whenever that has read a document, `between` is done first.
fn edited(app: &App, selector: Value, between: impl Fn(usize)) -> Answer<()> {
    let rounds = Cell::new(0);
    write::edit(app, "c", &given(selector), &AtomicBool::new(false), |payload| {
        between(rounds.get());
        rounds.set(rounds.get() + 1);
        payload.insert("a".to_owned(), json!(1));
    })
}

#[test]
fn what_others_write_while_a_point_is_edited_stays() {
    let (app, collection) = with_points(1);
    let native = |round: usize| {
        if round < 3 {
            collection.add(point(0, json!({"k": 0, "b": round}))).unwrap();
        }
    };
    edited(&app, json!({"points": [0]}), native).unwrap();
    assert_eq!(collection.get(0).unwrap().unwrap().metadata, json!({"k": 0, "a": 1, "b": 2}));
}

#[test]
fn a_point_that_is_deleted_while_it_is_edited_stays_deleted() {
    let (app, collection) = with_points(2);
    let native = |round: usize| {
        if round == 0 {
            collection.delete(0).unwrap();
        }
    };
    assert_eq!(edited(&app, json!({"points": [0]}), native).unwrap_err().status, 404);
    assert_eq!(collection.ids().unwrap(), [1.into()]);
    // Whoever selects by a filter means what it lets through then.
    let native = |round: usize| {
        if round == 0 {
            collection.add(point(1, json!({"k": 9}))).unwrap();
        }
    };
    edited(&app, json!({"filter": {"must": [{"key": "k", "match": {"value": 1}}]}}), native).unwrap();
    assert_eq!(collection.get(1).unwrap().unwrap().metadata, json!({"k": 9}));
}

#[test]
fn a_point_that_others_never_leave_alone_is_not_edited_and_nothing_is_lost() {
    let (app, collection) = with_points(1);
    let native = |round: usize| drop(collection.add(point(0, json!({"b": round}))).unwrap());
    let refused = edited(&app, json!({"points": [0]}), native).unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.retryable), (503, true), "{}", refused.message);
    assert_eq!(collection.get(0).unwrap().unwrap().metadata, json!({"b": 23}));
}

#[test]
fn many_points_are_edited_though_others_write_to_some() {
    let (app, collection) = with_points(1_500);
    let native = |round: usize| {
        let written = match round {
            0 => Some(0),
            // Edited last.
            round if round % 600 == 599 => Some(1_499),
            _ => None,
        };
        written.into_iter().for_each(|id| drop(collection.add(point(id, json!({"b": round}))).unwrap()));
    };
    edited(&app, json!({"filter": {}}), native).unwrap();
    for document in collection.scan().unwrap() {
        let document = document.unwrap();
        assert_eq!(document.metadata["a"], 1, "{}", document.id);
    }
    assert_eq!(collection.get(0).unwrap().unwrap().metadata, json!({"a": 1, "b": 0}));
}

#[test]
fn nothing_goes_on_once_nobody_waits() {
    let (app, _) = with_points(3);
    let (gone, waits) = (AtomicBool::new(true), AtomicBool::new(false));
    let unlike = json!({"must_not": [{"key": "k", "range": {"gt": 1, "lt": 3}}]});
    let all: [Ask; 7] = [
        |app, cancel, _| read::retrieve(app, "c", &given(json!({"ids": [1, 2]})), cancel),
        |app, cancel, filter| read::scroll(app, "c", &given(json!({"filter": filter})), cancel),
        |app, cancel, filter| read::count(app, "c", &given(json!({"filter": filter})), cancel),
        |app, cancel, _| read::facet(app, "c", &given(json!({"key": "k"})), cancel),
        |app, cancel, _| query::query(app, "c", object(&json!({"query": [1.0]})), cancel),
        |app, cancel, _| query::batch(app, "c", object(&json!({"searches": [{"query": [1.0]}]})), cancel),
        |app, cancel, _| query::groups(app, "c", object(&json!({"query": [1.0], "group_by": "k"})), cancel),
    ];
    for (place, ask) in all.iter().enumerate() {
        ask(&app, &waits, unlike.clone()).unwrap();
        let failure = ask(&app, &gone, unlike.clone()).unwrap_err();
        assert_eq!(failure.status, 503, "the {place}th: {}", failure.message);
    }
}

#[test]
fn a_walk_ends_with_the_page_in_which_the_client_left() {
    let (app, _) = with_points(600);
    let (shape, cancel) = (Shape::of(&app, "c").unwrap(), AtomicBool::new(false));
    let mut taken = 0;
    let ended = scope::walk(&shape.looked_at(&cancel), None, None, &mut |_| {
        taken += 1;
        cancel.store(true, Ordering::Relaxed);
        true
    });
    assert!(ended.is_err() && taken < 600, "{taken}");
}
