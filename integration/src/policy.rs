//! The D-Bus policy files of a version that dbus-daemon gets to see.
//!
//! dbus-daemon skips an included file that is not well-formed. But one that is
//! may hold anything that system.conf may: a `<user>` that does not exist, a
//! `<listen>`, `<auth>` or `<pidfile>` that can't be had keep the daemon from
//! starting, a `<limit>` of 0 or a `<deny>` of everything leave a bus that nobody
//! can use (all seen with dbus-daemon 1.14.10). So a file is read here, and what
//! dbus-daemon sees is written anew from what was understood: policies, whose
//! rules allow what they name, and deny nothing but the version's own names.
//!
//! A file with anything else in it is refused as a whole: half a policy may
//! allow what the other half would have denied.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::words::{is_bus_name, is_reserved_bus_name, is_user};

/// Bytes of one file.
pub const MAX_BYTES: usize = 64 * 1024;
/// Rules of one file.
const MAX_RULES: usize = 512;

/// What a rule may say, beside whether it allows or denies. No `user` and
/// `group`, which decide who may connect at all, and no `eavesdrop`.
const ATTRIBUTES: [&str; 20] = [
    "own",
    "own_prefix",
    "send_destination",
    "send_destination_prefix",
    "send_interface",
    "send_member",
    "send_error",
    "send_path",
    "send_type",
    "send_broadcast",
    "send_requested_reply",
    "receive_sender",
    "receive_interface",
    "receive_member",
    "receive_error",
    "receive_path",
    "receive_type",
    "receive_requested_reply",
    "min_fds",
    "max_fds",
];

/// Of a rule, one of these says what it is about.
const SUBJECTS: [&str; 7] = [
    "own",
    "own_prefix",
    "send_destination",
    "send_destination_prefix",
    "receive_sender",
    "send_interface",
    "receive_interface",
];

/// A policy file, understood.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Policy {
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// `context`, `user`, `group` or `at_console`.
    whose: String,
    value: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    attributes: Vec<(String, String)>,
}

impl Rule {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A name, and whether everything below it is meant as well.
type Named = (String, bool);

impl Policy {
    /// Reads a file, and refuses what is not a version's to say.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader::from_str(text);
        let mut policy = Self::default();
        let mut depth = 0_usize;
        let mut seen_root = false;
        let mut rules = 0_usize;
        loop {
            let event = reader.read_event().map_err(|why| {
                format!("not well-formed at byte {}: {why}", reader.error_position())
            })?;
            match event {
                Event::Start(element) | Event::Empty(element) if depth == 3 => {
                    return Err(format!("<{}> within a rule", name_of(&element)));
                }
                Event::Start(element) => {
                    policy.element(&element, depth, &mut seen_root, &mut rules)?;
                    depth += 1;
                }
                Event::Empty(element) => {
                    policy.element(&element, depth, &mut seen_root, &mut rules)?;
                }
                Event::End(_) => depth = depth.saturating_sub(1),
                Event::Text(text) if text.iter().all(u8::is_ascii_whitespace) => {}
                Event::Comment(_) | Event::Decl(_) => {}
                Event::DocType(doctype) if !doctype.contains(&b'[') && !seen_root => {}
                Event::Eof if depth == 0 && seen_root => break,
                Event::Eof => return Err("it ends too early".to_owned()),
                _ => {
                    return Err(
                        "text, entities or instructions have no place in a policy".to_owned()
                    );
                }
            }
        }
        policy.check_rules()?;
        Ok(policy)
    }

    fn element(
        &mut self,
        element: &BytesStart<'_>,
        depth: usize,
        seen_root: &mut bool,
        rules: &mut usize,
    ) -> Result<(), String> {
        let name = name_of(element);
        let attributes = attributes_of(element)?;
        match (depth, name.as_str()) {
            (0, "busconfig") if !*seen_root && attributes.is_empty() => *seen_root = true,
            (1, "policy") => self.groups.push(group(&attributes)?),
            (2, "allow" | "deny") => {
                *rules += 1;
                if *rules > MAX_RULES {
                    return Err(format!("more than {MAX_RULES} rules"));
                }
                let rule = Rule {
                    allow: name == "allow",
                    attributes,
                };
                if let Some(group) = self.groups.last_mut() {
                    group.rules.push(rule);
                }
            }
            _ => {
                return Err(format!(
                    "<{name}> is the host's to say; a version's files hold policies of allow and deny"
                ));
            }
        }
        Ok(())
    }

    /// The names that somebody may own by this file.
    fn owned(&self) -> BTreeSet<Named> {
        let mut owned = BTreeSet::new();
        for rule in self
            .groups
            .iter()
            .flat_map(|group| &group.rules)
            .filter(|rule| rule.allow)
        {
            owned.extend(rule.get("own").map(|name| (name.to_owned(), false)));
            owned.extend(rule.get("own_prefix").map(|name| (name.to_owned(), true)));
        }
        owned
    }

