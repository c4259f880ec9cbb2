use super::*;

fn j(text: &str) -> Jsonb {
    Jsonb::parse(text).unwrap()
}

#[test]
fn errors_as_postgres() {
    for (text, detail, context) in [
        ("{", "The input string ended unexpectedly.", "JSON data, line 1: {"),
        ("{\"a\"}", "Expected \":\", but found \"}\".", "JSON data, line 1: {\"a\"}"),
        ("[1,abc]", "Token \"abc\" is invalid.", "JSON data, line 1: [1,abc..."),
        ("[1,]", "Expected JSON value, but found \"]\".", "JSON data, line 1: [1,]"),
        ("{\"a\":1,}", "Expected string, but found \"}\".", "JSON data, line 1: {\"a\":1,}"),
        ("[1 2]", "Expected \",\" or \"]\", but found \"2\".", "JSON data, line 1: [1 2..."),
        ("1 2", "Expected end of input, but found \"2\".", "JSON data, line 1: 1 2"),
        ("\"abc", "Token \"\"abc\" is invalid.", "JSON data, line 1: \"abc"),
        ("\"a\nb\"", "Character with value 0x0a must be escaped.", "JSON data, line 1: \"a"),
        ("\"\\x\"", "Escape sequence \"\\x\" is invalid.", "JSON data, line 1: \"\\x..."),
        ("\"\\u0000\"", "\\u0000 cannot be converted to text.", "JSON data, line 1: \"\\u0000..."),
        (
            "\"\\ud800\"",
            "Unicode low surrogate must follow a high surrogate.",
            "JSON data, line 1: \"\\ud800\"",
        ),
        ("01", "Token \"01\" is invalid.", "JSON data, line 1: 01"),
        ("{\"a\":\n  tru}", "Token \"tru\" is invalid.", "JSON data, line 2:   tru..."),
        ("@", "Token \"@\" is invalid.", "JSON data, line 1: @"),
    ] {
        let error = Jsonb::parse(text).unwrap_err();
        assert_eq!(error.fields().detail.as_deref(), Some(detail), "{text}");
        assert_eq!(error.fields().context.as_deref(), Some(context), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(Jsonb::parse(&deep).unwrap_err().state(), SqlState::STATEMENT_TOO_COMPLEX);
}

#[test]
fn printing_and_order() {
    assert_eq!(j(r#"{"bb":1,"a":[1.50,"x\u0041\n"],"a":null}"#).to_string(), r#"{"a": null, "bb": 1}"#);
    assert_eq!(j(r#""\ud83d\ude00""#).as_text().as_deref(), Some("\u{1f600}"));
    let sorted =
        ["[]", "null", "\"a\"", "\"b\"", "1", "1.5", "false", "true", "[1]", "[0, 0]", "{}", "{\"a\": 1}"];
    for pair in sorted.windows(2) {
        assert!(j(pair[0]) < j(pair[1]), "{pair:?}");
    }
    assert_eq!(j("1.0"), j("1.00"));
    assert_eq!(
        j(r#"{"a":[],"b":{},"c":[1]}"#).pretty(),
        "{\n    \"a\": [\n    ],\n    \"b\": {\n    },\n    \"c\": [\n        1\n    ]\n}"
    );
}

#[test]
fn operators() {
    let value = j(r#"{"a": [1, {"b": "x"}], "c": null}"#);
    assert_eq!(value.path(&["a", "-1", "b"]).and_then(Jsonb::as_text).as_deref(), Some("x"));
    assert!(value.contains(&j(r#"{"a": [{"b": "x"}]}"#)) && !value.contains(&j(r#"{"a": 1}"#)));
    assert!(j("[1,2]").contains(&j("1")) && !j("1").contains(&j("[1]")));
    assert!(value.exists("c") && j("[\"x\"]").exists("x"));
    assert_eq!(j("{\"a\":1}").concat(&j("1")).unwrap().to_string(), "[{\"a\": 1}, 1]");
    assert_eq!(j("[1,2]").set_path(&["-5"], j("3"), true).unwrap().to_string(), "[3, 1, 2]");
    assert_eq!(j("[1,2]").insert_path(&["1"], j("3"), true).unwrap().to_string(), "[1, 2, 3]");
    assert_eq!(value.delete_path(&["a", "1", "b"]).unwrap().to_string(), r#"{"a": [1, {}], "c": null}"#);
    assert_eq!(value.strip_nulls().to_string(), r#"{"a": [1, {"b": "x"}]}"#);
    let raw = r#" {"a" : [1, {"b":  2}], "a": 3, "s": "\u0041" } "#;
    assert_eq!(raw_field(raw, "a").unwrap(), Some("3"));
    assert_eq!(raw_path(r#"{"a" : [1, {"b":  2}]}"#, &["a", "1"]).unwrap(), Some(r#"{"b":  2}"#));
    assert_eq!(raw_as_text(raw_field(raw, "s").unwrap().unwrap()).unwrap().as_deref(), Some("A"));
    assert_eq!(raw_members(raw).unwrap().len(), 3);
}
