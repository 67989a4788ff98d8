//! What a check looks at. Text becomes it only if it is meaningful: a typing
//! mistake is found when the file is checked, not when a version is judged.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Longest path, URL and argument, in bytes.
const MAX_TEXT: usize = 1024;
/// Longest unit name and bus name, in bytes (systemd.unit(5), D-Bus specification).
const MAX_NAME: usize = 255;
/// Most words of a command.
const MAX_WORDS: usize = 64;

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A systemd unit: active, and the same run at every look.
    Unit(String),
    /// A name on the system bus: owned, and its owner answers.
    BusName {
        /// The name.
        name: String,
        /// What its owner is asked.
        call: Call,
    },
    /// A TCP endpoint that accepts connections.
    Tcp(Endpoint),
    /// A socket in the file system that accepts connections.
    Unix(PathBuf),
    /// An HTTP server that answers a GET as it should.
    Http(Url),
    /// A directory in which files can be made and written.
    Writable(PathBuf),
    /// Space on a file system.
    Free {
        /// Something on it.
        path: PathBuf,
        /// So much must be left for anybody, in MiB.
        min_mib: u64,
    },
    /// A name that DNS knows an address of.
    Dns(String),
    /// A program: exit code 0 is well, 75 not known yet, anything else bad.
    Program(Vec<String>),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(name) => write!(f, "unit {name}"),
            Self::BusName { name, .. } => write!(f, "bus name {name}"),
            Self::Tcp(endpoint) => write!(f, "tcp {endpoint}"),
            Self::Unix(path) => write!(f, "unix {}", path.display()),
            Self::Http(url) => write!(f, "http {url}"),
            Self::Writable(path) => write!(f, "writable {}", path.display()),
            Self::Free { path, .. } => write!(f, "free {}", path.display()),
            Self::Dns(name) => write!(f, "dns {name}"),
            Self::Program(words) => {
                write!(f, "command {}", words.first().map_or("", String::as_str))
            }
        }
    }
}

/// A method without arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The object.
    pub path: String,
    /// Its interface.
    pub interface: String,
    /// The method.
    pub method: String,
}

impl Default for Call {
    /// Libraries answer it by themselves for a program whose main loop runs.
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            interface: "org.freedesktop.DBus.Peer".to_owned(),
            method: "Ping".to_owned(),
        }
    }
}

impl Call {
    /// Whether the bus would take it (D-Bus specification, "Valid Names").
    pub(crate) fn check(&self) -> Result<(), String> {
        let element = |text: &str| {
            !text.is_empty()
                && !text.starts_with(|c: char| c.is_ascii_digit())
                && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        };
        let path = self.path.strip_prefix('/').is_some_and(|rest| {
            rest.is_empty()
                || rest.split('/').all(|part| {
                    !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
                })
        });
        if !path || self.path.len() > MAX_TEXT {
            return Err(format!(
                "call.path = {:?}: must be an object path, such as \"/org/example/App\"",
                self.path
            ));
        }
        let interface = self.interface.contains('.') && self.interface.split('.').all(element);
        if !interface || self.interface.len() > MAX_NAME {
            return Err(format!(
                "call.interface = {:?}: must be an interface, such as \"org.example.App\"",
                self.interface
            ));
        }
        if !element(&self.method) || self.method.len() > MAX_NAME {
            return Err(format!(
                "call.method = {:?}: must be the name of a method",
                self.method
            ));
        }
        Ok(())
    }
}

/// An address and a port. Addresses, not names: a check of a service must not
/// fail because of DNS, which has a check of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As it was written, for people and for `Host:`.
    text: String,
    /// To be tried in turn: `localhost` is two.
    pub addresses: Vec<SocketAddr>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Endpoint {
    /// From `address:port`; a v6 address is in brackets.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} must be an IP address or \"localhost\", and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\""
            )
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => {
                (host, Some(port.parse::<u16>().map_err(|_| wrong())?))
            }
            _ => (text, None),
        };
        let port = port
            .or(default_port)
            .filter(|&port| port != 0)
            .ok_or_else(wrong)?;
        let hosts: Vec<IpAddr> = if host == "localhost" {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        } else if let Some(inner) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            vec![inner.parse::<Ipv6Addr>().map_err(|_| wrong())?.into()]
        } else {
            vec![host.parse::<Ipv4Addr>().map_err(|_| wrong())?.into()]
        };
        Ok(Self {
            text: text.to_owned(),
            addresses: hosts.into_iter().map(|host| (host, port).into()).collect(),
        })
    }
}

/// `http://address[:port][/path]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whom to ask.
    pub endpoint: Endpoint,
    /// What for: path and query, beginning with a slash.
    pub target: String,
    /// The only status that is well; none: any of 200 to 299.
    pub status: Option<u16>,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.endpoint, self.target)
    }
}

impl Url {
    pub(crate) fn parse(text: &str, status: Option<u16>) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(format!(
                "http = {text:?}: must begin with http://; what speaks TLS is asked by a command"
            ));
        };
        let (authority, target) = rest
            .find('/')
            .map_or((rest, "/"), |slash| rest.split_at(slash));
        // It is sent as it is: nothing in it may end the line it stands on.
        let plain = target.bytes().all(|c| c.is_ascii_graphic() && c != b'#');
        if !plain || text.len() > MAX_TEXT {
            return Err(format!(
                "http = {text:?}: the path must be plain ASCII, without spaces and \"#\""
            ));
        }
        if status.is_some_and(|status| !(200..=599).contains(&status)) {
            return Err("status: must be 200 to 599".to_owned());
        }
        let endpoint = Endpoint::parse(authority, Some(80))
            .map_err(|why| format!("http = {text:?}: {why}"))?;
        Ok(Self {
            endpoint,
            target: target.to_owned(),
            status,
        })
    }
}