    fn check_rules(&self) -> Result<(), String> {
        let owned = self.owned();
        for (name, is_prefix) in &owned {
            if is_reserved_bus_name(name)
                || (*is_prefix && is_reserved_bus_name(&format!("{name}.freedesktop")))
            {
                return Err(format!("{name}: a version owns no name of the host"));
            }
        }
        for rule in self.groups.iter().flat_map(|group| &group.rules) {
            check_rule(rule, &owned)?;
        }
        Ok(())
    }

    /// The file for dbus-daemon.
    pub fn render(&self) -> String {
        let mut text = String::from("<busconfig>\n");
        for group in &self.groups {
            // Writing to a string can't fail. No value needs escaping: see `is_plain`.
            let _ = writeln!(text, "  <policy {}=\"{}\">", group.whose, group.value);
            for rule in &group.rules {
                text += if rule.allow {
                    "    <allow"
                } else {
                    "    <deny"
                };
                for (key, value) in &rule.attributes {
                    let _ = write!(text, " {key}=\"{value}\"");
                }
                text += "/>\n";
            }
            text += "  </policy>\n";
        }
        text + "</busconfig>\n"
    }
}

fn name_of(element: &BytesStart<'_>) -> String {
    crate::tree::shown(element.name().as_ref())
}

fn attributes_of(element: &BytesStart<'_>) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for attribute in element.attributes() {
        let attribute =
            attribute.map_err(|why| format!("an attribute of <{}>: {why}", name_of(element)))?;
        let key = crate::tree::shown(attribute.key.as_ref());
        let value = String::from_utf8_lossy(&attribute.value).into_owned();
        if value.is_empty() || value.len() > 255 || !value.chars().all(is_plain) {
            return Err(format!("{key}={value:?}: names, paths and words only"));
        }
        found.push((key, value));
    }
    Ok(found)
}

/// Characters of names and paths; none that XML would have to escape.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-:/*".contains(c)
}

fn group(attributes: &[(String, String)]) -> Result<Group, String> {
    let [(whose, value)] = attributes else {
        return Err("<policy> takes one of context, user, group, at_console".to_owned());
    };
    let fits = match whose.as_str() {
        // What is mandatory would overrule the administrator's own rules.
        "context" => value == "default",
        "user" | "group" => is_user(value),
        "at_console" => value == "true" || value == "false",
        _ => false,
    };
    if !fits {
        return Err(format!(
            "<policy {whose}=\"{value}\">: a version's are for context=\"default\", a user, a group, or at_console"
        ));
    }
    Ok(Group {
        whose: whose.clone(),
        value: value.clone(),
        rules: Vec::new(),
    })
}

fn check_rule(rule: &Rule, owned: &BTreeSet<Named>) -> Result<(), String> {
    let word = if rule.allow { "allow" } else { "deny" };
    for (key, value) in &rule.attributes {
        if !ATTRIBUTES.contains(&key.as_str()) {
            return Err(format!("{word} {key}: is the host's to say"));
        }
        let names = [
            "own",
            "own_prefix",
            "send_destination",
            "send_destination_prefix",
            "receive_sender",
        ];
        if names.contains(&key.as_str()) && !is_bus_name(value) {
            return Err(format!(
                "{word} {key}=\"{value}\": name one program, with no pattern"
            ));
        }
        if value.contains('*') && SUBJECTS.contains(&key.as_str()) {
            return Err(format!(
                "{word} {key}=\"{value}\": name one, with no pattern"
            ));
        }
    }
    if rule.allow {
        // An interface of the host's alone would open every program that has it.
        let is_own = |subject: &str| {
            rule.get(subject)
                .is_some_and(|name| !subject.ends_with("interface") || !is_reserved_bus_name(name))
        };
        let says_what = SUBJECTS.into_iter().any(is_own);
        return if says_what {
            Ok(())
        } else {
            Err("allow: name what it is about (own, send_destination, receive_sender, an interface)".to_owned())
        };
    }
    // A rule with an interface alone would match messages that have none.
    let own = |key: &str, is_prefix: bool| {
        rule.get(key)
            .is_some_and(|name| covers(owned, name, is_prefix))
    };
    let about_own = own("own", false)
        || own("own_prefix", true)
        || own("send_destination", false)
        || own("send_destination_prefix", true)
        || own("receive_sender", false);
    if about_own {
        Ok(())
    } else {
        Err("deny: names no bus name that this file lets somebody own".to_owned())
    }
}

