//! What regions are called, to people: by their names where a scenario gives them some, else `r1`, `r2`, …
//!
//! The oracle and the trace number regions, since they must not depend on what people call them. Texts of theirs get the
//! names where they leave for people, and nowhere before: a story looks for numbers in them.
//!
//! Must never: change anything in a text but whole words that number a region.

/// What region number `index` is called.
pub fn region(names: &[String], index: usize) -> String {
    names.get(index).cloned().unwrap_or_else(|| format!("r{}", index + 1))
}

/// A text of the oracle's with the names of the regions that it numbers.
pub fn named(text: &str, names: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find('r') {
        out.push_str(&rest[..at]);
        before = rest[..at].chars().next_back().or(before);
        let after = &rest[at + 1..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let next = after[digits..].chars().next();
        let number = after[..digits].parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let name = number.and_then(|index| names.get(index)).filter(|_| is_word(before, next));
        match name {
            Some(name) => out.push_str(name),
            None => out.push_str(&rest[at..=at + digits]),
        }
        before = rest[at..=at + digits].chars().next_back();
        rest = &after[digits..];
    }
    out.push_str(rest);
    out
}

/// Whether what stands between the two is a word by itself, and no part of a key or of a file's name.
fn is_word(before: Option<char>, next: Option<char>) -> bool {
    let part = |c: char| c.is_alphanumeric() || "-_:/".contains(c);
    !before.is_some_and(|c| part(c) || c == '.') && !next.is_some_and(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_that_number_a_region_get_a_name() {
        let names = ["eu", "r1", "ap"].map(str::to_owned);
        for (text, wanted) in [
            ("r1 sent r2 its log", "eu sent r1 its log"),
            ("1780000000812+0@r3.5, in r3", "1780000000812+0@ap.5, in ap"),
            ("the key pay:r1 of r1-x, r12 and four1", "the key pay:r1 of r1-x, r12 and four1"),
            ("links cut: r1→r3 r3→r1", "links cut: eu→ap ap→eu"),
            ("or r, or rr1 and r1", "or r, or rr1 and eu"),
            ("", ""),
        ] {
            assert_eq!(named(text, &names), wanted);
        }
        assert_eq!(named("r1 is down", &[]), "r1 is down");
        assert_eq!([region(&names, 0), region(&names, 3)], ["eu", "r4"]);
    }
}
