//! What servers answer to a health check: a byte says which protocol, the rest
//! is the answer, or what stands in /etc/resolv.conf.
//!
//! The modules themselves are taken in: the whole agent takes minutes to build.
#![no_main]

#[allow(dead_code, reason = "only its parser is fuzzed")]
#[path = "../../agent/src/health/dns.rs"]
mod dns;
#[allow(dead_code, unreachable_pub, reason = "the parsers' modules use it")]
#[path = "../../agent/src/health/endpoint.rs"]
mod endpoint;
#[allow(dead_code, reason = "only its parser is fuzzed")]
#[path = "../../agent/src/health/http.rs"]
mod http;
#[allow(dead_code, reason = "the parsers' modules use it")]
#[path = "../../agent/src/health/judge.rs"]
mod judge;

use dns::Told;
use libfuzzer_sys::fuzz_target;

/// For the address of version 4 of `example.org`, recursion desired.
const QUESTION: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";
const HEADER: usize = 12;

fn http(data: &[u8]) {
    let found = http::parse(data);
    match &found {
        Ok(status) => assert!((100..600).contains(status) && data.starts_with(b"HTTP/1.")),
        Err(why) => assert!(!why.chars().any(char::is_control), "{why}"),
    }
    if data.contains(&b'\n') {
        let longer = [data, b"\r\nHTTP/1.1 500 no\r\n"].concat();
        assert_eq!(http::parse(&longer), found, "only the first line counts");
    }
}

/// The answer as it came, and the same behind a header that fits the question.
fn dns(data: &[u8]) {
    if dns::parse(data, QUESTION).is_some() {
        assert_eq!(data.get(..2), QUESTION.get(..2), "an answer to another question");
    }
    let Some((&[flags, low, count], records)) = data.split_first_chunk() else {
        return;
    };
    let mut answer = QUESTION.to_vec();
    answer[2] = flags | 0x80;
    answer[3] = low;
    answer[7] = count;
    answer.extend(records);
    let told = dns::parse(&answer, QUESTION).expect("fits");
    let (code, is_truncated) = (low & 15, flags & 2 != 0);
    assert_eq!(code != 0, told == Told::Refused(code));
    if records.is_empty() && !is_truncated && code == 0 {
        assert_eq!(told, Told::NoAddress, "nothing was said");
    }
    answer[0] ^= 1;
    assert_eq!(dns::parse(&answer, QUESTION), None);
    answer[0] ^= 1;
    answer[HEADER + 1] = b'x';
    assert!(code != 0 || dns::parse(&answer, QUESTION).is_none());
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, answer)) => http(answer),
        Some((1, answer)) => dns(answer),
        Some((_, text)) => {
            let servers = dns::servers(&String::from_utf8_lossy(text));
            assert!(servers.len() <= 3 && servers.iter().all(|server| server.port() == 53));
        }
        None => {}
    }
});
