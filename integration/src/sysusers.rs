//! The sysusers.d lines of a version that systemd-sysusers gets to see.
//!
//! Users stay when the version goes: an id that is given to somebody else later
//! would own what is left of the first. So a line may make a system user or
//! group that can't log in, and put the version's own users into groups; nothing
//! that a host would regret to keep. Lines are written anew from their fields
//! (sysusers.d(5)).

use std::collections::BTreeSet;

use crate::lines;
use crate::words::{is_plain_path, is_user};

/// Lines of one version, comments not counted.
pub const MAX_LINES: usize = 64;
/// Bytes of one line.
pub const MAX_LINE_BYTES: usize = 1024;
/// The highest id of system users on Debian, `SYS_UID_MAX`.
const MAX_ID: u32 = 999;

/// Groups whose members are as good as root.
const POWERFUL: [&str; 10] = [
    "adm",
    "disk",
    "docker",
    "kmem",
    "lxd",
    "root",
    "shadow",
    "sudo",
    "systemd-journal",
    "wheel",
];

/// Shells that let nobody in.
const CLOSED: [&str; 5] = [
    "-",
    "/usr/sbin/nologin",
    "/sbin/nologin",
    "/usr/bin/false",
    "/bin/false",
];

/// A line that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands: file and number.
    pub place: String,
    /// What it asks for.
    pub wish: Wish,
}

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A user or group; the whole line, written anew.
    Account {
        /// Name of the user, or of the group.
        name: String,
        /// Whether it is a user.
        is_user: bool,
        /// The line.
        text: String,
    },
    /// A user in a group.
    Member {
        /// The user.
        user: String,
        /// The group.
        group: String,
    },
}

/// Reads one file, `name` in messages; accepted lines go to `lines`.
pub fn read(name: &str, text: &str, lines: &mut Vec<Line>, notes: &mut Vec<String>) {
    lines::read((name, text), MAX_LINES, lines, notes, |place, line| {
        parse(line).map(|wish| Line { place, wish })
    });
}

/// The text for systemd-sysusers. Only the version's own users become members of
/// groups: the host's users are not the version's to change.
pub fn settle(lines: &[Line], notes: &mut Vec<String>) -> String {
    let own: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| match &line.wish {
            Wish::Account {
                name,
                is_user: true,
                ..
            } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        match &line.wish {
            Wish::Account { text: line, .. } => {
                text += line;
                text.push('\n');
            }
            Wish::Member { user, group } if own.contains(user.as_str()) => {
                text.extend(["m ", user, " ", group, "\n"]);
            }
            Wish::Member { user, .. } => {
                notes.push(format!(
                    "{}: refused: {user} is no user of this version",
                    line.place
                ));
            }
        }
    }
    text
}

/// The accounts that the host has not got yet, by the text of its `passwd` and
/// `group`.
pub fn missing<'a>(lines: &'a [Line], passwd: &str, group: &str) -> Vec<&'a str> {
    let has = |text: &str, name: &str| {
        text.lines()
            .any(|line| line.split(':').next() == Some(name))
    };
    let accounts = lines.iter().filter_map(|line| match &line.wish {
        Wish::Account { name, is_user, .. } => Some((name.as_str(), *is_user)),
        Wish::Member { .. } => None,
    });
    accounts
        .filter(|(name, is_user)| !has(if *is_user { passwd } else { group }, name))
        .map(|(name, _)| name)
        .collect()
}

fn parse(line: &str) -> Result<Wish, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("longer than {MAX_LINE_BYTES} bytes"));
    }
    if line.contains(|c: char| (c.is_control() && c != '\t') || "\\'%".contains(c)) {
        return Err(
            "specifiers, escapes, single quotes and control characters are not taken".to_owned(),
        );
    }
    let fields = fields(line)?;
    let mut fields = fields.iter().map(String::as_str);
    let mut field = || {
        fields
            .next()
            .filter(|field| !field.is_empty())
            .unwrap_or("-")
    };
    let (kind, name, id) = (field(), field(), field());
    let (gecos, home, shell) = (field(), field(), field());
    if fields.next().is_some() {
        return Err("it has more than six fields".to_owned());
    }
    if !is_user(name) {
        return Err(format!("{name:?} is no plain user or group name"));
    }
    let nothing_else = [gecos, home, shell].iter().all(|field| *field == "-");
    match kind {
        "u" => {
            check_id(id, true)?;
            if gecos.contains(':') {
                return Err("a description has no colon".to_owned());
            }
            if home != "-" && home != "/" && !is_plain_path(home) {
                return Err(format!("{home:?} is no plain path"));
            }
            if !CLOSED.contains(&shell) {
                return Err(format!("shell {shell}: a version's users don't log in"));
            }
            let text = format!("u {name} {id} \"{gecos}\" {home} {shell}");
            Ok(Wish::Account {
                name: name.to_owned(),
                is_user: true,
                text,
            })
        }
        "g" if nothing_else => {
            check_id(id, false)?;
            let text = format!("g {name} {id}");
            Ok(Wish::Account {
                name: name.to_owned(),
                is_user: false,
                text,
            })
        }
        "m" if nothing_else => {
            if !is_user(id) {
                return Err(format!("{id:?} is no plain group name"));
            }
            if POWERFUL.contains(&id) {
                return Err(format!(
                    "members of {id} rule the host, and stay when the version goes"
                ));
            }
            Ok(Wish::Member {
                user: name.to_owned(),
                group: id.to_owned(),
            })
        }
        "g" | "m" => Err("it has too many fields".to_owned()),
        _ => Err(format!("type {kind:?}; a version's are u, g, m")),
    }
}

