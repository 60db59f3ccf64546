//! What is a file of this name? Decided by its extension alone; the content has the last word on unknown ones.

use std::path::Path;

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One document. Known to be text, so odd bytes are replaced.
    Text(&'static str),
    /// An unknown extension: one document if it is proper text.
    Unknown,
    /// One document a line.
    JsonLines,
    /// Documents where it looks like documents, else text.
    Json,
    /// Known, and not for this version; what would help.
    Unsupported(&'static str),
}

/// Extensions (lower case) and media types of text. Those of code follow what editors and web servers use.
const TEXT: &[(&[&str], &str)] = &[
    (&["md", "markdown", "mdown", "mkd", "mdx"], "text/markdown"),
    (&["", "txt", "text", "log", "me", "nfo"], "text/plain"),
    (&["rst"], "text/x-rst"),
    (&["adoc", "asciidoc"], "text/asciidoc"),
    (&["org"], "text/org"),
    (&["tex", "sty", "bib"], "text/x-tex"),
    (&["srt", "vtt"], "text/vtt"),
    (&["eml"], "message/rfc822"),
    (&["rs"], "text/x-rust"),
    (&["py", "pyi"], "text/x-python"),
    (&["js", "mjs", "cjs", "jsx"], "text/javascript"),
    (&["ts", "tsx", "mts", "cts"], "text/x-typescript"),
    (&["c", "h"], "text/x-c"),
    (&["cc", "cpp", "cxx", "hh", "hpp", "hxx", "cu", "cuh"], "text/x-c++"),
    (&["cs"], "text/x-csharp"),
    (&["java"], "text/x-java"),
    (&["kt", "kts"], "text/x-kotlin"),
    (&["scala", "sc"], "text/x-scala"),
    (&["go"], "text/x-go"),
    (&["rb"], "text/x-ruby"),
    (&["php"], "text/x-php"),
    (&["swift"], "text/x-swift"),
    (&["m", "mm"], "text/x-objectivec"),
    (&["dart"], "text/x-dart"),
    (&["lua"], "text/x-lua"),
    (&["pl", "pm"], "text/x-perl"),
    (&["r"], "text/x-r"),
    (&["jl"], "text/x-julia"),
    (&["hs"], "text/x-haskell"),
    (&["ml", "mli"], "text/x-ocaml"),
    (&["ex", "exs"], "text/x-elixir"),
    (&["erl", "hrl"], "text/x-erlang"),
    (&["clj", "cljs", "edn"], "text/x-clojure"),
    (&["el", "lisp", "scm"], "text/x-lisp"),
    (&["zig"], "text/x-zig"),
    (&["sh", "bash", "zsh", "fish"], "text/x-shellscript"),
    (&["ps1", "bat", "cmd"], "text/x-script"),
    (&["sql"], "application/sql"),
    (&["css", "scss", "less"], "text/css"),
    (&["vue", "svelte"], "text/x-component"),
    (&["toml"], "application/toml"),
    (&["yaml", "yml"], "application/yaml"),
    (&["xml", "xsd", "xsl"], "application/xml"),
    (&["ini", "cfg", "conf", "properties", "env"], "text/x-properties"),
    (&["proto"], "text/x-protobuf"),
    (&["graphql", "gql"], "application/graphql"),
    (&["tf", "hcl"], "text/x-hcl"),
    (&["cmake", "mk", "gradle", "dockerfile"], "text/x-build"),
    (&["diff", "patch"], "text/x-diff"),
];

/// Extensions of what this version does not read, and what helps.
const UNSUPPORTED: &[(&[&str], &str)] = &[
    (&["html", "htm", "xhtml", "docx", "odt", "epub", "rtf", "ipynb"], "convert it to Markdown, with pandoc for one"),
    (&["pdf"], "convert it to text, with pdftotext for one"),
    (&["doc", "ppt", "pptx"], "save it as text or PDF, and convert that to text with pdftotext"),
    (
        &["csv", "tsv", "parquet", "arrow", "xls", "xlsx"],
        "convert it to JSONL with a line {\"id\": ..., \"text\": ...} for each row",
    ),
];

/// The kind of file that a name tells.
pub(super) fn kind(path: &Path) -> Kind {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
    let extension = extension.as_str();
    match extension {
        "jsonl" | "ndjson" => Kind::JsonLines,
        "json" => Kind::Json,
        _ => match (entry(TEXT, extension), entry(UNSUPPORTED, extension)) {
            (Some(media_type), _) => Kind::Text(media_type),
            (None, Some(way_out)) => Kind::Unsupported(way_out),
            (None, None) => Kind::Unknown,
        },
    }
}

fn entry(table: &[(&[&str], &'static str)], extension: &str) -> Option<&'static str> {
    table.iter().find(|(extensions, _)| extensions.contains(&extension)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kinds() {
        assert_eq!(kind(Path::new("a/README.MD")), Kind::Text("text/markdown"));
        assert_eq!(kind(Path::new("LICENSE")), Kind::Text("text/plain"));
        assert_eq!(kind(Path::new("lib.rs")), Kind::Text("text/x-rust"));
        assert_eq!(kind(Path::new("x.ndjson")), Kind::JsonLines);
        assert!(matches!(kind(Path::new("x.Pdf")), Kind::Unsupported(way_out) if way_out.contains("pdftotext")));
        assert_eq!(kind(Path::new("x.weird")), Kind::Unknown);
    }

    #[test]
    fn no_extension_has_two_kinds() {
        let tables = TEXT.iter().chain(UNSUPPORTED);
        let mut all: Vec<&str> = tables.flat_map(|(extensions, _)| extensions.iter()).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
