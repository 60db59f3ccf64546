//! Does the command embed, add and search pictures, and say why where it cannot?

#[cfg(all(feature = "candle", feature = "images"))]
use serde_json::Value;

#[cfg(all(feature = "candle", feature = "images"))]
use super::folders::{Watch, put};
use super::*;

#[cfg(all(feature = "candle", feature = "images"))]
const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clip/old");
const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clip/pictures");

#[test]
fn pictures_need_a_model_that_reads_them() {
    let shell = Shell::new();
    let wide = format!("{PICTURES}/wide.png");
    let added = shell.run(&["add", &wide]).expect(4);
    assert!(added.stderr.contains("a picture; a collection whose model reads images takes it"), "{}", added.stderr);
    shell.run(&["embed", "--image", "none.png"]).expect(2);
    shell.write("docs/a.md", "words");
    shell.run(&["add", "docs"]).expect(0);
    let refused = [vec!["embed", "--image", &wide], vec!["search", "--image", &wide]];
    for arguments in refused {
        let run = shell.run(&arguments).expect(2);
        let expected = if cfg!(feature = "images") { "model builtin reads no images" } else { "the feature `images`" };
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
}

#[cfg(all(feature = "candle", feature = "images"))]
#[test]
fn pictures_are_embedded_by_name_and_from_a_list() {
    let shell = Shell::new();
    let golden = fs::read_to_string(Path::new(CLIP).join("images.jsonl")).unwrap();
    let golden: Vec<Value> = golden.lines().take(11).map(|line| serde_json::from_str(line).unwrap()).collect();
    let paths: Vec<String> =
        golden.iter().map(|line| format!("{PICTURES}/{}", line["file"].as_str().unwrap())).collect();
    let mut arguments = vec!["--jsonl", "embed", "--model", CLIP, "--image"];
    arguments.extend(paths.iter().map(String::as_str));
    let named = shell.run(&arguments).expect(0).stdout;
    let listed =
        shell.feed(&["--jsonl", "embed", "--model", CLIP, "--image", "-"], &(paths.join("\n") + "\n")).expect(0);
    assert_eq!(named, listed.stdout);
    for (line, wanted) in named.lines().zip(&golden) {
        let found: Value = serde_json::from_str(line).unwrap();
        let numbers = |value: &Value| -> Vec<f64> { serde_json::from_value(value["embedding"].clone()).unwrap() };
        let apart = numbers(&found).iter().zip(numbers(wanted)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-4, "{}: {apart}", wanted["file"]);
    }
    assert_eq!(named.lines().count(), golden.len());
}

#[cfg(all(feature = "candle", feature = "images"))]
#[test]
fn a_folder_of_pictures_and_notes_is_added_and_searched() {
    let shell = Shell::new();
    shell.write("album/note.md", "# Cats\n\na photo of a cat\n");
    for name in ["wide.png", "turned.jpg", "still.gif", "lossy.webp"] {
        shell.write(&format!("album/{name}"), fs::read(Path::new(PICTURES).join(name)).unwrap());
    }
    shell.write("album/broken.png", b"\x89PNG\r\n\x1a\nnothing");
    let add = ["--json", "add", "album", "--model", CLIP];
    let rehearsed = shell.run(&["--json", "add", "album", "--model", CLIP, "--dry-run"]).expect(4).json();
    let first = shell.run(&add).expect(4).json();
    for report in [&rehearsed, &first] {
        assert_eq!((&report["added"], report["rejected"].as_array().unwrap().len()), (&5.into(), 1), "{report}");
        let reason = report["rejected"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("broken.png cannot be read"), "{reason}");
    }
    let again = shell.run(&add).expect(4).json();
    assert_eq!((&again["added"], &again["unchanged"]), (&0.into(), &5.into()), "{again}");
    // The second time only changed files are read.
    shell.write("album/wide.png", fs::read(Path::new(PICTURES).join("tall.png")).unwrap());
    fs::File::options()
        .append(true)
        .open(shell.path("album/wide.png"))
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(shell.run(&add).expect(4).json()["replaced"], 1);

    let found = |file: &str| shell.json(&["--json", "search", "--image", &format!("{PICTURES}/{file}"), "-k", "6"]);
    let hits = found("tall.png")["hits"].clone();
    assert_eq!((&hits[0]["document"], hits.as_array().unwrap().len()), (&"wide.png".into(), 5), "{hits}");
    assert_eq!((&hits[0]["metadata"]["media_type"], &hits[0]["text"]), (&"image/png".into(), &"wide.png".into()));
    assert_eq!(found("lossy.webp")["hits"][0]["document"], "lossy.webp");
    let by_words = shell.json(&["--json", "search", "a photo of a cat"]);
    assert_eq!(by_words["hits"][0]["document"], "note.md");
    let both = shell.json(&["--json", "search", "--image", &format!("{PICTURES}/still.gif"), "cats"]);
    assert_eq!(both["mode"], "hybrid");
    let text = shell.run(&["search", "--image", &format!("{PICTURES}/still.gif"), "--mode", "text"]).expect(2);
    assert!(text.stderr.contains("a picture is compared with vectors"), "{}", text.stderr);
}

#[cfg(all(feature = "candle", feature = "images"))]
#[test]
fn a_watched_folder_of_pictures_is_kept_in_step() {
    let shell = Shell::new();
    let picture = |name: &str| fs::read(Path::new(PICTURES).join(name)).unwrap();
    let at_the_same_second = |from: &str, to: &str| {
        shell.write("aside", picture(from));
        let aside = fs::File::options().append(true).open(shell.path("aside")).unwrap();
        aside.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        fs::rename(shell.path("aside"), shell.path(to)).unwrap();
    };
    fs::create_dir(shell.path("album")).unwrap();
    at_the_same_second("wide.png", "album/one.png");
    let mut watch = Watch::start(&shell, &["add", "album", "--model", CLIP, "--watch", "--json"]);
    assert_eq!(watch.line()["added"], 1);
    put(&shell, "album/two.gif", picture("still.gif"));
    watch.until(|line| line["added"] == 1);
    // Its document says the same as before; what is in it does not.
    at_the_same_second("tall.png", "album/one.png");
    watch.until(|line| line["replaced"] == 1);
    let tall = format!("{PICTURES}/tall.png");
    let hits = shell.json(&["--json", "search", "--image", &tall])["hits"].clone();
    let scores = (hits[0]["document"].as_str(), hits[0]["score"].as_f64().is_some_and(|score| score > 0.9999));
    assert_eq!(scores, (Some("one.png"), true), "{hits}");
    put(&shell, "album/.quiverignore", "*.gif\n");
    assert_eq!(watch.until(|line| line["removed"] == 1)["added"], 0);
}
