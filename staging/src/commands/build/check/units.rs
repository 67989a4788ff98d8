//! Which programs a unit starts (systemd.service(5), systemd.syntax(7)).

/// The programs of its `Exec…=` lines, as they are written: absolute paths, or names.
pub(crate) fn programs(text: &str) -> Vec<String> {
    let mut programs = Vec::new();
    for line in logical_lines(text) {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        if !matches!(
            key.trim(),
            "ExecStart"
                | "ExecStartPre"
                | "ExecStartPost"
                | "ExecReload"
                | "ExecStop"
                | "ExecStopPost"
        ) {
            continue;
        }
        // One line may hold several commands, apart by a semicolon that stands alone.
        for command in value.split(" ; ") {
            programs.extend(program(command.trim()));
        }
    }
    programs
}

/// Lines without comments; a backslash at the end goes on with the next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        // Comments may stand between continued lines.
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let mut whole = open.take().unwrap_or_default();
        if let Some(begun) = line.strip_suffix('\\') {
            whole.push_str(begun);
            whole.push(' ');
            open = Some(whole);
        } else {
            whole.push_str(line);
            lines.push(whole);
        }
    }
    lines.extend(open);
    lines
}

/// The first word, without the signs that tell systemd how to run it. None: the
/// line only takes earlier ones back, or a specifier decides at run time.
fn program(command: &str) -> Option<String> {
    let command = command.trim_start_matches(['@', '-', ':', '+', '!', '|']);
    let word = match command.strip_prefix(['"', '\'']) {
        Some(quoted) => {
            let quote = command.chars().next()?;
            quoted.split(quote).next()?
        }
        None => command.split_whitespace().next()?,
    };
    if word.is_empty() {
        return None;
    }
    // A doubled percent sign is a plain one.
    let plain = word.replace("%%", "\0");
    (!plain.contains('%')).then(|| plain.replace('\0', "%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_programs() {
        let unit = "[Service]\n\
            # ExecStart=/no/comment\n\
            ExecStartPre=-/opt/op-dbus/bin/prepare --fast\n\
            ExecStart=\n\
            ExecStart = @/opt/op-dbus/bin/app app \\\n\
            # in between\n\
            \x20 --more\n\
            ExecStart=\"/opt/op-dbus/bin/with space\" x ; /usr/bin/true\n\
            ExecReload=+!/bin/kill -HUP $MAINPID\n\
            ExecStop=/opt/op-dbus/bin/%i stop\n\
            ExecStopPost=/opt/op-dbus/bin/a%%b\n\
            Environment=ExecStart=/not/this\n";
        assert_eq!(
            programs(unit),
            [
                "/opt/op-dbus/bin/prepare",
                "/opt/op-dbus/bin/app",
                "/opt/op-dbus/bin/with space",
                "/usr/bin/true",
                "/bin/kill",
                "/opt/op-dbus/bin/a%b",
            ]
        );
    }

    #[test]
    fn survives_what_is_no_unit() {
        assert!(programs("").is_empty());
        assert!(programs("ExecStart").is_empty());
        assert_eq!(programs("ExecStart=/a \\"), ["/a"]);
        assert!(programs("ExecStart=\"").is_empty());
    }
}
