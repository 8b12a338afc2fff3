use super::*;
use proptest::prelude::*;

/// What the text is made of, each with its text.
fn lex(text: &str) -> Result<Vec<(Kind, &str)>, SyntaxError> {
    let mut lexer = Lexer::new(text);
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        if token.kind == Kind::End {
            return Ok(tokens);
        }
        tokens.push((token.kind, lexer.text(token)));
    }
}

fn kinds(text: &str) -> Vec<Kind> {
    lex(text).unwrap().into_iter().map(|(kind, _)| kind).collect()
}

fn texts(text: &str) -> Vec<&str> {
    lex(text).unwrap().into_iter().map(|(_, text)| text).collect()
}

#[test]
fn one_token_is_one_token() {
    let table = [
        (Kind::Word, "a A_1 P Pay P1 PT P1Y2 P1D1Y P1YT PT1 P1WT1H p1y abcdef12 nan tRuE x"),
        (Kind::QuotedName, "\"a\" \"\"\"\" \"a\"\"b\" \"'\""),
        (Kind::String, "'' 'a' 'it''s' '''' '\"'"),
        (Kind::DollarString, "$$$$ $$a$$ $$'$$ $$$a$$"),
        (Kind::Integer, "0 007 12345678901234567890"),
        (Kind::Float, "1. 1.5 1e9 1E+9 1.e-9 01.50"),
        (Kind::Duration, "1y 2mo 3w 4d 5h 6m 7s 8ms 9us 9µs 10ns 1Y2MO3W4D5H6M7S8MS9US10NS 1h1h"),
        (Kind::Duration, "P1Y P1Y2M3D P1DT2H PT3M4S P5W PT1S P0001-02-03T04:05:06"),
        (Kind::Uuid, "123e4567-e89b-12d3-a456-426614174000 ABCDEF01-0000-0000-0000-00000000000f"),
        (Kind::Blob, "0x 0xcafe 0XCAFE"),
    ];
    for (kind, list) in table {
        for text in list.split(' ') {
            assert_eq!(lex(text), Ok(vec![(kind, text)]), "{text}");
        }
    }
    for sign in "( ) [ ] { } , ; : ? . .. = != < <= > >= + += - -= * / %".split(' ') {
        let [Kind::Sign(found)] = kinds(sign)[..] else { panic!("{sign} is not one sign") };
        assert_eq!(found.expected(), format!("`{sign}`"));
    }
}

#[test]
fn tokens_end_where_the_longest_ends() {
    let table = [
        ("1..2", "1 .. 2"),
        ("1...2", "1. .. 2"),
        ("1.5..2", "1.5 .. 2"),
        ("c-1", "c - 1"),
        ("1AND 2x", "1 AND 2 x"),
        ("1e", "1 e"),
        ("1e+", "1 e +"),
        ("1min", "1m in"),
        ("1.5h", "1.5 h"),
        ("a>=b!=c", "a >= b != c"),
        ("map<text,list<int>>", "map < text , list < int > >"),
        ("P1Y-1", "P1Y - 1"),
        ("P0001-02-03T04:05", "P0001 - 02 - 03 T04 : 05"),
        ("123e4567-e89b-12d3-a456-42661417400", "123e4567 - e89b - 12d 3 - a456 - 42661417400"),
        ("0xcafeg", "0xcafe g"),
        ("$$a$$$$b$$", "$$a$$ $$b$$"),
    ];
    for (text, tokens) in table {
        assert_eq!(texts(text), tokens.split(' ').collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn blanks_and_comments_are_nothing() {
    let text = " a\t-- to the end; 'unclosed\r\n b // this too\n c /* and * / this\n -- */ d--";
    assert_eq!(texts(text), ["a", "b", "c", "d"]);
    assert_eq!(texts("a/**/b"), ["a", "b"]);
    assert!(texts(" -- only\n").is_empty());
}

#[test]
fn what_begins_must_end() {
    let table = [
        ("'a", "line 1:0 the string begins and never ends: close it with '"),
        ("a 'a''", "line 1:2 the string begins and never ends: close it with '"),
        ("\"a\"\"", "line 1:0 the quoted name begins and never ends: close it with \""),
        ("$$a$", "line 1:0 the string begins and never ends: close it with $$"),
        ("$$$", "line 1:0 the string begins and never ends: close it with $$"),
        ("\n/*/", "line 2:0 the comment begins and never ends: close it with */"),
        ("\"\"", "line 1:0 a name cannot be empty"),
        (
            "0xabc",
            "line 1:0 the blob `0xabc` has an odd number of hexadecimal digits: write two for each byte",
        ),
        ("'ü' €", "line 1:4 the character `€` means nothing here; text belongs in '…'"),
        ("a\n\0", "line 2:0 the character `\\0` means nothing here; text belongs in '…'"),
        ("!", "line 1:0 the character `!` means nothing here; text belongs in '…'"),
        ("$a$", "line 1:0 the character `$` means nothing here; text belongs in '…'"),
    ];
    for (text, message) in table {
        assert_eq!(lex(text).unwrap_err().to_string(), message, "{text}");
    }
}

proptest! {
    /// Whatever the text is, tokens lie in it one behind the other, none is empty, and between them are blanks and comments.
    #[test]
    fn tokens_cover_the_text(text in r#"([ -~\n]|--|/\*|\*/|\$\$|''|0x|P1|1d|[µé€]){0,60}"#) {
        let mut lexer = Lexer::new(&text);
        let mut end = 0;
        while let Ok(token) = lexer.next() {
            prop_assert!(end <= token.start && token.end <= text.len());
            let between = &text[end..token.start];
            prop_assert!(lex(between).is_ok_and(|tokens| tokens.is_empty()), "{:?}", between);
            if token.kind == Kind::End {
                break;
            }
            prop_assert!(token.start < token.end);
            end = token.end;
        }
    }
}
