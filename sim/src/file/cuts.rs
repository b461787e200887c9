//! What an event cuts: patterns by groups, by shape or by name, and swizzles.
//!
//! Must never: accept a pattern that cuts nothing.

use std::ops::Range;

use super::checker::span_or;
use super::deeds::Deed;
use super::events::Reader;
use super::groups;
use super::ranged::Ranged;
use super::raw::{Leaf, RawEvent};
use super::units::Unit;
use super::{advice, idle};
use crate::limits;
use crate::pattern::{Group, NAMES, Pattern, Shape};

impl Reader<'_, '_> {
    /// A pattern of cut links, which begins or is taken back.
    pub(super) fn links(&mut self, key: &str, leaf: &Leaf, raw: &RawEvent) -> Option<Deed> {
        let sites = self.regions.len();
        let shapes = match key {
            "ring" => {
                let reach = self.checker.fixed(leaf, key, Unit::Count, 1..=sites as u64)?;
                vec![Pattern::steady(Shape::Ring(reach as usize))]
            }
            "everywhere" => {
                idle::check_false(self.checker, leaf, key);
                vec![Pattern::steady(Shape::Everywhere)]
            }
            "pattern" => {
                let (name, at) = self.checker.text(leaf, key)?;
                let Some(pattern) = Pattern::named(name, sites) else {
                    let cut = NAMES.into_iter().filter(|name| Pattern::named(name, sites).is_some());
                    let names = cut.collect::<Vec<_>>().join(", ");
                    let text = if NAMES.contains(&name) {
                        format!(
                            "pattern: {name:?} cuts nothing between so few as {sites} regions; choose one of {names}, or add regions"
                        )
                    } else {
                        let meant = advice::meant(name, NAMES.into_iter());
                        format!("pattern: none is called {name:?}{meant}; choose one of {names}")
                    };
                    self.checker.error(&at, text);
                    return None;
                };
                vec![pattern]
            }
            _ => {
                let (texts, at) = self.checker.texts(leaf, key)?;
                let mut shapes = Vec::new();
                let mark = if key == "one_way" { '>' } else { '|' };
                if texts.len() > 1 && texts.iter().all(|text| !text.contains(['|', '>'])) {
                    let both = texts.join(&format!(" {mark} "));
                    let text = format!("{key}: one text names both sides; write {key} = \"{both}\"");
                    self.checker.error(&at, text);
                    return None;
                }
                for text in texts {
                    match groups::parse(&text, self.regions, key == "one_way") {
                        Ok(parsed) => shapes.extend(parsed.into_iter().map(Pattern::steady)),
                        Err(message) => self.checker.error(&at, format!("{key}: {message}")),
                    }
                }
                shapes
            }
        };
        let flap_us = self.checker.fixed(&raw.flap, "flap", Unit::Time, 1_000..=limits::FILE_US_MAX);
        let flapping = |pattern: Pattern| Pattern { flap_us: flap_us.unwrap_or(pattern.flap_us), ..pattern };
        let patterns: Vec<Pattern> = shapes.into_iter().map(flapping).collect();
        if patterns.iter().any(|pattern| pattern.links(sites).next().is_none()) {
            let at = span_or(leaf, &(0..0));
            let then = match (1..sites)
                .rev()
                .find(|reach| Pattern::steady(Shape::Ring(*reach)).links(sites).next().is_some())
            {
                Some(most) => format!("choose 1 to {most}"),
                None => "a ring needs four regions at least".to_owned(),
            };
            let text = format!("{key}: cuts nothing between {sites} regions, all are next to all; {then}");
            self.checker.error(&at, text);
        }
        if raw.mend.is_some() {
            idle::check_false(self.checker, &raw.mend, "mend");
            self.mends.extend(patterns.iter().map(|pattern| (span_or(&raw.mend, &(0..0)), *pattern)));
            return Some(Deed::Mend(patterns));
        }
        self.cuts.extend_from_slice(&patterns);
        let turn = self.checker.fixed(&raw.turn, "turn", Unit::Count, 0..=u64::from(u32::MAX));
        Some(Deed::Cut(patterns, turn.map(|turn| turn as u32)))
    }

    /// Links between some regions, or between all, that are cut one after the other and mended in another order.
    pub(super) fn swizzle(&mut self, leaf: &Leaf, raw: &RawEvent, span: &Range<usize>) -> Option<Deed> {
        self.checker.present(
            &raw.r#for,
            "for",
            span,
            "for = \"30s\", from the first cut to the last mending",
        );
        let (names, at) = self.checker.texts(leaf, "swizzle")?;
        let all = names.iter().any(|name| name == "*");
        let named =
            names.iter().filter(|name| *name != "*").filter_map(|name| self.named(name, "swizzle", &at));
        let mut among = Group::of(named.collect::<Vec<_>>());
        if all {
            among = Group::of(0..self.regions.len());
        }
        if among.len() < 2 {
            let text = "swizzle: names the regions whose links it takes, two at least; write swizzle = [\"*\"] for all";
            self.checker.error(&at, text);
            return None;
        }
        Some(Deed::Swizzle(among, Ranged::between(0, 1, &format!("{}/swizzle", self.checker.place))))
    }

    /// What is mended must have been cut by the same words, or nothing happens.
    pub(super) fn check_mends(&mut self) {
        for (at, pattern) in std::mem::take(&mut self.mends) {
            if !self.cuts.contains(&pattern) {
                let text = "mend: has no effect: no event cuts what it names; name it with the words of the cut, or give \
                            the cut for = \"10s\" and remove this event";
                self.checker.error(&at, text);
            }
        }
    }
}
