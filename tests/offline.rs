//! Can anything here reach the network that nobody asked for? Without the features `hub` and `remote` there is no code
//! that could; with them, one module has it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Crates that speak HTTP or TLS, or open sockets for others.
const NETWORK: [&str; 14] = [
    "attohttpc",
    "curl",
    "hf-hub",
    "hyper",
    "isahc",
    "mio",
    "native-tls",
    "openssl-sys",
    "quinn",
    "reqwest",
    "rustls",
    "socket2",
    "surf",
    "ureq",
];

/// The crates that a build with these features holds, as Cargo resolves them; without `mio` where it waits for files alone,
/// its sockets being a feature.
fn crates(features: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["tree", "--locked", "--offline", "--package", "quiverdb", "--edges", "normal,build"]);
    cargo.args(["--prefix", "none", "--format", "{p} {f}", "--features", features]);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let has_sockets =
        |line: &str| line.rsplit(' ').next().is_some_and(|features| features.split(',').any(|one| one == "net"));
    let counts = |line: &&str| !line.starts_with("mio ") || has_sockets(line);
    text.lines().filter(counts).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn no_crate_can_reach_the_network_unless_it_is_asked_for() {
    let in_tree = |features| {
        let names = crates(features);
        assert!(names.contains("redb"), "the tree was not understood: {names:?}");
        NETWORK.into_iter().filter(|name| names.contains(*name)).collect::<Vec<_>>()
    };
    for features in ["", "cli"] {
        assert_eq!(in_tree(features), Vec::<&str>::new(), "features `{features}`");
    }
    #[cfg(feature = "hub")]
    assert_eq!(in_tree("hub"), ["hf-hub", "rustls", "ureq"]);
}

/// What listens, and the flag that says where.
const SERVE: [&str; 2] = ["src/server.rs", "src/cli/args.rs"];

#[test]
fn no_source_opens_a_socket_by_itself() {
    let socket = concat!("std::", "net");
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("storage/src"));
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if SERVE
                .iter()
                .any(|part| path.ends_with(part) || path.parent().is_some_and(|folder| folder.ends_with("src/server")))
            {
                // They wait for others to ask, where somebody has them do so.
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                assert!(!fs::read_to_string(&path).unwrap().contains(socket), "{} names {socket}", path.display());
                read += 1;
            }
        }
    }
    assert!(read > 20, "only {read} files read");
}
