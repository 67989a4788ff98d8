//! Whether DNS knows an address of a name.
//!
//! A static program has no getaddrinfo(3) that could be relied on: glibc's loads
//! the modules of nsswitch.conf at run time, and gives no bound on its time. A
//! resolver library would bring an asynchronous runtime, a cache and a policy of
//! retries, where one question is to be asked and its answer only to be looked
//! at. So: the first servers of resolv.conf(5), one UDP question each (RFC 1035),
//! and a parser that reads no further than it must. With systemd-resolved that
//! server is its stub on 127.0.0.53.
//!
//! An answer cut short (TC) that tells of no error is an answer: what would not
//! fit was there.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use op_dbus_activator::files;

use super::judge::Finding;

/// Where the servers stand.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Longest resolv.conf that is read, in bytes.
const MAX_CONF: usize = 64 * 1024;
/// Servers that are asked, as by glibc (MAXNS).
const MAX_SERVERS: usize = 3;
/// Longest answer over UDP without EDNS (RFC 1035, section 4.2.1).
const MAX_ANSWER: usize = 512;
const PORT: u16 = 53;

/// Types of records that are addresses.
const A: u16 = 1;
const AAAA: u16 = 28;
/// The class of the internet.
const IN: u16 = 1;

/// Asks once, within `limit`: half of it for an address of version 4, and what
/// is left for one of version 6.
pub fn look(name: &str, resolv_conf: &Path, limit: Duration) -> Finding {
    let servers = match files::read_bounded(resolv_conf, MAX_CONF) {
        Ok(bytes) => servers(&String::from_utf8_lossy(&bytes)),
        // As glibc: a server on this very host.
        Err(why) if why.kind() == ErrorKind::NotFound => servers(""),
        Err(why) => return Finding::NotYet(format!("{}: {why}", resolv_conf.display())),
    };
    look_at(name, &servers, limit)
}

fn look_at(name: &str, servers: &[SocketAddr], limit: Duration) -> Finding {
    let end = Instant::now() + limit;
    let mut last = String::new();
    for (number, server) in servers.iter().enumerate() {
        let others = u32::try_from(servers.len() - number).unwrap_or(1);
        let share = end.saturating_duration_since(Instant::now()) / others.max(1);
        let until = Instant::now() + share;
        let half = Instant::now() + share / 2;
        let told = match ask(server, name, A, half) {
            Ok(Told::NoAddress) => ask(server, name, AAAA, until),
            other => other,
        };
        last = match told {
            Ok(Told::Address) => return Finding::well(),
            Ok(Told::NoAddress) => format!("{name} has no address, says {}", server.ip()),
            Ok(Told::Refused(code)) => format!("{}, says {}", error(code), server.ip()),
            Err(why) if is_timeout(&why) => format!("no answer from {}", server.ip()),
            Err(why) => format!("{}: {why}", server.ip()),
        };
    }
    Finding::NotYet(last)
}

fn is_timeout(why: &std::io::Error) -> bool {
    matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The servers of a resolv.conf. Lines that mean nothing are passed over, as
/// glibc does.
pub fn servers(text: &str) -> Vec<SocketAddr> {
    let mut found: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next().and_then(server))?
        })
        .take(MAX_SERVERS)
        .collect();
    if found.is_empty() {
        found.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    found
}

/// An address; one of version 6 may name its interface by number. By name it
/// could only be looked up, and then the other servers do.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, scope)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, PORT).into());
    };
    let address: Ipv6Addr = address.parse().ok()?;
    Some(SocketAddrV6::new(address, PORT, 0, scope.parse().ok()?).into())
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// There is one.
    Address,
    /// The name has none of this kind.
    NoAddress,
    /// The question was not answered, with this code (RFC 1035, section 4.1.1).
    Refused(u8),
}

fn error(code: u8) -> String {
    match code {
        2 => "server failure".to_owned(),
        3 => "no such name".to_owned(),
        5 => "refused".to_owned(),
        other => format!("error {other}"),
    }
}

