//! A command line as it is typed into a shell.

/// `words` as a line that a POSIX shell takes apart into just these.
pub(crate) fn typed(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// `word`, in single quotes if it has a character that means something to some shell.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:,=@%+".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_owned(),
        // Between single quotes nothing but another one means anything: it is put behind them.
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_would_change_is_quoted() {
        let words = [
            "loadgen",
            "rr",
            "[::1]:1",
            "--json=a.json",
            "-R",
            "20k",
            "--send",
            "PING\\r\\n",
            "--slo",
            "p99<2ms,err<1%",
        ];
        let line = typed(&words.map(str::to_owned));
        assert_eq!(line, r"loadgen rr '[::1]:1' --json=a.json -R 20k --send 'PING\r\n' --slo 'p99<2ms,err<1%'");
        assert_eq!(
            ["", "it's", "a b", "$HOME", "~", "é"].map(quoted),
            ["''", r"'it'\''s'", "'a b'", "'$HOME'", "'~'", "'é'"]
        );
    }
}
