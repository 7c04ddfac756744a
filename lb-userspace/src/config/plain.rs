//! What a file says, fit to be said back.

/// The text in one line, and harmless to a terminal.
pub fn plain(text: impl Into<String>) -> String {
    let text = text.into();
    if text.contains(char::is_control) {
        text.replace(char::is_control, " ")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_escapes_are_blanks() {
        assert_eq!(plain("a\nb\u{1b}[31m\u{85}é"), "a b [31m é");
    }
}
