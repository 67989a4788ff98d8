//! Files of one line a wish, as tmpfiles.d and sysusers.d have them.

/// Reads one file, `name` in messages: what `accept` makes of a line, told where
/// it stands, goes to `lines`, of which there are at most `max`.
pub(crate) fn read<T>(
    (name, text): (&str, &str),
    max: usize,
    lines: &mut Vec<T>,
    notes: &mut Vec<String>,
    accept: impl Fn(String, &str) -> Result<T, String>,
) {
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.trim_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{name}:{number}");
        if lines.len() >= max {
            notes.push(format!(
                "{place}: refused: more than {max} lines in the version; what follows is not looked at"
            ));
            return;
        }
        match accept(place.clone(), line) {
            Ok(accepted) => lines.push(accepted),
            Err(why) => notes.push(format!("{place}: refused: {why}")),
        }
    }
}
