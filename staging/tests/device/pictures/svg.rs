//! Text with colours, as a terminal shows it, as SVG.

#![expect(
    clippy::cast_precision_loss,
    reason = "a screen has few rows and columns"
)]

use std::fmt::Write as _;

/// Size of a character, in pixels.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
const MARGIN: f64 = 14.0;
const BAR: f64 = 26.0;

/// Colours and weights, by the codes the program uses.
const STYLES: &str = "\
.t{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d5d8d6;white-space:pre}
.c1{font-weight:bold;fill:#fff}.c2{fill:#8a908c}.c31{font-weight:bold;fill:#ff6e67}
.c32{font-weight:bold;fill:#5fd787}.c33{font-weight:bold;fill:#ffd75f}.p{fill:#7fb4e8}";

/// A command and what it showed.
pub(super) fn draw(prompt: &str, shown: &str, columns: usize) -> String {
    let lines: Vec<_> = shown
        .lines()
        .flat_map(|line| folded(line, columns))
        .collect();
    let rows = lines.len() + 1;
    let width = MARGIN.mul_add(2.0, columns as f64 * WIDTH);
    let height = MARGIN.mul_add(2.0, (rows as f64).mul_add(HEIGHT, BAR));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">\n\
         <style>{STYLES}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1b1e1c\"/>\n"
    );
    for (at, fill) in ["#ff6e67", "#ffd75f", "#5fd787"].iter().enumerate() {
        let x = (at as f64).mul_add(18.0, 20.0);
        let _ = writeln!(
            svg,
            "<circle cx=\"{x}\" cy=\"16\" r=\"5\" fill=\"{fill}\"/>"
        );
    }
    let first = vec![("p", prompt.to_owned())];
    for (row, line) in std::iter::once(&first).chain(&lines).enumerate() {
        let y = (row as f64 + 1.0).mul_add(HEIGHT, BAR + MARGIN / 2.0);
        let mut column = 0;
        for (class, text) in line {
            let length = text.chars().count();
            if !text.trim().is_empty() {
                let x = (column as f64).mul_add(WIDTH, MARGIN);
                let wide = length as f64 * WIDTH;
                let text = text.replace('&', "&amp;").replace('<', "&lt;");
                let _ = writeln!(
                    svg,
                    "<text class=\"t {class}\" x=\"{x:.1}\" y=\"{y:.0}\" textLength=\"{wide:.1}\" xml:space=\"preserve\">{text}</text>"
                );
            }
            column += length;
        }
    }
    svg + "</svg>\n"
}

type Line = Vec<(&'static str, String)>;

/// Pieces of one style; a line that is too long goes on in the next.
fn folded(line: &str, columns: usize) -> Vec<Line> {
    let mut lines = vec![Line::new()];
    let mut column = 0;
    for (class, text) in pieces(line) {
        for c in text.chars() {
            if column == columns {
                lines.push(Line::new());
                column = 0;
            }
            let last = lines.last_mut().unwrap();
            match last.last_mut() {
                Some((of, text)) if *of == class => text.push(c),
                _ => last.push((class, c.to_string())),
            }
            column += 1;
        }
    }
    lines
}

fn pieces(line: &str) -> Vec<(&'static str, &str)> {
    let mut pieces = Vec::new();
    let mut class = "";
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        pieces.push((class, before));
        let (code, after) = after.split_once('m').unwrap();
        class = match code {
            "0" => "",
            "1" => "c1",
            "2" => "c2",
            "1;31" => "c31",
            "1;32" => "c32",
            "1;33" => "c33",
            other => panic!("colour {other} has no style"),
        };
        rest = after;
    }
    pieces.push((class, rest));
    pieces
}

#[test]
fn what_is_shown_is_what_is_drawn() {
    let svg = draw(
        "# run",
        "\u{1b}[1;32mGOOD\u{1b}[0m a<b&c\nlonger than ten",
        10,
    );
    assert!(svg.contains("class=\"t c32\" x=\"14.0\" y=\"69\" textLength=\"33.6\" xml:space=\"preserve\">GOOD</text>"), "{svg}");
    assert!(
        svg.contains("> a&lt;b&amp;c</text>") && svg.contains(">longer tha</text>"),
        "{svg}"
    );
    assert_eq!(svg.matches("<text").count(), 5);
}