/// Whether the names owned include this one, and all below it if it is a prefix.
fn covers(owned: &BTreeSet<Named>, name: &str, is_prefix: bool) -> bool {
    owned.iter().any(|(own, own_is_prefix)| {
        let same = own == name && (*own_is_prefix || !is_prefix);
        let below = *own_is_prefix
            && name
                .strip_prefix(own.as_str())
                .is_some_and(|rest| rest.starts_with('.'));
        same || below
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &str) -> Result<Policy, String> {
        Policy::parse(&format!(
            "<busconfig><policy context=\"default\">{rules}</policy></busconfig>"
        ))
    }

    const PLAIN: &str = r#"<?xml version="1.0"?> <!-- a comment -->
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <policy user="demo"><allow own="org.opdbus.Demo"/></policy>
  <policy context='default'>
    <deny send_destination="org.opdbus.Demo"></deny>
    <allow send_destination="org.opdbus.Demo" send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
</busconfig>
"#;

    #[test]
    fn what_is_understood_is_written_anew() {
        let policy = Policy::parse(PLAIN).unwrap();
        let text = policy.render();
        assert_eq!(
            text,
            r#"<busconfig>
  <policy user="demo">
    <allow own="org.opdbus.Demo"/>
  </policy>
  <policy context="default">
    <deny send_destination="org.opdbus.Demo"/>
    <allow send_destination="org.opdbus.Demo" send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
</busconfig>
"#
        );
        assert_eq!(Policy::parse(&text), Ok(policy));
    }

    #[test]
    fn whatever_can_take_the_bus_down_is_refused() {
        for text in [
            "",
            "x",
            "<busconfig>",
            "<busconfig></policy>",
            "<busconfig/><busconfig/>",
            "<busconfig/>x",
            "<policy/>",
            "<busconfig><user>nobody</user></busconfig>",
            "<busconfig><listen>unix:path=/nonexistent/x</listen></busconfig>",
            "<busconfig><limit name=\"max_completed_connections\">0</limit></busconfig>",
            "<busconfig><auth>NONE</auth></busconfig>",
            "<busconfig><pidfile>/x</pidfile></busconfig>",
            "<busconfig><include>/etc/passwd</include></busconfig>",
            "<busconfig><policy/></busconfig>",
            "<busconfig><policy context=\"mandatory\"/></busconfig>",
            "<busconfig><policy user=\"*\"/></busconfig>",
            "<busconfig><policy user=\"a\" group=\"b\"/></busconfig>",
            "<busconfig><policy user=\"a\" user=\"b\"/></busconfig>",
            "<!DOCTYPE x [<!ENTITY a \"b\">]><busconfig/>",
            "<busconfig>&amp;</busconfig>",
            "<busconfig><![CDATA[x]]></busconfig>",
            "<busconfig><?php ?></busconfig>",
            "<busconfig><policy context=\"default\"><allow own=\"a.b\"><x/></allow></policy></busconfig>",
        ] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
        for text in [
            "<deny send_destination=\"*\"/>",
            "<deny send_destination=\"org.freedesktop.systemd1\"/>",
            "<deny send_interface=\"org.opdbus.Demo\"/>",
            "<deny own=\"a.b\"/>",
            "<deny user=\"*\"/>",
            "<allow user=\"*\"/>",
            "<allow own=\"*\"/>",
            "<allow own=\"org.freedesktop.systemd1\"/>",
            "<allow own_prefix=\"org\"/>",
            "<allow own_prefix=\"org.freedesktop\"/>",
            "<allow own=\"a.b\"/><deny own_prefix=\"a.b\"/>",
            "<allow own=\"a.b\"/><deny send_destination=\"a.bc\"/>",
            "<allow send_type=\"method_call\"/>",
            "<allow send_interface=\"org.freedesktop.DBus.Properties\"/>",
            "<allow send_interface=\"*\"/>",
            "<allow eavesdrop=\"true\" own=\"a.b\"/>",
            "<allow own=\"a.b&quot;\"/>",
            "<allow/>",
            "<x/>",
        ] {
            assert!(rules(text).is_err(), "{text}");
        }
    }

    #[test]
    fn own_names_may_be_locked() {
        for text in [
            "<allow own=\"a.b\"/><deny own=\"a.b\"/>",
            "<allow own_prefix=\"a.b\"/><deny send_destination=\"a.b.c\"/><deny own_prefix=\"a.b.c\"/>",
            "<allow send_destination=\"org.freedesktop.systemd1\" send_member=\"*\"/>",
        ] {
            assert!(rules(text).is_ok(), "{text}: {:?}", rules(text));
        }
        let many = "<allow own=\"a.b\"/>".repeat(MAX_RULES);
        assert!(rules(&many).is_ok());
        assert!(rules(&format!("{many}<allow own=\"a.b\"/>")).is_err());
    }
}
