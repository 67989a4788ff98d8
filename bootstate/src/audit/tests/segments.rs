//! Logs in several files.

use super::*;

/// A file of a log: which one, and its lines.
type File = (Option<Segment>, Vec<String>);

/// A log whose segments have so many lines, the last being open. A segment that is
/// not the first begins by saying that the one before was closed, and with the
/// number of `removed` closed segments before it removed.
fn segments(sizes: &[usize], removed: impl Fn(usize) -> usize) -> (Vec<File>, AuditHead) {
    let mut head = AuditHead::default();
    let mut files: Vec<File> = Vec::new();
    let mut ends: Vec<Place> = Vec::new();
    for (index, &size) in sizes.iter().enumerate() {
        let first = head.length + 1;
        let mut lines = Vec::new();
        for number in 0..size {
            let mut event = Event::general(Kind::Staged, format!("event {number}"));
            if index > 0 && number == 0 {
                event.kind = Kind::Rotated;
                event.rotation = Some(Rotation {
                    closed: ends.last().copied(),
                    removed: removed(index).checked_sub(1).map(|last| ends[last]),
                });
            }
            let (line, next) = append(head, event, &stamp()).unwrap();
            lines.push(line);
            head = next;
        }
        ends.push(Place {
            n: head.length,
            sha256: head.head,
        });
        let is_open = index + 1 == sizes.len();
        let segment = Segment {
            first,
            last: head.length,
        };
        files.push(((!is_open).then_some(segment), lines));
    }
    (files, head)
}

fn verify(files: &[File], anchor: AuditHead) -> Result<AuditHead, AuditError> {
    let mut verifier = Verifier::new(Some(anchor));
    for (segment, lines) in files {
        if let Some(segment) = segment {
            verifier.begin(segment)?;
        }
        for line in lines {
            verifier.line(line.as_bytes())?;
        }
        if let Some(segment) = segment {
            verifier.end_of(segment)?;
        }
    }
    verifier.end()
}

#[test]
fn a_log_in_segments_verifies_as_one() {
    let (files, head) = segments(&[3, 4, 2, 5], |_| 0);
    assert_eq!(head.length, 14);
    assert_eq!(verify(&files, head), Ok(head));
}

#[test]
fn a_segment_that_is_gone_shows_unless_a_line_says_so() {
    let (files, head) = segments(&[3, 4, 2, 5], |_| 0);
    for gone in 0..files.len() - 1 {
        let mut files = files.clone();
        let (segment, _) = files.remove(gone);
        let Segment { first, last } = segment.unwrap();
        let missing = AuditError::Missing { first, last };
        assert_eq!(verify(&files, head), Err(missing));
    }
    // The last segment says that the first two were removed.
    let (mut files, head) = segments(&[3, 4, 2, 5], |index| index.saturating_sub(1));
    assert_eq!(verify(&files, head), Ok(head));
    files.remove(0);
    assert_eq!(verify(&files, head), Ok(head));
    files.remove(0);
    assert_eq!(verify(&files, head), Ok(head));
    files.remove(0);
    let missing = AuditError::Missing { first: 8, last: 9 };
    assert_eq!(verify(&files, head), Err(missing));
    // What says so has to be in the chain.
    let mut forged = segments(&[3, 4, 2, 5], |_| 0).0;
    forged.remove(0);
    let (lying, _) = segments(&[3, 4, 2, 5], |_| 1);
    forged.last_mut().unwrap().1[0] = lying[3].1[0].clone();
    assert_eq!(verify(&forged, head), Err(AuditError::Chain(10)));
}

