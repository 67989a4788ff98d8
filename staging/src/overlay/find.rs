//! One path of an overlay.

use std::io;

use super::classify::{Kind, Upper};
use super::walk::{Layers, Seen};

/// What the overlay has to do with a path.
#[derive(Debug)]
pub(crate) enum Found<D> {
    /// It has nothing there.
    Nothing,
    /// It has something else where a directory on the way would be: there the
    /// change is.
    HiddenBy(Vec<u8>),
    /// It has something.
    There(There<D>),
}

/// What the overlay has at a path.
#[derive(Debug)]
pub(crate) struct There<D> {
    /// The directory it is in.
    pub(crate) dir: D,
    /// The directory on the way, if any, that hides what the version has.
    pub(crate) replaced: Option<Vec<u8>>,
    /// What is there.
    pub(crate) seen: Seen,
}

/// Finds a plain path.
pub(crate) fn find<L: Layers>(
    layers: &mut L,
    root: L::Dir,
    path: &[u8],
) -> io::Result<Found<L::Dir>> {
    let mut dir = root;
    let mut replaced = None;
    let mut end = 0;
    loop {
        let rest = path.get(end..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'/');
        let length = length.unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default();
        let Some(seen) = layers.look(&dir, name)? else {
            return Ok(Found::Nothing);
        };
        end += length;
        if end == path.len() {
            return Ok(Found::There(There {
                dir,
                replaced,
                seen,
            }));
        }
        let here = || path.get(..end).unwrap_or_default().to_owned();
        match seen.trio.upper {
            Upper::Opaque(_) => replaced = Some(here()),
            Upper::Plain(mine) if mine.kind == Kind::Directory => {}
            Upper::Plain(_) | Upper::Whiteout => return Ok(Found::HiddenBy(here())),
        }
        match layers.enter(&dir, name)? {
            Some(below) => dir = below,
            None => return Ok(Found::Nothing),
        }
        end += 1;
    }
}
