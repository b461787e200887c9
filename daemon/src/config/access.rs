//! Who may do what on the socket: `[[access]]` tables, and the question asked once a connection (S8).
//!
//! The kernel vouches for a caller's uid and gid; rules give those a role by namespace. Rules only add up: the
//! highest role that any matching rule gives counts, so their order never matters. Without any rule the
//! daemon's own user and root are admin and everybody whom the socket's file mode lets in may claim. With
//! rules, they are all there is: a deny-rule language was rejected as something people get wrong.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::{Spanned, Value};

use super::Surroundings;
use super::checker::{Checker, span_or};
use super::limits;
use super::raw::{Leaf, RawAccess};

/// What a caller may do, weakest first; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look: GET, INSPECT, SCAN, CONFLICTS, STATUS, PEERS.
    Read,
    /// Also claim, complete, renew, release.
    Claim,
    /// Also forget, resolve, cut and heal peers, reload.
    Admin,
}

/// Whom a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// One user.
    Uid(u32),
    /// One group.
    Gid(u32),
    /// Everybody who can open the socket; only in the rules that stand for none.
    Anybody,
}

/// One `[[access]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessRule {
    /// Whom it is for.
    pub who: Who,
    /// What they may do.
    pub role: Role,
    /// In which namespaces; `*` is all of them.
    pub namespaces: Vec<String>,
}

/// All rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    /// In the order of the file.
    pub rules: Vec<AccessRule>,
    /// Whether the file had none, so that these are the default ones.
    pub is_default: bool,
}

/// What one connection may do: looked up for every command, so the common case is one field.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Grants {
    everywhere: Option<Role>,
    named: BTreeMap<String, Role>,
}

impl Access {
    /// The rules that stand for none: the daemon's own user and root are admin, others may claim.
    pub fn default_for(own_uid: u32) -> Self {
        let rule = |who, role| AccessRule { who, role, namespaces: vec!["*".to_owned()] };
        let mut rules = vec![rule(Who::Uid(0), Role::Admin)];
        if own_uid != 0 {
            rules.push(rule(Who::Uid(own_uid), Role::Admin));
        }
        rules.push(rule(Who::Anybody, Role::Claim));
        Self { rules, is_default: true }
    }

    /// What a caller with this uid and these gids may do.
    pub fn grants(&self, uid: u32, gids: &[u32]) -> Grants {
        let mut grants = Grants::default();
        for rule in &self.rules {
            let matches = match rule.who {
                Who::Uid(number) => number == uid,
                Who::Gid(number) => gids.contains(&number),
                Who::Anybody => true,
            };
            if !matches {
                continue;
            }
            for namespace in &rule.namespaces {
                if namespace == "*" {
                    grants.everywhere = grants.everywhere.max(Some(rule.role));
                } else {
                    let role = grants.named.entry(namespace.clone()).or_insert(rule.role);
                    *role = (*role).max(rule.role);
                }
            }
        }
        grants
    }
}

impl Grants {
    /// The role in one namespace; `None`: not even reading.
    pub fn role(&self, namespace: &[u8]) -> Option<Role> {
        if self.named.is_empty() {
            return self.everywhere;
        }
        let named = std::str::from_utf8(namespace).ok().and_then(|name| self.named.get(name)).copied();
        self.everywhere.max(named)
    }

    /// The role in all namespaces: what commands ask for that concern no single key (SCAN, STATUS, PEERS).
    pub fn everywhere(&self) -> Option<Role> {
        self.everywhere
    }

    /// Whether there is any right at all; a connection without one is closed at once.
    pub fn any(&self) -> bool {
        self.everywhere.is_some() || !self.named.is_empty()
    }
}

/// Checks all `[[access]]` tables.
pub(super) fn check(
    checker: &mut Checker<'_>,
    raw: &[Spanned<RawAccess>],
    surroundings: &Surroundings,
) -> Access {
    if raw.is_empty() {
        return Access::default_for(surroundings.own_uid);
    }
    if let Some(beyond) = raw.get(limits::ACCESS_RULES_MAX) {
        let max = limits::ACCESS_RULES_MAX;
        checker.error(
            &beyond.span(),
            format!("[[access]]: there are more than {max}; use groups instead of users"),
        );
    }
    let rules: Vec<_> = raw.iter().filter_map(|table| rule(checker, table, surroundings)).collect();
    if rules.len() == raw.len() && !rules.iter().any(|rule| rule.role == Role::Admin) {
        checker.warn(
            &raw[0].span(),
            "[[access]]: nobody is admin, so nobody can FORGET or cut a peer; add a rule with role = \"admin\"",
        );
    }
    Access { rules, is_default: false }
}