#[test]
fn a_log_cannot_begin_after_the_line_the_record_points_to() {
    // Written by somebody who can't write the record: a beginning of their own,
    // with a line that says the rest was removed.
    let base = Place {
        n: 20,
        sha256: Digest([7; 32]),
    };
    let event = Event {
        rotation: Some(Rotation {
            closed: Some(base),
            removed: Some(base),
        }),
        ..Event::general(Kind::Rotated, "")
    };
    let start = AuditHead {
        length: base.n,
        head: base.sha256,
        missed: 0,
    };
    let (line, _) = append(start, event, &stamp()).unwrap();
    let forged = [(None, vec![line])];
    let known = |length, head| AuditHead {
        length,
        head,
        missed: 0,
    };
    assert_eq!(
        verify(&forged, known(14, Digest([1; 32]))),
        Err(AuditError::After {
            first: 21,
            expected: 14
        })
    );
    assert_eq!(
        verify(&forged, known(20, Digest([1; 32]))),
        Err(AuditError::Head(20))
    );
    assert!(verify(&forged, known(20, base.sha256)).is_ok());
}

#[test]
fn a_statement_about_another_line_is_none() {
    let (mut files, _) = segments(&[3, 4], |_| 0);
    let end = Place {
        n: 3,
        sha256: Digest([9; 32]),
    };
    let before = AuditHead {
        length: 3,
        head: hash_line(files[0].1[2].as_bytes()),
        missed: 0,
    };
    let event = Event {
        rotation: Some(Rotation {
            closed: None,
            removed: Some(end),
        }),
        ..Event::general(Kind::Rotated, "")
    };
    let (line, head) = append(before, event, &stamp()).unwrap();
    files[1].1 = vec![line];
    assert_eq!(verify(&files, head), Ok(head));
    assert_eq!(verify(&files[1..], head), Err(AuditError::Removed(4)));
}

#[test]
fn files_that_are_not_what_their_names_say_are_named() {
    let (files, head) = segments(&[3, 3, 3, 3], |_| 0);
    let segment = |index: usize| files[index].0.unwrap();
    // Contents exchanged, under the names of each other.
    let mut swapped = files.clone();
    swapped[0].1 = files[1].1.clone();
    swapped[1].1 = files[0].1.clone();
    assert!(verify(&swapped, head).is_err());
    // A copy under a name of its own.
    let mut copied = files.clone();
    copied.insert(2, files[1].clone());
    copied[2].0 = Some(Segment { first: 4, last: 7 });
    assert_eq!(
        verify(&copied, head),
        Err(AuditError::Segment(Segment { first: 4, last: 7 }))
    );
    // The last line of a closed segment cut off: nothing after it follows.
    let mut cut = files.clone();
    cut[1].1.pop();
    assert_eq!(verify(&cut, head), Err(AuditError::Segment(segment(1))));
    // The open file closed by somebody, and one more line than the name has.
    let mut longer = files.clone();
    longer[3].0 = Some(Segment {
        first: 10,
        last: 11,
    });
    assert!(matches!(verify(&longer, head), Err(AuditError::Segment(_))));
}

#[test]
fn tampering_with_any_line_of_any_segment_is_named() {
    let (files, head) = segments(&[6, 5, 7, 4], |_| 0);
    for file in 0..files.len() {
        for at in 0..files[file].1.len() {
            for (what, lines) in tampered(&files[file].1, at) {
                let mut files = files.clone();
                files[file].1 = lines;
                assert!(
                    verify(&files, head).is_err(),
                    "file {file} line {at} {what}"
                );
            }
        }
    }
}

#[test]
fn a_part_of_a_log_is_followed_from_where_it_begins() {
    let (files, head) = segments(&[3, 4, 2], |_| 0);
    let mut verifier = Verifier::of_part(Some(head));
    for line in &files[2].1 {
        verifier.line(line.as_bytes()).unwrap();
    }
    assert_eq!(verifier.end(), Ok(head));
    let anchor = AuditHead {
        length: 7,
        head: hash_line(files[1].1[3].as_bytes()),
        missed: 0,
    };
    // The record is behind by all of the open segment.
    let mut verifier = Verifier::of_part(Some(anchor));
    for line in &files[2].1 {
        verifier.line(line.as_bytes()).unwrap();
    }
    assert_eq!(verifier.end().unwrap().length, 9);
}
