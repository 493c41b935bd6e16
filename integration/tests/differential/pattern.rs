//! Names with `*` for anything, which may be nothing.

/// Whether `text` is what `pattern` means.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = pattern.contains('*').then(|| parts.next_back().unwrap_or_default()) else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn a_star_stands_for_anything_and_nothing_else_does() {
    for (pattern, text) in [
        ("a", "a"),
        ("*", ""),
        ("a*", "ab"),
        ("*b", "ab"),
        ("a*c*e", "abcde"),
        ("*x*", "x"),
    ] {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [
        ("a", "ab"),
        ("a*", "ba"),
        ("*b", "ba"),
        ("a*c*e", "abde"),
        ("", "a"),
        ("ab*b", "ab"),
    ] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}
