// SPDX-License-Identifier: GPL-2.0-or-later
//! Arbitrary strings as single words of LAMMPS commands.

use std::path::Path;

use super::Error;

/// Quotes `text` so that LAMMPS reads it as one word, unchanged.
///
/// LAMMPS splits a command at white space, substitutes `$x`, `${x}` and `$(x)`, and treats `#` as the start of a comment, except
/// inside quotes. It has no escape character, so that the kind of quote depends on the text.
///
/// # Errors
/// [`Error::Text`] for text that cannot be quoted: control characters (a newline would begin a new command), all
/// three kinds of quotes at once, three double quotes in a row, and non-ASCII characters, of which LAMMPS drops bytes even inside
/// quotes.
pub fn quote(text: &str) -> Result<String, Error> {
    let refuse = |why| Err(Error::Text { what: "the text", text: text.to_owned(), why });
    if text.chars().any(char::is_control) {
        return refuse("it contains a newline or another control character");
    }
    if !text.is_ascii() {
        return refuse(
            "it contains characters other than ASCII, which LAMMPS changes: use a path without them, e.g. a link",
        );
    }
    // LAMMPS takes three quotes for the start of a multi-line string even inside other quotes, and so swallows the
    // following commands.
    if text.contains("\"\"\"") {
        return refuse("it contains three double quotes in a row");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/+=,:@%^~*".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    if !text.contains('"') {
        Ok(format!("\"{text}\""))
    } else if !text.contains('\'') {
        Ok(format!("'{text}'"))
    } else if !text.ends_with('"') {
        Ok(format!("\"\"\"{text}\"\"\""))
    } else {
        refuse("it contains both kinds of quotes")
    }
}

/// [`quote`] for a path.
///
/// # Errors
/// As [`quote`]; also for a path that is not UTF-8.
pub fn quote_path(path: &Path) -> Result<String, Error> {
    match path.to_str() {
        Some(text) => quote(text),
        None => Err(Error::Text { what: "the path", text: path.display().to_string(), why: "it is not UTF-8" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_are_not_quoted() {
        assert_eq!(quote("/data/Al-2.yaml").unwrap(), "/data/Al-2.yaml");
    }

    #[test]
    fn special_characters_are_quoted() {
        assert_eq!(quote("my file").unwrap(), "\"my file\"");
        assert_eq!(quote("a$b").unwrap(), "\"a$b\"");
        assert_eq!(quote("a#b").unwrap(), "\"a#b\"");
        assert_eq!(quote("end&").unwrap(), "\"end&\"");
        assert_eq!(quote("").unwrap(), "\"\"");
        assert_eq!(quote("5\" disk").unwrap(), "'5\" disk'");
        assert_eq!(quote("Al's \"best\" one").unwrap(), "\"\"\"Al's \"best\" one\"\"\"");
    }

    #[test]
    fn text_that_cannot_be_quoted_is_refused() {
        for text in ["a\nshell rm", "M\u{fc}ller", "a\rb", "a\0b", "\"'\"", "'\"\"\"x", "\"\"\""] {
            assert!(quote(text).is_err(), "{text:?}");
        }
    }
}
