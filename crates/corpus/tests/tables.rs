//! Tables as people save them: delimiters, encodings, names of columns, and maps of columns to fields.

mod common;

use std::path::{Path, PathBuf};

use common::Bench;
use encoding_rs::{Encoding as Known, MACINTOSH, SHIFT_JIS, WINDOWS_1252};
use foehn_corpus::{CleanConfig, CleanReport, Error, Pipeline, ReadConfig, clean_with, read, read_clean, read_with};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The messages of a file's records, or the faults, with their lines.
fn lines(path: &Path, config: &ReadConfig) -> Vec<String> {
    let describe = |line: foehn_corpus::Result<foehn_corpus::Line>| match line {
        Ok(line) => match line.record {
            Ok(record) => {
                let texts = record.messages.iter().map(|message| message.content.as_str());
                format!("{} {}", line.place.line, texts.collect::<Vec<_>>().join(" | "))
            }
            Err(unreadable) => format!("{} {}", line.place.line, unreadable.fault),
        },
        Err(error) => error.to_string().rsplit('/').next().unwrap_or_default().to_owned(),
    };
    match read_with(path, config) {
        Ok(reader) => reader.map(describe).collect(),
        Err(error) => vec![describe(Err(error))],
    }
}

#[track_caller]
fn check_as(config: &ReadConfig, name: &str, bytes: impl AsRef<[u8]>, expected: &[&str]) {
    let bench = Bench::new();
    assert_eq!(lines(&bench.write(name, bytes), config), expected, "{name}");
}

#[track_caller]
fn check(name: &str, bytes: impl AsRef<[u8]>, expected: &[&str]) {
    check_as(&ReadConfig::default(), name, bytes, expected);
}

fn mapped(map: &str) -> ReadConfig {
    ReadConfig { map: map.parse().expect("a sound map"), ..ReadConfig::default() }
}

