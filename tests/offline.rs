//! Can anything here reach the network? No: there is no code that could.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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

#[test]
fn no_dependency_can_reach_the_network() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let name = |line: &str| line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"')).map(str::to_owned);
    let names: BTreeSet<String> = lock.lines().filter_map(name).collect();
    assert!(names.contains("redb"), "Cargo.lock was not understood");
    let found: Vec<&str> = NETWORK.into_iter().filter(|name| names.contains(*name)).collect();
    assert!(found.is_empty(), "Cargo.lock holds {found:?}");
}

#[test]
fn no_source_opens_a_socket() {
    let socket = concat!("std::", "net");
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("storage/src"));
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                assert!(!fs::read_to_string(&path).unwrap().contains(socket), "{} names {socket}", path.display());
                read += 1;
            }
        }
    }
    assert!(read > 20, "only {read} files read");
}
