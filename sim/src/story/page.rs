//! `report.html`: the document and what draws it, in one file that needs nothing else.
//!
//! The document stands in the page as JSON in a script element that no browser runs; the page's own script builds all
//! else from it, as text and never as markup. A policy in the page forbids it to load anything.
//!
//! Must never: put a byte of the run into the page but as escaped JSON.

/// The frame of the page, with places for the rest.
const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In the order in which they are run, as one script.
const SCRIPTS: [&str; 4] = [
    include_str!("page_data.js"),
    include_str!("page_text.js"),
    include_str!("page_draw.js"),
    include_str!("page_input.js"),
];

/// The page of a document.
pub fn page(json: &str, title: &str) -> String {
    let mut page = String::with_capacity(json.len() + 100_000);
    let mut rest = FRAME;
    while let Some(start) = rest.find("{{") {
        page.push_str(&rest[..start]);
        let Some(length) = rest[start..].find("}}") else { break };
        match &rest[start + 2..start + length] {
            "title" => page.push_str(&escape(title)),
            "style" => page.push_str(STYLE),
            "script" => SCRIPTS.iter().for_each(|script| page.push_str(script)),
            "document" => page.push_str(&in_script(json)),
            _ => {}
        }
        rest = &rest[start + length + 2..];
    }
    page.push_str(rest);
    page
}

/// JSON that cannot end the element it stands in: `<` occurs in strings only, and there it may be written so.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_run_is_markup_and_nothing_is_loaded() {
        let nasty = serde_json::json!({ "keys": ["</script><script>alert(1)</script><!--", "{{style}}"] });
        let page = page(&nasty.to_string(), "<b>&\"");
        assert!(!page.contains("</script><script>alert"), "a key ended its element");
        assert!(page.contains("\\u003c/script>\\u003cscript>alert") && page.contains("{{style}}"));
        assert!(page.contains("<title>&lt;b&gt;&amp;&quot;"));
        assert_eq!(page.matches("</script>").count(), 2);
        for load in ["http:", "https:", "src=", "@import", "url(", "fetch(", "XMLHttpRequest", "import("] {
            assert!(!page.contains(load), "the page has {load}");
        }
        assert!(page.contains("default-src 'none'") && page.contains("prefers-color-scheme: dark"));
    }
}