/// `-`, a number, or for users number and group; never root, nor a person.
fn check_id(id: &str, is_for_user: bool) -> Result<(), String> {
    let is_number = |text: &str| {
        let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        digits && text.parse().is_ok_and(|id: u32| (1..=MAX_ID).contains(&id))
    };
    let fits = match id.split_once(':') {
        None => id == "-" || is_number(id),
        Some((user, group)) => {
            let named = is_user(group) && !POWERFUL.contains(&group);
            is_for_user && (user == "-" || is_number(user)) && (is_number(group) || named)
        }
    };
    if fits {
        Ok(())
    } else {
        Err(format!("id {id:?}; take \"-\", or one from 1 to {MAX_ID}"))
    }
}

/// Splits at blanks; a field in double quotes may hold some.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted.split_once('"').ok_or("a quote without an end")?
        } else {
            let end = rest.find([' ', '\t', '"']).unwrap_or(rest.len());
            rest.split_at(end)
        };
        if !after.is_empty() && !after.starts_with([' ', '\t']) {
            return Err("text right beside a quote".to_owned());
        }
        fields.push(field.to_owned());
        rest = after.trim_start_matches([' ', '\t']);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(text: &str) -> (String, Vec<String>) {
        let (mut lines, mut notes) = (Vec::new(), Vec::new());
        read("x.conf", text, &mut lines, &mut notes);
        (settle(&lines, &mut notes), notes)
    }

    #[test]
    fn plain_lines_pass() {
        let (text, notes) = filter(
            "# comment\nm demo audio\nu demo - \"A demo\" /run/demo\ng demos 321\n\
             u two 12:demos\nu three -:audio - - /usr/sbin/nologin\n",
        );
        assert_eq!(
            text,
            "m demo audio\nu demo - \"A demo\" /run/demo -\ng demos 321\n\
             u two 12:demos \"-\" - -\nu three -:audio \"-\" - /usr/sbin/nologin\n"
        );
        assert_eq!(notes, [""; 0]);
    }

    #[test]
    fn what_a_host_would_regret_is_refused() {
        for line in [
            "u root 0",
            "u demo 0",
            "u demo 1000",
            "u demo 65534",
            "u demo +1",
            "u demo /etc/shadow",
            "u demo -:sudo",
            "u demo 12:0",
            "u demo - - - /bin/bash",
            "u demo - a:b",
            "u demo - - relative",
            "u! demo -",
            "g demo 0",
            "g demo - x",
            "g demo 1:1",
            "m demo sudo",
            "m pi audio",
            "r - 0-4000000",
            "u %m -",
            "u 'demo' -",
            "u \"de mo\" -",
            "u de\"mo -",
            "u \"demo",
            "u \"demo\"x -",
            "u demo - - - - extra",
            "u",
            "x demo",
        ] {
            let (text, notes) = filter(line);
            assert_eq!(text, "", "{line}");
            assert_eq!(notes.len(), 1, "{line}: {notes:?}");
        }
    }

    #[test]
    fn accounts_that_are_there_are_not_missing() {
        let (mut lines, mut notes) = (Vec::new(), Vec::new());
        let text = "u demo -\nu root2 -\ng audio -\ng demos -\nm demo audio\n";
        read("x.conf", text, &mut lines, &mut notes);
        let (passwd, group) = ("root:x:0:0::/:\ndemo:x:1:1::/:\n", "audio:x:29:\n");
        assert_eq!(missing(&lines, passwd, group), ["root2", "demos"]);
        assert_eq!(missing(&lines, "", "").len(), 4);
    }

    #[test]
    fn there_is_an_end() {
        let (text, notes) = filter(&"g demo -\n".repeat(MAX_LINES + 10));
        assert_eq!((text.lines().count(), notes.len()), (MAX_LINES, 1));
    }

    proptest! {
        #[test]
        fn accepted_again_unchanged(text in "([ugm] [a-z]{1,4} [0-9:a-z-]{1,5}( \"[a-z -]{0,5}\"( /[a-z]{1,4})?)?\n){0,4}") {
            let (lines, _) = filter(&text);
            let again = filter(&lines);
            prop_assert_eq!(again, (lines, vec![]));
        }
    }
}
