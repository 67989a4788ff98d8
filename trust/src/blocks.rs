//! From the bytes of a file to `OpenPGP` packets: armor, if there is any, and
//! nothing but what the file is supposed to hold.

use std::io::Read as _;

use sequoia_openpgp::Packet;
use sequoia_openpgp::armor::{Kind, Reader, ReaderMode};
use sequoia_openpgp::parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse as _};

use crate::text::chain;

/// Most packets of a file; the shortest takes two bytes there and hundreds here.
const MAX_PACKETS: usize = 4096;

/// What an armored file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Detached signatures, and nothing around them.
    Signatures,
    /// Certificates; prose around them is skipped, as key servers and gpg
    /// write some.
    Certificates,
}

impl Content {
    fn kind(self) -> Kind {
        match self {
            Self::Signatures => Kind::Signature,
            Self::Certificates => Kind::PublicKey,
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Self::Signatures => b"PGP SIGNATURE",
            Self::Certificates => b"PGP PUBLIC KEY BLOCK",
        }
    }
}

/// The packets of a file, in order, or why it can't be used.
///
/// Memory stays within a few times the length of `bytes`, and at most
/// [`MAX_PACKETS`] packets.
pub(crate) fn packets(bytes: &[u8], content: Content) -> Result<Vec<Packet>, String> {
    let mut packets = Vec::new();
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        // The first octet of a packet has its top bit set, text has not.
        parse(bytes, &mut packets)?;
    } else {
        for block in blocks(bytes, content)? {
            let mut binary = Vec::new();
            let mode = ReaderMode::Tolerant(Some(content.kind()));
            Reader::from_bytes(block, mode)
                .read_to_end(&mut binary)
                .map_err(|error| format!("its armor is damaged ({})", chain(&error)))?;
            parse(&binary, &mut packets)?;
        }
    }
    Ok(packets)
}

fn parse(bytes: &[u8], packets: &mut Vec<Packet>) -> Result<(), String> {
    let damaged = |error: sequoia_openpgp::anyhow::Error| {
        format!("it is not OpenPGP data ({})", chain(error.as_ref()))
    };
    let mut rest = PacketParserBuilder::from_bytes(bytes)
        .map_err(damaged)?
        .dearmor(Dearmor::Disabled)
        .build()
        .map_err(damaged)?;
    while let PacketParserResult::Some(parser) = rest {
        // `next` never looks into containers: nothing is decompressed.
        let (packet, next) = parser.next().map_err(damaged)?;
        if packets.len() == MAX_PACKETS {
            return Err(format!("it holds more than {MAX_PACKETS} packets"));
        }
        packets.push(packet);
        rest = next;
    }
    Ok(())
}

/// The armored blocks of a text, each with its first and last line.
fn blocks(text: &[u8], content: Content) -> Result<Vec<&[u8]>, String> {
    let mut found = Vec::new();
    let mut began = None;
    let mut at = 0;
    for raw in text.split_inclusive(|byte| *byte == b'\n') {
        let start = at;
        at += raw.len();
        let line = raw.trim_ascii_end();
        let begins = marker(line, b"-----BEGIN ");
        match began {
            None if begins == Some(content.label()) => began = Some(start),
            None if content == Content::Signatures && !line.is_empty() => {
                return Err(instead(begins));
            }
            Some(_) if begins.is_some() => return Err("its armor is cut short".to_owned()),
            Some(first) if marker(line, b"-----END ") == Some(content.label()) => {
                found.push(text.get(first..at).unwrap_or_default());
                began = None;
            }
            None | Some(_) => {}
        }
    }
    if began.is_some() {
        return Err("its armor is cut short: the END line is missing".to_owned());
    }
    Ok(found)
}

/// What an armor line is the beginning or the end of.
fn marker<'a>(line: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(word)?.strip_suffix(b"-----")
}

/// What stands where a detached signature should begin.
fn instead(label: Option<&[u8]>) -> String {
    match label {
        Some(b"PGP SIGNED MESSAGE") => "it is a cleartext-signed message, not a detached signature",
        Some(b"PGP MESSAGE") => "it is a message with its content inside, not a detached signature",
        Some(b"PGP PUBLIC KEY BLOCK") => "it is a certificate, not a signature",
        _ => "it holds text that is not a signature",
    }
    .to_owned()
}
