//! Running text in lines that fit a terminal.

/// `text` in lines of at most `columns`, `mark` and a blank in front of the first, and as many blanks in front of the
/// others. What stands in backticks is a command, to be copied: it is never broken, even if it is longer than a line.
pub(crate) fn paragraph(mark: &str, text: &str, columns: usize) -> String {
    let width = |text: &str| text.chars().count();
    let indent = width(mark);
    let mut lines = vec![mark.to_owned()];
    for piece in pieces(text) {
        let is_begun = lines.last().is_some_and(|line| width(line) > indent);
        if is_begun && lines.last().map_or(0, |line| width(line)) + 1 + width(&piece) > columns {
            lines.push(" ".repeat(indent));
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(&piece);
        }
    }
    lines.join("\n") + "\n"
}

/// The words of `text`, those between backticks in one piece with what touches them.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut is_within = false;
    for word in text.split_whitespace() {
        match pieces.last_mut() {
            Some(piece) if is_within => {
                piece.push(' ');
                piece.push_str(word);
            }
            _ => pieces.push(word.to_owned()),
        }
        is_within ^= word.matches('`').count() % 2 == 1;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_are_broken_between_words() {
        assert_eq!(paragraph("!", "one two three", 9), "! one two\n  three\n");
        let long = paragraph("!", &"word ".repeat(100), 60);
        assert!(long.lines().all(|line| line.chars().count() <= 60 && line.starts_with(['!', ' '])));
        assert_eq!(paragraph("", "one", 9), " one\n");
    }

    #[test]
    fn a_command_stays_in_one_line() {
        let text = "Start it, for example: `loadgen serve --listen [::1]:9`, or not.";
        for columns in 1..90 {
            let lines = paragraph("!", text, columns);
            assert!(lines.lines().any(|line| line.contains("`loadgen serve --listen [::1]:9`,")), "{lines}");
        }
    }
}