/// One question, and answers until one belongs to it.
fn ask(server: &SocketAddr, name: &str, kind: u16, until: Instant) -> std::io::Result<Told> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The kernel takes a port at random, and lets only this server answer.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let id = random()?;
    let question = question(id, name, kind);
    socket.send(&question)?;
    let mut answer = [0; MAX_ANSWER];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut answer) {
            Ok(length) => {
                let bytes = answer.get(..length).unwrap_or_default();
                if let Some(told) = parse(bytes, &question) {
                    return Ok(told);
                }
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

/// Not to be foreseen by whoever would forge an answer.
fn random() -> std::io::Result<u16> {
    let mut bytes = [0; 2];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

/// Header and one question; recursion is asked for.
fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [id, 0x0100, 1, 0, 0, 0] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for label in name.split('.') {
        // The configuration has none that is longer than 63.
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    for word in [kind, IN] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Length of the header.
const HEADER: usize = 12;

/// What an answer to `question` says. `None`: it is no answer to it.
pub fn parse(answer: &[u8], question: &[u8]) -> Option<Told> {
    let word = |at: usize| -> Option<u16> {
        let bytes = answer.get(at..at.checked_add(2)?)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    let asked = question.get(HEADER..)?;
    let flags = word(2)?;
    let is_answer = flags & 0x8000 != 0 && answer.get(..2)? == question.get(..2)?;
    let code = u8::try_from(flags & 0x000f).ok()?;
    if !is_answer {
        return None;
    }
    // A server that did not understand need not say what it was asked.
    if code != 0 && word(4)? == 0 {
        return Some(Told::Refused(code));
    }
    let repeated = answer.get(HEADER..HEADER.checked_add(asked.len())?)?;
    if word(4)? != 1 || !repeated.eq_ignore_ascii_case(asked) {
        return None;
    }
    if code != 0 {
        return Some(Told::Refused(code));
    }
    let kind = question
        .get(question.len().checked_sub(4)?..)?
        .first_chunk::<2>()?;
    let kind = u16::from_be_bytes(*kind);
    let truncated = flags & 0x0200 != 0;
    let mut at = HEADER + asked.len();
    for _ in 0..word(6)? {
        let Some((found, next)) = record(answer, at) else {
            break;
        };
        if found == kind {
            return Some(Told::Address);
        }
        at = next;
    }
    Some(if truncated {
        Told::Address
    } else {
        Told::NoAddress
    })
}

/// The type of the internet's record that begins there, and where the next one
/// does. A record of another class has the type 0, which is none.
fn record(answer: &[u8], mut at: usize) -> Option<(u16, usize)> {
    // Its name: labels, then an end or a pointer, which need not be followed.
    loop {
        match *answer.get(at)? {
            0 => {
                at += 1;
                break;
            }
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0..=0xff => {
                at += 2;
                break;
            }
            _ => return None,
        }
    }
    let head: &[u8; 10] = answer.get(at..)?.first_chunk()?;
    let [t0, t1, c0, c1, _, _, _, _, l0, l1] = *head;
    let next = at + head.len() + usize::from(u16::from_be_bytes([l0, l1]));
    // All of it must be there.
    answer.get(..next)?;
    let class = u16::from_be_bytes([c0, c1]);
    let kind = u16::from_be_bytes([t0, t1]);
    Some((if class == IN { kind } else { 0 }, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const ID: u16 = 0x1234;

    fn asked(kind: u16) -> Vec<u8> {
        question(ID, "Example.org", kind)
    }

    /// An answer to `question` with these flags and records.
    fn answer(question: &[u8], flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2..4].copy_from_slice(&(0x8000 | flags).to_be_bytes());
        bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        for (kind, data) in records {
            // A pointer to the name of the question.
            bytes.extend_from_slice(&[0xc0, 12]);
            for word in [*kind, IN, 0, 60, u16::try_from(data.len()).unwrap()] {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
            bytes.extend_from_slice(data);
        }
        bytes
    }

    #[test]
    fn a_question_is_as_the_standard_has_it() {
        let bytes = question(ID, "a.bc", A);
        let expected =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn answers_are_told_apart() {
        let asked = asked(A);
        let told = |flags, records: &[(u16, &[u8])]| parse(&answer(&asked, flags, records), &asked);
        let address = (A, &[192, 0, 2, 1][..]);
        let alias = (5, &[1, b'a', 0][..]);
        assert_eq!(told(0, &[address]), Some(Told::Address));
        assert_eq!(told(0, &[alias, address]), Some(Told::Address));
        assert_eq!(told(0, &[alias]), Some(Told::NoAddress));
        assert_eq!(told(0, &[(AAAA, &[0; 16])]), Some(Told::NoAddress));
        assert_eq!(told(0, &[]), Some(Told::NoAddress));
        assert_eq!(told(0x0200, &[]), Some(Told::Address));
        assert_eq!(told(3, &[]), Some(Told::Refused(3)));
        // Names are the same whatever their case.
        let other_case = answer(&question(ID, "eXAMPLE.org", A), 0, &[address]);
        assert_eq!(parse(&other_case, &asked), Some(Told::Address));
    }

    #[test]
    fn what_belongs_to_another_question_is_no_answer() {
        let asked = asked(A);
        let address = (A, &[192, 0, 2, 1][..]);
        for other in [
            question(ID + 1, "example.org", A),
            question(ID, "example.com", A),
            question(ID, "example.org", AAAA),
        ] {
            assert_eq!(parse(&answer(&other, 0, &[address]), &asked), None);
        }
        // A question is no answer.
        assert_eq!(parse(&asked, &asked), None);
    }

    #[test]
    fn whatever_comes_is_only_read() {
        let asked = asked(A);
        let whole = answer(&asked, 0, &[(5, &[1, b'a', 0]), (A, &[192, 0, 2, 1])]);
        for length in 0..whole.len() {
            assert_ne!(
                parse(&whole[..length], &asked),
                Some(Told::Address),
                "{length}"
            );
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                let _ = parse(&changed, &asked);
            }
        }
        // Says that it has many records, and a name that points to itself.
        let mut many = whole;
        many[6..8].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(parse(&many, &asked), Some(Told::Address));
    }

    #[test]
    fn servers_are_read_as_by_glibc() {
        let text = "# nameserver 192.0.2.9\nsearch a.b\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # x\n\
                    nameserver fe80::1%2\nnameserver nonsense\nnameserver 192.0.2.4\n";
        let found: Vec<_> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%2]:53"]
        );
        assert_eq!(servers("search a")[0].to_string(), "127.0.0.1:53");
    }

    /// A server that answers each question with what `say` makes of it.
    fn serve(say: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut question = [0; MAX_ANSWER];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                for answer in say(&question[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        address
    }

    #[test]
    fn an_address_of_either_version_is_well() {
        let kind_of = |question: &[u8]| question[question.len() - 3];
        let four = serve(move |question| {
            let found: &[(u16, &[u8])] = &[(A, &[192, 0, 2, 1])];
            vec![answer(
                question,
                0,
                if kind_of(question) == 1 { found } else { &[] },
            )]
        });
        let six = serve(move |question| {
            let found: &[(u16, &[u8])] = &[(AAAA, &[1; 16])];
            vec![answer(
                question,
                0,
                if kind_of(question) == 28 { found } else { &[] },
            )]
        });
        let limit = Duration::from_secs(30);
        assert_eq!(look_at("example.org", &[four], limit), Finding::well());
        assert_eq!(look_at("example.org", &[six], limit), Finding::well());
    }

    #[test]
    fn noise_is_passed_over_and_the_next_server_asked() {
        let wrong = serve(|question| {
            let mut forged = answer(question, 0, &[(A, &[6, 6, 6, 6])]);
            forged[0] ^= 1;
            vec![
                Vec::new(),
                vec![0xff; 600],
                forged,
                answer(question, 3, &[]),
            ]
        });
        let right = serve(|question| vec![answer(question, 0, &[(A, &[192, 0, 2, 1])])]);
        let limit = Duration::from_secs(30);
        let found = look_at("example.org", &[wrong], limit);
        assert_eq!(
            found,
            Finding::NotYet("no such name, says 127.0.0.1".to_owned())
        );
        assert_eq!(
            look_at("example.org", &[wrong, right], limit),
            Finding::well()
        );
    }

    #[test]
    fn silence_is_no_answer() {
        let mute = serve(|_| Vec::new());
        let found = look_at("example.org", &[mute], Duration::from_millis(50));
        assert_eq!(
            found,
            Finding::NotYet("no answer from 127.0.0.1".to_owned())
        );
    }
}
