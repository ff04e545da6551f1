//! Every file format and every fault of a file, with the public readers.

mod common;

use common::{Bench, STEERING, assert_printable};
use foehn_corpus::{Error, read, read_clean};
use serde_json::json;

/// The lines of a file as text: the place and the first prompt, or the error.
fn lines(bench: &Bench, name: &str) -> Vec<String> {
    let describe = |line: foehn_corpus::Result<foehn_corpus::Line>| match line {
        Ok(line) => match line.record {
            Ok(record) => format!("{} {}", line.place.line, record.messages[0].content),
            Err(unreadable) => format!("{} {}", line.place.line, unreadable.fault),
        },
        Err(error) => format!("{error:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
    };
    match read(&bench.path(name)) {
        Ok(reader) => reader.map(describe).collect(),
        Err(error) => vec![describe(Err(error))],
    }
}

#[track_caller]
fn check(name: &str, bytes: impl AsRef<[u8]>, expected: &[&str]) {
    let bench = Bench::new();
    bench.write(name, bytes);
    assert_eq!(lines(&bench, name), expected);
}

#[test]
fn a_bad_line_leaves_the_others() {
    let mut bytes = b"\xEF\xBB\xBF{\"prompt\":\"a\",\"completion\":\"x\"}\r\n\n".to_vec();
    bytes.extend_from_slice(b"{\"prompt\":\"\xFF\"}\n{\"prompt\":\n[]\n{\"text\":\"last\"}");
    check(
        "x.jsonl",
        bytes,
        &[
            "1 a",
            "3 invalid UTF-8 after byte 11",
            "4 not JSON: EOF while parsing a value at line 1 column 10",
            "5 expected an object, found a list",
            "6 last",
        ],
    );
}

#[test]
fn an_array_is_read_by_element() {
    check(
        "x.json",
        r#" [{"text":"a"}, {"text":}, {"text":"c"}] "#,
        &["1 a", "2 not JSON: expected value at line 1 column 10", "3 c"],
    );
    check("lines.json", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n", &["1 a", "2 b"]);
}

#[test]
fn a_table_is_read_by_its_columns() {
    check(
        "x.csv",
        "id,prompt,completion\n1,\"two\nlines\",a\n2,one\n3,last,a\n",
        &["2 two\nlines", "4 expected 3 columns, found 2", "5 last"],
    );
    check("alpaca.csv", "\u{feff}instruction,input,output\nName it,,ok\nName,it,ok\n", &["2 Name it", "3 Name\nit"]);
    check("bad.csv", b"text\na\n\xFF\nb\n", &["2 a", "3 invalid UTF-8 after byte 0", "4 b"]);
    check("columns.csv", "question,remark\na,b\n", &["Columns"]);
}

/// The line of a row is the line number in an editor, for any line endings and any number of blank lines.
#[test]
fn a_row_knows_its_line() {
    for (ending, name) in [("\n", "lf"), ("\r\n", "crlf"), ("\r", "cr")] {
        let rows = ["text", "a", "", "", "\"two", "lines\"", "b"];
        let two = format!("5 two{ending}lines");
        check(&format!("{name}.csv"), rows.join(ending), &["2 a", &two, "7 b"]);
        check(&format!("{name}-blank.csv"), format!("{ending}{ending}{}{ending}", rows[..2].join(ending)), &["4 a"]);
    }
    check("mixed.csv", "text\na\rb\r\n\r\rc\n\rd", &["2 a", "3 b", "6 c", "8 d"]);
    // Longer than every buffer.
    let long = "x".repeat(1 << 17);
    let text = format!("id,prompt,completion\r\n1,{long},a\r\n2,\"{long}\r\n\",a\r\n3,last,a\r\n");
    check("long.csv", text, &[&format!("2 {long}"), &format!("3 {long}\r\n"), "5 last"]);
    // The two bytes of a `\r\n` at every position of the buffers.
    for shift in 0..4 {
        let head = "x".repeat((1 << 16) - 8 + shift);
        check("edge.csv", format!("text\r\n{head}\r\nb\r\n"), &[&format!("2 {head}"), "3 b"]);
    }
}

#[test]
fn files_of_no_use_are_errors() {
    check("empty.jsonl", "", &["Empty"]);
    check("blank.jsonl", " \n\n", &["Empty"]);
    check("none.json", "[]", &["Empty"]);
    check("header.csv", "prompt,completion\n", &["Empty"]);
    check("x.xml", "<a/>", &["UnknownFormat"]);
    let bench = Bench::new();
    assert_eq!(lines(&bench, "absent.jsonl"), ["Open"]);
    assert_eq!(lines(&bench, "."), ["Folder"]);
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!("{{\"text\":{}1{}}}\n{{\"text\":\"b\"}}\n", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let deep_array = format!("[{},{{\"text\":\"b\"}}]", "[".repeat(1 << 20) + &"]".repeat(1 << 20));
    for (name, text) in [("deep.jsonl", deep), ("deep.json", deep_array)] {
        let bench = Bench::new();
        bench.write(name, text);
        let found = lines(&bench, name);
        assert!(found[0].starts_with("1 not JSON: recursion limit exceeded"), "{}", found[0]);
        assert_eq!(found[1], "2 b");
    }
    let long = "x".repeat(17 << 20);
    check(
        "long.jsonl",
        format!("{{\"text\":\"{long}\"}}\n{{\"text\":\"b\"}}"),
        &["1 longer than 16777216 bytes", "2 b"],
    );
    check(
        "long.json",
        format!("[{{\"text\":\"{long}\"}},{{\"text\":\"b\"}}]"),
        &["1 longer than 16777216 bytes", "2 b"],
    );
    check("open.csv", format!("text\na\n\"{long}"), &["2 a", "UnclosedQuote"]);
    let bench = Bench::new();
    let path = bench.write("open.csv", format!("text\r\na\r\n\"{}", "x\n".repeat(9 << 20)));
    let error = read(&path).expect("a header").last().expect("an error").expect_err("an open quote");
    assert!(matches!(error, Error::UnclosedQuote { line: 3, .. }), "{error}");
}

#[test]
fn a_clean_file_has_no_bad_line() {
    let bench = Bench::new();
    let path = bench.write("x.jsonl", "{\"text\":\"a\"}\n{\"text\":1}\n");
    match read_clean(&path) {
        Err(Error::Line { line, source, .. }) => {
            assert_eq!((line, source.to_string().as_str()), (2, "the field `text` should be text, found a number"));
        }
        other => panic!("expected the second line's error, found {other:?}"),
    }
}

#[test]
fn a_json_file_of_one_record_over_several_lines_is_one_record() {
    let one = "{\n  \"messages\": [\n    {\"role\": \"user\", \"content\": \"a\"},\n    {\"role\": \"assistant\", \"content\": \"x\"}\n  ]\n}\n";
    check("x.json", one, &["1 a"]);
    check("x.json", format!("{one}\n{one}"), &["1 a", "8 a"]);
    let broken = one.replace("]\n}", "]\n");
    check("x.json", broken, &["1 not JSON: EOF while parsing an object at line 7 column 0"]);
}

#[test]
fn side_columns_that_json_has_no_value_for_cost_no_record() {
    let bench = Bench::new();
    let line =
        |score: &str| format!("{{\"prompt\":\"a\",\"completion\":\"x\",\"meta\":{{\"score\":{score},\"n\":1}}}}\n");
    bench.write("x.jsonl", [line("NaN"), line("-Infinity"), line("1e999"), line("0.5")].concat());
    let mut table = b"prompt,completion,photo\na,x,\xFF\xFE\n".to_vec();
    table.extend_from_slice(b"b,\xFF,fine\n");
    bench.write("x.csv", table);
    let found: Vec<_> = read(&bench.path("x.jsonl")).expect("readable").map(|line| line.expect("readable")).collect();
    let left: Vec<_> = found.iter().map(|line| line.left_out.join(" ")).collect();
    assert_eq!(left, ["meta.score", "meta.score", "meta.score", ""]);
    assert!(found.iter().all(|line| line.record.as_ref().is_ok_and(|record| record.metadata["meta"]["n"] == 1)));
    assert_eq!(lines(&bench, "x.csv"), ["2 a", "3 invalid UTF-8 after byte 0"]);

    // The report says so, as text, as JSON and as a page.
    let report = bench.clean("x.jsonl", "clean.jsonl", &foehn_corpus::Pipeline::new());
    assert_eq!((report.kept, report.left_out.get("meta.score")), (4, Some(&3)));
    assert!(report.to_string().contains("left out: meta.score (of 3 records)"), "{report}");
    assert!(bench.read("report.json").contains("\"meta.score\": 3") && report.to_html().contains("meta.score (of 3"));
}

#[test]
fn an_excerpt_of_what_cannot_be_read_is_masked_too() {
    let bench = Bench::new();
    let mail = "anna.huber@harbour.example";
    bench.write("x.jsonl", format!("{{\"prompt\": \"Write to {mail}\"\n"));
    let report = bench.clean("x.jsonl", "clean.jsonl", &foehn_corpus::Pipeline::default());
    assert_eq!(report.rejected, 1);
    assert!(!bench.read("report.json").contains(mail) && bench.read("report.json").contains("[EMAIL]"));
}

#[test]
fn a_name_in_a_file_cannot_steer_a_terminal() {
    let bench = Bench::new();
    bench.write("x.csv", format!("\"{STEERING}\",other\na,b\n"));
    assert_printable(&read(&bench.path("x.csv")).err().expect("no known columns").to_string());

    let message = |role: &str, weight: &str| {
        let first = json!({"role": role, "content": "x", "weight": weight});
        json!({"messages": [first, {"role": "assistant", "content": "y"}]})
    };
    let records = [
        message(STEERING, "1"),
        message("user", STEERING),
        json!({STEERING: 1}),
        json!({"prompt": "a", "completion": "b", "messages": [{STEERING: 1}]}),
        json!({"prompt": "a", "completion": "b", STEERING: "metadata"}),
    ];
    bench.write("x.jsonl", records.map(|record| format!("{record}\n")).concat());
    let said = lines(&bench, "x.jsonl");
    [&said[0], &said[2]].into_iter().for_each(|line| assert_printable(line));
    assert!(said[1].ends_with(r#"the weight "a\u001b[2J\r\u0007\u202e\u009bb", expected 0 or 1"#), "{said:?}");

    let report = bench.clean("x.jsonl", "clean.jsonl", &foehn_corpus::Pipeline::new());
    let texts = [report.to_string(), bench.read("report.json"), report.to_html()];
    for text in texts {
        let found = text.chars().find(|&c| (c.is_control() && !"\n\t".contains(c)) || c == '\u{202e}');
        assert_eq!(found, None, "{text}");
    }
    // What was escaped for the eye is the same JSON.
    let read_back: serde_json::Value = serde_json::from_str(&bench.read("report.json")).expect("JSON");
    assert_eq!(read_back, serde_json::to_value(&report).expect("JSON"));
}
