//! Does the console have what it asks for?

use quiverdb::{CollectionConfig, Document};
use serde_json::json;

use super::Serving;

fn header(server: &Serving, path: &str, name: &str) -> String {
    let mut response = ureq::get(server.url(path)).call().unwrap();
    response.body_mut().read_to_string().unwrap();
    response.headers()[name].to_str().unwrap().to_owned()
}

#[test]
fn the_page_runs_its_own_script_alone_and_may_ask_nobody_else() {
    let server = Serving::new();
    let page = server.get("/").expect(200);
    let page = page.as_str().unwrap();
    assert!(page.contains("<script src=\"/console.js\" defer></script>"), "{page}");
    for forbidden in ["<style", "style=", "onclick", "javascript:", "http://", "https://", "//cdn"] {
        assert!(!page.contains(forbidden), "the page has {forbidden}");
    }
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/console.js", "text/javascript; charset=utf-8"),
        ("/console.css", "text/css; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        assert_eq!(header(&server, path, "content-type"), media_type);
        assert_eq!(header(&server, path, "x-content-type-options"), "nosniff");
        assert_eq!(header(&server, path, "referrer-policy"), "no-referrer");
        let policy = header(&server, path, "content-security-policy");
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
    }
}

#[test]
fn text_is_never_written_as_markup() {
    let script = Serving::new().get("/console.js").expect(200);
    let script = script.as_str().unwrap();
    for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
        assert!(!script.contains(forbidden), "the script has {forbidden}");
    }
}

#[test]
fn a_browser_that_has_the_page_is_not_sent_it_again() {
    let server = Serving::new();
    let tag = header(&server, "/console.js", "etag");
    let answer = server.send("GET", "/console.js", &[("if-none-match", &tag)], b"");
    assert_eq!((answer.status, answer.body), (304, json!("")));
    server.send("GET", "/console.js", &[("if-none-match", "\"another\"")], b"").expect(200);
    assert_ne!(tag, header(&server, "/console.css", "etag"));
}

/// Nine points of a plane in 64 dimensions: a grid, 2 wide and 1 high, whose sides no axis has.
fn grid(server: &Serving) {
    let config = CollectionConfig::new().external(64).metric(quiverdb::Metric::Dot);
    let collection = server.database.collection_with("grid", config).unwrap();
    for at in 0..9_u8 {
        let (across, up) = (f32::from(at % 3), f32::from(at / 3) * 0.5);
        let mut vector = vec![1.0; 64];
        for (place, value) in vector.iter_mut().enumerate() {
            *value += if place % 2 == 0 { across } else { up };
        }
        let document = Document::new(i64::from(at), format!("{} point {at}", "long ".repeat(50)));
        let metadata = json!({"row": at / 3, "tags": ["a"]});
        collection.add(document.metadata(metadata).title("<b>T</b>").vector(vector)).unwrap();
    }
}

#[test]
fn a_map_shows_a_plane_as_it_is() {
    let server = Serving::new();
    grid(&server);
    let map = server.get("/v1/collections/grid/map?field=row").expect(200);
    let points = map["points"].as_array().unwrap();
    assert_eq!((points.len(), &map["sampled"], &map["chunks"]), (9, &json!(false), &json!(9)));
    let place = |at: usize| ["x", "y"].map(|axis| points[at][axis].as_f64().unwrap());
    let distance = |a: usize, b: usize| (place(a)[0] - place(b)[0]).hypot(place(a)[1] - place(b)[1]);
    // 32 dimensions lie along each side.
    let unit = 32_f64.sqrt();
    for (a, b, expected) in [(0, 1, 1.0), (0, 2, 2.0), (0, 3, 0.5), (0, 8, 5_f64.sqrt()), (2, 6, 5_f64.sqrt())] {
        assert!((distance(a, b) - expected * unit).abs() < 1e-4, "{a} to {b} is {}", distance(a, b));
    }
    let explained = [0, 1].map(|at| map["explained"][at].as_f64().unwrap());
    assert!((explained[0] - 0.8).abs() < 1e-6 && (explained[1] - 0.2).abs() < 1e-6, "{explained:?}");
    assert_eq!(map["fields"], json!(["row"]));
    assert_eq!((&points[4]["document"], &points[4]["chunk"]), (&json!(4), &json!(0)));
    assert_eq!((&points[4]["value"], &points[4]["title"]), (&json!("1"), &json!("<b>T</b>")));
    assert_eq!(points[4]["text"].as_str().unwrap().chars().count(), 160);
}

#[test]
fn where_directions_are_compared_lengths_do_not_show() {
    let server = Serving::new();
    let collection = server.database.collection_with("ways", CollectionConfig::new().external(3)).unwrap();
    for (id, vector) in [(1, [1.0, 0.0, 0.0]), (2, [90.0, 0.0, 0.0]), (3, [0.0, 0.5, 0.0])] {
        collection.add(Document::new(id, "text").vector(vector.to_vec())).unwrap();
    }
    let map = server.get("/v1/collections/ways/map").expect(200);
    let x = |at: usize| map["points"][at]["x"].as_f64().unwrap();
    assert!((x(0) - x(1)).abs() < 1e-6, "{map}");
    assert!(((x(0) - x(2)).abs() - 2_f64.sqrt()).abs() < 1e-6, "{map}");
}

#[test]
fn a_map_of_more_than_it_may_show_is_a_sample_and_the_same_each_time() {
    let server = Serving::new();
    grid(&server);
    let map = server.get("/v1/collections/grid/map?limit=3").expect(200);
    let documents: Vec<_> = map["points"].as_array().unwrap().iter().map(|point| &point["document"]).collect();
    assert_eq!((documents, &map["sampled"]), (vec![&json!(0), &json!(3), &json!(6)], &json!(true)));
    assert_eq!(map, server.get("/v1/collections/grid/map?limit=3").expect(200));
    server.database.collection("grid").unwrap().delete(3).unwrap();
    let left = server.get("/v1/collections/grid/map").expect(200);
    assert!(left["points"].as_array().unwrap().iter().all(|point| point["document"] != 3), "{left}");
}

#[test]
fn a_map_that_cannot_be_is_refused_by_the_value() {
    let server = Serving::new();
    grid(&server);
    server.database.collection("empty").unwrap();
    let empty = server.get("/v1/collections/empty/map").expect(200);
    assert_eq!((&empty["points"], &empty["explained"]), (&json!([]), &json!([0.0, 0.0])));
    for (asked, said) in [("limit=0", "0"), ("limit=5001", "5001"), ("space=image", "image"), ("limits=3", "limits")] {
        let (code, message) = server.get(&format!("/v1/collections/grid/map?{asked}")).failure(400);
        assert!(code == "invalid_request" && message.contains(said), "{code}: {message}");
    }
    assert_eq!(server.get("/v1/collections/none/map").failure(404).0, "collection_not_found");
}
