//! Which links are cut, in words: `"eu | us ap"` (either way, and who is not named reaches both), `"eu > us"` (one way).
//!
//! `*` stands for all regions that the text names nowhere else; three groups are all cut from each other.
//!
//! Must never: cut a region from itself.

use crate::pattern::{Group, Shape};

/// The shapes of one text; the error says what is wrong and what to do.
pub(super) fn parse(text: &str, regions: &[String], one_way: bool) -> Result<Vec<Shape>, String> {
    let (mark, other) = if one_way { ('>', '|') } else { ('|', '>') };
    let example = example(regions, mark);
    if text.contains(other) {
        return Err(format!("{text:?} has a {other:?}; write {example}"));
    }
    let named: Vec<Vec<&str>> = text.split(mark).map(|side| side.split_whitespace().collect()).collect();
    if named.len() < 2 || one_way && named.len() > 2 || named.iter().any(Vec::is_empty) {
        return Err(format!("{text:?} does not name two groups; write {example}"));
    }
    let mut seen = Group::default();
    for name in named.iter().flatten().filter(|name| **name != "*") {
        let Some(region) = regions.iter().position(|region| region == name) else {
            return Err(format!("no region is called {name:?}; there are: {}", regions.join(", ")));
        };
        if seen.has(region) {
            return Err(format!("{name:?} stands on both sides of {text:?}; name it once"));
        }
        seen = seen.with(region);
    }
    let rest = Group::of((0..regions.len()).filter(|region| !seen.has(*region)));
    if named.iter().flatten().filter(|name| **name == "*").count() > 1 {
        return Err(format!("{text:?} has more than one *; name the regions of one side"));
    }
    let group = |names: &Vec<&str>| {
        let of = |name: &&str| regions.iter().position(|region| region == name);
        let stars = if names.contains(&"*") { rest } else { Group::default() };
        Group::of(names.iter().filter_map(of).chain(stars.regions()))
    };
    let groups: Vec<Group> = named.iter().map(group).collect();
    if groups.iter().any(|group| group.is_empty()) {
        return Err(format!("in {text:?} no region is left for *; write {example}"));
    }
    if one_way {
        return Ok(vec![Shape::OneWay(groups[0], groups[1])]);
    }
    let later = |at: usize| Group::of(groups[at + 1..].iter().flat_map(|group| group.regions()));
    Ok((0..groups.len() - 1).map(|at| Shape::Between(groups[at], later(at))).collect())
}

fn example(regions: &[String], mark: char) -> String {
    let first = regions.first().map_or("eu", String::as_str);
    format!("such as \"{first} {mark} {}\"", regions[1.min(regions.len())..].join(" "))
}

/// The text of two groups.
pub(super) fn render(ones: Group, others: Group, mark: char, regions: &[String]) -> String {
    let side = |group: Group| {
        let names = group.regions().map(|at| regions.get(at).map_or("?", String::as_str));
        names.collect::<Vec<_>>().join(" ")
    };
    format!("{} {mark} {}", side(ones), side(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_read_as_they_are_written() {
        let regions = ["eu", "us", "ap"].map(str::to_owned);
        let (eu, us_ap) = (Group::of([0]), Group::of([1, 2]));
        assert_eq!(parse("eu | us ap", &regions, false), Ok(vec![Shape::Between(eu, us_ap)]));
        assert_eq!(parse("eu | *", &regions, false), Ok(vec![Shape::Between(eu, us_ap)]));
        assert_eq!(render(eu, us_ap, '|', &regions), "eu | us ap");
        assert_eq!(
            parse("ap > eu", &regions, true),
            Ok(vec![Shape::OneWay(Group::of([2]), eu)]),
            "us reaches both"
        );
        let (us, ap) = (Group::of([1]), Group::of([2]));
        let apart = vec![Shape::Between(eu, us_ap), Shape::Between(us, ap)];
        assert_eq!(parse("eu | us | ap", &regions, false), Ok(apart));
        for (wrong, why) in [
            ("eu", "two groups"),
            ("eu |", "two groups"),
            ("eu > us", "has a"),
            ("eu | mars", "no region is called \"mars\""),
            ("eu | us eu", "both sides"),
            ("* | *", "more than one"),
            ("eu us ap | *", "no region is left"),
        ] {
            let error = parse(wrong, &regions, false).expect_err(wrong);
            assert!(error.contains(why), "{error}");
        }
    }
}
