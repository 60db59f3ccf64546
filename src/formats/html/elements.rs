//! What is this element to a reader?

/// Attributes in the order of their names.
pub(super) type Attributes = Vec<(String, String)>;

/// The elements that mean something to us; all others are as good as absent.
const NAMES: &[&str] = &[
    "a",
    "address",
    "annotation",
    "article",
    "aside",
    "audio",
    "blockquote",
    "body",
    "br",
    "button",
    "canvas",
    "caption",
    "center",
    "datalist",
    "dd",
    "details",
    "dialog",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "frameset",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hgroup",
    "hr",
    "html",
    "iframe",
    "img",
    "input",
    "label",
    "legend",
    "li",
    "main",
    "map",
    "math",
    "menu",
    "meta",
    "nav",
    "noframes",
    "noscript",
    "object",
    "ol",
    "p",
    "picture",
    "pre",
    "progress",
    "rp",
    "script",
    "search",
    "section",
    "select",
    "span",
    "style",
    "summary",
    "svg",
    "table",
    "tbody",
    "td",
    "template",
    "textarea",
    "tfoot",
    "th",
    "thead",
    "title",
    "tr",
    "ul",
    "video",
];

/// An element by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(&'static str);

impl Tag {
    /// Names of XML may have a prefix, which is taken off.
    pub(super) fn named(name: &[u8]) -> Self {
        let name = std::str::from_utf8(name).unwrap_or_default();
        let name = name.rsplit(':').next().unwrap_or_default();
        let known = NAMES.binary_search(&name).ok().map(|at| NAMES[at]);
        // `listing` and `xmp` are old names of `pre`.
        Self(known.unwrap_or(if matches!(name, "listing" | "xmp") { "pre" } else { "" }))
    }

    pub(super) fn name(self) -> &'static str {
        self.0
    }

    pub(super) fn is(self, name: &str) -> bool {
        self.0 == name
    }

    /// The level of a heading.
    pub(super) fn heading(self) -> Option<usize> {
        match self.0.as_bytes() {
            [b'h', level @ b'1'..=b'6'] => Some(usize::from(level - b'0')),
            _ => None,
        }
    }

    /// Whether it has no end tag.
    pub(super) fn is_void(self) -> bool {
        matches!(self.0, "" | "br" | "hr" | "img" | "input" | "meta")
    }

    /// Whether it stands in the line of the text around it.
    pub(super) fn is_inline(self) -> bool {
        matches!(self.0, "" | "a" | "span" | "img" | "input" | "label" | "math" | "map" | "picture" | "rp")
    }

    pub(super) fn is_drawing(self) -> bool {
        matches!(self.0, "svg" | "math")
    }

    /// Whether nothing inside it is text of the page.
    pub(super) fn is_never_text(self) -> bool {
        matches!(
            self.0,
            "annotation"
                | "audio"
                | "canvas"
                | "head"
                | "iframe"
                | "noframes"
                | "noscript"
                | "object"
                | "rp"
                | "script"
                | "style"
                | "svg"
                | "template"
                | "title"
                | "video"
        )
    }

    /// Whether it is there to be clicked, not read.
    pub(super) fn is_control(self) -> bool {
        matches!(
            self.0,
            "button"
                | "datalist"
                | "dialog"
                | "input"
                | "label"
                | "nav"
                | "progress"
                | "search"
                | "select"
                | "textarea"
        )
    }

    /// Elements that open a part of a page, whose header and footer are its own.
    pub(super) fn is_part(self) -> bool {
        matches!(self.0, "article" | "main" | "section" | "blockquote")
    }
}

/// Whether attributes say that an element is not part of what is read.
pub(super) fn is_aside(tag: Tag, attributes: &Attributes) -> bool {
    let given = |name: &str| attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let role = given("role").unwrap_or_default();
    if tag.is("aside") && !role.starts_with("doc-") {
        return true;
    }
    let is_hidden = given("hidden").is_some_and(|how| how != "until-found") || given("aria-hidden") == Some("true");
    let roles =
        ["alertdialog", "banner", "complementary", "contentinfo", "dialog", "menu", "menubar", "navigation", "search"];
    is_hidden || roles.contains(&role) || is_about_cookies(given("id")) || is_about_cookies(given("class"))
}

/// Whether an id or class is that of a banner that asks about cookies. A page on cookies, `class="cookies"`, is none.
fn is_about_cookies(names: Option<&str>) -> bool {
    let names = names.unwrap_or_default();
    if names.len() > 1_000 {
        return false;
    }
    names.to_ascii_lowercase().split_ascii_whitespace().any(|name| {
        let asks =
            ["accept", "banner", "bar", "consent", "dialog", "law", "modal", "notice", "overlay", "popup", "wall"];
        let by_words =
            ["cookie", "gdpr"].iter().any(|word| name.contains(word)) && asks.iter().any(|word| name.contains(word));
        by_words
            || ["onetrust-", "cybotcookiebot", "usercentrics-", "didomi-", "truste-"]
                .iter()
                .any(|maker| name.starts_with(maker))
    })
}

/// The programming language that a class names, as in `language-rust` and `highlight-source-rust`.
pub(super) fn code_language(attributes: &Attributes) -> Option<&str> {
    let (_, class) = attributes.iter().find(|(name, _)| name == "class")?;
    let named = |class: &'_ str| {
        ["language-", "lang-", "highlight-source-"].iter().find_map(|prefix| class.strip_prefix(prefix)).map(str::len)
    };
    let word = class.split_ascii_whitespace().find(|class| named(class).is_some())?;
    let language = &word[word.len() - named(word)?..];
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '#' | '-' | '_');
    (language.len() <= 20 && language.chars().all(is_name)).then_some(language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_that_looking_up_needs() {
        assert!(NAMES.is_sorted());
        assert_eq!(Tag::named(b"xhtml:h2").heading(), Some(2));
        assert_eq!(Tag::named(b"h7").heading(), None);
    }
}
