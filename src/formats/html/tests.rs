//! What is left of pages, tidy and untidy.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

fn markdown(html: &str) -> String {
    page(html, false).text
}

const REEF: &str = "\
Skip to content

# Coral reefs

By Ada Marsh

Reefs are built by tiny animals,
not by plants.

## How they grow

- A polyp
  3. settles
  4. divides
- A colony

```python
def grow(reef):
    return reef + 1
```

### Rates

Growth
| Coral | mm a year |
| --- | --- |
| Staghorn | 100 |
| Brain \\| boulder | 5 |

\\# not a heading

## Threats

Warm water.
Nets.
";

#[test]
fn a_page_becomes_the_markdown_of_what_is_read() {
    let extract = read(include_bytes!("../../../tests/fixtures/documents/reef.html")).unwrap();
    assert_eq!(extract.text, REEF);
    assert_eq!(extract.title.as_deref(), Some("Coral reefs — Sea Notes"));
    let expected = json!({"lang": "en-GB", "description": "What corals build, & how.", "author": "Ada Marsh"});
    assert_eq!(Value::Object(extract.metadata), expected);
}

#[test]
fn a_page_with_main_is_its_main() {
    let html = "<div>Menu</div><main><h1>Title</h1><div>Text</div></main><div>Related</div>";
    assert_eq!(markdown(html), "# Title\n\nText\n");
    assert_eq!(markdown("<p>All<main> </main>there is"), "All\n\nthere is\n", "a blank main is none");
}

#[test]
fn where_all_is_boilerplate_all_stays() {
    assert_eq!(markdown("<nav><ul><li>One<li>Two</ul></nav>"), "- One\n- Two\n");
    assert_eq!(
        markdown("<form><p>A page inside a form, as some servers make them.</p></form>"),
        "A page inside a form, as some servers make them.\n"
    );
    assert_eq!(markdown("<script>x</script> \n"), "");
}

#[test]
fn what_may_be_read_is_not_taken_for_a_cookie_banner() {
    assert_eq!(markdown("<div class='cookies'>Bake them.</div><div class='gdpr-notice'>Ask.</div>"), "Bake them.\n");
    assert_eq!(markdown("<aside role=doc-footnote>A note.</aside><p>Text"), "A note.\n\nText\n");
    assert_eq!(markdown("<p>a<span hidden>b<span>c</span>d</span>e"), "ae\n");
}

#[test]
fn end_tags_that_lack_or_lie_do_no_harm() {
    assert_eq!(markdown("<p>a<p>b</div></section>c"), "a\n\nbc\n");
    assert_eq!(markdown("<ul><li>a<li>b<ul><li>c</ul><li>d"), "- a\n- b\n  - c\n- d\n");
    assert_eq!(markdown("<table><tr><td>a</div><td>b</table>c"), "| a | b |\n\nc\n");
    assert_eq!(markdown("<div><nav>no</div>yes"), "yes\n");
    assert_eq!(markdown("</p></p><h2>a<h3>b"), "## a b\n");
    assert_eq!(markdown("<pre>\na  b\n ```\n</pre>"), "````\na  b\n ```\n````\n");
}

#[test]
fn text_that_looks_like_markdown_stays_text() {
    for text in ["# a", "===", "--- b", "```", "&lt;!-- c"] {
        assert!(markdown(&format!("<p>x</p><p>{text}</p>")).starts_with("x\n\n\\"), "{text}");
    }
    assert_eq!(markdown("a&nbsp;b &#x1f600; &copy &unknown;"), "a\u{a0}b 😀 © &unknown;\n");
}

#[test]
fn tags_of_xml_that_close_themselves_are_closed() {
    let xhtml = "<?xml version='1.0'?><html><head><title/><script src='x'/></head><body><p>Text</p></body></html>";
    assert_eq!(read(xhtml.as_bytes()).unwrap().text, "Text\n");
    assert_eq!(page("<x:p>a</x:p><x:p/><x:h1>b</x:h1>", true).text, "a\n\n# b\n");
}

/// 100,000 of anything inside each other cost no stack and linear time.
#[test]
fn deep_nesting_is_flat() {
    for tag in
        ["div", "b", "p", "ul><li", "table><tr><td", "nav", "h1", "pre", "form", "blockquote", "span hidden", "main"]
    {
        let open = format!("<{tag}>");
        let html = format!("{}words{}", open.repeat(100_000), format!("</{tag}>").repeat(100_000));
        let begun = Instant::now();
        let text = markdown(&html);
        assert!(begun.elapsed() < Duration::from_secs(60), "{tag}: {:?}", begun.elapsed());
        assert!(text.contains("words"), "{tag}: {text:.100}");
    }
    let attributes: String = (0..20_000).map(|number| format!(" a{number}=1")).collect();
    assert_eq!(markdown(&format!("<p{attributes}>x")), "x\n");
}