/// Absolute, in its shortest form, without control characters. The root is one.
pub(crate) fn path(key: &str, text: &str) -> Result<PathBuf, String> {
    let rest = text.strip_prefix('/');
    let plain = text.len() <= MAX_TEXT
        && !text.chars().any(char::is_control)
        && rest.is_some_and(|rest| {
            rest.is_empty() || rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
        });
    if plain {
        Ok(Path::new(text).to_owned())
    } else {
        Err(format!(
            "{key} = {text:?}: must be an absolute path in its shortest form"
        ))
    }
}

/// A unit's or a bus' full name, by the rule of the activator's configuration.
pub(crate) fn full_name(key: &str, text: &str) -> Result<String, String> {
    let inner_dot = text.trim_matches('.').contains('.');
    let plain = text
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b"-_.:@\\".contains(&c));
    if plain && inner_dot && text.len() <= MAX_NAME && !text.starts_with(['-', ':']) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{key} = {text:?}: must be a full name, such as \"example.service\" or \"org.example.Name\""
    ))
}

/// A name that can be asked for (RFC 1035; underscores as services use them).
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
    };
    if name.len() <= 253 && name.split('.').all(label) && name.parse::<Ipv4Addr>().is_err() {
        return Ok(name.to_owned());
    }
    Err(format!(
        "dns = {text:?}: must be a name, such as \"example.org\""
    ))
}

/// A program by its absolute path, and its arguments.
pub(crate) fn command(words: Vec<String>) -> Result<Vec<String>, String> {
    let program = words.first().map_or("", String::as_str);
    path("command", program)?;
    if words.len() > MAX_WORDS
        || words
            .iter()
            .any(|word| word.len() > MAX_TEXT || word.contains('\0'))
    {
        return Err(format!(
            "command: at most {MAX_WORDS} words of {MAX_TEXT} bytes"
        ));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses() {
        for (text, shown) in [
            ("127.0.0.1:8080", vec!["127.0.0.1:8080"]),
            ("[::1]:1", vec!["[::1]:1"]),
            ("localhost:22", vec!["127.0.0.1:22", "[::1]:22"]),
        ] {
            let found = Endpoint::parse(text, None).unwrap();
            let shown: Vec<SocketAddr> = shown.iter().map(|it| it.parse().unwrap()).collect();
            assert_eq!(found.addresses, shown, "{text}");
            assert_eq!(found.to_string(), text);
        }
        for text in [
            "",
            ":1",
            "1.2.3.4",
            "1.2.3.4:0",
            "1.2.3.4:65536",
            "::1:8",
            "[::1]",
            "example.org:80",
            "127.1:80",
        ] {
            assert!(Endpoint::parse(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        for (text, address, target) in [
            ("http://127.0.0.1", "127.0.0.1:80", "/"),
            ("http://127.0.0.1:81/a/b?c=d", "127.0.0.1:81", "/a/b?c=d"),
            ("http://[::1]/x", "[::1]:80", "/x"),
        ] {
            let url = Url::parse(text, None).unwrap();
            assert_eq!(url.endpoint.addresses, [address.parse().unwrap()], "{text}");
            assert_eq!(url.target, target);
        }
        for text in [
            "https://127.0.0.1/",
            "127.0.0.1",
            "http://",
            "http://example.org/",
            "http://u:p@127.0.0.1/",
            "http://127.0.0.1/a b",
            "http://127.0.0.1/a\r\nX: y",
            "http://127.0.0.1/#x",
            "http://127.0.0.1?x",
        ] {
            assert!(Url::parse(text, None).is_err(), "{text}");
        }
        assert!(Url::parse("http://127.0.0.1", Some(204)).is_ok());
        assert!(Url::parse("http://127.0.0.1", Some(99)).is_err());
    }

    #[test]
    fn names_and_paths_are_checked() {
        assert_eq!(host_name("example.org.").unwrap(), "example.org");
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "-\u{e4}",
            "1.2.3.4",
            &"a".repeat(64),
        ] {
            assert!(host_name(text).is_err(), "{text}");
        }
        assert!(path("free", "/").is_ok() && path("free", "/var").is_ok());
        for text in ["", "var", "/var/", "/a/../b", "/a\nb", "//a"] {
            assert!(path("free", text).is_err(), "{text}");
        }
        assert!(command(Vec::new()).is_err());
        assert!(command(vec!["true".to_owned()]).is_err());
        assert!(command(vec!["/bin/true".to_owned(), "x\0".to_owned()]).is_err());
    }

    #[test]
    fn calls_are_what_the_bus_takes() {
        assert_eq!(Call::default().check(), Ok(()));
        let call = |path: &str, interface: &str, method: &str| Call {
            path: path.to_owned(),
            interface: interface.to_owned(),
            method: method.to_owned(),
        };
        assert!(call("/org/a_1", "a.b", "Get").check().is_ok());
        for wrong in [
            call("", "a.b", "Get"),
            call("/a/", "a.b", "Get"),
            call("/a-b", "a.b", "Get"),
            call("/", "ab", "Get"),
            call("/", "a.1b", "Get"),
            call("/", "a.b", "Get it"),
            call("/", "a.b", ""),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