fn in_utf16(text: &str, mark: bool) -> Vec<u8> {
    let mark = mark.then_some('\u{feff}').into_iter().collect::<String>();
    format!("{mark}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn the_delimiter_is_found_from_the_file() {
    for (name, text) in [
        ("x.csv", "id;prompt;completion\r\n1;a, b;\"x; y\"\r\n"),
        ("x.tsv", "id\tprompt\tcompletion\n1\ta, b\tx; y\n"),
        ("x.csv", "id\tprompt\tcompletion\n1\ta, b\tx; y\n"),
        ("x.tsv", "id,prompt,completion\n1,\"a, b\",x; y\n"),
        ("x.txt", "id\tprompt\tcompletion\n1\ta, b\tx; y\n"),
        ("x.csv", "id|prompt|completion\n1|a, b|x; y\n"),
    ] {
        check(name, text, &["2 a, b | x; y"]);
    }
    check("x.csv", "sep=;\r\nid;prompt;completion\r\n1;a;x\r\n", &["3 a | x"]);
    check("x.csv", "\"sep=|\"\r\rprompt|completion\ra|x\r", &["4 a | x"]);
    check("x.csv", "text\na\nb\n", &["2 a", "3 b"]);
    let forced = ReadConfig { delimiter: Some("^".parse().expect("a delimiter")), ..ReadConfig::default() };
    check_as(&forced, "x.csv", "prompt^completion\na,b^x\n", &["2 a,b | x"]);
}

#[test]
fn names_of_columns_may_be_capitals_with_spaces_around_them() {
    check("x.csv", " Prompt ;COMPLETION;Day\na;x;1\nb;;2\n", &["2 a | x", "3 b | "]);
    check("x.jsonl", "{\"Prompt\":\"a\",\" Completion\":\"x\"}\n", &["1 a | x"]);
    let bench = Bench::new();
    let path = bench.write("x.csv", "ID;Prompt;Completion;Day\n7;a;x;1\n");
    let records = read_clean(&path).expect("readable");
    assert_eq!(records[0].id.as_deref(), Some("7"));
    assert_eq!(records[0].metadata["Day"], "1");
}

#[test]
fn every_encoding_gives_the_same_records() {
    let text = "Die Größe der Straße – “schön”, £12.00";
    let table = format!("prompt;completion\r\n{text};ja\r\n\"{text}\n\";nein\r\n");
    let [first, second] = [format!("2 {text} | ja"), format!("3 {text}\n | nein")];
    let json = format!("{{\"prompt\":\"{text}\",\"completion\":\"ja\"}}\n");
    let encode = |encoding: &'static Known, text: &str| encoding.encode(text).0.into_owned();
    for (bytes, encoding) in [
        (table.clone().into_bytes(), "UTF-8"),
        (encode(WINDOWS_1252, &table), "windows-1252"),
        (in_utf16(&table, true), "UTF-16LE"),
        (in_utf16(&table, false), "UTF-16LE"),
    ] {
        check("x.csv", &bytes, &[&first, &second]);
        let bench = Bench::new();
        bench.write("x.csv", bytes);
        let report = bench.clean("x.csv", "clean.jsonl", &Pipeline::new());
        assert_eq!(
            (report.read_as[0].encoding.name(), report.read_as[0].delimiter.expect("a table").byte()),
            (encoding, b';')
        );
        assert!(report.to_string().contains(&format!("read as {encoding}, columns divided by `;`")), "{report}");
        assert!(report.to_html().contains(&format!("read as {encoding}, columns divided by")));
    }
    let json_line = format!("1 {text} | ja");
    for bytes in [encode(WINDOWS_1252, &json), in_utf16(&json, true), in_utf16(&json, false)] {
        check("x.jsonl", &bytes, &[&json_line]);
        check("x.json", bytes, &[&json_line]);
    }
    check("x.json", in_utf16(&format!("[{}]", json.trim()), true), &[&json_line]);
    let japanese = "prompt,completion\n日本語のテキストです。これは試験です,はい、そうです\n";
    check("x.csv", encode(SHIFT_JIS, japanese), &["2 日本語のテキストです。これは試験です | はい、そうです"]);
    let forced = ReadConfig { encoding: Some("mac-roman".parse().expect("known")), ..ReadConfig::default() };
    check_as(&forced, "x.csv", encode(MACINTOSH, &table), &[&first, &second]);
}

#[test]
fn a_bad_line_of_a_utf_8_file_is_a_fault_and_changes_no_other() {
    let mut bytes = "prompt,completion\nGröße,ja\nMünchen,ja\n".as_bytes().to_vec();
    bytes.extend_from_slice(b"caf\xE9,ja\nzu\xFF,ja\n");
    bytes.extend_from_slice("“Ende”,ja\nüber,ja\nfür,ja\nschön,ja\n".as_bytes());
    let expected = ["2 Größe | ja", "3 München | ja", "4 invalid UTF-8 after byte 3", "5 invalid UTF-8 after byte 2"];
    let rest = ["6 “Ende” | ja", "7 über | ja", "8 für | ja", "9 schön | ja"];
    check("x.csv", bytes, &[expected, rest].concat());
    // Half a surrogate pair.
    let bytes =
        [in_utf16("{\"text\":\"a\"}\n{\"text\":\"", true), b"\0\xD8".to_vec(), in_utf16("\"}\n", false)].concat();
    check("x.jsonl", bytes, &["1 a", "2 invalid UTF-16LE: it decodes to 9 bytes of UTF-8 before the first fault"]);
    check("x.csv", b"\xFF\xFE\0\0t\0\0\0", &["x.csv is UTF-32: save it as UTF-8"]);
}

#[test]
fn a_map_makes_fields_from_the_columns_of_every_format() {
    let config = mapped(r"prompt=ticket,completion={label}\n{reply}");
    check_as(
        &config,
        "x.csv",
        "Nr;Ticket;label;reply\n1;a;l;r\n2;b;;r\n3;;l;r\n",
        &["2 a | l\nr", "3 the column `label`, which `completion` is made of, is missing or empty", "4  | l\nr"],
    );
    let line = "{\"ticket\":\"a\",\"label\":\"l\",\"reply\":\"r\"}\n";
    check_as(
        &config,
        "x.jsonl",
        format!("{line}{{\"ticket\":\"b\",\"label\":1}}\n"),
        &["1 a | l\nr", "2 the column `reply`, which `completion` is made of, is missing or empty"],
    );
    check_as(&config, "x.json", format!("[{},{}]", line.trim(), line.trim()), &["1 a | l\nr", "2 a | l\nr"]);
    let nested = mapped("system=data.rule,prompt=data.ticket.text,completion=answer");
    let json = "{\"data\":{\"ticket\":{\"text\":\"t\"},\"rule\":\"s\"},\"answer\":\"x\"}\n";
    check_as(&nested, "x.jsonl", json, &["1 s | t | x"]);

    let bench = Bench::new();
    let path = bench.write("x.jsonl", "{\"Nr\":7,\"ticket\":\"a\",\"reply\":\"r\",\"day\":2,\"queue\":\"q\"}\n");
    let config = mapped("id=Nr,prompt=ticket,completion=reply,label=queue");
    let line = read_with(&path, &config).expect("readable").next().expect("a line").expect("readable");
    let written = serde_json::to_string(&line.record.expect("a record")).expect("JSON");
    let messages = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"r"}]"#;
    assert_eq!(written, format!(r#"{{"id":"7","messages":{messages},"label":"q","day":2}}"#));
}

#[test]
fn a_parquet_file_is_mapped_as_its_rows_in_json_are() {
    let config = mapped("prompt=completion,completion={prompt} {grade}");
    let found = lines(&fixture("pairs_zstd.parquet"), &config);
    assert_eq!(found.len(), 60);
    assert_eq!(found[..2], ["1  | 0 + 0? 0", "2 2 | 1 + 1? 1"]);
    assert_eq!(found, lines(&fixture("pairs_zstd.jsonl"), &config));
    let found = lines(&fixture("chat_snappy.parquet"), &mapped("prompt=day,completion={nested.depth}"));
    assert_eq!(
        found[..2],
        ["1 the column `nested.depth`, which `completion` is made of, is missing or empty", "2 1969-12-29 | -1"]
    );
}

#[test]
fn a_column_that_no_record_has_is_an_error_with_those_there_are() {
    let said = "has no column `tickets`, which the map names: its columns are id, ticket";
    let config = mapped("prompt=tickets,completion=id");
    let tables = [("x.csv", "id;ticket\n1;a\n"), ("y.jsonl", "{\"id\":1,\"ticket\":\"a\"}\n")];
    for (name, text) in tables {
        let bench = Bench::new();
        let path = bench.write(name, text);
        assert!(lines(&path, &config).last().expect("an error").ends_with(said), "{name}");
        // Cleaning says so too, and writes nothing.
        let out = bench.path("clean.jsonl");
        let clean = CleanConfig { out: Some(out.clone()), ..CleanConfig::default() };
        let error = clean_with(&[path], &Pipeline::new().reading_as(config.clone()), &clean).expect_err("no column");
        assert!(matches!(&error, Error::NoColumn { .. }) && error.to_string().ends_with(said), "{error}");
        assert!(!out.exists());
    }
    let bench = Bench::new();
    let error = read(&bench.write("x.csv", "id;ticket;label;reply\n1;a;b;c\n")).err().expect("unknown columns");
    assert!(error.to_string().ends_with("or map them, for example `prompt=ticket,completion=reply`"), "{error}");
    // A map that makes no conversation.
    let error = lines(&bench.path("x.csv"), &mapped("prompt=ticket"));
    assert!(error[0].contains("has the columns id, ticket, label, reply"), "{error:?}");
}

/// Cleans a file of tickets with the default passes.
fn clean_tickets(name: &str, map: &str) -> CleanReport {
    let reading = if map.is_empty() { ReadConfig::default() } else { mapped(map) };
    let pipeline = Pipeline::default().reading_as(reading);
    clean_with(&[fixture(name)], &pipeline, &CleanConfig::default()).expect("the file can be read")
}

#[test]
fn the_tickets_are_read_at_the_first_try_or_with_one_map() {
    for (name, map, unreadable) in [
        ("tickets_l.csv", "", &[][..]),
        ("tickets_pc_cp1252.csv", "", &[]),
        // Two rows have no reply or no label.
        ("tickets_excel_de.csv", r"prompt=ticket,completion={label}\n{reply}", &["T1037", "T1047", "T1048"]),
    ] {
        let report = clean_tickets(name, map);
        assert_eq!(report.read, 52, "{name}");
        let at_reading = report.rejections.iter().filter(|rejection| rejection.pass == "read");
        assert_eq!(at_reading.map(|rejection| rejection.id.as_str()).collect::<Vec<_>>(), unreadable, "{name}");
        // The first 36 are tickets, and the others dirt of some kind. They have no ids in one of the files, and their
        // order is the same in all.
        let names: Vec<&str> = report.rejections.iter().map(|rejection| rejection.reason.as_str()).collect();
        assert!(report.kept >= 36, "{name}: {names:?}");
        let is_ticket = |id: &str| id.strip_prefix('T').is_some_and(|number| number < "1036");
        assert!(!report.rejections.iter().any(|rejection| is_ticket(&rejection.id)), "{name}: {names:?}");
    }
    // The three files say the same.
    let told = |name: &str, map: &str| {
        let config = if map.is_empty() { ReadConfig::default() } else { mapped(map) };
        let texts = lines(&fixture(name), &config);
        let text = |line: String| line.split_once(' ').map(|(_, text)| text.replace("\r\n", "\n"));
        texts.into_iter().take(36).map(text).collect::<Option<Vec<_>>>().expect("a line and its texts")
    };
    let expected = told("tickets_l.csv", "");
    assert!(expected[0].contains("refund of £12.00 was sent today. – your “Nordlicht” team"), "{}", expected[0]);
    assert_eq!(told("tickets_pc_cp1252.csv", ""), expected);
    assert_eq!(told("tickets_excel_de.csv", r"prompt=ticket,completion={label}\n{reply}"), expected);
}