fn rule(
    checker: &mut Checker<'_>,
    table: &Spanned<RawAccess>,
    surroundings: &Surroundings,
) -> Option<AccessRule> {
    let span = table.span();
    let table = table.get_ref();
    let given =
        [&table.uid, &table.user, &table.gid, &table.group].iter().filter(|leaf| leaf.is_some()).count();
    if given != 1 {
        checker.error(
            &span,
            format!("[[access]] names {given} callers; write exactly one of uid, user, gid, group"),
        );
    }
    let ids = 0..=u64::from(u32::MAX - 1);
    let mut id =
        |leaf: &Leaf, key| checker.integer(leaf, key, &ids).and_then(|number| u32::try_from(number).ok());
    let uid = id(&table.uid, "uid").map(Who::Uid);
    let gid_number = id(&table.gid, "gid").map(Who::Gid);
    let user = user(checker, &table.user, surroundings).map(Who::Uid);
    let group = gid(checker, &table.group, "group", surroundings).map(Who::Gid);
    checker.present(&table.role, "role", &span, "role = \"claim\" (or \"read\", or \"admin\")");
    let roles = [("read", Role::Read), ("claim", Role::Claim), ("admin", Role::Admin)];
    let role = checker.word(&table.role, "role", &roles, Role::Read);
    let namespaces = namespaces(checker, table, &span);
    let who = uid.or(user).or(gid_number).or(group).filter(|_| given == 1)?;
    Some(AccessRule { who, role, namespaces })
}

fn namespaces(checker: &mut Checker<'_>, table: &RawAccess, span: &std::ops::Range<usize>) -> Vec<String> {
    let Some(leaf) = &table.namespaces else { return vec!["*".to_owned()] };
    let names: Option<Vec<String>> = leaf
        .get_ref()
        .as_array()
        .filter(|names| !names.is_empty())
        .map(|names| {
            names.iter().map(|name| name.as_str().filter(|name| !name.contains(':')).map(str::to_owned))
        })
        .and_then(Iterator::collect);
    names.unwrap_or_else(|| {
        let at = span_or(&table.namespaces, span);
        checker.error(
            &at,
            "namespaces: expected a list of names without colons; write namespaces = [\"pay\"], or [\"*\"] for all",
        );
        Vec::new()
    })
}

fn user(checker: &mut Checker<'_>, leaf: &Leaf, surroundings: &Surroundings) -> Option<u32> {
    let (name, span) = checker.text(leaf, "user")?;
    let uid = surroundings.uid_of(name);
    if uid.is_none() {
        checker.error(
            &span,
            format!("user: {name:?} is not in /etc/passwd; write its number as uid = N instead"),
        );
    }
    uid
}

/// The number of a group that is given by name or, quoted or not, by number.
pub(super) fn gid(
    checker: &mut Checker<'_>,
    leaf: &Leaf,
    key: &str,
    surroundings: &Surroundings,
) -> Option<u32> {
    if let Some(Value::Integer(_)) = leaf.as_ref().map(Spanned::get_ref) {
        return checker
            .integer(leaf, key, &(0..=u64::from(u32::MAX - 1)))
            .and_then(|number| u32::try_from(number).ok());
    }
    let (name, span) = checker.text(leaf, key)?;
    let gid = surroundings.gid_of(name);
    if gid.is_none() {
        checker.error(
            &span,
            format!("{key}: {name:?} is not in /etc/group; create it with: groupadd --system {name}"),
        );
    }
    gid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(who: Who, role: Role, namespaces: &[&str]) -> AccessRule {
        AccessRule { who, role, namespaces: namespaces.iter().map(|&name| name.to_owned()).collect() }
    }

    #[test]
    fn without_rules_own_user_and_root_are_admin_and_others_claim() {
        let access = Access::default_for(990);
        assert_eq!(access.grants(0, &[0]).role(b"pay"), Some(Role::Admin));
        assert_eq!(access.grants(990, &[990]).role(b""), Some(Role::Admin));
        assert_eq!(access.grants(1000, &[1000]).role(b"pay"), Some(Role::Claim));
    }

    #[test]
    fn rules_add_up_and_the_highest_role_counts() {
        let access = Access {
            rules: vec![
                rule(Who::Gid(7), Role::Admin, &["pay"]),
                rule(Who::Uid(1), Role::Read, &["*"]),
                rule(Who::Uid(1), Role::Claim, &["pay", "mail"]),
            ],
            is_default: false,
        };
        let grants = access.grants(1, &[7]);
        assert_eq!(grants.role(b"pay"), Some(Role::Admin));
        assert_eq!(grants.role(b"mail"), Some(Role::Claim));
        assert_eq!(grants.role(b"other"), Some(Role::Read));
        assert_eq!(grants.role(b"\xff"), Some(Role::Read));
        assert_eq!(access.grants(2, &[7]).role(b"other"), None);
        assert!(!access.grants(2, &[8]).any());
    }
}
