//! What is a file of this name? Decided by its extension; the content has the last word on unknown ones.

use std::path::Path;

use super::Reading;

/// How a file is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// One document. Known to be text, so odd bytes are replaced.
    Text(&'static str),
    /// An unknown extension: one document if it is proper text.
    Unknown,
    /// One document a line.
    JsonLines,
    /// Documents where it looks like documents, else text.
    Json,
    /// One document, made by a reader: its media type and the reader.
    Parsed(&'static str, Reading),
    /// Known, and the feature that would bring its reader.
    Missing(&'static str),
    /// A picture.
    Image(&'static str),
    /// Known, and not for this version; what would help.
    Unsupported(&'static str),
}

/// A reader of one kind of file: how its names end, how its bytes begin, its media type, and what reads it. To add one, add
/// a line to [`PARSED`].
struct Parser {
    extensions: &'static [&'static str],
    /// The beginnings of such files, where that is beyond doubt.
    signatures: &'static [&'static [u8]],
    media_type: &'static str,
    reading: Option<Reading>,
    /// The feature that brings the reader.
    feature: &'static str,
}

#[cfg(feature = "documents")]
mod readers {
    use super::super::{Reading, html, office};

    pub(super) const HTML: Option<Reading> = Some(html::read);
    pub(super) const OFFICE: [Option<Reading>; 7] = office::READINGS;
}

#[cfg(not(feature = "documents"))]
mod readers {
    use super::super::Reading;

    pub(super) const HTML: Option<Reading> = None;
    pub(super) const OFFICE: [Option<Reading>; 7] = [None; 7];
}

#[cfg(feature = "pdf")]
const PDF: Option<Reading> = Some(super::pdf::read);
#[cfg(not(feature = "pdf"))]
const PDF: Option<Reading> = None;

/// Kinds of files that are more than text.
const PARSED: &[Parser] = &[
    Parser {
        extensions: &["html", "htm", "xhtml", "xht", "shtml"],
        signatures: &[b"<!doctype html", b"<html"],
        media_type: "text/html",
        reading: readers::HTML,
        feature: "documents",
    },
    Parser {
        extensions: &["pdf"],
        signatures: &[b"%pdf-"],
        media_type: "application/pdf",
        reading: PDF,
        feature: "pdf",
    },
    office(0, &["docx", "docm", "dotx"], "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    office(1, &["xlsx", "xlsm"], "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    office(2, &["pptx", "pptm", "ppsx"], "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    office(3, &["odt", "ott"], "application/vnd.oasis.opendocument.text"),
    office(4, &["ods"], "application/vnd.oasis.opendocument.spreadsheet"),
    office(5, &["odp"], "application/vnd.oasis.opendocument.presentation"),
    office(6, &["epub"], "application/epub+zip"),
];

/// Archives of XML; they all begin alike, so their bytes tell nothing.
const fn office(at: usize, extensions: &'static [&'static str], media_type: &'static str) -> Parser {
    Parser { extensions, signatures: &[], media_type, reading: readers::OFFICE[at], feature: "documents" }
}

impl Parser {
    fn kind(&self) -> Kind {
        match self.reading {
            Some(reading) => Kind::Parsed(self.media_type, reading),
            None => Kind::Missing(self.feature),
        }
    }

    fn begins(&self, head: &[u8]) -> bool {
        let is_one = |sign: &&[u8]| head.get(..sign.len()).is_some_and(|head| head.eq_ignore_ascii_case(sign));
        self.signatures.iter().any(is_one)
    }
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

/// Extensions and media types of pictures.
const IMAGES: &[(&[&str], &str)] = &[
    (&["png"], "image/png"),
    (&["jpg", "jpeg", "jpe", "jfif"], "image/jpeg"),
    (&["webp"], "image/webp"),
    (&["gif"], "image/gif"),
];

/// Extensions of what this version does not read, and what helps.
const UNSUPPORTED: &[(&[&str], &str)] = &[
    (&["rtf", "ipynb", "mobi", "azw3"], "convert it to Markdown, with pandoc for one"),
    (&["doc", "dot", "ppt", "pps"], "save it as .docx, .pptx or text"),
    (&["xls"], "save it as .xlsx"),
    (
        &["csv", "tsv", "parquet", "arrow", "feather"],
        "build with `--features parquet`, or convert it to JSONL with a line {\"id\": ..., \"text\": ...} for each row",
    ),
];

/// The kind of file that its first bytes tell, where its name told none.
pub(super) fn sniffed(head: &[u8]) -> Option<Kind> {
    let text = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head).trim_ascii_start();
    PARSED.iter().find(|parser| parser.begins(text)).map(Parser::kind)
}

/// The programming language of a media type, in the word that people filter by; `None` for text that is no program.
pub(super) fn language(media_type: &str) -> Option<&str> {
    match media_type.strip_prefix("text/x-") {
        Some("rst" | "tex" | "properties" | "hcl" | "build" | "diff" | "component" | "script") => None,
        Some("c++") => Some("cpp"),
        Some("shellscript") => Some("bash"),
        Some(language) => Some(language),
        None => (media_type == "text/javascript").then_some("javascript"),
    }
}

/// The kind of file that a name tells.
pub(super) fn kind(path: &Path) -> Kind {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
    let extension = extension.as_str();
    match extension {
        "jsonl" | "ndjson" => Kind::JsonLines,
        "json" => Kind::Json,
        _ => {
            let text = entry(TEXT, extension).map(Kind::Text);
            let image = || entry(IMAGES, extension).map(Kind::Image);
            let unsupported = || entry(UNSUPPORTED, extension).map(Kind::Unsupported);
            let parsed = || PARSED.iter().find(|parser| parser.extensions.contains(&extension)).map(Parser::kind);
            text.or_else(image).or_else(unsupported).or_else(parsed).unwrap_or(Kind::Unknown)
        }
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
        let texts = [("a/README.MD", "text/markdown"), ("LICENSE", "text/plain"), ("lib.rs", "text/x-rust")];
        for (name, media_type) in texts {
            assert!(matches!(kind(Path::new(name)), Kind::Text(found) if found == media_type), "{name}");
        }
        assert!(matches!(kind(Path::new("x.ndjson")), Kind::JsonLines));
        assert!(matches!(kind(Path::new("x.Doc")), Kind::Unsupported(way_out) if way_out.contains(".docx")));
        let pdf = kind(Path::new("x.Pdf"));
        assert!(matches!(pdf, Kind::Parsed("application/pdf", _) | Kind::Missing("pdf")), "{pdf:?}");
        assert!(matches!(kind(Path::new("x.weird")), Kind::Unknown));
        assert!(matches!(kind(Path::new("x.JPG")), Kind::Image("image/jpeg")));
    }

    #[test]
    fn beginnings_tell_kinds_where_names_do_not() {
        assert!(matches!(sniffed(b"%PDF-1.7"), Some(Kind::Parsed(..) | Kind::Missing("pdf"))));
        assert!(matches!(
            sniffed(b"\n <!DOCTYPE HTML><p>"),
            Some(Kind::Parsed("text/html", _) | Kind::Missing("documents"))
        ));
        assert!(sniffed(b"html is a language").is_none() && sniffed(b"").is_none());
    }

    #[test]
    fn no_extension_has_two_kinds() {
        let tables = TEXT.iter().chain(IMAGES).chain(UNSUPPORTED).map(|(extensions, _)| *extensions);
        let tables = tables.chain(PARSED.iter().map(|parser| parser.extensions));
        let mut all: Vec<&str> = tables.flatten().copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
