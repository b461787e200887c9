//! What each invariant means, for people who have not read SEMANTICS.
//!
//! Must never: promise more than the clause; that is what is judged.

/// An invariant in plain words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// In a few words.
    pub title: &'static str,
    /// What must hold, and what it is good for.
    pub meaning: &'static str,
}

const fn rule(title: &'static str, meaning: &'static str) -> Rule {
    Rule { title, meaning }
}

/// By name.
const RULES: [(&str, Rule); 18] = [
    (
        "INV-1",
        rule(
            "Merging does not depend on order",
            "Whatever order regions hear of each other's changes in, and however often, they come to the same state.",
        ),
    ),
    (
        "INV-2",
        rule(
            "Regions agree in the end",
            "Once every link is mended and nobody asks any more, all regions hold the same state of every key.",
        ),
    ),
    (
        "INV-3",
        rule(
            "The right claim wins",
            "Whoever a region takes for the winner of a key must be who wins by everything that was accepted anywhere.",
        ),
    ),
    (
        "INV-4",
        rule(
            "One region does not grant a key twice",
            "While a claim is alive as a region knows it, that region tells nobody else to run the operation, not even \
             after a crash.",
        ),
    ),
    (
        "INV-5",
        rule(
            "Double execution only where it cannot be helped, and always told",
            "Two regions run the same operation only if neither could know of the other. Each loser that completed is \
             then listed by CONFLICTS once, alike in every region, so that somebody can put it right.",
        ),
    ),
    (
        "INV-7",
        rule(
            "What was acknowledged is not lost",
            "A claim or an outcome that a client was told of survives every crash that it was promised to survive.",
        ),
    ),
    (
        "INV-8",
        rule(
            "Nothing is said before it is durable",
            "No client and no other region hears of anything that a crash could still undo.",
        ),
    ),
    (
        "INV-9",
        rule(
            "A region's stamps only grow",
            "Later claims of a region carry greater numbers, also after restarts and when its clock is set back.",
        ),
    ),
    (
        "INV-10",
        rule(
            "A settled key stays settled",
            "An outcome that was served may only give way to one completed earlier elsewhere, or held by a majority.",
        ),
    ),
    (
        "INV-11",
        rule(
            "An outcome is served for its own payload only",
            "A request with another payload under the same key is refused, never answered with a stranger's outcome.",
        ),
    ),
    (
        "INV-12",
        rule(
            "Nothing is forgotten too early or comes back",
            "A key is remembered for as long as its retention says, and what has died stays dead.",
        ),
    ),
    (
        "INV-13",
        rule(
            "A region's sums are those of what it holds",
            "Regions compare sums to find what differs. A wrong sum hides a difference for ever.",
        ),
    ),
    (
        "INV-16",
        rule(
            "No life is lived twice",
            "Every start has numbers of its own, so that nobody takes an old log for a new one.",
        ),
    ),
    (
        "INV-17",
        rule(
            "Service comes back",
            "When the faults are over, regions find each other, agree and answer again within bounded time.",
        ),
    ),
    ("INV-18", rule("A run can be repeated", "The same seed gives the same run, byte for byte.")),
    (
        "S4",
        rule(
            "Answers follow from what is known",
            "Each answer is the one that the table of operations gives for the region's entry at that time.",
        ),
    ),
    (
        "S5",
        rule(
            "Membership moves one step at a time",
            "Regions are added or taken away one by one, and only neighbours among memberships talk to each other.",
        ),
    ),
    (
        "S6",
        rule(
            "Bounds refuse, and nothing else",
            "A full region refuses new claims. It refuses nothing else, and throws nothing out that is alive.",
        ),
    ),
];

/// The rule with that name in SEMANTICS.
pub fn rule_of(invariant: &str) -> Rule {
    let found = RULES.iter().find(|(name, _)| *name == invariant);
    found.map_or_else(|| rule("A rule of onced", "See the clause."), |(_, rule)| *rule)
}
