//! How the screen is drawn: colours and line ends, where there is a terminal.

use std::io::IsTerminal as _;

/// A terminal narrower than this gets lines it breaks by itself.
const NARROWEST: usize = 60;
/// Wider lines are hard to read.
const WIDEST: usize = 120;
/// Where a row's text begins.
pub(crate) const INDENT: usize = 13;

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it comes.
    Plain,
    /// A headline.
    Strong,
    /// What matters less.
    Faint,
    /// All is well.
    Good,
    /// Worth a look.
    Notice,
    /// Something is wrong.
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[1;32m",
            Self::Notice => "\x1b[1;33m",
            Self::Bad => "\x1b[1;31m",
        }
    }
}

/// Pieces of text of different styles.
pub(crate) type Spans = Vec<(Style, String)>;

/// Where the text goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Columns; none: lines are as long as they are.
    pub(crate) width: Option<usize>,
    /// Rows, where only so many are seen.
    pub(crate) height: Option<usize>,
    /// Whether colours are shown.
    pub(crate) has_colour: bool,
}

impl Screen {
    /// What standard output is. Elsewhere than on a terminal the text is plain:
    /// one fact a line, for grep.
    pub(crate) fn stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self::default();
        }
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_dumb = set("TERM").is_none_or(|term| term == "dumb");
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        let rows = size.map_or(0, |size| usize::from(size.ws_row));
        Self {
            width: (columns >= NARROWEST).then(|| columns.min(WIDEST)),
            height: (rows > 1).then_some(rows),
            // https://no-color.org
            has_colour: !is_dumb && set("NO_COLOR").is_none(),
        }
    }

    /// A line that is not broken.
    pub(crate) fn line(self, spans: &Spans) -> String {
        let mut text = String::new();
        for (style, words) in spans {
            self.put(&mut text, *style, &clean(words));
        }
        // Colours end before the line does.
        text.truncate(text.trim_end_matches(' ').len());
        text
    }

    /// A paragraph behind so many columns, the first line of which `first` takes.
    pub(crate) fn paragraph(self, first: &Spans, indent: usize, spans: &Spans) -> Vec<String> {
        let mut line = String::new();
        let mut column = 0;
        for (style, words) in first {
            let words = clean(words);
            column += words.chars().count();
            self.put(&mut line, *style, &words);
        }
        line.push_str(&" ".repeat(indent.saturating_sub(column)));
        column = column.max(indent);
        let mut lines = Vec::new();
        let mut gap = String::new();
        for (style, words) in spans {
            for piece in pieces(&clean(words)) {
                if piece.starts_with(' ') {
                    piece.clone_into(&mut gap);
                    continue;
                }
                let length = piece.chars().count();
                let ends = column + gap.len() + length;
                if column > indent && self.width.is_some_and(|width| ends > width) {
                    lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                    column = indent;
                } else {
                    column += gap.len();
                    line.push_str(&gap);
                }
                gap.clear();
                column += length;
                self.put(&mut line, *style, piece);
            }
        }
        line.push_str(&gap);
        line.truncate(line.trim_end_matches(' ').len());
        lines.push(line);
        lines
    }

    /// A text cut to so many columns, if lines have an end here.
    pub(crate) fn cut(self, text: &str, columns: usize) -> String {
        if self.width.is_none() || text.chars().count() <= columns {
            return text.to_owned();
        }
        let kept = text.chars().take(columns.saturating_sub(1));
        kept.chain(['…']).collect()
    }

    fn put(self, line: &mut String, style: Style, words: &str) {
        let code = style.code();
        if !self.has_colour || code.is_empty() || words.is_empty() {
            line.push_str(words);
            return;
        }
        line.push_str(code);
        line.push_str(words);
        line.push_str("\x1b[0m");
    }
}

/// Without what a terminal would act on: reasons come from programs of the
/// version, and from its files' names.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' => ' ',
            // Of the second kind some turn the direction of what follows.
            c if c.is_control() => '?',
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '?',
            c => c,
        })
        .collect()
}

/// Words and the gaps between them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let is_gap = rest.starts_with(' ');
        let end = rest.find(|c| (c == ' ') != is_gap).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Spans {
        vec![(Style::Plain, text.to_owned())]
    }

    fn screen(width: Option<usize>) -> Screen {
        Screen {
            width,
            ..Screen::default()
        }
    }

    #[test]
    fn lines_end_between_words_and_hang() {
        let text = "one two  three sevenseven";
        let shown = |width| screen(width).paragraph(&plain("Name"), 6, &plain(text));
        assert_eq!(shown(None), ["Name  one two  three sevenseven"]);
        assert_eq!(
            shown(Some(14)),
            ["Name  one two", "      three", "      sevenseven"]
        );
        // What does not fit at all stays whole: it may be a path to copy.
        assert_eq!(shown(Some(8)).last().unwrap(), "      sevenseven");
        assert_eq!(
            screen(None).paragraph(&plain("A longer name"), 6, &plain("x")),
            ["A longer namex"]
        );
    }

    #[test]
    fn colours_take_no_room_and_end_with_their_piece() {
        let spans = vec![
            (Style::Bad, "red words".to_owned()),
            (Style::Plain, ", plain".to_owned()),
        ];
        let coloured = Screen {
            width: Some(12),
            has_colour: true,
            height: None,
        };
        let lines = coloured.paragraph(&plain(""), 2, &spans);
        assert_eq!(
            lines,
            [
                "  \u{1b}[1;31mred\u{1b}[0m \u{1b}[1;31mwords\u{1b}[0m,",
                "  plain"
            ]
        );
        assert_eq!(screen(None).line(&spans), "red words, plain");
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        let hostile = "a\u{1b}[2Jb\r\u{9b}31m\u{202e}c\u{7}";
        assert_eq!(clean(hostile), "a?[2Jb??31m?c?");
        let lines = screen(Some(80)).paragraph(&plain(hostile), 2, &plain(hostile));
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
    }

    #[test]
    fn names_are_cut_only_where_lines_end() {
        assert_eq!(screen(Some(80)).cut("v1.0.0-long", 8), "v1.0.0-…");
        assert_eq!(screen(Some(80)).cut("v1.0.0", 6), "v1.0.0");
        assert_eq!(screen(None).cut("v1.0.0-long", 8), "v1.0.0-long");
    }
}
